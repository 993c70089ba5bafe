//! What follows the capture of a recording: its raw file is put into its place, and its job is published.
//!
//! ```text
//! join the parts → put the raw file into main_path → summary → hooks → job → remove the parts and the record
//!       ▲ │                                                        ▲
//!       └─┘ any failure: after 30 s, 2 min, then every 5 min,      └─ with storage.raw: into the store, then job, then the
//!           and as soon as main_path can be used again                local raw file is removed
//! ```
//!
//! Nothing here is given up for a reason outside of the recording: a share that is away, full or read-only costs time
//! only. The server knows of the end already. What a shutdown interrupts is done by the next start.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::codes;
use crate::delivery::dispatcher::Delivery;
use crate::protocol::notice::{Notice, NoticeEvent, Outcome};
use crate::protocol::request::{Kind, RecordingInfo};
use crate::recording::archived_parts;
use crate::recording::archiving::{self, RecordingArchive, archived};
use crate::recording::context::RecordingContext;
use crate::recording::early_copy::EarlyCopy;
use crate::recording::gaps::gaps;
use crate::recording::job_handoff::JobHandoff;
use crate::recording::journal::{FailedTry, RecordingEntry, RecordingRecord, RecordingStage};
use crate::recording::publishing::RecordingPublication;
use crate::recording::raw_file::{RawFile, StoreFailure, StoreReport};
use crate::recording::raw_upload::RawUpload;
use crate::recording::summary::{self, RecordingSummary, Times};
use crate::storage::advance_copy::AdvanceCopy;
use crate::storage::main_path::{MainPath, StoreStatus};
use crate::telemetry::redact;
use crate::unix_time::unix_ms;

/// How long the end of the program waits for a copy: the service manager's own limit is usually shorter.
const END_GRACE: Duration = Duration::from_secs(10 * 60);

/// A recording or broadcast whose capture has ended.
#[derive(Clone)]
pub(super) struct EndedRecording {
    pub kind: Kind,
    pub info: RecordingInfo,
    /// `None` for a broadcast.
    pub raw: Option<RawFile>,
    pub entry: RecordingEntry,
    pub outcome: Outcome,
    /// The page's words when the meeting had ended.
    pub ended_by: Option<String>,
    /// `None`: an earlier run of the program has recorded the last part.
    pub ended: Option<SystemTime>,
    /// Removed where nothing has failed.
    pub screenshot: Option<PathBuf>,
    pub context: RecordingContext,
}

/// Where a try ended.
enum Try {
    Stored(StoreReport),
    Failed(StoreFailure),
    /// The program ends.
    Interrupted,
}

impl EndedRecording {
    /// Adds the notice of the end to the outbox. Whether it is on disk.
    pub async fn notify_ended(&self) -> bool {
        let event = NoticeEvent::Ended(self.kind, self.outcome.clone());
        let notice = Notice { info: self.info.clone(), recorder_id: self.context.recorder.clone(), event };
        let on_disk = self.context.dispatcher.send_all(vec![notice.into()]).await;
        if on_disk {
            self.entry.update(|record| record.end_told = true).await;
        }
        on_disk
    }

    /// The end of a recording that will never have a file, and of a broadcast.
    pub async fn finish_without_file(&self) {
        let summary = self.summary();
        self.context.summaries.save(&summary, &self.info.recording_id).await;
        let told = self.notify_ended().await;
        self.remove_screenshot(&summary).await;
        summary.log();
        if told {
            self.remove_parts(false).await;
        } else {
            tracing::error!(
                code = %codes::END_NOT_WRITTEN,
                "the recording's record is kept: its end is not on disk, and the next start tells it (again); look at the disk of recorder.state_dir"
            );
        }
    }

    /// Stores the raw file, publishes the job, and removes the parts and the record: tried until that is done, or the
    /// program ends. `early`: what was copied while the recording ran.
    /// `archive`: what goes into the archive until the raw file is in its place. `live`: what was published meanwhile.
    pub async fn store(
        &self,
        mut early: Option<EarlyCopy>,
        archive: Option<RecordingArchive>,
        live: RecordingPublication,
    ) {
        let Some(raw) = &self.raw else { return };
        if let Some(archive) = self.context.archives.of_room(&self.info.room_id) {
            let drain = &self.context.handoff.drain;
            archived_parts::fetch_late(archive, &archived(&self.info), raw, &self.entry, drain).await;
        }
        let ahead = match &mut early {
            Some(early) => early.raw_ahead().await,
            None => None,
        };
        if !self.store_raw(raw, ahead).await {
            return live.give_up("its raw file is not in its place").await;
        }
        // Before the job, which asks whether all of it is published.
        live.finish().await;
        drop(archive);
        if let Some(early) = early {
            early.finish(raw).await;
        }
        let summary = self.summary();
        // Written before the job is published: scripts read it.
        if let Some(beside) = raw.summary() {
            summary.write_in(raw.store(), beside).await;
        }
        self.context.summaries.save(&summary, &self.info.recording_id).await;
        let published = self.end_is_on_disk().await && self.publish_job(raw).await;
        self.remove_screenshot(&summary).await;
        summary.log();
        if published {
            self.remove_parts(true).await;
        }
    }

    /// [`Self::store`] for a recording that had no usable part when it ended: the disk may have been at fault.
    pub async fn store_if_captured(&self) {
        let Some(raw) = &self.raw else { return };
        let record = self.entry.record();
        let files = record.files();
        match raw.captured(&record.parts, record.placing).await {
            Ok(()) => {
                tracing::warn!(
                    code = %codes::EARLIER_STORED,
                    "an earlier recording was not delivered, and now it can be: going on"
                );
                self.entry.update(|record| (record.stage, record.end_told) = (RecordingStage::Parts, true)).await;
                self.store(None, None, RecordingPublication::new(None)).await;
            }
            Err(StoreFailure::NotYet(why)) => {
                tracing::warn!(
                    code = %codes::EARLIER_UNREADABLE, why,
                    "an earlier recording cannot be looked at, and its parts are kept; the next start does it again: look at the disk of recorder.temporary_dir"
                );
            }
            Err(StoreFailure::Nothing(_)) if files.iter().any(|file| raw.part(file).exists()) => tracing::warn!(
                code = %codes::EARLIER_UNDELIVERED,
                parts = files.join(", "),
                "an earlier recording could not be delivered: its parts are in recorder.temporary_dir; look at them with ffprobe, then move or remove them"
            ),
            Err(StoreFailure::Nothing(_)) => self.entry.remove().await,
        }
    }

    async fn remove_parts(&self, delivered: bool) {
        remove_parts(self.raw.as_ref(), &self.entry, delivered, &self.context).await;
    }

    /// Tells the end, where that was not done, and waits until it is on disk. False: the program ends before.
    async fn end_is_on_disk(&self) -> bool {
        let mut tries = 0;
        while !self.entry.record().end_told && !self.notify_ended().await {
            tries += 1;
            let wait = self.context.handoff.waits.after(tries);
            tracing::error!(
                code = %codes::END_NOT_WRITTEN,
                retry_s = wait.as_secs(),
                "the recording's end is told, but not on disk: its job waits for that; look at the disk of recorder.state_dir"
            );
            if self.context.handoff.drain.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                tracing::info!(
                    "the recording's record is kept: the next start tells its end again, and publishes its job"
                );
                return false;
            }
        }
        true
    }

    async fn publish_job(&self, raw: &RawFile) -> bool {
        let handoff = &self.context.handoff;
        let mut job = handoff.job(&self.info, raw);
        if handoff.has_hooks() && !self.entry.record().hooks_done {
            tracing::info!("the raw file is stored; the post_recording hooks run before the job is published");
            match handoff.after_hooks(&self.info, raw, &self.entry).await {
                Some(by_hooks) => job = by_hooks,
                None => return false,
            }
        }
        let is_here = job == handoff.job(&self.info, raw);
        let mut transfer = None;
        if let Some(raw_store) = handoff.raw_store.as_ref().filter(|_| is_here) {
            self.entry.update(|record| record.hooks_done = true).await;
            let upload = RawUpload { raw_store, info: &self.info, raw, entry: &self.entry, handoff };
            match upload.run(&mut job).await {
                Some(sent) => transfer = Some(sent),
                None => return false,
            }
        } else if self.entry.record().raw_object.is_some() {
            // The job names the local file.
            self.entry.update(|record| record.raw_object = None).await;
        }
        let on_disk = self.context.dispatcher.send_all(vec![Delivery::Job(job)]).await;
        if !on_disk {
            tracing::error!(
                code = %codes::JOB_NOT_ON_DISK,
                "the recording's record is kept: its job is not on disk, and the next start publishes it; look at the disk of recorder.state_dir"
            );
        } else if let Some(transfer) = transfer {
            transfer.finish().await;
        }
        on_disk
    }

    /// Whether the raw file is in its place. If not, the next start goes on, or there is nothing to store.
    async fn store_raw(&self, raw: &RawFile, mut ahead: Option<AdvanceCopy>) -> bool {
        if self.entry.record().stage == RecordingStage::Stored {
            return true;
        }
        loop {
            let why = match self.try_once(raw, ahead.take()).await {
                Try::Stored(stored) => {
                    self.note_stored(stored).await;
                    return true;
                }
                Try::Interrupted => {
                    self.note_fault(raw).await;
                    tracing::info!("storing the raw file is left for the next start");
                    return false;
                }
                Try::Failed(StoreFailure::Nothing(why)) => {
                    tracing::error!(
                        code = %codes::NOTHING_TO_DELIVER, why,
                        "nothing can be delivered; parts that are not empty stay in recorder.temporary_dir"
                    );
                    self.remove_parts(false).await;
                    return false;
                }
                Try::Failed(StoreFailure::NotYet(why)) => why,
            };
            let wait = self.note_failure(raw, &why).await;
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = usable_again(raw.store().watch()) => {}
                () = self.context.handoff.drain.cancelled() => {
                    tracing::info!("storing the raw file is left for the next start");
                    return false;
                }
            }
        }
    }

    async fn try_once(&self, raw: &RawFile, ahead: Option<AdvanceCopy>) -> Try {
        let record = self.entry.record();
        let entry = self.entry.clone();
        let begin_placing = async move { entry.update(|record| record.placing = true).await };
        let store = raw.store_parts(&record.parts, record.placing, begin_placing, ahead);
        let (drain, end) = (&self.context.handoff.drain, &self.context.handoff.end);
        tokio::select! {
            stored = store => match stored {
                Ok(stored) => Try::Stored(stored),
                Err(failure) => Try::Failed(failure),
            },
            // The end of the program waits for a copy that goes on, and not for a share that is away.
            () = drained_without_store(drain, raw.store()) => Try::Interrupted,
            () = ended_long_ago(end) => Try::Interrupted,
            () = self.note_faults(raw) => Try::Interrupted,
        }
    }

    /// Notes what stands in the way of a try that does not end, so that the list shows it; never returns.
    async fn note_faults(&self, raw: &RawFile) {
        let mut status = raw.store().watch();
        loop {
            status.mark_unchanged();
            self.note_fault(raw).await;
            if status.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    async fn note_fault(&self, raw: &RawFile) {
        let Some(last_error) = raw.store().status().fault else { return };
        let failures = self.entry.record().storing.map_or(0, |storing| storing.failures);
        let waits = FailedTry { failures, last_error, next_try: unix_ms() };
        self.entry.update(move |record| record.storing = Some(waits)).await;
    }

    /// Notes and logs a failed try; the wait before the next one.
    async fn note_failure(&self, raw: &RawFile, why: &str) -> Duration {
        let failures = self.entry.record().storing.map_or(0, |storing| storing.failures).saturating_add(1);
        let wait = self.context.handoff.waits.after(failures.into());
        tracing::error!(
            code = %codes::NOT_STORED_YET,
            why, tries = failures, retry_s = wait.as_secs(), raw = %raw.dir.join(raw.name.as_str()).display(),
            "the raw file cannot be stored yet; its parts are kept in temporary_dir, and it is tried again"
        );
        let last_error = redact::scrub(why).into_owned();
        let next_try = unix_ms().saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        let failed = FailedTry { failures, last_error, next_try };
        self.entry.update(move |record| record.storing = Some(failed)).await;
        wait
    }

    async fn note_stored(&self, stored: StoreReport) {
        let millis = |length: Duration| u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        let lengths_ms = stored.lengths.iter().map(|length| length.map(millis)).collect();
        let stored = move |record: &mut RecordingRecord| {
            record.stage = RecordingStage::Stored;
            record.found = stored.found;
            record.lengths_ms = lengths_ms;
            record.storing = None;
        };
        self.entry.update(stored).await;
    }

    fn summary(&self) -> RecordingSummary {
        let record = self.entry.record();
        let wall = |ms: u64| UNIX_EPOCH + Duration::from_millis(ms);
        let ended = self.ended.or_else(|| {
            let ends = record.parts.iter().filter_map(|part| part.ended.as_ref());
            ends.map(|end| wall(end.at)).max()
        });
        let times = Times { started: record.began_at.map(wall), ended: ended.unwrap_or_else(SystemTime::now) };
        let report = summary::combine(&record.parts, &record.lengths(), &record.found);
        let recorder = &self.context.recorder;
        let gaps = gaps(&record.parts, &record.lengths());
        let summary = RecordingSummary::new(self.kind, &self.info, recorder, times, &self.outcome, &report, gaps);
        RecordingSummary {
            ended_by: self.ended_by.as_deref().map(|words| redact::scrub(words).into_owned()),
            ..summary
        }
    }

    /// Removes the screenshot of a failed page where nothing has failed in the end.
    async fn remove_screenshot(&self, summary: &RecordingSummary) {
        if let Some(screenshot) = &self.screenshot
            && self.outcome.is_ok()
            && summary.gaps.is_empty()
        {
            // It usually does not exist.
            let _ = tokio::fs::remove_file(screenshot).await;
        }
    }
}

/// The last step of a recording: removes its parts, then its record. What was not delivered stays. Tried until it succeeds
/// or the program ends: then the next start does it. The archive of the fleet knows before the record goes.
pub(super) async fn remove_parts(
    raw: Option<&RawFile>,
    entry: &RecordingEntry,
    delivered: bool,
    context: &RecordingContext,
) {
    let handoff = &context.handoff;
    let Some(raw) = raw else { return entry.remove().await };
    let mut tries = 0;
    let kept = loop {
        let error = match remove_once(raw, entry, delivered, handoff).await {
            Ok(kept) => break kept,
            Err(error) => error,
        };
        tries += 1;
        let wait = handoff.waits.after(tries);
        tracing::warn!(
            code = %codes::PARTS_NOT_REMOVED,
            %error, retry_s = wait.as_secs(),
            "the parts of the recording, or its raw file that the store has, cannot be removed, which it needs no more; trying on: \
             look at the disk of that path"
        );
        if handoff.drain.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
            return;
        }
    };
    let record = entry.record();
    if let (true, Ok(info)) = (record.archived, record.info())
        && let Some(archive) = context.archives.of_room(&info.room_id)
        && !archiving::end(archive, &archived(&info), handoff.waits, &handoff.drain).await
    {
        return;
    }
    if kept {
        entry.update(|record| record.stage = RecordingStage::Failed).await;
    } else {
        entry.remove().await;
    }
}

/// Removes what is on this node of a recording: also the raw file, where a store has it and its job, which names the object,
/// is in the outbox. Whether parts remain that were not delivered.
async fn remove_once(
    raw: &RawFile,
    entry: &RecordingEntry,
    delivered: bool,
    handoff: &JobHandoff,
) -> std::io::Result<bool> {
    let record = entry.record();
    if delivered && record.raw_object.is_some() {
        raw.remove_stored().await?;
        if let (Some(raw_store), Ok(info)) = (&handoff.raw_store, record.info()) {
            raw_store.forget(&info.recording_id).await?;
        }
    }
    raw.remove_parts(&record.files(), delivered).await
}

/// Resolves when `main_path` can be used after it could not.
async fn usable_again(mut status: watch::Receiver<StoreStatus>) {
    for fault in [true, false] {
        if status.wait_for(|status| status.fault.is_some() == fault).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn ended_long_ago(end: &CancellationToken) {
    end.cancelled().await;
    tokio::time::sleep(END_GRACE).await;
}

async fn drained_without_store(drain: &CancellationToken, store: &MainPath) {
    drain.cancelled().await;
    if store.watch().wait_for(|status| status.fault.is_some()).await.is_err() {
        std::future::pending::<()>().await;
    }
}
