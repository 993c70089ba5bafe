//! A finished MP4 on its way into the store of its room: which store that is, who tells the server of it, and the record of the
//! upload.

use std::time::Duration;

use crate::codes;
use crate::config::KeepLocal;
use crate::config::store_url::StoreUrl;
use crate::protocol::job::Job;
use crate::scripts::hooks::store_answer::{self, StoreAnswer};
use crate::storage::files;
use crate::store::record::{StoredNotice, UploadRecord, key_for};
use crate::store::uploads::Uploads;
use crate::transcode::journal::JobEntry;
use crate::transcode::result_writer::JobResult;
use crate::transcode::summary;

/// Time limit for reading the summary, without which the MP4 is delivered alone.
const SUMMARY_LIMIT: Duration = Duration::from_secs(5);

/// The result of a job, and the store that is to have it.
pub(super) struct HandOver<'a> {
    job: &'a Job,
    entry: &'a JobEntry,
    result: &'a JobResult,
    /// `None`: no store.
    delivery: Option<Delivery<'a>>,
    summary: Option<String>,
}

struct Delivery<'a> {
    uploads: &'a Uploads,
    url: &'a StoreUrl,
    keep_local: KeepLocal,
}

impl<'a> HandOver<'a> {
    /// The store is the one that the hooks have answered, of `post_transcoding` before `post_recording`, else that of the room.
    pub async fn new(job: &'a Job, entry: &'a JobEntry, result: &'a JobResult, uploads: Option<&'a Uploads>) -> Self {
        let summary = match &uploads {
            Some(_) => summary_of(result).await,
            None => None,
        };
        let delivery = uploads.and_then(|uploads| {
            let (storage, room) = (uploads.storage(), &job.info.room_id);
            let configured = storage.deliver_for(room);
            let answered = entry.record().steps.hook_store.or_else(|| summary.as_deref().and_then(summary::hook_store));
            let url = match answered.as_deref().map(|answer| store_answer::find(answer, storage)) {
                None => configured,
                Some(Ok(StoreAnswer::NoStore)) => None,
                Some(Ok(StoreAnswer::Url(url))) => Some(url),
                Some(Err(why)) => {
                    tracing::warn!(
                        code = %codes::HOOK_STORE_REFUSED, why, used = configured.map(ToString::to_string),
                        "the store that a hook has answered is not used"
                    );
                    configured
                }
            };
            Some(Delivery { uploads, url: url?, keep_local: storage.keep_local_for(room) })
        });
        Self { job, entry, result, delivery, summary }
    }

    /// The store that gets the MP4, and whatever is made of it.
    pub fn store(&self) -> Option<&StoreUrl> {
        self.delivery.as_ref().map(|delivery| delivery.url)
    }

    /// Whether the server is told of the object in the store instead of the local file. `told_path`: what the hooks have
    /// made of the path; where that is another one, they have put the MP4 there, and it counts.
    pub fn server_learns_from_store(&self, told_path: &str) -> bool {
        let by_store = |delivery: &Delivery<'_>| delivery.keep_local != KeepLocal::Always;
        self.delivery.as_ref().is_some_and(by_store) && told_path == self.result.file_path
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
        let keep = match self.delivery.as_ref().map(|delivery| delivery.keep_local) {
            Some(KeepLocal::For(keep)) => Some(keep),
            Some(KeepLocal::Always) | None => None,
        };
        let (info, recorder) = (&self.job.info, &self.job.recorder_id);
        let notice = StoredNotice::new(info, recorder, &self.result.file_path, self.result.size);
        self.add(keep, Some(StoredNotice { variant, note, ..notice })).await;
    }

    async fn add(&self, keep: Option<Duration>, notice: Option<StoredNotice>) {
        let Some(Delivery { uploads, url, .. }) = &self.delivery else { return };
        if self.entry.record().steps.uploading {
            return;
        }
        let (info, key) = (&self.job.info, key_for(&self.result.file_path));
        let (id, room) = (&info.recording_id, &info.room_id);
        let mut record = UploadRecord::new(id, room, &self.result.mp4, &key, &url.to_string(), keep);
        (record.summary, record.notice) = (self.summary.clone(), notice);
        record.pictures_due = true;
        uploads.add(record).await;
        self.entry.update(|record| record.steps.uploading = true).await;
    }
}

/// The summary beside the raw file, with which it is removed.
async fn summary_of(result: &JobResult) -> Option<String> {
    let raw = result.raw.clone()?;
    files::on_disk_within(SUMMARY_LIMIT, move || summary::text(&raw)).await.ok().flatten()
}
