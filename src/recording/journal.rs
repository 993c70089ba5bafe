//! One record per accepted recording that is not handed over yet: what the next start of the program needs to continue
//! it after a crash (`docs/on-disk-protocol.md`).
//!
//! A disk that fails or hangs ends no recording: a change is in memory at once and written when the disk takes it, and only
//! a crash before that would lose it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::capture::rig::CaptureReport;
use crate::codes;
use crate::protocol::access::{RoomAccess, RoomClaims};
use crate::protocol::ids::{AccessToken, RecordingId, RtmpUrl};
use crate::protocol::request::{Kind, Output, RecordingInfo, Start};
use crate::recording::capture_record::CaptureRecord;
use crate::recording::taken_part::TakenPart;
use crate::storage::journal::{Journal, JournalContent, Record, RecordFile};
use crate::storage::record_writer::{PendingWrite, RecordWriter, WriteError};
use crate::unix_time::unix_ms;

/// The directory in `state_dir`.
#[must_use]
pub fn dir_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Recording => "recordings",
        Kind::Broadcast => "broadcasts",
    }
}

/// The content of a record's file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "steps that are done, each by itself")]
pub struct RecordingRecord {
    version: u32,
    room_table_id: i64,
    room_id: String,
    room_sid: String,
    recording_id: String,
    /// The claims of the access token, which are signed again for each part.
    #[serde(default)]
    claims: Option<RoomClaims>,
    /// The token itself (a secret) where it has no such claims, and in records of an earlier version; else empty.
    #[serde(default)]
    access_token: String,
    /// Where a broadcast goes to, with its stream key: a secret. Empty: a recording, or a broadcast of an earlier version.
    #[serde(default)]
    rtmp_url: String,
    /// Unix milliseconds.
    pub taken_at: u64,
    /// When media first flowed, in Unix milliseconds.
    pub began_at: Option<u64>,
    pub parts: Vec<RecordingPart>,
    /// Set once the recording is to end.
    pub stop: Option<StopRequest>,
    pub stage: RecordingStage,
    /// How long each part lasts in the raw file, in milliseconds; `None` for a part that is not in it.
    #[serde(default)]
    pub lengths_ms: Vec<Option<u64>>,
    /// What else was measured of each part in its file.
    #[serde(default)]
    pub found: Vec<Option<FoundMedia>>,
    /// The latest failure of the `post_recording` hooks, which are run again.
    #[serde(default)]
    pub hooked: Option<FailedTry>,
    /// The notice of the end is in the outbox.
    #[serde(default)]
    pub end_told: bool,
    /// The latest failure to put the raw file into its place, which is tried again.
    #[serde(default)]
    pub storing: Option<FailedTry>,
    /// The raw file was about to be put into its place: a file there may be it, or an incomplete copy of it.
    #[serde(default)]
    pub placing: bool,
    /// The `post_recording` hooks have run, and left the raw file where it was.
    #[serde(default)]
    pub hooks_done: bool,
    /// The raw file's object, without secrets, once the store of `storage.raw` has confirmed it: its job names that, and the
    /// local file goes once the job is in the outbox.
    #[serde(default)]
    pub raw_object: Option<String>,
    /// The archive of the fleet says that this node has the recording.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub archived: bool,
    /// The lease in the archive by which this node has taken the recording over; 0: the server has asked it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lease: u32,
    /// What the archive had of other nodes' parts when the recording ended is fetched.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub late_parts_fetched: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde asks for")]
fn is_zero(lease: &u32) -> bool {
    *lease == 0
}

/// What a part's file holds: all that is known of a part during which the program died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundMedia {
    pub bytes: u64,
    /// Video frames; `None`: not counted, because the part has a report.
    pub frames: Option<u64>,
}

impl FoundMedia {
    /// Of two files of one part.
    #[must_use]
    pub fn and(self, next: Self) -> Self {
        Self { bytes: self.bytes + next.bytes, frames: self.frames.zip(next.frames).map(|(a, b)| a + b) }
    }
}

/// A failure of a step that is tried again: storing, or the hooks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedTry {
    pub failures: u32,
    pub last_error: String,
    /// Unix milliseconds.
    pub next_try: u64,
}

/// One part of a recording.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RecordingPart {
    /// The file's name in the temporary directory; empty for a broadcast.
    pub file: String,
    /// When media first flowed, in Unix milliseconds. `None`: it did not, or that was not noted.
    pub began_at: Option<u64>,
    /// `None` where the program died during the part.
    pub ended: Option<PartEnd>,
    /// The places of its files in the archive of the fleet; none where there is no archive.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub archived_as: Vec<String>,
    /// Set where another node has recorded it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<TakenPart>,
}

impl RecordingPart {
    /// Until when the part is in the recording, as it shows the meeting and no later node has recorded it too; `None`: to
    /// its end.
    #[must_use]
    pub fn meeting_until(&self) -> Option<Duration> {
        let used = self.taken.as_ref().and_then(|taken| taken.used_ms).map(Duration::from_millis);
        self.ended.as_ref().and_then(|end| end.report.meeting_until).or(used)
    }

    /// A later node has recorded all that it shows.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        self.taken.as_ref().is_some_and(|taken| taken.used_ms == Some(0))
    }
}

/// How a part ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartEnd {
    /// Unix milliseconds.
    pub at: u64,
    /// `None`: it ended as requested.
    pub cause: Option<String>,
    #[serde(rename = "done", with = "CaptureRecord")]
    pub report: CaptureReport,
}

/// The request to end a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopRequest {
    /// `None`: by the server.
    pub reason: Option<String>,
}

/// How far a recording is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordingStage {
    /// There are only its parts.
    Parts,
    /// The raw file is complete and in its final place: the parts may be removed.
    Stored,
    /// No raw file could be made, and the server knows that. The parts stay for the operator.
    Failed,
}

impl RecordingRecord {
    #[must_use]
    pub fn new(start: &Start) -> Self {
        let info = &start.info;
        let claims = start.access.claims();
        Self {
            version: Self::VERSION,
            room_table_id: info.room_table_id,
            room_id: info.room_id.to_string(),
            room_sid: info.room_sid.as_str().to_owned(),
            recording_id: info.recording_id.to_string(),
            access_token: match (&claims, start.access.sent()) {
                (None, Some(token)) => token.expose().to_owned(),
                _ => String::new(),
            },
            rtmp_url: match &start.output {
                Output::File => String::new(),
                Output::Rtmp(url) => url.expose().to_owned(),
            },
            claims,
            taken_at: unix_ms(),
            began_at: None,
            parts: Vec::new(),
            stop: None,
            stage: RecordingStage::Parts,
            lengths_ms: Vec::new(),
            found: Vec::new(),
            hooked: None,
            end_told: false,
            storing: None,
            placing: false,
            archived: false,
            lease: 0,
            late_parts_fetched: false,
            hooks_done: false,
            raw_object: None,
        }
    }

    /// # Errors
    /// Where an id is invalid.
    pub fn info(&self) -> Result<RecordingInfo, String> {
        let info = RecordingInfo::parse(self.room_table_id, &self.room_id, &self.room_sid, &self.recording_id);
        info.map_err(|error| error.to_string())
    }

    /// Whether it holds what a broadcast needs to go on: those of earlier versions do not.
    #[must_use]
    pub fn has_far_end(&self) -> bool {
        !self.rtmp_url.is_empty()
    }

    /// The server's start request.
    ///
    /// # Errors
    /// Where an id, the token or the far end's address is invalid.
    pub fn start(&self) -> Result<Start, String> {
        let access = match &self.claims {
            Some(claims) => RoomAccess::Claims(claims.clone()),
            None => RoomAccess::Token(AccessToken::parse(&self.access_token).map_err(|error| error.to_string())?),
        };
        let output = match self.rtmp_url.as_str() {
            "" => Output::File,
            url => Output::Rtmp(RtmpUrl::parse(url).map_err(|error| error.to_string())?),
        };
        Ok(Start { info: self.info()?, access, output })
    }

    /// The file names of the parts, in order, whether they exist or not.
    #[must_use]
    pub fn files(&self) -> Vec<String> {
        self.parts.iter().map(|part| part.file.clone()).collect()
    }

    /// How long each part lasts in the raw file.
    #[must_use]
    pub fn lengths(&self) -> Vec<Option<Duration>> {
        self.lengths_ms.iter().map(|length| length.map(Duration::from_millis)).collect()
    }
}

impl Record for RecordingRecord {
    const VERSION: u32 = 1;

    fn version(&self) -> u32 {
        self.version
    }

    fn check(&self) -> Result<(), String> {
        // A path elsewhere would make a later step move or remove a foreign file.
        match self.parts.iter().find(|part| part.file.contains('/') || part.file.starts_with('.')) {
            Some(part) => Err(format!("{:?} is no name of a part", part.file)),
            None => Ok(()),
        }
    }
}

/// The directories of the records.
#[derive(Clone, Debug)]
pub struct RecordingJournal {
    recordings: Journal<RecordingRecord>,
    broadcasts: Journal<RecordingRecord>,
}

impl RecordingJournal {
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        let of = |kind| Journal::new(state_dir.join(dir_of(kind)), "unfinished recordings");
        Self { recordings: of(Kind::Recording), broadcasts: of(Kind::Broadcast) }
    }

    fn of(&self, kind: Kind) -> &Journal<RecordingRecord> {
        match kind {
            Kind::Recording => &self.recordings,
            Kind::Broadcast => &self.broadcasts,
        }
    }

    /// The record of a new recording, in memory: nothing is written yet.
    #[must_use]
    pub fn entry(&self, start: &Start) -> RecordingEntry {
        let name = start.info.recording_id.as_str();
        RecordingEntry(self.of(start.kind()).record(name, RecordingRecord::new(start)))
    }

    /// Writes the record of an accepted recording; waits up to a second for the disk.
    pub async fn begin(&self, start: &Start) -> RecordingEntry {
        let entry = self.entry(start);
        entry.update(|_| {}).await;
        entry
    }

    /// What writes the records.
    #[must_use]
    pub fn writer(&self, kind: Kind) -> &RecordWriter {
        self.of(kind).writer()
    }

    /// The records of earlier runs, oldest first. A record whose content is wrong is put aside and logged as an error.
    ///
    /// # Errors
    /// Where the directory cannot be listed.
    pub fn unfinished(&self, kind: Kind) -> io::Result<UnfinishedRecordings> {
        let journal = self.of(kind);
        journal.remove_unfinished();
        let JournalContent { records, unread } = journal.read_all()?;
        let entry = |(path, record)| RecordingEntry(journal.record_at(path, record));
        let mut entries: Vec<_> = records.into_iter().map(entry).collect();
        entries.sort_by_key(|entry| entry.record().taken_at);
        Ok(UnfinishedRecordings { entries, unread })
    }

    /// Reads a record of an earlier run that could not be read before. `None`: there is none any more.
    ///
    /// # Errors
    /// Where it still cannot be read.
    pub fn read_again(&self, kind: Kind, path: &Path) -> io::Result<Option<RecordingEntry>> {
        let journal = self.of(kind);
        let record = journal.read(path)?;
        Ok(record.map(|record| RecordingEntry(journal.record_at(path.to_owned(), record))))
    }

    /// Whether there are records of earlier runs; reads none.
    #[must_use]
    pub fn has_any(&self, kind: Kind) -> bool {
        self.of(kind).has_any()
    }

    /// Whether there is, or may be, a record of this recording. Asks the disk.
    #[must_use]
    pub fn holds(&self, kind: Kind, recording: &RecordingId) -> bool {
        let (journal, name) = (self.of(kind), recording.as_str());
        journal.writer().pending(&journal.path(name)).is_some() || journal.path(name).try_exists().unwrap_or(true)
    }
}

/// The records of earlier runs.
#[derive(Debug)]
pub struct UnfinishedRecordings {
    pub entries: Vec<RecordingEntry>,
    /// The files that cannot be read now.
    pub unread: Vec<(PathBuf, io::Error)>,
}

/// The record of one recording; clones share it.
#[derive(Clone, Debug)]
pub struct RecordingEntry(RecordFile<RecordingRecord>);

impl RecordingEntry {
    /// The record's content.
    #[must_use]
    pub fn record(&self) -> RecordingRecord {
        self.0.get()
    }

    /// The record's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes the record of a recording that is not accepted yet.
    ///
    /// # Errors
    /// Where it is not on disk within `limit`. It is written late then, unless the caller withdraws it.
    pub async fn write_within(&self, limit: Duration) -> Result<(), WriteError> {
        self.0.change(|_| {}).within(limit).await
    }

    /// Has the record of a recording removed that was not accepted, also if it is still being written.
    pub fn withdraw(&self) {
        drop(self.0.withdraw());
    }

    /// Changes the record in memory and has it written; waits for nothing.
    pub fn change(&self, change: impl FnOnce(&mut RecordingRecord)) -> PendingWrite {
        self.0.change(change)
    }

    /// Changes the record; waits up to a second for the disk. If it takes longer or fails, that is logged, and the
    /// record is written when the disk takes it.
    pub async fn update(&self, change: impl FnOnce(&mut RecordingRecord)) {
        if let Err(error) = self.0.update(change).await {
            tracing::error!(
                code = %codes::RECORD_NOT_WRITTEN,
                path = %self.0.path().display(), %error,
                "the recording's record is not on disk: it goes on, but a crash would leave it to you; look at the disk of recorder.state_dir"
            );
        }
    }

    /// Removes the record: the last step of a handover.
    pub async fn remove(&self) {
        if let Err(error) = self.0.remove().await {
            tracing::error!(
                code = %codes::RECORD_NOT_REMOVED,
                path = %self.0.path().display(), %error,
                "the record of a recording that is over is not removed yet; a start that finds it has nothing left to do for it"
            );
        }
    }

    /// Notes that a part is being opened; returns its number, from 1.
    pub async fn add_part(&self, name: impl FnOnce(usize) -> String) -> usize {
        self.update(move |record| {
            let file = name(record.parts.len() + 1);
            record.parts.push(RecordingPart { file, ..RecordingPart::default() });
        })
        .await;
        self.record().parts.len()
    }

    /// Notes that media flows into the latest part.
    pub async fn part_began(&self) {
        self.update(|record| {
            let now = unix_ms();
            record.began_at.get_or_insert(now);
            if let Some(part) = record.parts.last_mut() {
                part.began_at = Some(now);
            }
        })
        .await;
    }

    /// Notes that the latest part has ended.
    pub async fn part_ended(&self, cause: Option<String>, report: CaptureReport) {
        self.update(move |record| {
            if let Some(part) = record.parts.last_mut() {
                part.ended = Some(PartEnd { at: unix_ms(), cause, report });
            }
        })
        .await;
    }
}

#[cfg(test)]
mod tests;
