//! Takes jobs from the work queue, one at a time, and settles each one there.
//!
//! Whatever a job does — bytes that are no job, a panic — the next one is taken.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::job::{self, Failure, MAX_DELIVER, Settings, Verdict};
use super::journal::{JobJournal, Record, State};
use crate::delivery::courier::Courier;
use crate::nats::{JobMessage, Jobs, Nats, NatsError};
use crate::protocol::job::Job;
use crate::storage::files;
use crate::wall_clock::unix_ms;

/// How often a job in work says so: well within `AckWait` (10 min, PROTOCOL 1), even if some get lost.
const IN_PROGRESS: Duration = Duration::from_secs(60);
/// How often it is looked whether the operator wants a job tried again.
const LOOK_FOR_WISHES: Duration = Duration::from_secs(5);
/// Waits between the attempts to settle a job in the queue. Its own redelivery is the last resort.
const SETTLE_AGAIN: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(30)];

/// Works until `drain`, after which no job is taken; the one in hand goes on until `end` and is then handed back. `cpu` is
/// the load of all processors, 0…1.
pub async fn run(
    nats: Nats,
    mut jobs: Jobs,
    courier: Courier,
    settings: Settings,
    mut cpu: watch::Receiver<f64>,
    drain: CancellationToken,
    end: CancellationToken,
) {
    let journal = JobJournal::new(&settings.state_dir);
    let worker = Worker { journal, settings: Arc::new(settings), courier, cancel: end };
    worker.take_up(&nats, &drain).await;
    while !drain.is_cancelled() {
        if let Some(record) = worker.journal.wanted() {
            worker.try_again(&nats, record).await;
            continue;
        }
        // Looked up again now and then: an operator may want a job tried again.
        let turn = drain.child_token();
        let fetch = next(&mut jobs, worker.settings.cpu_limit, &mut cpu, &turn);
        let mut fetch = pin!(fetch);
        let message = tokio::select! {
            message = &mut fetch => message,
            () = worker.asked() => {
                turn.cancel();
                fetch.await
            }
        };
        if let Some(message) = message {
            worker.handle(message).await;
        }
    }
}

/// The next job, once the load allows it.
async fn next(
    jobs: &mut Jobs,
    limit: Option<f64>,
    cpu: &mut watch::Receiver<f64>,
    cancel: &CancellationToken,
) -> Option<JobMessage> {
    loop {
        tokio::select! {
            () = calm(cpu, limit) => {}
            () = cancel.cancelled() => return None,
        }
        let fetch = cancel.child_token();
        let mut waiting = pin!(jobs.next(&fetch));
        let message = loop {
            tokio::select! {
                message = &mut waiting => break message,
                // Not dropped but cancelled: a job that is on its way is still taken, else it would wait for AckWait.
                () = above(cpu, limit), if !fetch.is_cancelled() => fetch.cancel(),
            }
        };
        if message.is_some() || cancel.is_cancelled() || !fetch.is_cancelled() {
            return message;
        }
    }
}

/// Waits until the load is at most `limit`; says so once if it has to, and once when it is over.
async fn calm(cpu: &mut watch::Receiver<f64>, limit: Option<f64>) {
    let Some(limit) = limit else { return };
    let load = *cpu.borrow_and_update();
    if load <= limit {
        return;
    }
    tracing::info!(load, limit, "no transcoding jobs are fetched: the processors are busy");
    while *cpu.borrow_and_update() > limit {
        // Nobody measures any more: better to work than to wait for ever.
        if cpu.changed().await.is_err() {
            break;
        }
    }
    tracing::info!(load = *cpu.borrow(), limit, "transcoding jobs are fetched again");
}

/// Waits until the load is above `limit`; for ever where there is none.
async fn above(cpu: &mut watch::Receiver<f64>, limit: Option<f64>) {
    if let Some(limit) = limit {
        while *cpu.borrow_and_update() <= limit {
            if cpu.changed().await.is_err() {
                break;
            }
        }
        if *cpu.borrow() > limit && cpu.has_changed().is_ok() {
            return;
        }
    }
    std::future::pending::<()>().await;
}

struct Worker {
    journal: JobJournal,
    settings: Arc<Settings>,
    courier: Courier,
    cancel: CancellationToken,
}

impl Worker {
    /// Goes on with what an earlier run of the program had in hand, without waiting for the queue to hand it out again.
    async fn take_up(&self, nats: &Nats, drain: &CancellationToken) {
        self.journal.tidy();
        for record in self.journal.all() {
            if record.state != State::Working || drain.is_cancelled() {
                continue;
            }
            // It was whole when it was read.
            let Ok(payload) = record.payload() else { continue };
            tracing::warn!(
                recording_id = record.recording_id,
                room_id = record.room_id,
                "an earlier run of the recorder was killed while it had this job in hand: going on with it"
            );
            self.handle(JobMessage::from_earlier(nats, payload, record.ack_to.as_deref(), record.delivered)).await;
        }
    }

    /// Does a job that was given up once more; the queue knows nothing of it any more.
    async fn try_again(&self, nats: &Nats, record: Record) {
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
        self.handle(JobMessage::from_earlier(nats, payload, None, MAX_DELIVER)).await;
    }

    /// Resolves when the operator wants a job tried again.
    async fn asked(&self) {
        loop {
            tokio::time::sleep(LOOK_FOR_WISHES).await;
            let journal = self.journal.clone();
            if tokio::task::spawn_blocking(move || journal.wanted()).await.is_ok_and(|wanted| wanted.is_some()) {
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
        let work = async {
            let delivered = message.delivered();
            tracing::info!(delivered, "job taken");
            let record = Record::new(&job, message.payload(), message.ack_to().map(str::to_owned), delivered);
            self.journal.put(record.clone()).await;
            let id = job.info.recording_id.clone();
            let (verdict, cause) = self.attempt(job, delivered, &message).await;
            let left = self.conclude(verdict, &message).await;
            // The last step: a crash before it has the job looked at again, and finds it done.
            match left {
                None => self.journal.remove(&id).await,
                Some(state) => self.journal.put(record.left(state, cause)).await,
            }
        };
        work.instrument(span).await;
    }

    /// Works on the job in a task of its own, so that a panic ends only that, while the queue hears that it lives.
    /// What came of it, and the cause where nothing did.
    async fn attempt(&self, job: Job, delivered: u64, message: &JobMessage) -> (Verdict, Option<String>) {
        let (settings, tell, cancel) = (Arc::clone(&self.settings), self.courier.clone(), self.cancel.clone());
        let info = job.clone();
        let work = async move { job::run(&job, delivered, &settings, &tell, &cancel).await };
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
                let failure = Failure::Cause(format!("internal error: {error}"));
                job::fail(&info, delivered, failure, &self.courier).await
            }
        }
    }

    /// Settles the job in the queue; what is to be remembered of it.
    async fn conclude(&self, verdict: Verdict, message: &JobMessage) -> Option<State> {
        match verdict {
            Verdict::Done { remove } => {
                let acknowledged = self.settle("acknowledged", || message.ack()).await;
                match remove {
                    Some(raw) if acknowledged => remove_raw(raw).await,
                    Some(raw) => {
                        tracing::warn!(raw = %raw.display(), "raw file kept: the job is not acknowledged; the next start looks at it again");
                        return Some(State::Working);
                    }
                    None => {}
                }
                None
            }
            Verdict::Again(delay) => {
                self.settle("handed back", || message.nak(delay)).await;
                let delay = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
                Some(State::HandedBack { until: unix_ms().saturating_add(delay) })
            }
            Verdict::Kept => Some(State::Working),
            Verdict::GivenUp => {
                self.settle("terminated", || message.term()).await;
                Some(State::GivenUp { at: unix_ms() })
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

/// Keeps the bytes of something that is no job, so that an operator can see what came.
async fn set_aside(temporary_dir: &Path, bytes: &[u8], cause: &str) {
    let dir = temporary_dir.join("undecodable-jobs");
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
        let summary = job::summary_of(&raw);
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

    #[tokio::test]
    async fn fetching_waits_for_the_load_to_fall() {
        let (load, mut cpu) = watch::channel(0.9);
        let mut waiting = tokio::spawn(async move { calm(&mut cpu, Some(0.8)).await });
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut waiting).await.is_err());
        load.send(0.85).unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut waiting).await.is_err());
        load.send(0.7).unwrap();
        tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn without_a_limit_or_a_measurement_the_load_does_not_matter() {
        let short = Duration::from_millis(50);
        let (load, mut cpu) = watch::channel(1.0);
        calm(&mut cpu, None).await;
        assert!(tokio::time::timeout(short, above(&mut cpu, None)).await.is_err());
        tokio::time::timeout(Duration::from_secs(5), above(&mut cpu, Some(0.8))).await.unwrap();
        drop(load);
        tokio::time::timeout(Duration::from_secs(5), calm(&mut cpu, Some(0.8))).await.unwrap();
        assert!(tokio::time::timeout(short, above(&mut cpu, Some(0.8))).await.is_err());
    }
}
