//! The directory of a measurement, in `temporary_dir`, so that its recordings are written to the disk that those of meetings
//! are. What a killed measurement has left is removed by the next one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::capture::rig_directory::{self, DirectoryLock};
use crate::process::procfs;

/// Hidden, so that nobody takes it for a recording. The process id follows.
const PREFIX: &str = ".plugnmeet-recorder-size-";

/// The directory; removed when dropped.
#[derive(Debug)]
pub struct Place {
    dir: TempDir,
    /// Held as long as the directory is in use, also for those who see no processes of other containers. `None`: the file
    /// system has no locks.
    _lock: Option<DirectoryLock>,
}

impl Place {
    /// Makes it in `parent`.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn new(parent: &Path) -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix(&format!("{PREFIX}{}-", std::process::id())).tempdir_in(parent)?;
        let lock = rig_directory::lock(dir.path()).ok();
        Ok(Self { dir, _lock: lock })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Removes those in `parent` whose processes were killed. Returns those that cannot be removed.
#[must_use]
pub fn remove_leftovers(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path());
    let left = entries.filter(|path| {
        let pid =
            path.file_name().and_then(|name| name.to_str()?.strip_prefix(PREFIX)?.split('-').next()?.parse().ok());
        pid.is_some_and(|pid| procfs::started(pid).is_none())
    });
    left.filter(|dir| {
        let lock = rig_directory::lock(dir);
        let in_use = lock.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        !in_use && fs::remove_dir_all(dir).is_err()
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_of_a_killed_run_is_removed_and_that_of_another_stays() {
        let parent = tempfile::tempdir().unwrap();
        let place = Place::new(parent.path()).unwrap();
        let made = |name: &str| {
            let dir = parent.path().join(name);
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("1.mkv"), "x").unwrap();
            dir
        };
        // No process has this number (proc(5): pid_max).
        let [killed, locked, other] =
            [format!("{PREFIX}4194305-abc"), format!("{PREFIX}4194306-abc"), "recording.part1.mkv".to_owned()]
                .map(|name| made(&name));
        let lock = rig_directory::lock(&locked).unwrap();
        assert_eq!(remove_leftovers(parent.path()), Vec::<PathBuf>::new());
        assert!(!killed.exists() && locked.exists() && other.exists() && place.path().exists());
        drop((lock, place));
        assert_eq!(remove_leftovers(parent.path()), Vec::<PathBuf>::new());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    }
}
