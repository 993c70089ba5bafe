//! What an operator asks by `store drop` and `hls drop`: it is left as a file for the daemon, which alone writes the records
//! of what is on its way.

use std::io;
use std::path::{Path, PathBuf};

use crate::protocol::ids::RecordingId;
use crate::storage::files;

/// The directories in `state_dir`: of requests about uploads, and about HLS.
pub const UPLOADS: &str = "upload-requests";
pub const HLS: &str = "hls-requests";

/// The file of the request for a recording.
#[must_use]
pub fn path(state_dir: &Path, dir: &str, id: &RecordingId) -> PathBuf {
    state_dir.join(dir).join(format!("{id}.json"))
}

/// Asks that a recording be dropped there.
///
/// # Errors
/// Where the disk fails.
pub fn write(state_dir: &Path, dir: &str, id: &RecordingId) -> io::Result<()> {
    files::create_private_dir(&state_dir.join(dir))?;
    files::write_private(&path(state_dir, dir, id), b"{\"ask\": \"drop\"}")
}

/// The recordings for which that is asked.
///
/// # Errors
/// Where the directory cannot be read; a missing one holds no request.
pub fn all(state_dir: &Path, dir: &str) -> io::Result<Vec<String>> {
    Ok(files::records(&state_dir.join(dir))?.into_iter().map(|(id, _)| id).collect())
}

/// Removes a request that was carried out.
///
/// # Errors
/// Where it cannot be removed.
pub fn remove(state_dir: &Path, dir: &str, id: &str) -> io::Result<()> {
    files::remove(&state_dir.join(dir).join(format!("{id}.json")))
}
