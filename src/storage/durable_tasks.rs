//! Tasks that outlive the program: each has a record on disk before it begins, is tried until it is done, and is taken up
//! again at the next start. What one attempt does is told by [`DurableWork`]; here is what holds for all of them.
//!
//! ```text
//! begin ─► record on disk ─► attempt ── done ──────► record removed
//!            ▲  next start    │  ▲
//!            │                │  └── waits ever longer ◄── fails
//!            └── the node ends┘      an operator's order: given up ─► record removed
//! ```

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::retry::Backoff;
use crate::storage::journal::Journal;
use crate::storage::task_record::{TaskEntry, TaskRecord};
use crate::storage::{drop_request, files};
use crate::telemetry::log_throttle::LogThrottle;
use crate::unix_time::unix_ms;

/// How often orders of operators are looked for.
const POLL: Duration = Duration::from_secs(5);
/// Time limit for reading the records and orders.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// What tasks of one kind do.
pub trait DurableWork: Send + Sync + 'static {
    type Record: TaskRecord;
    type Error: Display + Send;

    /// What the lines of the log call it, in the span of the recording.
    const TASK: &'static str;
    /// The directory in `state_dir` in which operators ask that it be given up.
    const DROP_REQUESTS: &'static str;

    /// Does what is left, once. It may be called again after a failure, also by another run of the program. Once `stop` is
    /// cancelled it returns soon.
    fn attempt(
        &self,
        entry: &TaskEntry<Self::Record>,
        stop: &CancellationToken,
    ) -> impl Future<Output = Attempt<Self::Error>> + Send;

    /// Tells of a failure, after which `wait` passes; not called for each.
    fn log_failure(&self, record: &Self::Record, wait: Duration, error: &Self::Error);

    /// Clears up after a task that an operator has dropped, and tells of it. Its record is removed next.
    fn give_up(&self, entry: &TaskEntry<Self::Record>) -> impl Future<Output = ()> + Send;

    /// The tasks that are not done are these now.
    fn count(&self, records: &[Self::Record]);
}

/// How an attempt has ended.
#[derive(Debug)]
pub enum Attempt<E> {
    /// Nothing is left: the record goes.
    Done,
    /// It was told to stop; the record stays.
    Stopped,
    Failed(E),
}

/// The waits after the first failure of a task, and at most.
#[derive(Clone, Copy, Debug)]
pub struct AttemptWaits {
    pub first: Duration,
    pub longest: Duration,
}

/// The tasks of one kind on this node; clones share them.
pub struct DurableTasks<W: DurableWork> {
    shared: Arc<Shared<W>>,
}

impl<W: DurableWork> Clone for DurableTasks<W> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

struct Shared<W: DurableWork> {
    work: W,
    state_dir: PathBuf,
    waits: AttemptWaits,
    journal: Journal<W::Record>,
    /// By the ids of their records.
    running: Mutex<BTreeMap<String, RunningTask<W::Record>>>,
    /// The records of an earlier run are taken up.
    resumed: CancellationToken,
    tasks: TaskTracker,
    /// The node ends.
    cancel: CancellationToken,
}

#[derive(Clone)]
struct RunningTask<R> {
    entry: TaskEntry<R>,
    /// Ends it; the record stays.
    stop: CancellationToken,
    ended: CancellationToken,
}

impl<W: DurableWork> DurableTasks<W> {
    /// `cancel`: the node ends; what is unfinished is left to the next start. Nothing runs before [`Self::run`] or
    /// [`Self::begin`].
    #[must_use]
    pub fn new(work: W, state_dir: PathBuf, waits: AttemptWaits, cancel: CancellationToken) -> Self {
        let journal = Journal::new(state_dir.join(W::Record::DIR), W::Record::WORDS.all);
        let (running, resumed, tasks) = (Mutex::default(), CancellationToken::new(), TaskTracker::new());
        Self { shared: Arc::new(Shared { work, state_dir, waits, journal, running, resumed, tasks, cancel }) }
    }

    #[must_use]
    pub fn work(&self) -> &W {
        &self.shared.work
    }

    #[must_use]
    pub fn journal(&self) -> &Journal<W::Record> {
        &self.shared.journal
    }

    /// The records of the tasks that are not done, by their ids.
    #[must_use]
    pub fn records(&self) -> BTreeMap<String, W::Record> {
        self.shared.running().iter().map(|(id, task)| (id.clone(), task.entry.record())).collect()
    }

    /// The record of a task that is not done.
    #[must_use]
    pub fn record(&self, id: &str) -> Option<W::Record> {
        self.shared.running().get(id).map(|task| task.entry.record())
    }

    /// Takes work on: its record is on disk when this returns, or the disk is late. An earlier task of this id ends.
    pub async fn begin(&self, record: W::Record) {
        let id = record.id();
        self.stop(&id).await;
        let entry = TaskEntry::new(&self.shared.journal, record);
        entry.update(|_| {}).await;
        self.start(&id, entry);
    }

    /// Has a task go on that was stopped.
    pub fn start(&self, id: &str, entry: TaskEntry<W::Record>) {
        let shared = &self.shared;
        let (stop, ended) = (shared.cancel.child_token(), CancellationToken::new());
        let task = RunningTask { entry: entry.clone(), stop: stop.clone(), ended: ended.clone() };
        shared.running().insert(id.to_owned(), task);
        shared.count();
        let record = entry.record();
        let span = tracing::info_span!(
            // Not within the one that begins it, which ends before.
            parent: None,
            "recording",
            recording_id = record.recording_id(),
            room_id = record.room_id(),
            task = W::TASK
        );
        let (shared, id) = (Arc::clone(shared), id.to_owned());
        let task = async move {
            let _ended = ended.drop_guard();
            if shared.see_through(&entry, &stop).await {
                entry.remove().await;
                shared.running().remove(&id);
                shared.count();
            }
        };
        self.shared.tasks.spawn(task.instrument(span));
    }

    /// Ends a task; its record stays. `None`: there is none, or it has come to its end.
    pub async fn stop(&self, id: &str) -> Option<TaskEntry<W::Record>> {
        let task = self.shared.running().get(id).cloned()?;
        task.stop.cancel();
        task.ended.cancelled().await;
        self.shared.running().remove(id).map(|task| task.entry)
    }

    /// Removes the record of a task that was stopped.
    pub async fn forget(&self, entry: &TaskEntry<W::Record>) {
        entry.remove().await;
        self.shared.count();
    }

    /// Goes on with what an earlier run has left, and obeys orders, until the node ends; all tasks have ended then.
    pub async fn run(self) {
        let shared = &self.shared;
        if shared.cancel.run_until_cancelled(self.resume()).await.is_some() {
            shared.resumed.cancel();
            let mut ticks = tokio::time::interval(POLL);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while shared.cancel.run_until_cancelled(ticks.tick()).await.is_some() {
                self.obey().await;
                shared.count();
            }
        }
        shared.tasks.close();
        shared.tasks.wait().await;
    }

    /// Resolves when all tasks of an earlier run are among [`Self::records`].
    pub async fn resumed(&self) {
        self.shared.resumed.cancelled().await;
    }

    async fn resume(&self) {
        let mut throttle = LogThrottle::default();
        loop {
            let journal = self.shared.journal.clone();
            let read = move || {
                journal.remove_unfinished();
                journal.read_all()
            };
            let unread = match files::on_disk_within(READ_LIMIT, read).await {
                Ok(content) => {
                    for (_, record) in content.records {
                        let id = record.id();
                        if !self.shared.running().contains_key(&id) {
                            self.start(&id, TaskEntry::new(&self.shared.journal, record));
                        }
                    }
                    let Some((path, error)) = content.unread.into_iter().next() else { return };
                    format!("{}: {error}", path.display())
                }
                Err(error) => error.to_string(),
            };
            if throttle.due(Instant::now()) {
                let words = W::Record::WORDS;
                tracing::error!(
                    code = %words.unread, why = unread,
                    "the records of {} cannot be read: what an earlier run has left waits; look at the disk of recorder.state_dir",
                    words.all
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Carries out what operators ask.
    async fn obey(&self) {
        let dir = self.shared.state_dir.clone();
        let asked = move || drop_request::all(&dir, W::DROP_REQUESTS);
        let Ok(recordings) = files::on_disk_within(READ_LIMIT, asked).await else { return };
        for recording in recordings {
            let of_recording = self.records().into_iter().filter(|(_, record)| record.recording_id() == recording);
            for (id, _) in of_recording {
                if let Some(entry) = self.stop(&id).await {
                    self.shared.work.give_up(&entry).await;
                    self.forget(&entry).await;
                }
            }
            let dir = self.shared.state_dir.clone();
            let carried_out = move || drop_request::remove(&dir, W::DROP_REQUESTS, &recording);
            // One that stays is carried out again, which changes nothing.
            let _ = files::on_disk_within(READ_LIMIT, carried_out).await;
        }
    }
}

impl<W: DurableWork> Shared<W> {
    fn running(&self) -> MutexGuard<'_, BTreeMap<String, RunningTask<W::Record>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self) {
        let records: Vec<_> = self.running().values().map(|task| task.entry.record()).collect();
        self.work.count(&records);
    }

    /// Tries until it is done; false: the node ends, or the task is taken away.
    async fn see_through(&self, entry: &TaskEntry<W::Record>, stop: &CancellationToken) -> bool {
        let mut backoff = Backoff::new(self.waits.first, self.waits.longest);
        let mut throttle = LogThrottle::default();
        loop {
            let error = match self.work.attempt(entry, stop).await {
                Attempt::Done => return true,
                Attempt::Stopped => return false,
                Attempt::Failed(error) => error,
            };
            if stop.is_cancelled() {
                return false;
            }
            let wait = backoff.wait();
            let next = unix_ms().saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
            entry.note_failure(&error.to_string(), next).await;
            if throttle.due(Instant::now()) {
                self.work.log_failure(&entry.record(), wait, &error);
            }
            if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::codes;
    use crate::protocol::ids::RecordingId;
    use crate::storage::journal::Record;
    use crate::storage::task_record::TaskWords;

    const ORDERS: &str = "orders";
    const WAITS: AttemptWaits = AttemptWaits { first: Duration::from_millis(1), longest: Duration::from_millis(2) };

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Number {
        recording: String,
        failures: u32,
        last_error: Option<String>,
    }

    impl Record for Number {
        const VERSION: u32 = 1;

        fn version(&self) -> u32 {
            1
        }
    }

    impl TaskRecord for Number {
        const DIR: &'static str = "numbers";
        const WORDS: TaskWords = TaskWords {
            all: "numbers",
            one: "a number",
            when_found_again: "counts again",
            unread: codes::UPLOAD_RECORDS_UNREAD,
            not_written: codes::UPLOAD_RECORD_NOT_WRITTEN,
        };

        fn id(&self) -> String {
            self.recording.clone()
        }

        fn recording_id(&self) -> &str {
            &self.recording
        }

        fn room_id(&self) -> &'static str {
            "room01"
        }

        fn note_failure(&mut self, why: String, _: u64) {
            (self.failures, self.last_error) = (self.failures + 1, Some(why));
        }
    }

    /// Fails so many times; then it is done, or it goes on until it is stopped.
    struct Counting {
        fails: u32,
        ends: bool,
        given_up: Mutex<Vec<String>>,
        attempts: tokio::sync::watch::Sender<usize>,
    }

    impl DurableWork for Counting {
        type Record = Number;
        type Error = String;

        const TASK: &'static str = "count";
        const DROP_REQUESTS: &'static str = ORDERS;

        async fn attempt(&self, entry: &TaskEntry<Number>, stop: &CancellationToken) -> Attempt<String> {
            self.attempts.send_modify(|attempts| *attempts += 1);
            match entry.record().failures {
                failures if failures < self.fails => Attempt::Failed(format!("failure {failures}")),
                _ if self.ends => Attempt::Done,
                _ => {
                    stop.cancelled().await;
                    Attempt::Stopped
                }
            }
        }

        fn log_failure(&self, _: &Number, _: Duration, _: &String) {}

        async fn give_up(&self, entry: &TaskEntry<Number>) {
            self.given_up.lock().unwrap().push(entry.record().recording);
        }

        fn count(&self, _: &[Number]) {}
    }

    fn tasks(dir: &Path, fails: u32, ends: bool, cancel: &CancellationToken) -> DurableTasks<Counting> {
        let attempts = tokio::sync::watch::Sender::new(0);
        let work = Counting { fails, ends, given_up: Mutex::default(), attempts };
        DurableTasks::new(work, dir.to_owned(), WAITS, cancel.clone())
    }

    fn number(recording: &str) -> Number {
        Number { recording: recording.to_owned(), failures: 0, last_error: None }
    }

    async fn attempts(tasks: &DurableTasks<Counting>, wanted: usize) {
        tasks.work().attempts.subscribe().wait_for(|attempts| *attempts >= wanted).await.unwrap();
    }

    #[tokio::test]
    async fn a_task_is_tried_until_it_is_done_and_is_taken_up_again_by_the_next_run() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("numbers/RM_1.json");
        let cancel = CancellationToken::new();
        let first = tasks(dir.path(), 2, false, &cancel);
        first.begin(number("RM_1")).await;
        attempts(&first, 3).await;
        cancel.cancel();
        first.run().await;
        let left = Number { failures: 2, last_error: Some("failure 1".to_owned()), ..number("RM_1") };
        assert_eq!(Number::read(&file).unwrap(), left);

        let cancel = CancellationToken::new();
        let second = tasks(dir.path(), 3, true, &cancel);
        let run = tokio::spawn(second.clone().run());
        second.resumed().await;
        attempts(&second, 2).await;
        while !second.records().is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(!file.exists());
        cancel.cancel();
        run.await.unwrap();
    }

    #[tokio::test]
    async fn an_order_gives_up_the_tasks_of_its_recording_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let cancel = CancellationToken::new();
        let tasks = tasks(dir.path(), 0, false, &cancel);
        for id in ["RM_1", "RM_2"] {
            tasks.begin(number(id)).await;
        }
        drop_request::write(dir.path(), ORDERS, &RecordingId::parse("RM_2").unwrap()).unwrap();
        let run = tokio::spawn(tasks.clone().run());
        let order = dir.path().join(ORDERS).join("RM_2.json");
        while order.exists() {
            tokio::task::yield_now().await;
        }
        assert_eq!(*tasks.work().given_up.lock().unwrap(), ["RM_2"]);
        assert_eq!(tasks.records().into_keys().collect::<Vec<_>>(), ["RM_1"]);
        assert!(dir.path().join("numbers/RM_1.json").exists() && !dir.path().join("numbers/RM_2.json").exists());
        // A new one of the same id takes the place of the earlier one.
        tasks.begin(Number { failures: 7, ..number("RM_1") }).await;
        assert_eq!(tasks.record("RM_1").unwrap().failures, 7);
        cancel.cancel();
        run.await.unwrap();
    }
}
