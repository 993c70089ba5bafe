//! What an operator asks for a recording's messages by `outbox retry` and `outbox drop`. It is left for the daemon as a
//! file: the daemon has the outbox in memory, and would overwrite what another process changes in its files.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::delivery::message::MessageKey;
use crate::protocol::ids::RecordingId;
use crate::storage::files;

/// The directory in `state_dir`.
pub const DIR: &str = "outbox-requests";

/// What is to be done with a recording's messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ask")]
pub enum RetryRequest {
    /// Try the undelivered messages at once.
    Retry,
    /// Give these messages up.
    Drop {
        #[serde(rename = "letters")]
        messages: Vec<MessageKey>,
    },
}

/// The file of the request for a recording.
#[must_use]
pub fn path(state_dir: &Path, id: &RecordingId) -> PathBuf {
    state_dir.join(DIR).join(format!("{id}.json"))
}

/// Writes a request.
///
/// # Errors
/// Where the disk fails.
pub fn write(state_dir: &Path, id: &RecordingId, request: &RetryRequest) -> std::io::Result<()> {
    files::create_private_dir(&state_dir.join(DIR))?;
    files::write_private(&path(state_dir, id), &serde_json::to_vec_pretty(request)?)
}

/// All requests. An unreadable one is put aside and logged as an error.
///
/// # Errors
/// Where the directory cannot be read; a missing one holds no request.
pub fn all(state_dir: &Path) -> std::io::Result<Vec<(RecordingId, RetryRequest)>> {
    let dir = state_dir.join(DIR);
    if !dir.try_exists()? {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for (name, path) in files::records(&dir)? {
        let read = || -> Result<_, String> {
            let id = RecordingId::parse(&name).map_err(|error| error.to_string())?;
            let text = std::fs::read(&path).map_err(|error| error.to_string())?;
            Ok((id, serde_json::from_slice(&text).map_err(|error| error.to_string())?))
        };
        match read() {
            Ok(request) => found.push(request),
            Err(why) => files::put_aside(&path, &why),
        }
    }
    Ok(found)
}

/// Removes a request that was carried out.
///
/// # Errors
/// Where it cannot be removed.
pub fn remove(state_dir: &Path, id: &RecordingId) -> std::io::Result<()> {
    files::remove(&path(state_dir, id))
}
