//! What becomes of the local MP4 once the store has it: the last copy is never removed.

use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::codes;
use crate::storage::files;
use crate::storage::main_path::MainPath;
use crate::store::error::StoreError;
use crate::store::handle::Store;
use crate::store::record::UploadEntry;
use crate::unix_time::unix_ms;

/// How often it is looked whether the job is acknowledged, and the HLS made.
const JOB_POLL: Duration = Duration::from_secs(5);
/// Time limit for the disk.
const DISK_LIMIT: Duration = Duration::from_secs(30);
/// The records in `state_dir` of what still needs the MP4: jobs (`transcode/journal.rs`) and HLS (`hls/record.rs`).
const NEEDED_BY: [&str; 2] = ["jobs", "hls"];

/// Waits until the local file may go, and removes it.
///
/// # Errors
/// Where the store or the disk fails. [`StoreError::Stopped`]: the node ends first.
pub(super) async fn finish(
    store: &Store,
    entry: &UploadEntry,
    main_path: &MainPath,
    state_dir: &Path,
    stop: &CancellationToken,
) -> Result<(), StoreError> {
    let record = entry.record();
    let (Some(until), Some(stored)) = (record.local_until(), record.stored) else { return Ok(()) };
    let left = Duration::from_millis(until.saturating_sub(unix_ms()));
    let wait = async {
        tokio::time::sleep(left).await;
        // Until then the queue may hand the job to another node, which looks for the MP4; and its HLS is made of it.
        while is_needed(state_dir, &record.recording_id).await {
            tokio::time::sleep(JOB_POLL).await;
        }
    };
    if stop.run_until_cancelled(wait).await.is_none() {
        return Err(StoreError::Stopped);
    }
    match stop.run_until_cancelled(store.head(&record.key)).await {
        None => return Err(StoreError::Stopped),
        Some(found) => match found? {
            Some(found) if found.size == stored.size => {}
            // The server may have deleted it, by a hook of another node.
            _ => {
                tracing::warn!(
                    code = %codes::LOCAL_COPY_KEPT, store = record.store, mp4 = %record.file.display(),
                    "the store has this recording no more, or another file of its name: the local MP4 stays"
                );
                return Ok(());
            }
        },
    }
    let (mp4, main_path) = (record.file.clone(), main_path.clone());
    let remove = move || {
        // In the mount point of a share that is gone there is nothing to remove, which shows nothing.
        main_path.check().map_err(std::io::Error::other)?;
        if std::fs::metadata(&mp4).is_ok_and(|file| file.len() != stored.size) {
            return Err(std::io::Error::other("it is another file than the store has; it stays until `store drop`"));
        }
        files::remove(&mp4)
    };
    let what = format!("removing {}, which the store has", record.file.display());
    files::on_disk_within(DISK_LIMIT, remove).await.map_err(StoreError::local(what))?;
    tracing::info!(mp4 = %record.file.display(), "the local MP4 is removed: the store has it");
    Ok(())
}

async fn is_needed(state_dir: &Path, recording: &str) -> bool {
    let records = NEEDED_BY.map(|dir| state_dir.join(dir).join(format!("{recording}.json")));
    let look = move || {
        for record in records {
            if record.try_exists()? {
                return Ok(true);
            }
        }
        Ok(false)
    };
    // A disk that does not answer says nothing.
    files::on_disk_within(DISK_LIMIT, look).await.unwrap_or(true)
}
