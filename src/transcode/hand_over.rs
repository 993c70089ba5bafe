//! A finished MP4 on its way into the store of `storage.deliver`: who tells the server of it, and the record of the upload.

use std::time::Duration;

use crate::config::KeepLocal;
use crate::protocol::job::Job;
use crate::storage::files;
use crate::store::record::{StoredNotice, UploadRecord, key_for};
use crate::transcode::journal::JobEntry;
use crate::transcode::result_writer::JobResult;
use crate::transcode::settings::StoreDelivery;
use crate::transcode::summary;

/// Time limit for reading the summary, without which the MP4 is delivered alone.
const SUMMARY_LIMIT: Duration = Duration::from_secs(5);
/// The longest summary that is delivered, in bytes: it is kept in the record of the upload.
const SUMMARY_SIZE: u64 = 1 << 20;

/// The result of a job, and the store that is to have it, if any.
pub(super) struct HandOver<'a> {
    pub job: &'a Job,
    pub entry: &'a JobEntry,
    pub result: &'a JobResult,
    pub delivery: Option<&'a StoreDelivery>,
}

impl HandOver<'_> {
    /// Whether the server is told of the object in the store instead of the local file. `told_path`: what the hooks have
    /// made of the path; where that is another one, they have put the MP4 there, and it counts.
    pub fn server_learns_from_store(&self, told_path: &str) -> bool {
        let by_store = |delivery: &StoreDelivery| delivery.keep_local != KeepLocal::Always;
        self.delivery.is_some_and(by_store) && told_path == self.result.file_path
    }

    /// Has the store get a copy of an MP4 that the server knows in `main_path`, or where a hook has put it.
    pub async fn copy(&self, told_path: &str) {
        // A hook that has moved the file delivers by itself.
        let is_here =
            told_path == self.result.file_path || tokio::fs::try_exists(&self.result.mp4).await.unwrap_or(true);
        if is_here {
            self.add(None, None).await;
        }
    }

    /// Has the store get the MP4, and then the server told of it.
    pub async fn told_by_store(&self, variant: i32, note: Option<String>) {
        let keep = match self.delivery.map(|delivery| delivery.keep_local) {
            Some(KeepLocal::For(keep)) => Some(keep),
            Some(KeepLocal::Always) | None => None,
        };
        let (info, recorder) = (&self.job.info, &self.job.recorder_id);
        let notice = StoredNotice::new(info, recorder, &self.result.file_path, self.result.size);
        self.add(keep, Some(StoredNotice { variant, note, ..notice })).await;
    }

    async fn add(&self, keep: Option<Duration>, notice: Option<StoredNotice>) {
        let Some(StoreDelivery { uploads, .. }) = self.delivery else { return };
        let Some(url) = uploads.url() else { return };
        if self.entry.record().steps.uploading {
            return;
        }
        let (info, key) = (&self.job.info, key_for(&self.result.file_path));
        let (id, room) = (&info.recording_id, &info.room_id);
        let mut record = UploadRecord::new(id, room, &self.result.mp4, &key, &url.to_string(), keep);
        (record.summary, record.notice) = (self.summary().await, notice);
        uploads.add(record).await;
        self.entry.update(|record| record.steps.uploading = true).await;
    }

    /// The summary beside the raw file, with which it is removed.
    async fn summary(&self) -> Option<String> {
        let raw = self.result.raw.clone()?;
        let read = move || {
            let Some(path) = summary::path(&raw) else { return Ok(None) };
            if std::fs::metadata(&path)?.len() > SUMMARY_SIZE {
                return Ok(None);
            }
            std::fs::read_to_string(path).map(Some)
        };
        files::on_disk_within(SUMMARY_LIMIT, read).await.ok().flatten()
    }
}
