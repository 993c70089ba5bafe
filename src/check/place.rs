//! The directories of a check, in the one for temporary files. They have an owner file as those of rigs
//! ([`crate::capture::rig_directory`]), so that the next check, or the next start of the daemon, removes what a killed one
//! has left: its directories, its rig, its processes.

use std::io;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::capture::cleanup::CleanupReport;
use crate::capture::rig_directory::RigDirectory;
use crate::check::disk_speed;
use crate::config::RecorderConfig;
use crate::page_recording::leftovers;
use crate::storage::detached;

/// As this command is called in the owner names of its directories and rigs.
const COMMAND: &str = "check";
/// Begins as the directories of rigs do, by which it is found.
const PREFIX: &str = "pnm-check-";
/// Time limit for looking for leftovers beside the recordings and records: a disk may hang.
const DISK_LIMIT: Duration = Duration::from_secs(5);

/// A directory of this check; removed when dropped.
#[derive(Debug)]
pub struct Place {
    dir: TempDir,
    /// Locked as long as the directory is there.
    _owner: RigDirectory,
}

impl Place {
    /// # Errors
    /// Where it cannot be made, to be shown.
    pub async fn new() -> Result<Self, String> {
        let failed = |error: io::Error| format!("no temporary directory: {error}");
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir().map_err(failed)?;
        let owner = RigDirectory::acquire(dir.path(), &owner()).await.map_err(failed)?;
        Ok(Self { dir, _owner: owner })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// The owner name of this check's directories and rig.
#[must_use]
pub fn owner() -> String {
    leftovers::owner_of(COMMAND)
}

/// Removes what checks of this user have left whose processes are gone.
pub async fn remove_leftovers(recorder: &RecorderConfig) -> CleanupReport {
    let dirs = [recorder.state_dir.clone(), recorder.temporary_dir.clone()];
    let files =
        detached::start("check-leftover", move || dirs.iter().for_each(|dir| disk_speed::remove_leftovers(dir)));
    let report = leftovers::remove_of(&std::env::temp_dir(), COMMAND).await;
    // A file that stays does no harm.
    let _ = tokio::time::timeout(DISK_LIMIT, files).await;
    report
}
