//! What an operator asks by `recordings rebuild`: it is left as a file for the daemon, which takes the recording over.

use std::io;
use std::path::{Path, PathBuf};

use crate::archive::names::ArchivedRecording;
use crate::storage::files;

/// The directory in `state_dir`.
pub const DIR: &str = "rebuild-requests";

/// The file of the request for a recording, which holds the name of its room.
#[must_use]
pub fn path(state_dir: &Path, recording: &ArchivedRecording) -> PathBuf {
    state_dir.join(DIR).join(format!("{}.json", recording.recording))
}

/// Asks that a recording be put together from the archive.
///
/// # Errors
/// Where the disk fails.
pub fn write(state_dir: &Path, recording: &ArchivedRecording) -> io::Result<()> {
    files::create_private_dir(&state_dir.join(DIR))?;
    files::write_private(&path(state_dir, recording), recording.dir().as_bytes())
}

/// The recordings for which that is asked. A request that names none is removed.
///
/// # Errors
/// Where the directory cannot be read; a missing one holds no request.
pub fn all(state_dir: &Path) -> io::Result<Vec<ArchivedRecording>> {
    let mut recordings = Vec::new();
    for (_, path) in files::records(&state_dir.join(DIR))? {
        match ArchivedRecording::of_dir(std::fs::read_to_string(&path)?.trim()) {
            Some(recording) => recordings.push(recording),
            None => files::remove(&path)?,
        }
    }
    Ok(recordings)
}

/// Removes a request that was carried out.
///
/// # Errors
/// Where it cannot be removed.
pub fn remove(state_dir: &Path, recording: &ArchivedRecording) -> io::Result<()> {
    files::remove(&path(state_dir, recording))
}
