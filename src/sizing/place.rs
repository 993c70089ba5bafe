//! The directory of a measurement, in `temporary_dir`, so that its recordings are written to the disk that those of meetings
//! are. What a killed measurement has left is removed by the next one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::capture::cleanup::CleanupReport;
use crate::capture::rig_directory::{self, DirectoryLock};
use crate::codes;
use crate::config::RecorderConfig;
use crate::page_recording::leftovers;
use crate::process::procfs;
use crate::storage::detached;

/// As this command's rigs are called in the names of their owners.
pub const COMMAND: &str = "size";
/// Time limit for looking for leftovers in `temporary_dir`.
const DISK_LIMIT: Duration = Duration::from_secs(5);
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

/// Removes all that killed measurements have left on a node, for its daemon: rigs with their processes, and directories.
/// What is counted are the rigs.
pub async fn remove_all_leftovers(recorder: &RecorderConfig) -> CleanupReport {
    let dirs = [recorder.temporary_dir.clone(), std::env::temp_dir()];
    let report = leftovers::remove_of(&dirs[1], COMMAND).await;
    let removal =
        detached::start("size-leftovers", move || dirs.iter().flat_map(|dir| remove_leftovers(dir)).collect());
    let kept: Vec<PathBuf> =
        tokio::time::timeout(DISK_LIMIT, removal).await.unwrap_or(Ok(Vec::new())).unwrap_or_default();
    for dir in kept {
        let dir = dir.display();
        tracing::warn!(
            code = %codes::LEFTOVER_KEPT, %dir,
            "what a killed `size` has left cannot be removed, remove it by hand"
        );
    }
    report
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
