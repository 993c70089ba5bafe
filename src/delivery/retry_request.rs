//! What an operator asks for a recording's messages by `outbox retry` and `outbox drop`. It is left for the daemon as a
//! file: the daemon has the outbox in memory, and would overwrite what another process changes in its files.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::delivery::message::MessageKey;
use crate::protocol::ids::RecordingId;
use crate::storage::files;
use crate::storage::journal::{ReadError, read_json};

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

/// All requests. One whose content is wrong is put aside and logged as an error; one that cannot be read now is left for
/// the next call.
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
        let Ok(id) = RecordingId::parse(&name) else {
            files::put_aside(&path, "its name is no id of a recording");
            continue;
        };
        match read_json(&path) {
            Ok(request) => found.push((id, request)),
            Err(ReadError::Io(error)) => {
                tracing::debug!(path = %path.display(), %error, "a request cannot be read yet");
            }
            Err(ReadError::Content(why)) => files::put_aside(&path, &why),
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
