//! The files of jobs that are over: what is removed once a job is acknowledged, and payloads that are kept for the operator.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::storage::files;
use crate::transcode::{claim, summary};

/// The directory in `recorder.temporary_dir` for payloads of the queue that are no jobs.
pub const UNDECODABLE: &str = "undecodable-jobs";

/// Removes the files of an acknowledged job: the raw file, then the claim, since another node that finds neither knows
/// that this node has finished.
pub async fn remove_files(raw: Option<PathBuf>, claim: Option<PathBuf>) {
    if let Some(raw) = raw {
        remove_raw(raw).await;
    }
    let Some(claim) = claim else { return };
    let path = claim.clone();
    if let Err(error) = files::on_disk(move || claim::release(&path)).await {
        tracing::warn!(claim = %claim.display(), %error, "the claim of the result could not be removed");
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
        Ok(()) => tracing::error!(cause, kept = %file.display(), "a job is not usable and is dropped"),
        // The log is then the only copy.
        Err(error) => {
            let start = hex::encode(&bytes[..bytes.len().min(2048)]);
            tracing::error!(cause, %error, start, "a job is not usable, cannot be kept aside, and is dropped");
        }
    }
}

/// Removes the raw file and the summary beside it.
async fn remove_raw(raw: PathBuf) {
    let path = raw.clone();
    let remove = move || {
        let summary = summary::path(&raw);
        match std::fs::remove_file(&raw) {
            // By another node that was handed the job too.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            removed => removed?,
        }
        if let Some(summary) = summary
            && let Err(error) = std::fs::remove_file(&summary)
        {
            tracing::warn!(summary = %summary.display(), %error, "the summary beside the raw file could not be removed");
        }
        raw.parent().map_or(Ok(()), files::fsync_dir)
    };
    match files::on_disk(remove).await {
        Ok(()) => tracing::debug!(raw = %path.display(), "raw file removed"),
        Err(error) => tracing::warn!(raw = %path.display(), %error, "the raw file could not be removed"),
    }
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

    #[tokio::test]
    async fn a_raw_file_is_removed_with_its_summary_only() {
        let dir = tempfile::tempdir().unwrap();
        let mut names = ["a.json", "a_raw.json", "a_raw.mkv", "b_raw.json", "b_raw.mp4"];
        for name in names {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        remove_raw(dir.path().join("a_raw.mkv")).await;
        remove_raw(dir.path().join("b_raw.mp4")).await;
        names.sort_unstable();
        let remaining: Vec<_> = names.into_iter().filter(|name| dir.path().join(name).exists()).collect();
        assert_eq!(remaining, ["a.json", "b_raw.json"]);
    }
}
