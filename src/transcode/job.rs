//! One job from its delivery to its outcome; [`super::worker`] then settles it in the work queue.
//!
//! ```text
//! pre_transcoding hooks → produce → claim → post_transcoding hooks → PROCEEDED → scripts → FINISHED
//!     (where a store is to have the only copy: → scripts → record of the upload, which tells both notices)
//! any failure → redelivered later; at the last delivery FINISHED with the cause, the raw file stays
//! the fault of a disk or of a pre_transcoding hook at the last delivery → this node tries it again, for ever
//! ```
//!
//! Each step may be repeated: a redelivered job continues where its files and its record say. Notices go to the outbox,
//! which knows which of them were delivered. On another node the hooks and scripts run again.

use std::io;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::codes;
use crate::config::store_url::StoreUrl;
use crate::delivery::dispatcher::Dispatcher;
use crate::delivery::message::MessageKey;
use crate::hls::record::{HlsRecord, HlsStore};
use crate::protocol::ids::RecordingId;
use crate::protocol::job::{Job, Work};
use crate::protocol::notice::{Notice, NoticeEvent};
use crate::retry::RetrySchedule;
use crate::scripts::hooks::{Hooks, cleanup};
use crate::scripts::post_processing::{self, ScriptPayload, ScriptsReport};
use crate::storage::files;
use crate::telemetry::metrics::JobEnd;
use crate::transcode::claim::{self, ResultClaim};
use crate::transcode::failure::{self, JobFailure};
use crate::transcode::fetched_objects::FetchedObjects;
use crate::transcode::hand_over::HandOver;
use crate::transcode::job_hooks::JobHooks;
pub use crate::transcode::journal::FilesToRemove;
use crate::transcode::journal::JobEntry;
use crate::transcode::produce::{FetchedInput, ResultBuilder};
use crate::transcode::raw_object::{DoneRawObject, RawFetch, RawObject};
use crate::transcode::result_writer::JobResult;
use crate::transcode::settings::TranscodeSettings;
use crate::transcode::{job_report, plan, summary};

/// After a shutdown the next node may have the job at once: the job is not at fault.
const HAND_OVER_DELAY: Duration = Duration::from_secs(1);

/// Sends notices to the server.
pub trait JobNotifier: Send + Sync {
    /// Before the notices of a new result: those of an earlier result do not count any more.
    fn forget_result(&self, recording: &RecordingId) -> BoxFuture<'static, ()>;

    /// Resolves when the notice is sure to reach the server. A notice that was delivered already is not sent again.
    fn notify(&self, notice: Notice) -> BoxFuture<'static, ()>;
}

impl JobNotifier for Dispatcher {
    fn forget_result(&self, recording: &RecordingId) -> BoxFuture<'static, ()> {
        let (dispatcher, recording) = (self.clone(), recording.clone());
        async move { dispatcher.outbox().forget(&recording, &[MessageKey::Proceeded, MessageKey::Finished]).await }
            .boxed()
    }

    fn notify(&self, notice: Notice) -> BoxFuture<'static, ()> {
        let dispatcher = self.clone();
        async move { drop(dispatcher.send(notice).await) }.boxed()
    }
}

/// What a job needs from the rest of the program.
#[derive(Clone, Copy)]
pub struct JobContext<'a> {
    pub settings: &'a TranscodeSettings,
    pub hooks: &'a Hooks,
    pub notifier: &'a dyn JobNotifier,
    pub cancel: &'a CancellationToken,
}

/// What the worker does with the job in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobOutcome {
    /// Acknowledge it, then remove these files.
    Done(FilesToRemove),
    /// Have it redelivered after so long.
    Again(Duration),
    /// Terminate it; the server has been sent the cause.
    GivenUp,
    /// Leave it: it would not be redelivered, so this node continues it at its next start.
    Kept,
    /// Leave it: a disk or a hook is at fault, and it would not be redelivered, so this node tries it again after so long.
    Waiting(Duration),
}

impl JobOutcome {
    /// How it is counted.
    pub(super) fn end(&self) -> JobEnd {
        match self {
            Self::Done(_) => JobEnd::Success,
            Self::Again(_) => JobEnd::Retried,
            Self::Kept => JobEnd::Interrupted,
            Self::Waiting(_) => JobEnd::Waiting,
            Self::GivenUp => JobEnd::GivenUp,
        }
    }
}

/// Runs the job and notifies the server. The outcome, and the cause where there is no result.
pub async fn run(job: &Job, entry: &JobEntry, context: JobContext<'_>) -> (JobOutcome, Option<String>) {
    let record = entry.record();
    let attempt = JobAttempt {
        job,
        entry,
        last: record.is_last(),
        context,
        claimed: OnceLock::new(),
        raw_object: OnceLock::new(),
    };
    let result = Box::pin(attempt.run()).await;
    attempt.remove_fetched().await;
    let (outcome, cause) = match result {
        Ok(outcome) => {
            attempt.objects().remove().await;
            return (outcome, None);
        }
        Err(failure) => {
            let failure = match failure {
                JobFailure::Cause(cause) => failure::judge(&context.settings.store, cause).await,
                failure => failure,
            };
            after_failure(job, record.delivered, record.max_deliver, failure, context.notifier).await
        }
    };
    if !matches!(outcome, JobOutcome::Kept | JobOutcome::Waiting(_)) {
        attempt.objects().remove().await;
    }
    if outcome != JobOutcome::Kept {
        // The node that gets the job next may report the result.
        attempt.release_claim().await;
    }
    (outcome, cause)
}

/// The outcome of an attempt without a result, and the cause.
pub(super) async fn after_failure(
    job: &Job,
    delivered: u64,
    of: u64,
    failure: JobFailure,
    notifier: &dyn JobNotifier,
) -> (JobOutcome, Option<String>) {
    let last = delivered >= of;
    let retry = RetrySchedule::MINUTES.after(delivered);
    let retry_s = retry.as_secs();
    let cause = match failure {
        JobFailure::Stopped if last => {
            tracing::info!(delivered, "shutting down: the job's last delivery is kept for the next start");
            return (JobOutcome::Kept, None);
        }
        JobFailure::Stopped => {
            tracing::info!(delivered, "job handed back: shutting down");
            return (JobOutcome::Again(HAND_OVER_DELAY), None);
        }
        JobFailure::Elsewhere(why) if !last => {
            tracing::info!(delivered, of, retry_s, why, "job handed back: it is another node's");
            return (JobOutcome::Again(retry), Some(why));
        }
        JobFailure::Outside(cause) if last => {
            tracing::error!(
                code = %codes::OUTSIDE_FAULT, delivered, retry_s, cause,
                "what this node does not have in hand keeps the recording from being transcoded; the raw file is kept, and this node tries it again for \
                 as long as it takes"
            );
            return (JobOutcome::Waiting(retry), Some(cause));
        }
        JobFailure::Elsewhere(cause) | JobFailure::Cause(cause) | JobFailure::Outside(cause) => cause,
    };
    if !last {
        tracing::error!(code = %codes::ATTEMPT_FAILED, delivered, of, retry_s, cause, "transcoding failed");
        return (JobOutcome::Again(retry), Some(cause));
    }
    tracing::error!(code = %codes::JOB_GIVEN_UP, delivered, cause, "transcoding failed for the last time; the raw file is kept");
    notifier.notify(notice(job, NoticeEvent::Finished(Err(cause.clone())))).await;
    (JobOutcome::GivenUp, Some(cause))
}

/// A notice to the server about a job.
fn notice(job: &Job, event: NoticeEvent) -> Notice {
    Notice { info: job.info.clone(), recorder_id: job.recorder_id.clone(), event }
}

/// What is left to be done for a result.
enum ClaimedResult {
    /// Report it; the claim's file where the claim is this node's.
    Report(Option<PathBuf>),
    /// Nothing: it was reported by a node that could not acknowledge the job.
    Reported { claim: PathBuf, keep_raw: bool },
}

struct JobAttempt<'a> {
    job: &'a Job,
    entry: &'a JobEntry,
    last: bool,
    context: JobContext<'a>,
    /// The claim's file, once this node holds the claim.
    claimed: OnceLock<PathBuf>,
    /// The raw file in the store of `storage.raw`, once it is fetched from there.
    raw_object: OnceLock<RawObject>,
}

/// Where the raw file of a job is.
enum RawInput {
    /// Where the job says, or it is a merge.
    Local,
    Fetched(FetchedInput),
    /// It is not needed: another node has told the server of its MP4.
    Reported(Option<DoneRawObject>),
}

impl JobAttempt<'_> {
    fn hooks(&self) -> JobHooks<'_> {
        let JobContext { hooks, cancel, .. } = self.context;
        JobHooks { job: self.job, entry: self.entry, hooks, cancel, last: self.last }
    }

    fn objects(&self) -> FetchedObjects<'_> {
        let JobContext { settings, cancel, .. } = self.context;
        FetchedObjects { settings, recording: &self.job.info.recording_id, room: &self.job.info.room_id, cancel }
    }

    async fn run(&self) -> Result<JobOutcome, JobFailure> {
        let started = Instant::now();
        let JobContext { settings, cancel, notifier, .. } = self.context;
        // An earlier attempt may have fetched only a part of the files.
        self.remove_fetched().await;
        let fetched_input = match self.hooks().run_before().await? {
            Some(by_hook) => Some(by_hook),
            None => match self.fetch_raw().await? {
                RawInput::Local => None,
                RawInput::Fetched(fetched) => Some(fetched),
                RawInput::Reported(object) => {
                    return Ok(JobOutcome::Done(FilesToRemove { object, ..FilesToRemove::default() }));
                }
            },
        };
        let own_raw = fetched_input.is_none();
        let builder =
            ResultBuilder { job: self.job, last: self.last, settings, entry: self.entry, fetched_input, cancel };
        let result = match builder.build().await {
            // The result exists, whoever made it, and no other node will get the job to report it.
            Err(JobFailure::Elsewhere(why)) if self.last => {
                tracing::warn!(code = %codes::RESULT_ELSEWHERE, why, "looking again");
                builder.build().await?
            }
            result => result?,
        };
        let remuxed = self.entry.record().steps.remuxed;
        if result.ran.is_some() {
            notifier.forget_result(&self.job.info.recording_id).await;
            let steps = |record: &mut crate::transcode::journal::JobRecord| {
                record.steps.anew = false;
                record.steps.told_path = None;
                record.steps.hook_store = None;
                record.steps.uploading = false;
                record.steps.hls = false;
                record.steps.scripts = 0;
            };
            self.entry.update(steps).await;
        }
        job_report::count(&settings.metrics, self.job, &result).await;
        let claim = match self.claim(&result).await? {
            ClaimedResult::Report(claim) => claim,
            // Only the acknowledgement is left.
            ClaimedResult::Reported { claim, keep_raw } => {
                let raw = result.raw.filter(|_| result.remove_raw && remuxed.is_none() && own_raw && !keep_raw);
                let object = self.raw_object.get().map(|object| object.done(keep_raw));
                return Ok(JobOutcome::Done(FilesToRemove { raw, claim: Some(claim), remuxed: false, object }));
            }
        };
        if let Some(object) = self.raw_object.get()
            && let Some(reported) = object.claim(self.last).await?
        {
            return Ok(JobOutcome::Done(FilesToRemove { claim, object: Some(reported), ..FilesToRemove::default() }));
        }
        let file_path = match self.entry.record().steps.told_path {
            Some(path) => path,
            None => self.hooks().run_after(&result).await?,
        };
        let variant = match self.job.work {
            Work::PostRecording { variant, .. } => variant,
            Work::Merge { .. } => 0,
        };
        let note =
            remuxed.as_ref().map(|why| format!("delivered as it was recorded, since it could not be encoded: {why}"));
        let hand_over = HandOver::new(self.job, self.entry, &result, settings.uploads.as_ref()).await;
        let by_store = hand_over.server_learns_from_store(&file_path);
        if !by_store {
            hand_over.copy(&file_path).await;
            let note = note.clone();
            self.notify(NoticeEvent::Proceeded { file_path, file_size: result.size, variant, note }).await;
        }
        let scripts = self.run_scripts(&result).await;
        if !scripts.is_complete() && !self.last {
            return Err(JobFailure::Stopped);
        }
        // Before the upload, which may have the MP4 removed.
        self.begin_hls(&result, hand_over.store()).await;
        if by_store {
            // The server is told of both when the store has the MP4.
            hand_over.told_by_store(variant, note).await;
        } else {
            self.notify(NoticeEvent::Finished(Ok(()))).await;
        }
        job_report::log(&result, &scripts, remuxed.as_deref(), started.elapsed());
        // A file that a hook fetched is removed only if the hook asked for it.
        let removable = result.remove_raw && remuxed.is_none();
        let object = self.raw_object.get().map(|object| object.done(!removable));
        if let Some(kept) = object.as_ref().filter(|object| object.keep) {
            tracing::warn!(code = %codes::RAW_KEPT, raw = kept.object, "the raw file stays in the store of storage.raw");
        }
        let raw = result.raw.filter(|_| removable && own_raw);
        Ok(JobOutcome::Done(FilesToRemove { raw, claim, remuxed: remuxed.is_some(), object }))
    }

    /// Has the MP4 become HLS, where that is wanted and it is still here.
    async fn begin_hls(&self, result: &JobResult, store: Option<&StoreUrl>) {
        let Some(hls) = &self.context.settings.hls else { return };
        if self.entry.record().steps.hls || !tokio::fs::try_exists(&result.mp4).await.unwrap_or(true) {
            return;
        }
        let info = &self.job.info;
        let store = store.map_or(HlsStore::NoStore, |url| HlsStore::Url(url.to_string()));
        hls.add(HlsRecord::new(&info.recording_id, &info.room_id, &result.mp4, &result.file_path, store)).await;
        self.entry.update(|record| record.steps.hls = true).await;
    }

    async fn notify(&self, event: NoticeEvent) {
        self.context.notifier.notify(notice(self.job, event)).await;
    }

    /// Fetches the raw file where it is in the store of `storage.raw`.
    async fn fetch_raw(&self) -> Result<RawInput, JobFailure> {
        let Some(object) = RawObject::of(self.job, self.context.settings)? else { return Ok(RawInput::Local) };
        match object.fetch(self.objects(), self.last).await? {
            RawFetch::Reported(done) => Ok(RawInput::Reported(done)),
            RawFetch::Here(dir) => {
                let (file_name, home) = (object.file_name().to_owned(), Some(object.home()));
                // Nobody sets it a second time.
                let _ = self.raw_object.set(object);
                Ok(RawInput::Fetched(FetchedInput { dir, file_name, home }))
            }
        }
    }

    /// Removes what a hook has fetched for this job and asked to have removed.
    async fn remove_fetched(&self) {
        let Some(fetched) = self.entry.record().steps.fetched else { return };
        let (dir, protected) = (fetched.clone(), self.context.settings.protected.clone());
        let remove = move || cleanup::remove(&dir, &protected).map_err(io::Error::other);
        match files::on_disk(remove).await {
            Ok(()) => tracing::debug!(dir = %fetched.display(), "what the hook has fetched is removed"),
            Err(error) => {
                tracing::warn!(
                    code = %codes::FETCHED_NOT_REMOVED, dir = %fetched.display(), %error,
                    "what the hook has fetched is not removed"
                );
            }
        }
        self.entry.update(|record| record.steps.fetched = None).await;
    }

    /// Makes sure that only one living node reports this result.
    async fn claim(&self, result: &JobResult) -> Result<ClaimedResult, JobFailure> {
        let settings = self.context.settings;
        let path = claim::path(&result.mp4);
        let (store, mp4, node) = (settings.store.clone(), result.mp4.clone(), settings.recorder_id.clone());
        let ours = match files::on_disk(move || claim::take(&store, &mp4, &node)).await {
            Ok(ResultClaim::Ours) => {
                let _ = self.claimed.set(path.clone());
                true
            }
            Ok(ResultClaim::Of { node, since }) if !self.last => {
                return Err(JobFailure::Elsewhere(format!(
                    "{node} has taken the result on, {} s ago",
                    since.as_secs()
                )));
            }
            Ok(ResultClaim::Reported { node, keep_raw }) if result.ran.is_none() => {
                tracing::info!(
                    node,
                    "the server was told of this result already, and its scripts have run: only acknowledging it"
                );
                return Ok(ClaimedResult::Reported { claim: path, keep_raw });
            }
            // Of an earlier result.
            Ok(ResultClaim::Reported { .. }) => {
                let (store, mp4, node) = (settings.store.clone(), result.mp4.clone(), settings.recorder_id.clone());
                let renewed = files::on_disk(move || claim::renew(&store, &mp4, &node)).await;
                if renewed.is_ok() {
                    let _ = self.claimed.set(path.clone());
                }
                renewed.is_ok()
            }
            // Reporting twice is better than never.
            Ok(ResultClaim::Of { node, .. }) => {
                tracing::warn!(
                    code = %codes::CLAIM_LOST, node,
                    "another node has taken the result on; telling the server all the same"
                );
                false
            }
            Err(error) => {
                tracing::warn!(
                    code = %codes::CLAIM_NOT_MADE, claim = %path.display(), %error,
                    "the result cannot be claimed; telling the server all the same"
                );
                false
            }
        };
        // A result that this node has not claimed before, without the raw file that it was made of: another node has
        // finished the job. If the queue has that node's acknowledgement, it will not redeliver the job.
        let finished = match &result.raw {
            Some(raw) => *raw != result.mp4 && !tokio::fs::try_exists(raw).await.unwrap_or(true),
            None => result.ran.is_none(),
        };
        if finished && !self.last && !self.entry.record().steps.claimed {
            return Err(JobFailure::Elsewhere("the MP4 is there and nothing that it was made of".to_owned()));
        }
        self.entry.update(|record| record.steps.claimed = true).await;
        Ok(ClaimedResult::Report(ours.then_some(path)))
    }

    async fn release_claim(&self) {
        if let Some(object) = self.raw_object.get() {
            object.release().await;
        }
        let Some(claim) = self.claimed.get().cloned() else { return };
        let path = claim.clone();
        if let Err(error) = files::on_disk(move || claim::release(&path)).await {
            tracing::warn!(
                code = %codes::CLAIM_NOT_REMOVED, claim = %claim.display(), %error,
                "the claim of the result cannot be removed; it is void after 10 min"
            );
        }
    }

    async fn run_scripts(&self, result: &JobResult) -> ScriptsReport {
        let info = &self.job.info;
        let payload = ScriptPayload {
            recording_id: info.recording_id.to_string(),
            room_table_id: info.room_table_id,
            room_id: info.room_id.to_string(),
            room_sid: info.room_sid.as_str().to_owned(),
            file_name: plan::mp4_name(&info.recording_id),
            file_path: result.mp4.clone(),
            file_size: post_processing::megabytes(result.size),
            recorder_id: self.job.recorder_id.to_string(),
        };
        let summary = result.raw.as_deref().and_then(summary::path);
        let JobContext { settings: TranscodeSettings { scripts, script_timeout, .. }, cancel, .. } = self.context;
        let mut all = ScriptsReport::default();
        let completed = self.entry.record().steps.scripts.min(scripts.len());
        for (index, script) in scripts.iter().enumerate().skip(completed) {
            let one = post_processing::run(
                std::slice::from_ref(script),
                &payload,
                summary.as_deref(),
                *script_timeout,
                cancel,
            )
            .await;
            let complete = one.is_complete();
            all.add(one);
            if complete {
                self.entry.update(move |record| record.steps.scripts = index + 1).await;
            }
        }
        all
    }
}
