//! The files of jobs that are over: what is removed once a job is acknowledged, and payloads that are kept for the operator.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::codes;
use crate::media::early_mp4::EarlyMp4;
use crate::retry::Backoff;
use crate::storage::files;
use crate::storage::main_path::MainPath;
use crate::store::raw_store::RawStore;
use crate::telemetry::log_throttle::LogThrottle;
use crate::transcode::journal::FilesToRemove;
use crate::transcode::{claim, raw_object, summary};

/// The directory in `recorder.temporary_dir` for payloads of the queue that are no jobs.
pub const UNDECODABLE: &str = "undecodable-jobs";

/// The waits between attempts to remove files.
const FIRST_WAIT: Duration = Duration::from_secs(3);
const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);

/// Removes the files of an acknowledged job, and its objects in a store, for as long as that takes: a share that is full, gone or read-only now is well
/// again later. False: the program ended first.
pub async fn remove_until_gone(
    files: &FilesToRemove,
    store: &MainPath,
    raw_store: Option<&RawStore>,
    cancel: &CancellationToken,
) -> bool {
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    let mut throttle = LogThrottle::default();
    loop {
        let (local, store) = (files.clone(), store.clone());
        let remove = async {
            files::on_disk(move || remove(&local, &store)).await?;
            match &files.object {
                Some(object) => raw_object::remove(raw_store, object).await.map_err(io::Error::other),
                None => Ok(()),
            }
        };
        let error = match cancel.run_until_cancelled(remove).await {
            Some(Ok(())) => break,
            Some(Err(error)) => error,
            None => return false,
        };
        if throttle.due(Instant::now()) {
            tracing::warn!(
                code = %codes::JOB_FILES_NOT_REMOVED,
                %error,
                "the job is done, but its raw file and its claim cannot be removed; trying on: look at the disk of main_path, or at \
                 the store of storage.raw"
            );
        }
        if cancel.run_until_cancelled(tokio::time::sleep(backoff.wait())).await.is_none() {
            return false;
        }
    }
    if throttle.end() {
        tracing::info!("the files of the job are removed at last");
    }
    true
}

/// Removes the raw file, then the claim, since another node that finds neither knows that this node has finished.
fn remove(files: &FilesToRemove, store: &MainPath) -> io::Result<()> {
    // In the mount point of a share that is gone there is nothing to remove, which shows nothing.
    store.check().map_err(io::Error::other)?;
    if let Some(raw) = &files.raw {
        remove_raw(raw)?;
        tracing::debug!(raw = %raw.display(), "raw file removed");
    }
    match &files.claim {
        Some(claim) => claim::release(claim),
        None => Ok(()),
    }
}

/// Keeps a payload that is no job, for the operator.
pub(super) async fn set_aside(temporary_dir: &Path, bytes: &[u8], cause: &str) {
    let dir = temporary_dir.join(UNDECODABLE);
    let now = humantime::format_rfc3339_nanos(SystemTime::now()).to_string().replace(':', "-");
    let file = dir.join(format!("{now}.bin"));
    let kept = async {
        tokio::fs::create_dir_all(&dir).await?;
        tokio::fs::write(&file, bytes).await?;
        // The queue drops the job next.
        tokio::fs::File::open(&file).await?.sync_all().await
    };
    match kept.await {
        Ok(()) => {
            tracing::error!(
                code = %codes::JOB_UNUSABLE, cause, kept = %file.display(),
                "a job is not usable and is dropped; `jobs list` shows it, `jobs drop ID` forgets it"
            );
        }
        // The log is then the only copy.
        Err(error) => {
            let start = hex::encode(&bytes[..bytes.len().min(2048)]);
            tracing::error!(
                code = %codes::JOB_UNUSABLE_LOST, cause, dir = %dir.display(), %error, start,
                "a job is not usable, cannot be kept aside, and is dropped; look at the disk of recorder.temporary_dir"
            );
        }
    }
}

/// Removes the raw file, and the summary and the early MP4 beside it, as far as they are there: another node may have been handed the job too.
/// The raw file goes last: as long as it is there, all of it is tried again.
fn remove_raw(raw: &Path) -> io::Result<()> {
    if let Some(summary) = summary::path(raw) {
        files::remove(&summary)?;
    }
    EarlyMp4::of(raw).remove()?;
    files::remove(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_undecodable_job_is_kept_byte_by_byte() {
        let dir = tempfile::tempdir().unwrap();
        for bytes in [b"\xff\xfe\0".as_slice(), b"other"] {
            set_aside(dir.path(), bytes, "test").await;
        }
        let mut kept: Vec<_> = std::fs::read_dir(dir.path().join("undecodable-jobs"))
            .unwrap()
            .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
            .collect();
        kept.sort();
        assert_eq!(kept, [b"other".to_vec(), b"\xff\xfe\0".to_vec()]);
        // Where the payload cannot be kept, it is logged, and the worker goes on.
        set_aside(Path::new("/proc/no-such"), b"x", "test").await;
    }

    #[test]
    fn a_raw_file_is_removed_with_its_summary_only() {
        let dir = tempfile::tempdir().unwrap();
        let mut names = ["a.json", "a_raw.json", "a_raw.mkv", "b_raw.json", "b_raw.mp4"];
        for name in names {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        remove_raw(&dir.path().join("a_raw.mkv")).unwrap();
        remove_raw(&dir.path().join("b_raw.mp4")).unwrap();
        names.sort_unstable();
        let remaining: Vec<_> = names.into_iter().filter(|name| dir.path().join(name).exists()).collect();
        assert_eq!(remaining, ["a.json", "b_raw.json"]);
    }
}
