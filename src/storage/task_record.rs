//! The record of a task that outlives the program ([`super::durable_tasks`]): what is done of its work, and how its last
//! attempt ended.

use std::path::Path;

use crate::codes::Code;
use crate::storage::journal::{Journal, Record, RecordFile};
use crate::telemetry::redact;

/// What the log calls the records of one kind, and the codes of what fails with them.
#[derive(Debug)]
pub struct TaskWords {
    /// All of them, as in "the records of uploads".
    pub all: &'static str,
    /// One of them, as in "the record of an upload".
    pub one: &'static str,
    /// What a start does that finds the record of a finished task.
    pub when_found_again: &'static str,
    /// The records cannot be read.
    pub unread: Code,
    /// A record cannot be written, or not be removed.
    pub not_written: Code,
}

/// The record of a task that works on one recording.
pub trait TaskRecord: Record + Sync {
    /// Its directory in `state_dir`.
    const DIR: &'static str;
    const WORDS: TaskWords;

    /// By which it is known among those of its kind, also on disk.
    fn id(&self) -> String;

    fn recording_id(&self) -> &str;

    fn room_id(&self) -> &str;

    /// Notes that an attempt has failed. `next_try`: Unix milliseconds.
    fn note_failure(&mut self, why: String, next_try: u64);
}

/// The record of a task, in memory and on disk; clones share it.
#[derive(Clone, Debug)]
pub struct TaskEntry<R>(RecordFile<R>);

impl<R: TaskRecord> TaskEntry<R> {
    /// In memory; nothing is written yet.
    #[must_use]
    pub fn new(journal: &Journal<R>, record: R) -> Self {
        Self(journal.record(&record.id(), record))
    }

    #[must_use]
    pub fn record(&self) -> R {
        self.0.get()
    }

    /// Changes the record in memory, and has it written. Waits for nothing.
    pub fn change(&self, change: impl FnOnce(&mut R)) {
        drop(self.0.change(change));
    }

    /// Changes the record; waits up to a second for the disk. Where that fails the work goes on from memory.
    pub async fn update(&self, change: impl FnOnce(&mut R)) {
        if let Err(error) = self.0.update(change).await {
            tracing::error!(
                code = %R::WORDS.not_written, path = %self.path().display(), %error,
                "the record of {} is not on disk; look at the disk of recorder.state_dir", R::WORDS.one
            );
        }
    }

    /// Notes why an attempt has failed, without the secrets that the cause may quote.
    pub async fn note_failure(&self, why: &str, next_try: u64) {
        let why = redact::scrub(why).into_owned();
        self.update(|record| record.note_failure(why, next_try)).await;
    }

    /// Removes the record.
    pub async fn remove(&self) {
        if let Err(error) = self.0.remove().await {
            tracing::error!(
                code = %R::WORDS.not_written, path = %self.path().display(), %error,
                "the record of {} is not removed yet; a start that finds it {}", R::WORDS.one, R::WORDS.when_found_again
            );
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}
