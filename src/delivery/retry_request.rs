//! What an operator asks of a recording's letters by `outbox retry` and `outbox drop`, handed to the daemon as a file: the
//! outbox itself is the daemon's, which has it in memory and would write over whatever another process changes there.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::delivery::message::MessageKey;
use crate::protocol::ids::RecordingId;
use crate::storage::files;

/// The directory in `state_dir`.
pub const DIR: &str = "outbox-requests";

/// What is to be done about a recording's letters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ask")]
pub enum RetryRequest {
    /// Try what waits now.
    Retry,
    /// Never tell these.
    Drop { letters: Vec<MessageKey> },
}

/// Where the request for a recording is.
#[must_use]
pub fn path(state_dir: &Path, id: &RecordingId) -> PathBuf {
    state_dir.join(DIR).join(format!("{id}.json"))
}

/// Leaves a request for the daemon.
///
/// # Errors
/// Where the disk fails.
pub fn write(state_dir: &Path, id: &RecordingId, request: &RetryRequest) -> std::io::Result<()> {
    files::create_private_dir(&state_dir.join(DIR))?;
    files::write_private(&path(state_dir, id), &serde_json::to_vec_pretty(request)?)
}

/// Every request that is there. One that cannot be read is put aside, with an error line.
///
/// # Errors
/// Where the directory cannot be read; one that is not there holds none.
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

/// It is done.
///
/// # Errors
/// Where it cannot be removed.
pub fn remove(state_dir: &Path, id: &RecordingId) -> std::io::Result<()> {
    files::remove(&path(state_dir, id))
}
