//! The raw file of a recording on its way into the store of `storage.raw`: tried until the store has it, or the program ends.

use std::path::PathBuf;
use std::time::Duration;

use crate::codes;
use crate::protocol::job::{Job, Work};
use crate::protocol::request::RecordingInfo;
use crate::recording::job_handoff::JobHandoff;
use crate::recording::journal::{FailedTry, RecordingEntry};
use crate::recording::raw_file::RawFile;
use crate::storage::files;
use crate::store::error::StoreError;
use crate::store::raw_store::{RawStore, RawTransfer, StoredRawFile};
use crate::telemetry::redact;
use crate::unix_time::unix_ms;

/// Time limit for reading the summary, without which the raw file goes alone.
const SUMMARY_LIMIT: Duration = Duration::from_secs(10);

/// A raw file in its place, and the store that is to have it.
pub(super) struct RawUpload<'a> {
    pub raw_store: &'a RawStore,
    pub info: &'a RecordingInfo,
    pub raw: &'a RawFile,
    pub entry: &'a RecordingEntry,
    pub handoff: &'a JobHandoff,
}

impl RawUpload<'_> {
    /// Returns once the store has confirmed the file, and `job` names it there. `None`: the program ends first, and the next
    /// start goes on.
    pub async fn run(&self, job: &mut Job) -> Option<RawTransfer> {
        let (raw, url) = (self.raw, self.raw_store.url());
        let key = RawStore::key(raw.sub_dir(), raw.name.as_str());
        let file = StoredRawFile {
            recording: self.info.recording_id.clone(),
            room: self.info.room_id.clone(),
            file: raw.place(),
            key: key.clone(),
            summary: self.summary().await,
        };
        tracing::info!(
            object = url.object(&key),
            "the raw file goes into the store of storage.raw before its job is published"
        );
        let transfer = self.raw_store.begin(file).await;
        // A drain waits for what goes on, and not for a store that is away.
        let (drain, end) = (&self.handoff.drain, &self.handoff.end);
        loop {
            let error = match transfer.put(end).await {
                Ok(()) => break,
                Err(StoreError::Stopped) => return left_for_the_next_start(),
                Err(error) => error,
            };
            let wait = self.note_failure(&transfer, &error).await;
            if drain.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return left_for_the_next_start();
            }
        }
        let object = url.object(&key);
        if let Work::PostRecording { dir, .. } = &mut job.work {
            *dir = PathBuf::from(object.rsplit_once('/').map_or(object.as_str(), |(named, _)| named));
        }
        self.entry.update(move |record| (record.raw_object, record.storing) = (Some(object), None)).await;
        Some(transfer)
    }

    async fn summary(&self) -> Option<String> {
        let path = self.raw.summary()?;
        files::on_disk_within(SUMMARY_LIMIT, move || std::fs::read_to_string(path)).await.ok()
    }

    /// Notes and logs a failed try; the wait before the next one.
    async fn note_failure(&self, transfer: &RawTransfer, error: &StoreError) -> Duration {
        let failures = self.entry.record().storing.map_or(0, |storing| storing.failures).saturating_add(1);
        let wait = self.handoff.waits.after(failures.into());
        tracing::error!(
            code = %codes::RAW_NOT_IN_THE_STORE,
            store = %self.raw_store.url(), raw = %self.raw.place().display(), failures, retry_s = wait.as_secs(), %error,
            "the raw file is not in the store of storage.raw yet, stays here, and is tried until it is; {}", error.remedy()
        );
        let why = redact::scrub(&error.to_string()).into_owned();
        let next_try = unix_ms().saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        transfer.note_failure(&why, next_try).await;
        let failed = FailedTry { failures, last_error: why, next_try };
        self.entry.update(move |record| record.storing = Some(failed)).await;
        wait
    }
}

fn left_for_the_next_start() -> Option<RawTransfer> {
    tracing::info!("the raw file's way into the store is left for the next start");
    None
}
