//! What a job has in an object store, fetched into a directory of its own in `temporary_dir`, which goes with the job. While a
//! store is away the directory stays, so that the next attempt goes on where this one was.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::codes;
use crate::protocol::ids::{RecordingId, RoomId};
use crate::storage::files;
use crate::store::download::Download;
use crate::store::error::StoreError;
use crate::store::handle::Store;
use crate::transcode::failure::JobFailure;
use crate::transcode::settings::TranscodeSettings;

/// The directory in `temporary_dir`; in it are the nodes', in those the jobs'.
const DIR: &str = ".fetched";
/// Time limit for the small steps of the disk.
const DISK_LIMIT: Duration = Duration::from_secs(30);

/// The objects of one job.
#[derive(Clone, Copy)]
pub(super) struct FetchedObjects<'a> {
    pub settings: &'a TranscodeSettings,
    pub recording: &'a RecordingId,
    pub room: &'a RoomId,
    pub cancel: &'a CancellationToken,
}

impl FetchedObjects<'_> {
    /// Their directory, which may not exist.
    pub fn dir(&self) -> PathBuf {
        of_node(self.settings).join(self.recording.as_str())
    }

    /// Fetches an object to a file of this name. One that is there already is compared, and taken.
    pub async fn fetch(&self, store: &Store, key: &str, name: &str) -> Result<PathBuf, StoreError> {
        let (dir, to) = (self.dir(), self.dir().join(name));
        // Another job may just have removed the directory around it, which was empty.
        let create = move || std::fs::create_dir_all(&dir).or_else(|_| std::fs::create_dir_all(&dir));
        let made = files::on_disk_within(DISK_LIMIT, create).await;
        made.map_err(|source| StoreError::Local {
            what: format!("the directory for what is fetched, {}", self.dir().display()),
            source,
        })?;
        let download = Download { store, key, to: &to, reserve: self.settings.reserve };
        let state = download.run(self.cancel).await?;
        tracing::info!(object = store.url().object(key), bytes = state.size, to = %to.display(), "fetched from the store");
        Ok(to)
    }

    pub async fn remove(&self) {
        let (dir, of_node) = (self.dir(), of_node(self.settings));
        let remove = move || {
            remove_dir(&dir)?;
            // Only empty ones are.
            let _ = of_node.parent().map(|all| std::fs::remove_dir(&of_node).and_then(|()| std::fs::remove_dir(all)));
            Ok(())
        };
        if let Err(error) = files::on_disk_within(DISK_LIMIT, remove).await {
            tracing::warn!(
                code = %codes::FETCHED_NOT_REMOVED, dir = %self.dir().display(), %error,
                "what was fetched from a store for this job is not removed; the next start removes it"
            );
        }
    }
}

/// Removes what an earlier run of this node has fetched for jobs that it does not have any more. `jobs`: those that it has.
pub(super) async fn remove_others(settings: &TranscodeSettings, jobs: BTreeSet<String>) {
    let of_node = of_node(settings);
    let dir = of_node.clone();
    let remove = move || {
        let entries = match std::fs::read_dir(&of_node) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if !jobs.contains(&*entry.file_name().to_string_lossy()) {
                remove_dir(&entry.path())?;
            }
        }
        Ok(())
    };
    if let Err(error) = files::on_disk_within(DISK_LIMIT, remove).await {
        tracing::warn!(
            code = %codes::FETCHED_NOT_REMOVED, dir = %dir.display(), %error,
            "what an earlier run has fetched from a store is not removed; the next start tries it again"
        );
    }
}

/// What a failure of the store is for the job: nearly always something that can be mended.
pub(super) fn failure(what: &str, error: &StoreError) -> JobFailure {
    match error {
        StoreError::Stopped => JobFailure::Stopped,
        StoreError::Missing(_) => JobFailure::Cause(format!("{what} is not in the store")),
        error => JobFailure::Outside(format!("{what} cannot be fetched: {error}; {}", error.remedy())),
    }
}

fn of_node(settings: &TranscodeSettings) -> PathBuf {
    settings.temporary_dir.join(DIR).join(settings.recorder_id.as_str())
}

fn remove_dir(dir: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
