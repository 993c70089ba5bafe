//! The part of a start request that needs a disk: what is there already of a recording with this id, and its record.
//! Whatever the disk does, it ends in time for the answer (PROTOCOL 3: the server waits 3 s).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::codes::{self, Code};
use crate::delivery::message::MessageKey;
use crate::delivery::outbox::Outbox;
use crate::fleet::availability::Obstacle;
use crate::protocol::messages::StatusCode;
use crate::protocol::request::{Kind, RecordingInfo};
use crate::recording::journal::{RecordingEntry, RecordingJournal};
use crate::recording::raw_file::RawFile;
use crate::storage::journal::RECORD_LIMIT;

/// How long a start request waits for its disks, so that it is answered within a second.
pub const START_LIMIT: Duration = Duration::from_millis(800);
/// How long a stop request waits for its record, which it is obeyed before.
pub const STOP_LIMIT: Duration = Duration::from_millis(500);
/// Checks of disks at once: each one on a disk that hangs keeps a thread until the disk answers.
const MAX_CHECKS: usize = 16;
/// The messages of an earlier recording with the same id, which a new recording removes from the outbox.
const RECORDING_KEYS: &[MessageKey] =
    &[MessageKey::Started, MessageKey::Ended, MessageKey::Job, MessageKey::Proceeded, MessageKey::Finished];
const BROADCAST_KEYS: &[MessageKey] = &[MessageKey::BroadcastStarted, MessageKey::BroadcastEnded];

/// The disk's part of the starts of a node; clones share its bound.
#[derive(Clone, Debug)]
pub struct Beginnings {
    journal: RecordingJournal,
    outbox: Outbox,
    checks: Arc<Semaphore>,
}

/// Why a recording is not taken on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartRefusal {
    pub code: Code,
    pub status: StatusCode,
    /// What a user is told. It names no path of this host.
    pub reason: String,
    /// What the log says besides.
    pub detail: Option<String>,
}

impl StartRefusal {
    pub fn of(code: Code, status: StatusCode, reason: impl Into<String>) -> Self {
        Self { code, status, reason: reason.into(), detail: None }
    }

    /// The same with a detail for the log.
    pub fn because(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    fn of_disk(detail: String) -> Self {
        Self::of(Obstacle::StateDir.code(), StatusCode::Internal, Obstacle::StateDir.refusal()).because(detail)
    }
}

impl Beginnings {
    #[must_use]
    pub fn new(journal: RecordingJournal, outbox: Outbox) -> Self {
        Self { journal, outbox, checks: Arc::new(Semaphore::new(MAX_CHECKS)) }
    }

    /// Writes the record of a recording, once it is known that nothing of an earlier one with its id would be lost.
    ///
    /// # Errors
    /// Where something of it is there, or the disks do not answer within [`START_LIMIT`]. A record that is written late is
    /// removed again, so that no later start of the program takes it up.
    pub async fn begin(
        &self,
        kind: Kind,
        info: &RecordingInfo,
        raw: Option<&RawFile>,
        entry: &RecordingEntry,
    ) -> Result<(), StartRefusal> {
        let since = tokio::time::Instant::now();
        self.refuse_existing(kind, info, raw).await?;
        let left = || START_LIMIT.saturating_sub(since.elapsed());
        let keys = match kind {
            Kind::Recording => RECORDING_KEYS,
            Kind::Broadcast => BROADCAST_KEYS,
        };
        let not_written = |error| StartRefusal::of_disk(format!("recorder.state_dir: {error}"));
        // Before the record: else a crash in between would make the new recording's messages look delivered.
        if let Some(forgotten) = self.outbox.begin_forget(&info.recording_id, keys) {
            forgotten.within(left()).await.map_err(not_written)?;
        }
        let written = entry.write_within(left()).await;
        if written.is_err() {
            entry.withdraw();
        }
        written.map_err(not_written)
    }

    /// Refuses where there is a record or a file of an earlier recording with this id.
    async fn refuse_existing(
        &self,
        kind: Kind,
        info: &RecordingInfo,
        raw: Option<&RawFile>,
    ) -> Result<(), StartRefusal> {
        let silent = || {
            StartRefusal::of_disk(format!(
                "recorder.state_dir or recorder.temporary_dir has not answered within {} s; look at their disks",
                START_LIMIT.as_secs_f64()
            ))
        };
        let permit = Arc::clone(&self.checks).try_acquire_owned().map_err(|_| silent())?;
        let (journal, id, raw) = (self.journal.clone(), info.recording_id.clone(), raw.cloned());
        let look = move || {
            // Its slot may be free already while its file is being stored.
            let held = journal.holds(kind, &id);
            let existing = raw.and_then(|raw| raw.existing());
            drop(permit);
            (held, existing)
        };
        let looked = tokio::time::timeout(START_LIMIT, tokio::task::spawn_blocking(look)).await;
        if looked.is_err() {
            // If it is state_dir that hangs, the node leaves the server's choice.
            let tried = self.journal.writer(kind).try_disk();
            tokio::spawn(async move { tried.within(RECORD_LIMIT).await });
        }
        let (held, existing) =
            looked.map_err(|_| silent())?.map_err(|error| StartRefusal::of_disk(error.to_string()))?;
        let conflict = |code, reason| StartRefusal::of(code, StatusCode::Conflict, reason);
        if held {
            return Err(conflict(codes::REFUSED_UNFINISHED, "an earlier recording with this id is not finished yet"));
        }
        // An undelivered raw file was kept, and would be overwritten.
        if let Some(path) = existing {
            let path = path.display();
            tracing::error!(
                code = %codes::REFUSED_RAW_FILE, %path,
                "the raw file of an earlier recording with this id is still there; move it away"
            );
            return Err(conflict(codes::REFUSED_RAW_FILE, "a raw file of this recording is still there"));
        }
        Ok(())
    }
}
