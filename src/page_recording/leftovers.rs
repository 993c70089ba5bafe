//! What a killed `record`, `size` or `check` leaves in the directory for temporary files: the next one removes it, or the
//! next start of the daemon. The raw file of a `record` stays.
//!
//! Each run has an owner name of its own ([`crate::capture::rig_directory`]), so that two at once leave each other alone.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::capture::cleanup::{CleanupReport, clean_up};
use crate::capture::rig_directory::{self, RigOwner};
use crate::process::procfs;

/// Begins the owner names of all runs; a daemon's is an absolute path.
const PROGRAM: &str = "plugnmeet-recorder";
const RECORD: &str = "record";

/// The owner name of this process's rig.
#[must_use]
pub fn owner() -> String {
    owner_of(RECORD)
}

/// The same of another command that has rigs of its own.
#[must_use]
pub fn owner_of(command: &str) -> String {
    let pid = std::process::id();
    format!("{PROGRAM} {command} {pid} {}", procfs::started(pid).unwrap_or_default())
}

/// Removes the rigs of runs that were killed.
pub async fn remove(temp_dir: &Path) -> CleanupReport {
    remove_of(temp_dir, RECORD).await
}

/// The same of another command.
pub async fn remove_of(temp_dir: &Path, command: &str) -> CleanupReport {
    let mut all = CleanupReport::default();
    for owner in dead_owners(temp_dir, command) {
        all += clean_up(temp_dir, &owner).await;
    }
    all
}

/// The owners of rigs whose processes are gone.
fn dead_owners(temp_dir: &Path, command: &str) -> BTreeSet<String> {
    let begin = format!("{PROGRAM} {command} ");
    let entries = fs::read_dir(temp_dir).into_iter().flatten().flatten();
    let rigs =
        entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(rig_directory::PREFIX.as_bytes()));
    let owners = rigs.filter_map(|rig| RigOwner::parse(&fs::read(rig.path().join(rig_directory::FILE)).ok()?));
    owners.filter(|rig| rig.owner.starts_with(&begin) && !rig.daemon_runs()).map(|rig| rig.owner).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::rig_directory::RigDirectory;

    #[tokio::test]
    async fn the_rig_of_a_killed_run_is_removed_and_others_stay() {
        let temp = tempfile::tempdir().unwrap();
        let rig = |owner: &str| {
            tempfile::Builder::new().prefix(&rig_directory::prefix(owner)).tempdir_in(temp.path()).unwrap().keep()
        };
        let (mine, of_daemon, killed) = (owner(), "/var/state".to_owned(), format!("{PROGRAM} {RECORD} 1 0"));
        for owner in [&mine, &of_daemon, &killed] {
            // Dropped, so that the lock is free, as after a kill.
            drop(RigDirectory::acquire(&rig(owner), owner).await.unwrap());
        }
        assert_eq!(remove(temp.path()).await, CleanupReport::default(), "this process still runs");
        // A process of another boot has ended.
        let file = fs::read_dir(temp.path()).unwrap().flatten().map(|dir| dir.path().join(rig_directory::FILE));
        for file in file {
            let text = fs::read_to_string(&file).unwrap();
            if text.contains(&killed) {
                fs::write(&file, text.replace(&procfs::boot_id(), "before")).unwrap();
            }
        }
        assert_eq!(remove_of(temp.path(), "size").await, CleanupReport::default(), "that of another command stays");
        assert_eq!(remove(temp.path()).await, CleanupReport { rigs: 1, ..CleanupReport::default() });
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 2);
    }
}
