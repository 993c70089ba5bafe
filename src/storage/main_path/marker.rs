//! The marker in `main_path`, and what this node remembers of it in `state_dir`.

use std::fs::{self, OpenOptions};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::storage::files;

/// The marker's name in `main_path`.
pub(super) const MARKER: &str = ".plugnmeet-recorder";
/// The file in `state_dir`. Removing it makes the node accept what is at `main_path`.
pub const MEMORY: &str = "main_path.json";
/// The marker's second line, for whoever finds it.
const EXPLANATION: &str = "The recorder knows this file system by this file. Please leave it here.";

/// What is remembered across restarts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoreMemory {
    /// `main_path` as configured, absolute: another path in the configuration is another `main_path`.
    pub path: PathBuf,
    pub marker: String,
}

/// The id in the marker of `main_path`; `None`: there is no marker.
pub(super) fn read(main_path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(main_path.join(MARKER)) {
        Ok(text) => match text.lines().next().map(str::trim).filter(|id| !id.is_empty()) {
            Some(id) => Ok(Some(id.to_owned())),
            // Another node is writing it just now.
            None => Err(io::Error::new(io::ErrorKind::InvalidData, format!("{MARKER} is empty"))),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes the marker; returns the id that is in it: that of another node where that was faster.
pub(super) fn write(main_path: &Path, id: &str) -> io::Result<String> {
    let path = main_path.join(MARKER);
    let mut file = match OpenOptions::new().write(true).create_new(true).open(&path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return read(main_path)?.ok_or(error);
        }
        opened => opened?,
    };
    let written = file.write_all(format!("{id}\n{EXPLANATION}\n").as_bytes());
    // Nodes under other users read it too. A file system without permissions is no error, nor one without fsync.
    let _ = file.set_permissions(fs::Permissions::from_mode(0o644));
    let _ = file.sync_all();
    drop(file);
    if let Err(error) = written {
        let _ = fs::remove_file(&path);
        return Err(error);
    }
    Ok(id.to_owned())
}

/// A new id: 32 hexadecimal digits.
pub(super) fn new_id() -> String {
    // `RandomState` has random keys from the standard library.
    let half = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", half(), half())
}

/// What is remembered of `main_path`; `None`: nothing.
pub(super) fn recall(memory: &Path, main_path: &Path) -> io::Result<Option<StoreMemory>> {
    let bytes = match fs::read(memory) {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let remembered: StoreMemory = serde_json::from_slice(&bytes)?;
    Ok(Some(remembered).filter(|remembered| remembered.path == main_path))
}

pub(super) fn remember(memory: &Path, remembered: &StoreMemory) -> io::Result<()> {
    files::write_private(memory, &serde_json::to_vec_pretty(remembered)?)
}

/// Whether a node with this `state_dir` knows `main_path` from an earlier run.
#[must_use]
pub fn is_remembered(main_path: &Path, state_dir: &Path) -> bool {
    // A memory that cannot be read is one.
    recall(&state_dir.join(MEMORY), &files::absolute(main_path)).map_or(true, |found| found.is_some())
}

/// Whether what is at `main_path` now is not the file system that a node with this `state_dir` knows: it bears another
/// marker, or none. Changes nothing.
///
/// # Errors
/// Where the marker or the memory cannot be read.
pub fn is_other(main_path: &Path, state_dir: &Path) -> io::Result<bool> {
    let known = recall(&state_dir.join(MEMORY), &files::absolute(main_path))?;
    let found = read(main_path)?;
    Ok(known.is_some_and(|known| found.as_ref() != Some(&known.marker)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_node_writes_the_marker_and_the_others_read_it() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
        let (one, two) = (new_id(), new_id());
        assert!(one != two && one.len() == 32);
        assert_eq!(write(dir.path(), &one).unwrap(), one);
        assert_eq!(write(dir.path(), &two).unwrap(), one);
        assert_eq!(read(dir.path()).unwrap(), Some(one));
        fs::write(dir.path().join(MARKER), "").unwrap();
        assert!(read(dir.path()).is_err());
    }

    #[test]
    fn another_main_path_is_not_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let here = Path::new("/srv/rec");
        assert!(!is_remembered(here, dir.path()));
        let remembered = StoreMemory { path: here.to_owned(), marker: new_id() };
        remember(&dir.path().join(MEMORY), &remembered).unwrap();
        assert_eq!(recall(&dir.path().join(MEMORY), here).unwrap(), Some(remembered));
        assert!(is_remembered(here, dir.path()) && !is_remembered(Path::new("/srv/other"), dir.path()));
    }

    #[test]
    fn a_main_path_without_the_marker_that_is_remembered_is_another_one() {
        let [dir, state_dir] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let is_other = || is_other(dir.path(), state_dir.path()).unwrap();
        assert!(!is_other(), "nothing is known");
        let marker = write(dir.path(), &new_id()).unwrap();
        let remembered = StoreMemory { path: dir.path().to_owned(), marker };
        remember(&state_dir.path().join(MEMORY), &remembered).unwrap();
        assert!(!is_other());
        fs::remove_file(dir.path().join(MARKER)).unwrap();
        assert!(is_other());
        write(dir.path(), &new_id()).unwrap();
        assert!(is_other());
    }
}
