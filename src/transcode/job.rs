//! One job from its delivery to its verdict; the work queue itself is [`super::worker`]'s.
//!
//! ```text
//! pre_transcoding hooks → make (its own module) → claim → post_transcoding hooks → PROCEEDED → scripts → FINISHED
//! any failure → again later; the last time FINISHED with the cause, the raw file stays
//! ```
//!
//! Each step may be repeated: a job that is handed out again goes on where its files and its record say it was. What the
//! server is told goes into the outbox, which remembers it. On another node the hooks and scripts run again.

use crate::transcode::failure::JobFailure;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::config::HookStage;
use crate::delivery::dispatcher::Dispatcher;
use crate::delivery::message::MessageKey;
use crate::protocol::ids::RecordingId;
use crate::protocol::job::{Job, RawFileName, Work};
use crate::protocol::notice::{Notice, NoticeEvent};
use crate::retry::RetrySchedule;
use crate::scripts::hooks::payload::HookPayload;
use crate::scripts::hooks::{HookError, Hooks, cleanup};
use crate::scripts::post_processing::{self, ScriptPayload, ScriptsReport};
use crate::storage::files;
use crate::transcode::claim::{self, ResultClaim};
use crate::transcode::journal::JobEntry;
use crate::transcode::produce::{InputMedia, JobResult, ResultBuilder};
use crate::transcode::settings::TranscodeSettings;
use crate::transcode::{plan, summary};

/// After a shutdown nothing is wrong with the job: the next node may take it at once.
const HAND_OVER: Duration = Duration::from_secs(1);

/// How the server is told.
pub trait JobNotifier: Send + Sync {
    /// A new result was made: what the server was told of an earlier one is told anew.
    fn anew(&self, recording: &RecordingId) -> BoxFuture<'static, ()>;

    /// Resolves when it is certain that the server will be told; a notice that this node has told already is not told again.
    fn tell(&self, notice: Notice) -> BoxFuture<'static, ()>;
}

impl JobNotifier for Dispatcher {
    fn anew(&self, recording: &RecordingId) -> BoxFuture<'static, ()> {
        let (dispatcher, recording) = (self.clone(), recording.clone());
        async move { dispatcher.outbox().forget(&recording, &[MessageKey::Proceeded, MessageKey::Finished]).await }
            .boxed()
    }

    fn tell(&self, notice: Notice) -> BoxFuture<'static, ()> {
        let dispatcher = self.clone();
        async move { drop(dispatcher.send(notice).await) }.boxed()
    }
}

/// What a job needs of the rest of the program.
#[derive(Clone, Copy)]
pub struct JobContext<'a> {
    pub settings: &'a TranscodeSettings,
    pub hooks: &'a Hooks,
    pub tell: &'a dyn JobNotifier,
    pub cancel: &'a CancellationToken,
}

/// What is to become of the job in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobOutcome {
    /// Acknowledge it, then remove what is left of it.
    Done(FilesToRemove),
    /// Hand it out again after so long.
    Again(Duration),
    /// Never hand it out again; the server knows why.
    GivenUp,
    /// It would not be handed out again: this node goes on with it at its next start.
    Kept,
}

/// What may go once the job is acknowledged, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilesToRemove {
    /// The raw file, with the summary beside it.
    pub raw: Option<PathBuf>,
    /// The claim of the result.
    pub claim: Option<PathBuf>,
    /// The recording could only be remuxed; the operator may have it tried again.
    pub remuxed: bool,
}

/// Does what the job asks for and tells the server. With the verdict, the cause where there is no result.
pub async fn run(job: &Job, entry: &JobEntry, around: JobContext<'_>) -> (JobOutcome, Option<String>) {
    let record = entry.record();
    let attempt = JobAttempt { job, entry, last: record.is_last(), around, claimed: OnceLock::new() };
    let ended = attempt.run().await;
    attempt.clean_up().await;
    let (verdict, cause) = match ended {
        Ok(verdict) => return (verdict, None),
        Err(failure) => fail(job, record.delivered, record.max_deliver, failure, around.tell).await,
    };
    if verdict != JobOutcome::Kept {
        // Whoever gets the job next may tell of the result.
        attempt.release().await;
    }
    (verdict, cause)
}

/// The verdict on an attempt without a result, and the cause.
pub(super) async fn fail(
    job: &Job,
    delivered: u64,
    of: u64,
    failure: JobFailure,
    tell: &dyn JobNotifier,
) -> (JobOutcome, Option<String>) {
    let last = delivered >= of;
    let retry = RetrySchedule::MINUTES.after(delivered);
    let cause = match failure {
        JobFailure::Stopped if last => {
            tracing::info!(delivered, "shutting down: the job's last delivery is kept for the next start");
            return (JobOutcome::Kept, None);
        }
        JobFailure::Stopped => {
            tracing::info!(delivered, "job handed back: shutting down");
            return (JobOutcome::Again(HAND_OVER), None);
        }
        JobFailure::Elsewhere(why) if !last => {
            tracing::info!(delivered, of, retry_s = retry.as_secs(), why, "job handed back: it is another node's");
            return (JobOutcome::Again(retry), Some(why));
        }
        JobFailure::Elsewhere(cause) | JobFailure::Cause(cause) => cause,
    };
    if !last {
        tracing::error!(delivered, of, retry_s = retry.as_secs(), cause, "transcoding failed");
        return (JobOutcome::Again(retry), Some(cause));
    }
    tracing::error!(delivered, cause, "transcoding failed for the last time; the raw file is kept");
    tell.tell(notice(job, NoticeEvent::Finished(Err(cause.clone())))).await;
    (JobOutcome::GivenUp, Some(cause))
}

/// What the server is told of a job.
fn notice(job: &Job, event: NoticeEvent) -> Notice {
    Notice { info: job.info.clone(), recorder_id: job.recorder_id.clone(), event }
}

struct JobAttempt<'a> {
    job: &'a Job,
    entry: &'a JobEntry,
    last: bool,
    around: JobContext<'a>,
    /// The claim, once it is ours.
    claimed: OnceLock<PathBuf>,
}

impl JobAttempt<'_> {
    async fn run(&self) -> Result<JobOutcome, JobFailure> {
        let started = Instant::now();
        let JobContext { settings, cancel, tell, .. } = self.around;
        // What an earlier attempt has fetched was perhaps not fetched to its end.
        self.clean_up().await;
        let brought = self.before().await?;
        let ours = brought.is_none();
        let maker = ResultBuilder { job: self.job, last: self.last, settings, entry: self.entry, brought, cancel };
        let made = match maker.make().await {
            // It is there, whoever has made it, and nobody else will be asked to tell of it.
            Err(JobFailure::Elsewhere(why)) if self.last => {
                tracing::warn!(why, "looking again");
                maker.make().await?
            }
            made => made?,
        };
        let remuxed = self.entry.record().steps.remuxed;
        if made.ran.is_some() {
            tell.anew(&self.job.info.recording_id).await;
            let steps = |record: &mut crate::transcode::journal::JobRecord| {
                record.steps.anew = false;
                record.steps.told_path = None;
                record.steps.scripts = 0;
            };
            self.entry.update(steps).await;
        }
        let claim = self.claim(&made).await?;
        let file_path = match self.entry.record().steps.told_path {
            Some(path) => path,
            None => self.after(&made).await?,
        };
        let variant = match self.job.work {
            Work::PostRecording { variant, .. } => variant,
            Work::Merge { .. } => 0,
        };
        let note =
            remuxed.as_ref().map(|why| format!("delivered as it was recorded, since it could not be encoded: {why}"));
        self.told(NoticeEvent::Proceeded { file_path, file_size: made.size, variant, note }).await;
        let scripts = self.run_scripts(&made).await;
        if !scripts.is_complete() && !self.last {
            return Err(JobFailure::Stopped);
        }
        self.told(NoticeEvent::Finished(Ok(()))).await;
        summarise(&made, &scripts, remuxed.as_deref(), started.elapsed());
        // What a hook has brought is the hook's to keep, but for what it has left to us.
        let raw = made.raw.filter(|_| made.remove_raw && remuxed.is_none() && ours);
        Ok(JobOutcome::Done(FilesToRemove { raw, claim, remuxed: remuxed.is_some() }))
    }

    async fn told(&self, event: NoticeEvent) {
        self.around.tell.tell(notice(self.job, event)).await;
    }

    /// The `pre_transcoding` hooks: where they have put what the job names.
    async fn before(&self) -> Result<Option<InputMedia>, JobFailure> {
        let JobContext { hooks, cancel, .. } = self.around;
        if hooks.is_empty(HookStage::PreTranscoding) {
            return Ok(None);
        }
        let answer = hooks.run(HookStage::PreTranscoding, HookPayload::of_job(self.job), cancel).await?;
        let job_dir = match &self.job.work {
            Work::PostRecording { dir, .. } => Some(dir),
            Work::Merge { .. } => None,
        };
        // Where it was all the time: as without a hook.
        let Some(dir) = answer.output_path.filter(|dir| Some(dir) != job_dir) else { return Ok(None) };
        if answer.should_cleanup {
            let fetched = dir.clone();
            self.entry.update(move |record| record.steps.fetched = Some(fetched)).await;
        }
        if !dir.is_absolute() {
            return Err(JobFailure::Cause(format!(
                "the pre_transcoding hooks answered with the output_path {}, which is not absolute",
                dir.display()
            )));
        }
        let file_name = match (answer.file_name, &self.job.work) {
            (Some(name), Work::PostRecording { .. }) => {
                RawFileName::parse(&name).map_err(JobFailure::of)?.as_str().to_owned()
            }
            _ => String::new(),
        };
        tracing::info!(dir = %dir.display(), "the pre_transcoding hooks say where the input is");
        Ok(Some(InputMedia { dir, file_name }))
    }

    /// Removes what a hook has fetched for this job and does not want any more.
    async fn clean_up(&self) {
        let Some(fetched) = self.entry.record().steps.fetched else { return };
        let (dir, protected) = (fetched.clone(), self.around.settings.protected.clone());
        let removed = tokio::task::spawn_blocking(move || cleanup::remove(&dir, &protected));
        match removed.await {
            Ok(Ok(())) => tracing::debug!(dir = %fetched.display(), "what the hook has fetched is removed"),
            Ok(Err(error)) => {
                tracing::warn!(dir = %fetched.display(), %error, "what the hook has fetched is not removed");
            }
            Err(error) => tracing::warn!(dir = %fetched.display(), %error, "what the hook has fetched is not removed"),
        }
        self.entry.update(|record| record.steps.fetched = None).await;
    }

    /// Makes sure that the server is told of this result by one node only, as long as that lives; the claim, if it is ours.
    async fn claim(&self, made: &JobResult) -> Result<Option<PathBuf>, JobFailure> {
        let settings = self.around.settings;
        let path = claim::path(&made.mp4);
        let (mp4, node) = (made.mp4.clone(), settings.recorder_id.clone());
        let ours = match files::on_disk(move || claim::take(&mp4, &node)).await {
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
            // Better told twice than never.
            Ok(ResultClaim::Of { node, .. }) => {
                tracing::warn!(node, "another node has taken the result on; telling the server all the same");
                false
            }
            Err(error) => {
                tracing::warn!(claim = %path.display(), %error, "the result cannot be claimed; telling the server all the same");
                false
            }
        };
        // A result that this node has not taken on before, without the raw file that it was made of: another one has finished.
        // If the queue knows that too, this job does not come again.
        let finished = match &made.raw {
            Some(raw) => *raw != made.mp4 && !tokio::fs::try_exists(raw).await.unwrap_or(true),
            None => made.ran.is_none(),
        };
        if finished && !self.last && !self.entry.record().steps.claimed {
            return Err(JobFailure::Elsewhere("the MP4 is there and nothing that it was made of".to_owned()));
        }
        self.entry.update(|record| record.steps.claimed = true).await;
        Ok(ours.then_some(path))
    }

    async fn release(&self) {
        let Some(claim) = self.claimed.get().cloned() else { return };
        let path = claim.clone();
        if let Err(error) = files::on_disk(move || claim::release(&path)).await {
            tracing::warn!(claim = %claim.display(), %error, "the claim of the result cannot be removed; it is void after 10 min");
        }
    }

    /// The `post_transcoding` hooks; the path that the server is told.
    async fn after(&self, made: &JobResult) -> Result<String, JobFailure> {
        let JobContext { hooks, cancel, .. } = self.around;
        let mut path = made.file_path.clone();
        if !hooks.is_empty(HookStage::PostTranscoding) {
            let (info, node) = (&self.job.info, &self.job.recorder_id);
            let dir = made.mp4.parent().unwrap_or(Path::new("/"));
            let name = plan::mp4_name(&info.recording_id);
            let mut payload = HookPayload::single(info, node, dir, &name, Some(made.size));
            match &self.job.work {
                Work::PostRecording { dir, file_name, .. } => {
                    payload = payload.with_source(&dir.join(file_name.as_str()));
                }
                Work::Merge { paths } => {
                    payload.task = crate::scripts::hooks::payload::HookTask::Merge;
                    payload.input_paths.clone_from(paths);
                }
            }
            match hooks.run(HookStage::PostTranscoding, payload, cancel).await {
                Ok(answer) => {
                    if let Some(output) = answer.output_path {
                        path = output.display().to_string();
                    }
                }
                // The recording is there: it must not stay unknown because of what was to be done with it.
                Err(error @ HookError::Failed { .. }) if self.last => {
                    tracing::error!(%error, mp4 = %made.mp4.display(), "the post_transcoding hooks failed for the last time: the MP4 is told of where it is");
                }
                Err(error) => return Err(error.into()),
            }
        }
        let told = path.clone();
        self.entry.update(move |record| record.steps.told_path = Some(told)).await;
        Ok(path)
    }

    async fn run_scripts(&self, made: &JobResult) -> ScriptsReport {
        let info = &self.job.info;
        let payload = ScriptPayload {
            recording_id: info.recording_id.to_string(),
            room_table_id: info.room_table_id,
            room_id: info.room_id.to_string(),
            room_sid: info.room_sid.as_str().to_owned(),
            file_name: plan::mp4_name(&info.recording_id),
            file_path: made.mp4.clone(),
            file_size: post_processing::megabytes(made.size),
            recorder_id: self.job.recorder_id.to_string(),
        };
        let summary = made.raw.as_deref().and_then(summary::path);
        let JobContext { settings: TranscodeSettings { scripts, script_timeout, .. }, cancel, .. } = self.around;
        let mut all = ScriptsReport::default();
        let done = self.entry.record().steps.scripts.min(scripts.len());
        for (index, script) in scripts.iter().enumerate().skip(done) {
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

/// The one line about the whole job.
fn summarise(made: &JobResult, scripts: &ScriptsReport, remuxed: Option<&str>, wall: Duration) {
    let duration = made.media.duration.as_secs_f64();
    let ran = made.ran.as_ref();
    tracing::info!(
        mp4 = %made.mp4.display(),
        duration_s = rounded(duration),
        size_mb = post_processing::megabytes(made.size),
        already_there = ran.is_none(),
        remuxed_because = remuxed,
        cpu_s = ran.and_then(|ran| ran.cpu).map(|cpu| rounded(cpu.as_secs_f64())),
        ffmpeg_s = ran.map(|ran| rounded(ran.wall.as_secs_f64())),
        wall_s = rounded(wall.as_secs_f64()),
        speed = ran.map(|ran| rounded(duration / ran.wall.as_secs_f64().max(0.001))),
        scripts_ok = scripts.succeeded,
        scripts_failed = scripts.failed.len(),
        "transcoding finished"
    );
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
