//! Takes jobs from the work queue, up to `max_jobs` at once, and settles each one in the queue.
//!
//! Whatever a job does (undecodable bytes, a panic), the next job is taken.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::select_all;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::Instrument as _;

use crate::codes;
use crate::delivery::dispatcher::Dispatcher;
use crate::fleet::availability::Obstacles;
use crate::nats::{JobMessage, Jobs, Nats};
use crate::protocol::ids::RecordingId;
use crate::protocol::job::{InvalidJob, Job, JobSubject};
use crate::protocol::notice::{Notice, NoticeEvent};
use crate::scripts::hooks::Hooks;
use crate::storage::files;
use crate::storage::journal::RECORD_LIMIT;
use crate::transcode::acknowledgement::Acknowledgement;
use crate::transcode::archive_cleanup;
use crate::transcode::drain_watch::DrainWatch;
use crate::transcode::fail_store;
use crate::transcode::failure::JobFailure;
use crate::transcode::fetch_gate::FetchGate;
use crate::transcode::fetched_objects;
use crate::transcode::job::{self, FilesToRemove, JobContext, JobOutcome};
use crate::transcode::job_files::{remove_until_gone, set_aside};
use crate::transcode::journal::{JobEntry, JobJournal, JobRecord, JobRecords, JobState, MAX_DELIVER};
use crate::transcode::running_jobs::{RunningJob, RunningJobs};
use crate::transcode::settings::TranscodeSettings;
use crate::transcode::settling::{conclude, settle};
use crate::unix_time::unix_ms;

/// How often the queue is informed that a job is in progress: well within `AckWait` (10 min, PROTOCOL 1), even if some
/// are lost.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(60);
/// How often jobs are looked for that are to be tried again.
const RETRY_POLL_INTERVAL: Duration = Duration::from_secs(5);
/// After how long the queue redelivers a job that is running here already, because it missed a progress message.
const DUPLICATE_DELAY: Duration = Duration::from_secs(120);
/// How long a job may take to end with the program: a script gets 10 s between TERM and KILL.
const END_GRACE: Duration = Duration::from_secs(20);
/// How long jobs may take to stop and to be handed back once the program is to end.
const HAND_BACK_LIMIT: Duration = Duration::from_secs(90);

/// Runs until `drain`, after which no job is taken; running jobs go on until `end` and are then handed back. `cpu` is
/// the load of all processors, 0…1. While `obstacles` say that the node is drained, no job is fetched, and what waits
/// here is done.
#[expect(clippy::too_many_arguments, reason = "what a node has to give to its worker")]
pub async fn run(
    nats: Nats,
    jobs: Jobs,
    dispatcher: Dispatcher,
    hooks: Hooks,
    settings: TranscodeSettings,
    cpu: watch::Receiver<f64>,
    obstacles: watch::Receiver<Obstacles>,
    drain: CancellationToken,
    end: CancellationToken,
) {
    let mut gate = FetchGate::new(jobs, settings.cpu_limit, cpu, settings.max_wait);
    let worker = Worker {
        journal: JobJournal::new(&settings.state_dir),
        slots: Arc::new(Semaphore::new(settings.max_jobs)),
        running: RunningJobs::new(settings.metrics.clone()),
        operator: DrainWatch(obstacles),
        unread: Mutex::default(),
        looking: Arc::default(),
        // A queue without a limit gets one here: one more than the default.
        max_deliver: gate.max_deliver().unwrap_or(MAX_DELIVER + 1),
        usable_since: AtomicU64::new(0),
        settings,
        dispatcher,
        hooks,
        cancel: end,
    };
    let (worker, tasks) = (Arc::new(worker), TaskTracker::new());
    worker.resume_jobs(&nats, &drain, &tasks).await;
    loop {
        worker.resume_unread(&nats, &drain, &tasks).await;
        let Some(slot) = worker.slot(&drain).await else { break };
        if let Some(record) = worker.next_retry().await {
            worker.retry(&nats, record, slot, &tasks).await;
            continue;
        }
        if worker.operator.is_drained() {
            tokio::select! {
                () = worker.operator.undrained() => {}
                () = worker.job_due() => {}
                () = drain.cancelled() => {}
            }
            continue;
        }
        // The fetch is interrupted when an operator asks for another attempt at a job.
        let fetch_cancel = drain.child_token();
        let mut fetch = pin!(gate.next(&fetch_cancel));
        let message = tokio::select! {
            message = &mut fetch => message,
            _ = select_all([worker.job_due().boxed(), worker.store_lost().boxed(), worker.operator.drained().boxed()]) => {
                fetch_cancel.cancel();
                fetch.await
            }
        };
        if let Some(message) = message {
            worker.spawn(message, slot, &tasks);
        }
    }
    tasks.close();
    let too_late = async {
        worker.cancel.cancelled().await;
        tokio::time::sleep(HAND_BACK_LIMIT).await;
    };
    tokio::select! {
        () = tasks.wait() => {}
        () = too_late => tracing::error!(
            code = %codes::JOBS_HANG, jobs = tasks.len(),
            "jobs do not end, as a disk does not answer; the next start or another node goes on with them"
        ),
    }
}

struct Worker {
    journal: JobJournal,
    /// One permit for each job that may be started.
    slots: Arc<Semaphore>,
    running: RunningJobs,
    operator: DrainWatch,
    /// Records of an earlier run that could not be read.
    unread: Mutex<Vec<PathBuf>>,
    /// Held while the disk is asked for requests of the operator.
    looking: Arc<tokio::sync::Mutex<()>>,
    max_deliver: u64,
    /// When `main_path` could last be used again, in Unix milliseconds.
    usable_since: AtomicU64,
    settings: TranscodeSettings,
    dispatcher: Dispatcher,
    hooks: Hooks,
    cancel: CancellationToken,
}

impl Worker {
    /// A slot for one more job, once `main_path` can be used. `None`: draining, no more jobs are taken.
    async fn slot(&self, drain: &CancellationToken) -> Option<OwnedSemaphorePermit> {
        if drain.is_cancelled() {
            return None;
        }
        let slot = drain.run_until_cancelled(Arc::clone(&self.slots).acquire_owned()).await?.ok()?;
        let mut status = self.settings.store.watch();
        if status.borrow().fault.is_some() {
            tracing::info!("no transcoding jobs are taken until main_path can be used");
            drain.run_until_cancelled(status.wait_for(|status| status.fault.is_none())).await?.ok()?;
            self.usable_since.store(unix_ms(), Ordering::Relaxed);
        }
        Some(slot)
    }

    /// Resolves when `main_path` cannot be used.
    async fn store_lost(&self) {
        if self.settings.store.watch().wait_for(|status| status.fault.is_some()).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn is_running(&self, recording: &str) -> bool {
        self.running.contains(recording)
    }

    /// Starts a job in a task of its own.
    fn spawn(self: &Arc<Self>, message: JobMessage, slot: OwnedSemaphorePermit, tasks: &TaskTracker) {
        let worker = Arc::clone(self);
        tasks.spawn(async move {
            worker.handle(message, slot).await;
        });
    }

    /// Continues the jobs that an earlier run of the program was running, without waiting for the queue's redelivery.
    async fn resume_jobs(self: &Arc<Self>, nats: &Nats, drain: &CancellationToken, tasks: &TaskTracker) {
        self.journal.remove_unfinished();
        let JobRecords { records, unread } = loop {
            match self.journal.read_all() {
                Ok(content) => break content,
                Err(error) => {
                    tracing::error!(
                        code = %codes::JOBS_NOT_LISTED, %error,
                        "the jobs of an earlier run cannot be listed: no job is taken before they are; look at the \
                         disk of recorder.state_dir"
                    );
                }
            }
            if drain.run_until_cancelled(tokio::time::sleep(RETRY_POLL_INTERVAL)).await.is_none() {
                return;
            }
        };
        if unread.is_empty() {
            let is_kept = |record: &&JobRecord| !matches!(record.state, JobState::HandedBack { .. });
            let kept = records.iter().filter(is_kept).map(|record| record.recording_id.clone()).collect();
            fetched_objects::remove_others(&self.settings, kept).await;
        }
        for (path, error) in unread {
            tracing::error!(
                code = %codes::JOB_RECORD_UNREAD,
                path = %path.display(), %error,
                "the record of a job cannot be read now: it is tried again every 5 s; look at the disk of recorder.state_dir"
            );
            self.unread().push(path);
        }
        for record in records {
            self.resume(record, nats, drain, tasks).await;
        }
    }

    async fn resume(self: &Arc<Self>, record: JobRecord, nats: &Nats, drain: &CancellationToken, tasks: &TaskTracker) {
        if record.state != JobState::Working || self.is_running(&record.recording_id) {
            return;
        }
        // The payload was checked when the record was read.
        let Ok(payload) = record.payload() else { return };
        let Some(slot) = self.slot(drain).await else { return };
        tracing::warn!(
            code = %codes::JOB_RESUMED,
            recording_id = record.recording_id,
            room_id = record.room_id,
            "an earlier run of the recorder was killed while it had this job in hand: going on with it"
        );
        let message = JobMessage::of_earlier_run(nats, payload, record.ack_to.as_deref(), record.delivered);
        self.spawn(message, slot, tasks);
    }

    /// Continues the jobs whose records could not be read at the start.
    async fn resume_unread(self: &Arc<Self>, nats: &Nats, drain: &CancellationToken, tasks: &TaskTracker) {
        let paths = std::mem::take(&mut *self.unread());
        for path in paths {
            let (journal, at) = (self.journal.clone(), path.clone());
            match files::on_disk_within(RECORD_LIMIT, move || journal.read_again(&at)).await {
                Ok(Some(record)) => {
                    tracing::info!(path = %path.display(), "the record of a job can be read");
                    self.resume(record, nats, drain, tasks).await;
                }
                Ok(None) => {}
                Err(_) => self.unread().push(path),
            }
        }
    }

    fn unread(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts another attempt at a job that the queue does not hand out any more: it was given up, or waited here.
    async fn retry(
        self: &Arc<Self>,
        nats: &Nats,
        mut record: JobRecord,
        slot: OwnedSemaphorePermit,
        tasks: &TaskTracker,
    ) {
        let job = record.payload().and_then(|payload| {
            let job = Job::decode(&payload).map_err(|error| error.to_string())?;
            let named = job.info.recording_id.as_str() == record.recording_id;
            if named { Ok(payload) } else { Err("it is of another recording".to_owned()) }
        });
        let payload = match job {
            Ok(payload) => payload,
            // Left in place, the record would be found again at once.
            Err(why) => return files::put_aside(&self.journal.path(&record.recording_id), &why),
        };
        let (recording_id, room_id) = (&record.recording_id, &record.room_id);
        let mut delivered = self.max_deliver;
        if matches!(record.state, JobState::Waiting { .. }) {
            tracing::info!(recording_id, room_id, "this job has waited, and is tried again");
            delivered = record.delivered;
        } else {
            tracing::info!(recording_id, room_id, "the operator wants this job tried again");
            // The queue has no such job any more.
            record.ack_to = None;
        }
        let ack_to = record.ack_to.clone();
        record.state = JobState::Working;
        self.journal.begin(record).await.update(|record| record.steps.begin_again()).await;
        self.spawn(JobMessage::of_earlier_run(nats, payload, ack_to.as_deref(), delivered), slot, tasks);
    }

    /// Resolves when a job is to be tried again that is not running, or records are to be read again.
    async fn job_due(&self) {
        loop {
            tokio::time::sleep(RETRY_POLL_INTERVAL).await;
            if !self.unread().is_empty() || self.next_retry().await.is_some() {
                return;
            }
        }
    }

    /// A job to be tried again that the queue does not hand out any more, and which is not running. None while the disk
    /// does not answer.
    async fn next_retry(&self) -> Option<JobRecord> {
        // One look at a time: on a disk that hangs each one would keep a thread.
        let looking = Arc::clone(&self.looking).try_lock_owned().ok()?;
        let (journal, usable_since) = (self.journal.clone(), self.usable_since.load(Ordering::Relaxed));
        let look = move || {
            let due = journal.due(unix_ms(), usable_since);
            drop(looking);
            Ok(due)
        };
        let due = files::on_disk_within(RECORD_LIMIT, look).await.ok().flatten();
        due.filter(|record| !self.is_running(&record.recording_id))
    }

    async fn handle(&self, message: JobMessage, slot: OwnedSemaphorePermit) {
        let job = match Job::decode(message.payload()) {
            Ok(job) => job,
            Err(error) => {
                self.tell_of_unusable(&error).await;
                set_aside(&self.settings.temporary_dir, message.payload(), &error.to_string()).await;
                settle("terminated", &self.cancel, || message.term()).await;
                return;
            }
        };
        let span = tracing::info_span!(
            "recording",
            recording_id = %job.info.recording_id,
            room_id = %job.info.room_id,
            task = "transcode"
        );
        let Some(running) = self.running.take(&job.info.recording_id) else {
            return self.handle_duplicate(message, &job.info.recording_id).instrument(span).await;
        };
        let work = async {
            let delivered = message.delivered();
            tracing::info!(delivered, of = self.max_deliver, "job taken");
            let mut record = JobRecord::new(&job, message.payload(), message.ack_to().map(str::to_owned), delivered);
            record.max_deliver = self.max_deliver;
            let entry = self.journal.begin(record).await;
            let (outcome, cause) = match entry.record().steps.done {
                Some(files) => {
                    tracing::info!(
                        "all of this job was done before; it was not acknowledged, or its files were not removed"
                    );
                    (JobOutcome::Done(files), None)
                }
                None => self.attempt(job.clone(), &entry, &message).await,
            };
            // Before the queue forgets the job: after a crash it is done again.
            fail_store::copy_raw(&job, &entry, &self.settings, &outcome, cause.as_deref()).await;
            self.settings.metrics.job_ended(outcome.end());
            let state = match outcome {
                JobOutcome::Done(files) => self.acknowledge(message, &running, slot, &entry, files).await,
                outcome => conclude(outcome, &message, &self.cancel).await,
            };
            // The last step: after a crash before it the job runs again, and finds its result.
            match state {
                None => entry.remove().await,
                Some(state) => entry.update(|record| *record = record.clone().with_state(state, cause)).await,
            }
        };
        work.instrument(span).await;
    }

    /// Tells the server the end of a job that can never be done, where the job says whose it is: the server keeps a
    /// room's merge lock until then (PROTOCOL 6). Of a recording whose end was told already, nothing is told.
    async fn tell_of_unusable(&self, error: &InvalidJob) {
        let InvalidJob::Unusable { subject, why } = error else { return };
        let JobSubject { info, recorder_id } = (**subject).clone();
        tracing::error!(
            code = %codes::JOB_REFUSED,
            recording_id = %info.recording_id, room_id = %info.room_id, task = "transcode", %why,
            "a job cannot be done by anybody: the server is told that it has failed"
        );
        let recorder_id = recorder_id.unwrap_or_else(|| self.settings.recorder_id.clone());
        let event = NoticeEvent::Finished(Err(format!("the transcoding job is not usable: {why}")));
        drop(self.dispatcher.send(Notice { info, recorder_id, event }).await);
    }

    /// Runs the job in a task of its own, so that a panic ends only that task, and keeps the queue informed of the
    /// progress. The outcome, and the cause where there is no result.
    async fn attempt(&self, job: Job, entry: &JobEntry, message: &JobMessage) -> (JobOutcome, Option<String>) {
        let (settings, hooks) = (self.settings.clone(), self.hooks.clone());
        let (notifier, cancel) = (self.dispatcher.clone(), self.cancel.clone());
        let (info, own) = (job.clone(), entry.clone());
        let work = async move {
            let context = JobContext { settings: &settings, hooks: &hooks, notifier: &notifier, cancel: &cancel };
            job::run(&job, &own, context).await
        };
        let mut task = AbortOnDropHandle::new(tokio::spawn(work.in_current_span()));
        let ended = loop {
            tokio::select! {
                ended = &mut task => break ended,
                () = tokio::time::sleep(PROGRESS_INTERVAL) => {
                    if let Err(error) = message.in_progress().await {
                        tracing::warn!(
                            code = %codes::JOB_PROGRESS_UNHEARD, %error,
                            "the queue did not hear that the job is in work; another node may be given it too, and one result counts"
                        );
                    }
                }
                () = end_is_over(&self.cancel) => {
                    tracing::warn!(
                        code = %codes::JOBS_HANG,
                        "the job does not end, and is left: main_path, a disk or a script hangs"
                    );
                    let record = entry.record();
                    let stopped = JobFailure::Stopped;
                    return job::after_failure(&info, record.delivered, record.max_deliver, stopped, &self.dispatcher).await;
                }
            }
        };
        match ended {
            Ok(outcome) => outcome,
            Err(error) => {
                let failure = JobFailure::Cause(format!("internal error: {error}"));
                let record = entry.record();
                job::after_failure(&info, record.delivered, record.max_deliver, failure, &self.dispatcher).await
            }
        }
    }

    /// A job that is running here already: handed back, or acknowledged with the delivery before it.
    async fn handle_duplicate(&self, message: JobMessage, recording: &RecordingId) {
        if let Some(deliveries) = self.running.deliveries(recording) {
            tracing::info!("the queue has handed out again a job that is done here: acknowledging it");
            deliveries.send_replace(Arc::new(message));
        } else {
            tracing::warn!(code = %codes::JOB_TWICE, "the queue has handed out a job that is in hand here: handed back");
            settle("handed back", &self.cancel, || message.nak(DUPLICATE_DELAY)).await;
        }
    }

    /// Acknowledges a job that is done, for as long as that takes, and then removes its files; the state to keep in its
    /// record, if any. Another job may run meanwhile.
    async fn acknowledge(
        &self,
        message: JobMessage,
        running: &RunningJob<'_>,
        slot: OwnedSemaphorePermit,
        entry: &JobEntry,
        files: FilesToRemove,
    ) -> Option<JobState> {
        let deliveries = running.wait_for_ack(message);
        let done = files.clone();
        entry.update(move |record| record.steps.done = Some(done)).await;
        let acknowledgement = Acknowledgement {
            deliveries,
            recording: running.recording.clone(),
            claim: files.claim.clone(),
            keep_raw: files.raw.is_none() && files.object.as_ref().is_none_or(|object| object.keep),
            object: files.object.clone(),
            raw_store: self.settings.raw_store.clone(),
            node: self.settings.recorder_id.clone(),
            store: self.settings.store.clone(),
            outbox: self.dispatcher.outbox().clone(),
        };
        if !entry.record().steps.acknowledged && !acknowledgement.run(slot, &self.cancel).await {
            tracing::warn!(
                code = %codes::NOT_ACKNOWLEDGED,
                "the job is done and not acknowledged: the next start acknowledges it"
            );
            return Some(JobState::Working);
        }
        entry.update(|record| record.steps.acknowledged = true).await;
        let TranscodeSettings { store, raw_store, uploads, .. } = &self.settings;
        // The MP4 is on the disk of this node alone until then.
        if let (Some(uploads), Some(_)) = (uploads, &files.object) {
            let stored = uploads.wait_until_stored(running.recording.as_str());
            if self.cancel.run_until_cancelled(stored).await.is_none() {
                return Some(JobState::Working);
            }
        }
        if !remove_until_gone(&files, store, raw_store.as_ref(), &self.cancel).await {
            tracing::warn!(
                code = %codes::JOB_FILES_NOT_REMOVED,
                "the job is done, but its files are not removed: the next start removes them"
            );
            return Some(JobState::Working);
        }
        archive_cleanup::remove(&self.settings.archives, &entry.record(), &self.cancel).await;
        files.remuxed.then(|| JobState::Remuxed { at: unix_ms() })
    }
}

/// Resolves when a job should have ended long since.
async fn end_is_over(end: &CancellationToken) {
    end.cancelled().await;
    tokio::time::sleep(END_GRACE).await;
}
