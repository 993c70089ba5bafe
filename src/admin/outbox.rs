//! `outbox retry` and `outbox drop`: try a recording's messages at once, or give them up. Its media are not touched.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use crate::admin::error::AdminError;
use crate::admin::jobs::of_another_user;
use crate::admin::state_dir::StateDir;
use crate::delivery::message::{MessageKey, RecordingMessages};
use crate::delivery::outbox::DIR;
use crate::delivery::retry_request::{self, RetryRequest};
use crate::protocol::ids::RecordingId;
use crate::storage::files;
use crate::storage::journal::Record as _;
use crate::storage::lock::StateLock;

/// Has the undelivered messages of a recording tried at once.
///
/// # Errors
/// Where there are none, an attempt would be useless, or the disk fails. The outbox is unchanged then.
pub fn retry(state: &StateDir, id: &RecordingId) -> Result<String, AdminError> {
    let (_, messages) = read(state, id)?;
    let refused = |why: &str| Err(AdminError::OutboxRefused { id: id.clone(), why: why.to_owned() });
    let open: Vec<_> = messages.messages.iter().filter(|message| message.is_open()).collect();
    if open.is_empty() {
        return refused("nothing of it is left to be told");
    }
    let keys: Vec<MessageKey> =
        open.iter().filter(|message| !messages.is_obsolete(message)).map(|message| message.key).collect();
    if keys.is_empty() {
        return refused("the server knows its end already; `outbox drop` forgets the beginning");
    }
    let told = names(&keys);
    let Some(holder) = &state.daemon else {
        return Ok(format!("{told} of {id}: tried when the recorder {} is started\n", state.recorder));
    };
    ask(state, id, &RetryRequest::Retry)?;
    Ok(format!("{told} of {id}: tried at once; the recorder ({holder}) looks for it every 5 s\n"))
}

/// Drops this message, or without one, all undelivered notices of the recording.
///
/// # Errors
/// Where there is none to drop, or the disk fails. The outbox is unchanged then.
pub fn forget(state: &StateDir, id: &RecordingId, message: Option<MessageKey>) -> Result<String, AdminError> {
    let (path, mut messages) = read(state, id)?;
    let selected = |key: MessageKey| message.map_or(key != MessageKey::Job, |message| message == key);
    let open = messages.messages.iter().filter(|message| message.is_open());
    let dropped: Vec<MessageKey> = open.map(|message| message.key).filter(|key| selected(*key)).collect();
    if dropped.is_empty() {
        let why = match message {
            Some(message) => format!("there is no {} of it left to be told", message.as_str()),
            None => "no notice of it is left to be told".to_owned(),
        };
        return Err(AdminError::OutboxRefused { id: id.clone(), why });
    }
    let told = names(&dropped);
    // With the lock no daemon can start meanwhile. Without it the daemon is asked.
    let lock = if state.runs() { None } else { StateLock::take(&state.dir).ok() };
    if lock.is_none() {
        ask(state, id, &RetryRequest::Drop { messages: dropped })?;
        return Ok(format!("{told} of {id}: not told any more, once the recorder has looked (every 5 s)\n"));
    }
    messages.drop_messages(&dropped, crate::unix_time::unix_ms());
    let failed = |source| AdminError::OutboxDisk { id: id.clone(), path: path.clone(), source };
    let text = serde_json::to_vec_pretty(&messages).map_err(|error| failed(error.into()))?;
    files::write_private(&path, &text).map_err(failed)?;
    Ok(format!("{told} of {id}: not told any more\n"))
}

fn names(keys: &[MessageKey]) -> String {
    keys.iter().map(|key| key.as_str()).collect::<Vec<_>>().join(", ")
}

fn read(state: &StateDir, id: &RecordingId) -> Result<(PathBuf, RecordingMessages), AdminError> {
    let path = state.dir.join(DIR).join(format!("{id}.json"));
    match std::fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(AdminError::NoLetters { id: id.clone(), path }),
        Err(source) => Err(AdminError::Unreadable { path, source }),
        Ok(file) => {
            of_another_user(file.uid(), rustix::process::geteuid().as_raw())
                .map_err(|why| AdminError::OutboxRefused { id: id.clone(), why })?;
            let messages = RecordingMessages::read(&path).map_err(|why| AdminError::Unreadable {
                path: path.clone(),
                source: std::io::Error::other(why.to_string()),
            })?;
            Ok((path, messages))
        }
    }
}

/// Writes a request for the daemon, unless an earlier one is still there.
fn ask(state: &StateDir, id: &RecordingId, request: &RetryRequest) -> Result<(), AdminError> {
    let path = retry_request::path(&state.dir, id);
    if path.exists() {
        let why = "something was asked of it a moment ago; the recorder looks every 5 s".to_owned();
        return Err(AdminError::OutboxRefused { id: id.clone(), why });
    }
    retry_request::write(&state.dir, id, request).map_err(|source| AdminError::OutboxDisk {
        id: id.clone(),
        path,
        source,
    })
}
