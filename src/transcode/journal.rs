//! One record per job that this node runs, has handed back or has given up (`docs/on-disk-protocol.md`): a start after
//! a crash continues the job without waiting for its redelivery, and an operator can have a job tried again.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::codes;
use crate::protocol::job::Job;
use crate::storage::files;
use crate::storage::journal::{Journal, JournalContent, RECORD_LIMIT, Record, RecordFile};
use crate::telemetry::redact;
use crate::transcode::raw_object::DoneRawObject;
use crate::unix_time::unix_ms;

/// The directory in `state_dir`.
pub const DIR: &str = "jobs";
/// How often the queue delivers a job, unless it says otherwise (PROTOCOL 1: `MaxDeliver`).
pub const MAX_DELIVER: u64 = 3;
/// Waits between the attempts to read a job's record of an earlier run.
const READ_RETRIES: [Duration; 4] =
    [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(10)];
/// How long after its redelivery time a job that was handed back is kept, in milliseconds: another node may have it by
/// then.
const RETENTION_MS: u64 = 3_600_000;

/// The content of a record's file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    version: u32,
    pub recording_id: String,
    pub room_id: String,
    /// The bytes of the job, in hexadecimal digits.
    payload: String,
    /// The subject of the job's acknowledgement; `None`: the queue has no such job any more.
    pub ack_to: Option<String>,
    /// How often the queue has delivered it.
    pub delivered: u64,
    /// Unix milliseconds.
    pub taken_at: u64,
    pub state: JobState,
    pub last_error: Option<String>,
    /// How often the queue delivers it at most.
    #[serde(default = "default_max_deliver")]
    pub max_deliver: u64,
    #[serde(default)]
    pub steps: JobSteps,
    /// ffmpeg's progress while it runs.
    #[serde(default)]
    pub progress: Option<ProgressSnapshot>,
}

fn default_max_deliver() -> u64 {
    MAX_DELIVER
}

/// The finished steps that a job's files do not show: a continued job skips them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a step that was taken or not")]
pub struct JobSteps {
    /// The directory into which a hook has fetched the input, to be removed after the job.
    #[serde(default)]
    pub fetched: Option<PathBuf>,
    /// This node has claimed the result.
    #[serde(default)]
    pub claimed: bool,
    /// Why the raw file could only be remuxed.
    #[serde(default)]
    pub remuxed: Option<String>,
    /// The path for the server, once the `post_transcoding` hooks have run.
    #[serde(default)]
    pub told_path: Option<String>,
    /// The store that the `post_transcoding` hooks have answered for this recording.
    #[serde(default)]
    pub hook_store: Option<String>,
    /// Where the raw file that could not be transcoded goes, with what is known of it: a directory in the store of
    /// `storage.fail`, by its URL without secrets. The record of its upload was written.
    #[serde(default)]
    pub fail_store: Option<String>,
    /// The last lines of the last ffmpeg that failed.
    #[serde(default)]
    pub last_words: Option<String>,
    /// The MP4 is on its way into the store: its record in `uploads` was written.
    #[serde(default)]
    pub uploading: bool,
    /// The MP4 becomes HLS: its record in `hls` was written.
    #[serde(default)]
    pub hls: bool,
    /// The number of post-processing scripts that have run.
    #[serde(default)]
    pub scripts: usize,
    /// A result that was only remuxed is to be made again.
    #[serde(default)]
    pub anew: bool,
    /// All is done and told; the queue has not confirmed that yet. What follows then.
    #[serde(default)]
    pub done: Option<FilesToRemove>,
    /// The queue has confirmed it; the files are still to be removed.
    #[serde(default)]
    pub acknowledged: bool,
}

impl JobSteps {
    /// The job is tried again although it has come to its end.
    pub fn begin_again(&mut self) {
        // The remuxed result exists, and would be taken as the result.
        self.anew |= self.remuxed.take().is_some();
        self.done = None;
        self.acknowledged = false;
        // What becomes of this attempt is another failure.
        self.fail_store = None;
        self.last_words = None;
    }
}

/// The files to remove once the job is acknowledged, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesToRemove {
    /// The raw file, with the summary beside it.
    pub raw: Option<PathBuf>,
    /// The claim of the result.
    pub claim: Option<PathBuf>,
    /// The recording could only be remuxed; the operator may ask for another attempt.
    pub remuxed: bool,
    /// The raw file in the store of `storage.raw`, with its claim there.
    #[serde(default)]
    pub object: Option<DoneRawObject>,
}

/// ffmpeg's progress at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProgressSnapshot {
    /// 0…100.
    pub percent: f64,
    /// Seconds of media per second.
    pub speed: Option<f64>,
    /// Seconds until the end.
    pub eta_s: Option<u64>,
    /// The time of this snapshot, in Unix milliseconds.
    pub at: u64,
}

/// What this node does with a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum JobState {
    /// The job is running.
    Working,
    /// Handed back; the queue redelivers it from this time on, Unix milliseconds.
    HandedBack { until: u64 },
    /// It failed at its last delivery, Unix milliseconds. Its raw file is kept.
    GivenUp { at: u64 },
    /// It could not be encoded and was remuxed, Unix milliseconds. Its raw file is kept.
    Remuxed { at: u64 },
    /// A disk or a hook was at fault at its last delivery, Unix milliseconds; this node tries it again from `until` on.
    Waiting { since: u64, until: u64 },
    /// The operator asked for another attempt.
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

    /// The record of a job that is no longer running.
    #[must_use]
    pub fn with_state(self, state: JobState, last_error: Option<String>) -> Self {
        Self { state, last_error, progress: None, ..self }
    }

    /// A cause may quote a child process's output, which may hold an address with its secret.
    fn scrub(&mut self) {
        let JobSteps { remuxed, last_words, .. } = &mut self.steps;
        for cause in [&mut self.last_error, remuxed, last_words].into_iter().flatten() {
            if let Cow::Owned(clean) = redact::scrub(cause) {
                *cause = clean;
            }
        }
    }

    /// Whether this is the job's last delivery.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.delivered >= self.max_deliver
    }

    /// The bytes of the job.
    ///
    /// # Errors
    /// Where the record does not hold hexadecimal digits.
    pub fn payload(&self) -> Result<Bytes, String> {
        hex::decode(&self.payload).map(Bytes::from).map_err(|error| format!("its payload is no job: {error}"))
    }

    /// Whether the record need not be kept.
    fn is_expired(&self, now: u64) -> bool {
        matches!(self.state, JobState::HandedBack { until } if now.saturating_sub(until) > RETENTION_MS)
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

/// The record of a running job; clones share it.
#[derive(Clone, Debug)]
pub struct JobEntry(RecordFile<JobRecord>);

impl JobEntry {
    /// The record's content.
    #[must_use]
    pub fn record(&self) -> JobRecord {
        self.0.get()
    }

    /// Changes the record; waits up to a second for the disk. A failure is logged: the job goes on, but a crash would
    /// then cost one of its deliveries or repeat a step.
    pub async fn update(&self, change: impl FnOnce(&mut JobRecord)) {
        let change = |record: &mut JobRecord| {
            change(record);
            record.scrub();
        };
        if let Err(error) = self.0.update(change).await {
            tracing::error!(
                code = %codes::JOB_RECORD_NOT_WRITTEN, path = %self.0.path().display(), %error,
                "the job's record is not on disk; look at the disk of recorder.state_dir"
            );
        }
    }

    /// Removes the record.
    pub async fn remove(&self) {
        if let Err(error) = self.0.remove().await {
            tracing::error!(
                code = %codes::JOB_RECORD_NOT_REMOVED, path = %self.0.path().display(), %error,
                "the job's record is not removed yet; a start that finds it looks at the job again"
            );
        }
    }
}

/// The records of all jobs.
#[derive(Debug)]
pub struct JobRecords {
    pub records: Vec<JobRecord>,
    /// The files that cannot be read now.
    pub unread: Vec<(PathBuf, io::Error)>,
}

/// The directory of the jobs' records.
#[derive(Clone, Debug)]
pub struct JobJournal {
    records: Journal<JobRecord>,
}

impl JobJournal {
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self { records: Journal::new(state_dir.join(DIR), "jobs") }
    }

    /// The file of a recording's job.
    #[must_use]
    pub fn path(&self, recording: &str) -> PathBuf {
        self.records.path(recording)
    }

    /// Begins a job: its record is on disk when this returns. The steps of an earlier run of the same job are kept; a
    /// record of it that cannot be read now is tried for some seconds, as its steps would be repeated without it.
    pub async fn begin(&self, mut record: JobRecord) -> JobEntry {
        let path = self.path(&record.recording_id);
        if let Some(previous) = self.previous(&path).await {
            let same = record.delivered > 1 || record.ack_to == previous.ack_to;
            // What was fetched for an earlier job of this recording must still be removed.
            let fetched = previous.steps.fetched.clone();
            record.steps = if same { previous.steps } else { JobSteps { fetched, ..JobSteps::default() } };
        }
        let entry = JobEntry(self.records.record_at(path, record));
        entry.update(|_| {}).await;
        entry
    }

    async fn previous(&self, path: &Path) -> Option<JobRecord> {
        let mut waits = READ_RETRIES.iter();
        loop {
            let (records, at) = (self.records.clone(), path.to_owned());
            let error = match files::on_disk_within(RECORD_LIMIT, move || records.read(&at)).await {
                Ok(previous) => return previous,
                Err(error) => error,
            };
            let Some(wait) = waits.next() else {
                tracing::error!(
                    code = %codes::JOB_RECORD_UNREAD, path = %path.display(), %error,
                    "the job's record of an earlier run cannot be read: its steps may be repeated; look at the disk of \
                     recorder.state_dir"
                );
                return None;
            };
            tracing::warn!(
                code = %codes::JOB_RECORD_UNREAD, path = %path.display(), %error, retry_s = wait.as_secs(),
                "the job's record of an earlier run cannot be read; trying again"
            );
            tokio::time::sleep(*wait).await;
        }
    }

    /// Removes half-written files of an earlier run.
    pub fn remove_unfinished(&self) {
        self.records.remove_unfinished();
    }

    /// All records that can be read now, oldest first, and the files that cannot. One whose content is wrong is put aside and
    /// logged as an error; expired ones are removed.
    ///
    /// # Errors
    /// Where the directory cannot be listed.
    pub fn read_all(&self) -> io::Result<JobRecords> {
        let JournalContent { records, unread } = self.records.read_all()?;
        let (expired, mut all): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|(_, record)| record.is_expired(unix_ms()));
        for (path, _) in expired {
            // A file that remains is removed at the next call.
            let _ = files::remove(&path);
        }
        all.sort_by_key(|(_, record)| record.taken_at);
        Ok(JobRecords { records: all.into_iter().map(|(_, record)| record).collect(), unread })
    }

    /// Reads a record that could not be read before. `None`: there is none any more.
    ///
    /// # Errors
    /// Where it still cannot be read.
    pub fn read_again(&self, path: &Path) -> io::Result<Option<JobRecord>> {
        self.records.read(path)
    }

    /// [`Self::read_all`] without what cannot be read now.
    #[must_use]
    pub fn all(&self) -> Vec<JobRecord> {
        self.read_all().map(|content| content.records).unwrap_or_default()
    }

    /// A job to be tried again that the queue does not hand out any more: one for which the operator asked, or one that
    /// waited for a disk. `usable_since`: when `main_path` could last be used again. Both in Unix milliseconds.
    #[must_use]
    pub fn due(&self, now: u64, usable_since: u64) -> Option<JobRecord> {
        self.all().into_iter().find(|record| match record.state {
            JobState::Retry => true,
            JobState::Waiting { since, until } => until <= now || since < usable_since,
            _ => false,
        })
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
    async fn records_are_kept_until_their_jobs_end() {
        let dir = tempfile::tempdir().unwrap();
        let journal = JobJournal::new(dir.path());
        assert!(journal.all().is_empty());
        let now = unix_ms();
        let a = journal.begin(record("a", JobState::Working)).await;
        journal.begin(record("b", JobState::HandedBack { until: now - 2 * RETENTION_MS })).await;
        journal.begin(record("c", JobState::HandedBack { until: now })).await;
        journal.begin(record("d", JobState::Retry)).await;
        std::fs::write(journal.path("e"), "{").unwrap();
        let all = journal.all();
        assert_eq!(all.iter().map(|record| record.recording_id.as_str()).collect::<Vec<_>>(), ["a", "c", "d"]);
        assert_eq!(all[0].payload().unwrap(), &b"\x01\xff"[..]);
        assert_eq!(journal.due(now, 0).unwrap().recording_id, "d");
        assert!(!journal.path("b").exists() && !journal.path("e").exists());
        // A job that is begun again continues after its finished steps.
        a.update(|record| record.steps.scripts = 2).await;
        let a = journal.begin(record("a", JobState::Working)).await;
        assert_eq!(a.record().steps.scripts, 2);
        a.remove().await;
        assert_eq!(journal.all().len(), 2);
        // A job that waits is due in time, or as soon as main_path is back.
        std::fs::remove_file(journal.path("d")).unwrap();
        journal.begin(record("f", JobState::Waiting { since: now, until: now + 1000 })).await;
        assert_eq!(journal.due(now, now), None);
        assert!(journal.due(now + 1000, 0).is_some() && journal.due(now, now + 1).is_some());
    }
}
