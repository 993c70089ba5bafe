//! The directory of a measurement, in `temporary_dir`, so that its recordings are written to the disk that those of meetings
//! are. What a killed measurement has left there, and beside the configuration, is removed by the next one.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::capture::cleanup::CleanupReport;
use crate::capture::rig_directory::{self, DirectoryLock};
use crate::codes;
use crate::config::RecorderConfig;
use crate::page_recording::leftovers;
use crate::sizing::config_file;
use crate::sizing::leftover_files::{prefix, remove_leftovers};
use crate::storage::detached;

/// As this command's rigs are called in the names of their owners.
pub const COMMAND: &str = "size";
/// Time limit for looking for leftovers in `temporary_dir` and beside the configuration.
const DISK_LIMIT: Duration = Duration::from_secs(5);

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
        let dir = tempfile::Builder::new().prefix(&prefix()).tempdir_in(parent)?;
        let lock = rig_directory::lock(dir.path()).ok();
        Ok(Self { dir, _lock: lock })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Removes all that killed measurements have left on a node, for its daemon: rigs with their processes, directories, and
/// copies of the configuration, whose path is `config`. What is counted are the rigs.
pub async fn remove_all_leftovers(recorder: &RecorderConfig, config: &Path) -> CleanupReport {
    let report = leftovers::remove_of(&std::env::temp_dir(), COMMAND).await;
    let (dirs, config) = ([recorder.temporary_dir.clone(), std::env::temp_dir()], config.to_owned());
    let dirs = detached::start("size-leftovers", move || dirs.iter().flat_map(|dir| remove_leftovers(dir)).collect());
    let copies = detached::start("size-copies", move || config_file::remove_leftovers(&config));
    for removal in [dirs, copies] {
        let kept: Vec<PathBuf> =
            tokio::time::timeout(DISK_LIMIT, removal).await.unwrap_or(Ok(Vec::new())).unwrap_or_default();
        for path in kept {
            let path = path.display();
            tracing::warn!(
                code = %codes::LEFTOVER_KEPT, %path,
                "what a killed `size` has left cannot be removed, remove it by hand"
            );
        }
    }
    report
}
