//! Takes jobs from the work queue, as many at once as there are hands, and settles each one there.
//!
//! Whatever a job does — bytes that are no job, a panic — the next one is taken.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::Instrument as _;

use crate::delivery::dispatcher::Dispatcher;
use crate::nats::{JobMessage, Jobs, Nats, NatsError};
use crate::protocol::ids::RecordingId;
use crate::protocol::job::Job;
use crate::scripts::hooks::Hooks;
use crate::storage::files;
use crate::transcode::failure::JobFailure;
use crate::transcode::fetch_gate::FetchGate;
use crate::transcode::job::{self, FilesToRemove, JobContext, JobOutcome};
use crate::transcode::journal::{JobEntry, JobJournal, JobRecord, JobState, MAX_DELIVER};
use crate::transcode::settings::TranscodeSettings;
use crate::transcode::{claim, summary};
use crate::unix_time::unix_ms;

/// How often a job in work says so: well within `AckWait` (10 min, PROTOCOL 1), even if some get lost.
const IN_PROGRESS: Duration = Duration::from_secs(60);
/// How often it is looked whether the operator wants a job tried again.
const LOOK_FOR_WISHES: Duration = Duration::from_secs(5);
/// Waits between the attempts to settle a job in the queue. Its own redelivery is the last resort.
const SETTLE_AGAIN: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(30)];
/// A job that is in hand already, and was handed out once more because the queue did not hear of it.
const TWICE: Duration = Duration::from_secs(120);
/// The directory, in `recorder.temporary_dir`, of what came from the queue and is no job.
pub const UNDECODABLE: &str = "undecodable-jobs";

/// Works until `drain`, after which no job is taken; those in hand go on until `end` and are then handed back. `cpu` is
/// the load of all processors, 0…1.
#[expect(clippy::too_many_arguments, reason = "what a node has to give to its worker")]
pub async fn run(
    nats: Nats,
    jobs: Jobs,
    dispatcher: Dispatcher,
    hooks: Hooks,
    settings: TranscodeSettings,
    cpu: watch::Receiver<f64>,
    drain: CancellationToken,
    end: CancellationToken,
) {
    let mut intake = FetchGate::new(jobs, settings.cpu_limit, cpu, settings.max_wait);
    let worker = Worker {
        journal: JobJournal::new(&settings.state_dir),
        hands: Arc::new(Semaphore::new(settings.max_jobs)),
        in_hand: Mutex::default(),
        // One that hands jobs out for ever still has an end here: the last of the waits between the attempts.
        max_deliver: intake.max_deliver().unwrap_or(MAX_DELIVER + 1),
        settings,
        dispatcher,
        hooks,
        cancel: end,
    };
    let (worker, tasks) = (Arc::new(worker), TaskTracker::new());
    worker.take_up(&nats, &drain, &tasks).await;
    while let Some(hand) = worker.hand(&drain).await {
        if let Some(record) = worker.journal.wanted().filter(|record| !worker.has_in_hand(&record.recording_id)) {
            worker.try_again(&nats, record, hand, &tasks).await;
            continue;
        }
        // Looked up again now and then: an operator may want a job tried again.
        let turn = drain.child_token();
        let mut fetch = pin!(intake.next(&turn));
        let message = tokio::select! {
            message = &mut fetch => message,
            () = worker.asked() => {
                turn.cancel();
                fetch.await
            }
        };
        if let Some(message) = message {
            worker.begin(message, hand, &tasks);
        }
    }
    tasks.close();
    tasks.wait().await;
}

struct Worker {
    journal: JobJournal,
    /// How many jobs may be begun.
    hands: Arc<Semaphore>,
    /// The recordings of the jobs in hand.
    in_hand: Mutex<HashSet<String>>,
    max_deliver: u64,
    settings: TranscodeSettings,
    dispatcher: Dispatcher,
    hooks: Hooks,
    cancel: CancellationToken,
}

impl Worker {
    /// A hand for one more job. `None`: no more are taken.
    async fn hand(&self, drain: &CancellationToken) -> Option<OwnedSemaphorePermit> {
        if drain.is_cancelled() {
            return None;
        }
        drain.run_until_cancelled(Arc::clone(&self.hands).acquire_owned()).await?.ok()
    }

    fn has_in_hand(&self, recording: &str) -> bool {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner).contains(recording)
    }

    /// Begins with a job, in a task of its own.
    fn begin(self: &Arc<Self>, message: JobMessage, hand: OwnedSemaphorePermit, tasks: &TaskTracker) {
        let worker = Arc::clone(self);
        tasks.spawn(async move {
            worker.handle(message).await;
            drop(hand);
        });
    }

    /// Goes on with what an earlier run of the program had in hand, without waiting for the queue to hand it out again.
    async fn take_up(self: &Arc<Self>, nats: &Nats, drain: &CancellationToken, tasks: &TaskTracker) {
        self.journal.tidy();
        for record in self.journal.all() {
            if record.state != JobState::Working {
                continue;
            }
            // It was whole when it was read.
            let Ok(payload) = record.payload() else { continue };
            let Some(hand) = self.hand(drain).await else { return };
            tracing::warn!(
                recording_id = record.recording_id,
                room_id = record.room_id,
                "an earlier run of the recorder was killed while it had this job in hand: going on with it"
            );
            let message = JobMessage::from_earlier(nats, payload, record.ack_to.as_deref(), record.delivered);
            self.begin(message, hand, tasks);
        }
    }

    /// Does a job that was given up once more; the queue knows nothing of it any more.
    async fn try_again(
        self: &Arc<Self>,
        nats: &Nats,
        mut record: JobRecord,
        hand: OwnedSemaphorePermit,
        tasks: &TaskTracker,
    ) {
        let job = record.payload().and_then(|payload| {
            let job = Job::decode(&payload).map_err(|error| error.to_string())?;
            let named = job.info.recording_id.as_str() == record.recording_id;
            if named { Ok(payload) } else { Err("it is of another recording".to_owned()) }
        });
        let payload = match job {
            Ok(payload) => payload,
            // Left where it is, it would be found again at once.
            Err(why) => return files::put_aside(&self.journal.path(&record.recording_id), &why),
        };
        tracing::info!(
            recording_id = record.recording_id,
            room_id = record.room_id,
            "the operator wants this job tried again"
        );
        record.ack_to = None;
        record.state = JobState::Working;
        let again = |record: &mut JobRecord| {
            // What could only be remuxed is there, and would be found.
            record.steps.anew |= record.steps.remuxed.take().is_some();
        };
        self.journal.begin(record).await.update(again).await;
        self.begin(JobMessage::from_earlier(nats, payload, None, self.max_deliver), hand, tasks);
    }

    /// Resolves when the operator wants a job tried again.
    async fn asked(&self) {
        loop {
            tokio::time::sleep(LOOK_FOR_WISHES).await;
            let journal = self.journal.clone();
            let wanted = tokio::task::spawn_blocking(move || journal.wanted()).await;
            if wanted.is_ok_and(|wanted| wanted.is_some_and(|record| !self.has_in_hand(&record.recording_id))) {
                return;
            }
        }
    }

    async fn handle(&self, message: JobMessage) {
        let job = match Job::decode(message.payload()) {
            Ok(job) => job,
            Err(error) => {
                set_aside(&self.settings.temporary_dir, message.payload(), &error.to_string()).await;
                self.settle("terminated", || message.term()).await;
                return;
            }
        };
        let span = tracing::info_span!(
            "recording",
            recording_id = %job.info.recording_id,
            room_id = %job.info.room_id,
            task = "transcode"
        );
        let Some(_in_hand) = RunningJob::take(&self.in_hand, &job.info.recording_id) else {
            let hand_back = async {
                tracing::warn!("the queue has handed out a job that is in hand here: handed back");
                self.settle("handed back", || message.nak(TWICE)).await;
            };
            hand_back.instrument(span).await;
            return;
        };
        let work = async {
            let delivered = message.delivered();
            tracing::info!(delivered, of = self.max_deliver, "job taken");
            let mut record = JobRecord::new(&job, message.payload(), message.ack_to().map(str::to_owned), delivered);
            record.max_deliver = self.max_deliver;
            let entry = self.journal.begin(record).await;
            let (verdict, cause) = self.attempt(job, &entry, &message).await;
            let left = self.conclude(verdict, &message).await;
            // The last step: a crash before it has the job looked at again, and finds it done.
            match left {
                None => entry.remove().await,
                Some(state) => entry.update(|record| *record = record.clone().left(state, cause)).await,
            }
        };
        work.instrument(span).await;
    }

    /// Works on the job in a task of its own, so that a panic ends only that, while the queue hears that it lives.
    /// What came of it, and the cause where nothing did.
    async fn attempt(&self, job: Job, entry: &JobEntry, message: &JobMessage) -> (JobOutcome, Option<String>) {
        let (settings, hooks) = (self.settings.clone(), self.hooks.clone());
        let (tell, cancel) = (self.dispatcher.clone(), self.cancel.clone());
        let (info, own) = (job.clone(), entry.clone());
        let work = async move {
            let around = JobContext { settings: &settings, hooks: &hooks, tell: &tell, cancel: &cancel };
            job::run(&job, &own, around).await
        };
        let mut task = AbortOnDropHandle::new(tokio::spawn(work.in_current_span()));
        let ended = loop {
            tokio::select! {
                ended = &mut task => break ended,
                () = tokio::time::sleep(IN_PROGRESS) => {
                    if let Err(error) = message.in_progress().await {
                        tracing::warn!(%error, "the queue did not hear that the job is in work");
                    }
                }
            }
        };
        match ended {
            Ok(verdict) => verdict,
            Err(error) => {
                let failure = JobFailure::Cause(format!("internal error: {error}"));
                let record = entry.record();
                job::fail(&info, record.delivered, record.max_deliver, failure, &self.dispatcher).await
            }
        }
    }

    /// Settles the job in the queue; what is to be remembered of it.
    async fn conclude(&self, verdict: JobOutcome, message: &JobMessage) -> Option<JobState> {
        match verdict {
            JobOutcome::Done(FilesToRemove { raw, claim, remuxed }) => {
                if !self.settle("acknowledged", || message.ack()).await {
                    let raw = raw.unwrap_or_default();
                    tracing::warn!(raw = %raw.display(), "raw file kept: the job is not acknowledged; the next start looks at it again");
                    return Some(JobState::Working);
                }
                clear(raw, claim).await;
                remuxed.then(|| JobState::Remuxed { at: unix_ms() })
            }
            JobOutcome::Again(delay) => {
                self.settle("handed back", || message.nak(delay)).await;
                let delay = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
                Some(JobState::HandedBack { until: unix_ms().saturating_add(delay) })
            }
            JobOutcome::Kept => Some(JobState::Working),
            JobOutcome::GivenUp => {
                self.settle("terminated", || message.term()).await;
                Some(JobState::GivenUp { at: unix_ms() })
            }
        }
    }

    /// Tells the queue, again after an error. False where it could not be told: the job then comes again by itself.
    async fn settle<F: Future<Output = Result<(), NatsError>>>(&self, what: &str, say: impl Fn() -> F) -> bool {
        let mut waits = SETTLE_AGAIN.iter();
        loop {
            let Err(error) = say().await else { return true };
            let Some(wait) = waits.next().filter(|_| !self.cancel.is_cancelled()) else {
                tracing::error!(%error, "the job could not be {what}; the queue will hand it out again");
                return false;
            };
            tracing::warn!(%error, retry_s = wait.as_secs(), "the job could not be {what}, trying again");
            tokio::select! {
                () = tokio::time::sleep(*wait) => {}
                () = self.cancel.cancelled() => {}
            }
        }
    }
}

/// A recording whose job is in hand.
struct RunningJob<'a> {
    all: &'a Mutex<HashSet<String>>,
    recording: String,
}

impl<'a> RunningJob<'a> {
    /// `None`: it is already.
    fn take(all: &'a Mutex<HashSet<String>>, recording: &RecordingId) -> Option<Self> {
        let recording = recording.to_string();
        let new = all.lock().unwrap_or_else(PoisonError::into_inner).insert(recording.clone());
        new.then_some(Self { all, recording })
    }
}

impl Drop for RunningJob<'_> {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.recording);
    }
}

/// The last step of a job that is acknowledged: its raw file goes, and then the claim of its result, since another node that
/// finds neither knows that this one has finished.
pub async fn clear(raw: Option<PathBuf>, claim: Option<PathBuf>) {
    if let Some(raw) = raw {
        remove_raw(raw).await;
    }
    let Some(claim) = claim else { return };
    let path = claim.clone();
    if let Err(error) = files::on_disk(move || claim::release(&path)).await {
        tracing::warn!(claim = %claim.display(), %error, "the claim of the result could not be removed");
    }
}

/// Keeps the bytes of something that is no job, so that an operator can see what came.
async fn set_aside(temporary_dir: &Path, bytes: &[u8], cause: &str) {
    let dir = temporary_dir.join(UNDECODABLE);
    let now = humantime::format_rfc3339_nanos(SystemTime::now()).to_string().replace(':', "-");
    let file = dir.join(format!("{now}.bin"));
    let kept = async {
        tokio::fs::create_dir_all(&dir).await?;
        tokio::fs::write(&file, bytes).await?;
        // The queue forgets it next.
        tokio::fs::File::open(&file).await?.sync_all().await
    };
    match kept.await {
        Ok(()) => tracing::error!(cause, kept = %file.display(), "a job cannot be decoded and is dropped"),
        // Then the log is where it is kept.
        Err(error) => {
            let start = hex::encode(&bytes[..bytes.len().min(2048)]);
            tracing::error!(cause, %error, start, "a job cannot be decoded, nor kept aside, and is dropped");
        }
    }
}

/// The last step: the result is safe and known, so its raw file may go, and the summary beside it.
async fn remove_raw(raw: PathBuf) {
    let path = raw.clone();
    let remove = move || {
        let summary = summary::path(&raw);
        std::fs::remove_file(&raw)?;
        if let Some(summary) = summary
            && let Err(error) = std::fs::remove_file(&summary)
        {
            tracing::warn!(summary = %summary.display(), %error, "the summary beside the raw file could not be removed");
        }
        raw.parent().map_or(Ok(()), files::fsync_dir)
    };
    match tokio::task::spawn_blocking(remove).await.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
        Ok(()) => tracing::debug!(raw = %path.display(), "raw file removed"),
        Err(error) => tracing::warn!(raw = %path.display(), %error, "the raw file could not be removed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_no_job_is_kept_byte_by_byte() {
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
        // Nowhere to keep it: logged, and on with the next.
        set_aside(Path::new("/proc/no-such"), b"x", "test").await;
    }

    #[tokio::test]
    async fn a_raw_file_goes_with_its_summary_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let mut names = ["a.json", "a_raw.json", "a_raw.mkv", "b_raw.json", "b_raw.mp4"];
        for name in names {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        remove_raw(dir.path().join("a_raw.mkv")).await;
        remove_raw(dir.path().join("b_raw.mp4")).await;
        names.sort_unstable();
        let left: Vec<_> = names.into_iter().filter(|name| dir.path().join(name).exists()).collect();
        assert_eq!(left, ["a.json", "b_raw.json"]);
    }
}
