//! One record per job that this node has in hand or has given up (ARCHITECTURE, "The on-disk protocol"): what a start after
//! a crash goes on with, without waiting for the queue to hand it out again, and what an operator may try again.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::protocol::job::Job;
use crate::storage::files;
use crate::storage::journal::{Journal, Record, RecordFile};
use crate::telemetry::redact;
use crate::unix_time::unix_ms;

/// The directory in `state_dir`.
pub const DIR: &str = "jobs";
/// How often the queue hands a job out, unless it says otherwise (PROTOCOL 1: `MaxDeliver`).
pub const MAX_DELIVER: u64 = 3;
/// How long after its next try a job that was handed back is remembered, in milliseconds: another node may have it by now.
const FORGOTTEN_AFTER: u64 = 3_600_000;

/// A file, key by key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    version: u32,
    pub recording_id: String,
    pub room_id: String,
    /// The bytes of the job, in hexadecimal digits.
    payload: String,
    /// Where the queue is told what became of it; `None`: the queue has forgotten it.
    pub ack_to: Option<String>,
    /// How often the queue has handed it out.
    pub delivered: u64,
    /// Unix milliseconds.
    pub taken_at: u64,
    pub state: JobState,
    pub last_error: Option<String>,
    /// How often the queue hands it out at most.
    #[serde(default = "usual_deliveries")]
    pub max_deliver: u64,
    #[serde(default)]
    pub steps: JobSteps,
    /// How far ffmpeg is, as long as one runs.
    #[serde(default)]
    pub progress: Option<ProgressSnapshot>,
}

fn usual_deliveries() -> u64 {
    MAX_DELIVER
}

/// What of a job is done that its files do not show: a job that is taken up again goes on behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSteps {
    /// Where a hook has put the raw file for this node, which is to be removed after the job.
    #[serde(default)]
    pub fetched: Option<PathBuf>,
    /// This node has taken it on to tell of the result.
    #[serde(default)]
    pub claimed: bool,
    /// The result could only be made by putting the raw file into an MP4 as it is: why.
    #[serde(default)]
    pub remuxed: Option<String>,
    /// The `post_transcoding` hooks are done: what the server is told as the path.
    #[serde(default)]
    pub told_path: Option<String>,
    /// How many of the post-processing scripts have had their turn.
    #[serde(default)]
    pub scripts: usize,
    /// A result that was only remuxed is to be made anew.
    #[serde(default)]
    pub anew: bool,
}

/// How far ffmpeg was, a few seconds ago.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProgressSnapshot {
    /// 0…100.
    pub percent: f64,
    /// Seconds of media a second.
    pub speed: Option<f64>,
    /// Seconds to go.
    pub eta_s: Option<u64>,
    /// When that was, Unix milliseconds.
    pub at: u64,
}

/// What this node does about a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum JobState {
    /// In hand.
    Working,
    /// Handed back: the queue gives it to any node from then on, Unix milliseconds.
    HandedBack { until: u64 },
    /// It failed for the last time, Unix milliseconds. Its raw file is kept.
    GivenUp { at: u64 },
    /// It could not be encoded and was delivered as it was recorded, Unix milliseconds. Its raw file is kept.
    Remuxed { at: u64 },
    /// The operator wants it tried again.
    Retry,
}

impl JobRecord {
    #[must_use]
    pub fn new(job: &Job, payload: &[u8], ack_to: Option<String>, delivered: u64) -> Self {
        Self {
            version: Self::VERSION,
            recording_id: job.info.recording_id.to_string(),
            room_id: job.info.room_id.to_string(),
            payload: hex::encode(payload),
            ack_to,
            delivered,
            taken_at: unix_ms(),
            state: JobState::Working,
            last_error: None,
            max_deliver: MAX_DELIVER,
            steps: JobSteps::default(),
            progress: None,
        }
    }

    /// The same job once nothing is done about it for now.
    #[must_use]
    pub fn left(self, state: JobState, last_error: Option<String>) -> Self {
        Self { state, last_error, progress: None, ..self }
    }

    /// Causes may quote a child's words, and those an address with its secret.
    fn scrub(&mut self) {
        for cause in [&mut self.last_error, &mut self.steps.remuxed].into_iter().flatten() {
            if let Cow::Owned(clean) = redact::scrub(cause) {
                *cause = clean;
            }
        }
    }

    /// Nobody hands it out again after this time.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.delivered >= self.max_deliver
    }

    /// The bytes of the job.
    ///
    /// # Errors
    /// Where they are none.
    pub fn payload(&self) -> Result<Bytes, String> {
        hex::decode(&self.payload).map(Bytes::from).map_err(|error| format!("its payload is no job: {error}"))
    }

    /// Whether nothing is left to be known of it.
    fn is_past(&self, now: u64) -> bool {
        matches!(self.state, JobState::HandedBack { until } if now.saturating_sub(until) > FORGOTTEN_AFTER)
    }
}

impl Record for JobRecord {
    const VERSION: u32 = 1;

    fn version(&self) -> u32 {
        self.version
    }

    fn check(&self) -> Result<(), String> {
        self.payload().map(drop)
    }
}

/// The record of the job in hand; clones are the same.
#[derive(Clone, Debug)]
pub struct JobEntry(RecordFile<JobRecord>);

impl JobEntry {
    /// What it says now.
    #[must_use]
    pub fn record(&self) -> JobRecord {
        self.0.get()
    }

    /// Changes it; on disk when this returns. A failure is logged: it costs no job, but a crash would then cost it one of its
    /// deliveries, or have a step done twice.
    pub async fn update(&self, change: impl FnOnce(&mut JobRecord)) {
        let change = |record: &mut JobRecord| {
            change(record);
            record.scrub();
        };
        if let Err(error) = self.0.update(change).await {
            tracing::error!(path = %self.0.path().display(), %error, "the job's record cannot be written; look at the disk of recorder.state_dir");
        }
    }

    /// The job is over.
    pub async fn remove(&self) {
        if let Err(error) = self.0.remove().await {
            tracing::error!(path = %self.0.path().display(), %error, "the job's record cannot be removed; the next start looks at the job again");
        }
    }
}

/// Where the records of jobs are kept.
#[derive(Clone, Debug)]
pub struct JobJournal {
    records: Journal<JobRecord>,
}

impl JobJournal {
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self { records: Journal::new(state_dir.join(DIR), "jobs") }
    }

    /// Where the record of a recording's job is.
    #[must_use]
    pub fn path(&self, recording: &str) -> PathBuf {
        self.records.path(recording)
    }

    /// Takes a job in hand: its record is on disk when this returns. What is noted of the same job is kept.
    pub async fn begin(&self, mut record: JobRecord) -> JobEntry {
        let path = self.path(&record.recording_id);
        if let Ok(earlier) = JobRecord::read(&path) {
            let same = record.delivered > 1 || record.ack_to == earlier.ack_to;
            // What was fetched for any job of this recording is still to be removed.
            let fetched = earlier.steps.fetched.clone();
            record.steps = if same { earlier.steps } else { JobSteps { fetched, ..JobSteps::default() } };
        }
        let entry = JobEntry(RecordFile::new(path, record));
        entry.update(|_| {}).await;
        entry
    }

    /// Removes what an earlier run has left half written.
    pub fn tidy(&self) {
        self.records.remove_unfinished();
    }

    /// Every record, oldest first. One that cannot be read is put aside, with an error line; what is past is removed.
    #[must_use]
    pub fn all(&self) -> Vec<JobRecord> {
        let (past, mut all): (Vec<_>, Vec<_>) =
            self.records.all().into_iter().partition(|(_, record)| record.is_past(unix_ms()));
        for (path, _) in past {
            // It is tried again the next time.
            let _ = files::remove(&path);
        }
        all.sort_by_key(|(_, record)| record.taken_at);
        all.into_iter().map(|(_, record)| record).collect()
    }

    /// One that the operator wants tried again.
    #[must_use]
    pub fn wanted(&self) -> Option<JobRecord> {
        self.all().into_iter().find(|record| record.state == JobState::Retry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::{RecorderId, RecordingId, RoomId, RoomSid};
    use crate::protocol::job::Work;
    use crate::protocol::request::RecordingInfo;

    fn record(id: &str, state: JobState) -> JobRecord {
        let job = Job {
            info: RecordingInfo {
                room_table_id: 7,
                room_id: RoomId::parse("room01").unwrap(),
                room_sid: RoomSid::default(),
                recording_id: RecordingId::parse(id).unwrap(),
            },
            recorder_id: RecorderId::parse("node_01").unwrap(),
            work: Work::Merge { paths: Vec::new() },
        };
        JobRecord { state, ..JobRecord::new(&job, b"\x01\xff", Some("$JS.ACK.x".into()), 2) }
    }

    #[tokio::test]
    async fn jobs_are_remembered_until_they_are_over() {
        let dir = tempfile::tempdir().unwrap();
        let journal = JobJournal::new(dir.path());
        assert!(journal.all().is_empty());
        let now = unix_ms();
        let a = journal.begin(record("a", JobState::Working)).await;
        journal.begin(record("b", JobState::HandedBack { until: now - 2 * FORGOTTEN_AFTER })).await;
        journal.begin(record("c", JobState::HandedBack { until: now })).await;
        journal.begin(record("d", JobState::Retry)).await;
        std::fs::write(journal.path("e"), "{").unwrap();
        let all = journal.all();
        assert_eq!(all.iter().map(|record| record.recording_id.as_str()).collect::<Vec<_>>(), ["a", "c", "d"]);
        assert_eq!(all[0].payload().unwrap(), &b"\x01\xff"[..]);
        assert_eq!(journal.wanted().unwrap().recording_id, "d");
        assert!(!journal.path("b").exists() && !journal.path("e").exists());
        // Taken up again, it goes on behind what it has done.
        a.update(|record| record.steps.scripts = 2).await;
        let a = journal.begin(record("a", JobState::Working)).await;
        assert_eq!(a.record().steps.scripts, 2);
        a.remove().await;
        assert_eq!(journal.all().len(), 2);
    }
}
