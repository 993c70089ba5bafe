//! The record of a file on its way into a store (`docs/on-disk-protocol.md`): where its upload stands, what the server is
//! told once the store has it, and what becomes of the local file then. It holds no secret.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::codes;
use crate::protocol::ids::{RecorderId, RecordingId, RoomId};
use crate::protocol::notice::{Notice, NoticeEvent};
use crate::protocol::request::RecordingInfo;
use crate::storage::journal::Record;
use crate::storage::task_record::{TaskEntry, TaskRecord, TaskWords};
use crate::unix_time::unix_ms;

/// The directory in `state_dir`.
pub const DIR: &str = "uploads";

/// What the name of a raw file's record has behind the recording's id: a sign that no id has.
pub const RAW_SUFFIX: &str = "+raw";

/// The content of a record's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadRecord {
    version: u32,
    pub recording_id: String,
    pub room_id: String,
    #[serde(default)]
    pub kind: UploadKind,
    /// The file that is delivered.
    #[serde(alias = "mp4")]
    pub file: PathBuf,
    /// Its name below the store's URL.
    pub key: String,
    /// The store's URL without secrets.
    pub store: String,
    /// How long the local file stays once the store has it, in seconds; `None`: for ever.
    pub keep_s: Option<u64>,
    /// The content of the recording's summary, which is delivered beside the MP4.
    #[serde(default)]
    pub summary: Option<String>,
    /// The reports that go into the store before a raw file.
    #[serde(default)]
    pub reports: Vec<Report>,
    /// Poster and thumbnails are still to be put beside the MP4.
    #[serde(default)]
    pub pictures_due: bool,
    /// What the server is told once the store has the MP4; `None`: it was told of the local file.
    #[serde(default)]
    pub notice: Option<StoredNotice>,
    /// Unix milliseconds, as the other times.
    pub added_at: u64,
    #[serde(default)]
    pub failures: u32,
    #[serde(default)]
    pub next_try: Option<u64>,
    #[serde(default)]
    pub last_error: Option<String>,
    /// An upload in parts was begun, so that the store may hold one whose id is not noted.
    #[serde(default)]
    pub begun: bool,
    #[serde(default)]
    pub transfer: Option<PartTransfer>,
    #[serde(default)]
    pub stored: Option<StoredObject>,
    /// The messages for the server are in the outbox.
    #[serde(default)]
    pub told: bool,
}

/// What is delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UploadKind {
    /// A finished MP4, into the store of `storage.deliver`.
    #[default]
    Mp4,
    /// A raw file that could not be transcoded, into that of `storage.fail`. The server is not told.
    Raw,
}

/// A text that is put beside a raw file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Its name below the store's URL.
    pub key: String,
    pub text: String,
}

/// An upload in parts that the store has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartTransfer {
    /// The store's id of it.
    pub id: String,
    /// Size and time of the file that is cut, in bytes and Unix milliseconds: another file of this name is another upload.
    pub size: u64,
    pub modified: u64,
    pub part_size: u64,
    /// The parts that the store has taken, counted from 0.
    #[serde(default)]
    pub parts: BTreeMap<usize, SentPart>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentPart {
    /// What the store calls it.
    pub id: String,
    pub md5: String,
}

/// What the store has confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredObject {
    pub at: u64,
    pub size: u64,
}

/// What the notices to the server need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredNotice {
    pub room_table_id: i64,
    pub room_sid: String,
    pub recorder_id: String,
    pub variant: i32,
    pub note: Option<String>,
    /// The MP4 relative to `main_path`, for a recording that an operator drops.
    pub local_path: String,
    pub size: u64,
}

impl StoredNotice {
    #[must_use]
    pub fn new(info: &RecordingInfo, recorder: &RecorderId, local_path: &str, size: u64) -> Self {
        Self {
            room_table_id: info.room_table_id,
            room_sid: info.room_sid.as_str().to_owned(),
            recorder_id: recorder.to_string(),
            variant: 0,
            note: None,
            local_path: local_path.to_owned(),
            size,
        }
    }
}

impl UploadRecord {
    #[must_use]
    pub fn new(
        recording: &RecordingId,
        room: &RoomId,
        mp4: &Path,
        key: &str,
        store: &str,
        keep: Option<Duration>,
    ) -> Self {
        Self {
            version: Self::VERSION,
            recording_id: recording.to_string(),
            room_id: room.to_string(),
            kind: UploadKind::Mp4,
            file: mp4.to_owned(),
            key: key.to_owned(),
            store: store.to_owned(),
            keep_s: keep.map(|keep| keep.as_secs()),
            summary: None,
            reports: Vec::new(),
            pictures_due: false,
            notice: None,
            added_at: unix_ms(),
            failures: 0,
            next_try: None,
            last_error: None,
            begun: false,
            transfer: None,
            stored: None,
            told: false,
        }
    }

    /// Of a raw file that could not be transcoded, with what is known of it. It stays where it is.
    #[must_use]
    pub fn raw(
        recording: &RecordingId,
        room: &RoomId,
        file: &Path,
        key: &str,
        store: &str,
        reports: Vec<Report>,
    ) -> Self {
        Self { kind: UploadKind::Raw, reports, ..Self::new(recording, room, file, key, store, None) }
    }

    /// The two notices of a finished recording whose MP4 is at `path`; none where the server was told already.
    ///
    /// # Errors
    /// Where the record holds ids that are none.
    pub fn notices(&self, path: &str) -> Result<Vec<Notice>, String> {
        let Some(notice) = self.notice.as_ref().filter(|_| !self.told) else { return Ok(Vec::new()) };
        let info = RecordingInfo::parse(notice.room_table_id, &self.room_id, &notice.room_sid, &self.recording_id);
        let info = info.map_err(|error| error.to_string())?;
        let recorder_id = RecorderId::parse(&notice.recorder_id).map_err(|error| error.to_string())?;
        let proceeded = NoticeEvent::Proceeded {
            file_path: path.to_owned(),
            file_size: self.stored.map_or(notice.size, |stored| stored.size),
            variant: notice.variant,
            note: notice.note.clone(),
        };
        let events = [proceeded, NoticeEvent::Finished(Ok(()))];
        Ok(events.map(|event| Notice { info: info.clone(), recorder_id: recorder_id.clone(), event }).into())
    }

    /// When the local file may go, in Unix milliseconds; `None`: never, or not before the store has confirmed it.
    #[must_use]
    pub fn local_until(&self) -> Option<u64> {
        Some(self.stored?.at.saturating_add(self.keep_s?.saturating_mul(1000)))
    }
}

impl Record for UploadRecord {
    const VERSION: u32 = 1;

    fn version(&self) -> u32 {
        self.version
    }

    fn check(&self) -> Result<(), String> {
        for key in self.reports.iter().map(|report| &report.key).chain([&self.key]) {
            crate::config::store_url::check_key(key).map_err(|why| format!("the name of its object {why}"))?;
        }
        RoomId::parse(&self.room_id).map_err(|why| why.to_string())?;
        self.notices("").map(drop)
    }
}

impl TaskRecord for UploadRecord {
    const DIR: &'static str = DIR;
    const WORDS: TaskWords = TaskWords {
        all: "uploads",
        one: "an upload",
        when_found_again: "delivers the recording again",
        unread: codes::UPLOAD_RECORDS_UNREAD,
        not_written: codes::UPLOAD_RECORD_NOT_WRITTEN,
    };

    fn id(&self) -> String {
        match self.kind {
            UploadKind::Mp4 => self.recording_id.clone(),
            UploadKind::Raw => format!("{}{RAW_SUFFIX}", self.recording_id),
        }
    }

    fn recording_id(&self) -> &str {
        &self.recording_id
    }

    fn room_id(&self) -> &str {
        &self.room_id
    }

    fn note_failure(&mut self, why: String, next_try: u64) {
        self.failures = self.failures.saturating_add(1);
        (self.last_error, self.next_try) = (Some(why), Some(next_try));
    }
}

/// The record of an upload; clones share it.
pub type UploadEntry = TaskEntry<UploadRecord>;

/// The object's name for an MP4 of `main_path`: its path there. What no name of an object may hold becomes `_`.
#[must_use]
pub fn key_for(file_path: &str) -> String {
    let parts = file_path.split('/').filter(|part| !matches!(*part, "" | "." | ".."));
    let plain = |c: char| if c.is_control() || matches!(c, '\\' | '?' | '#' | '%') { '_' } else { c };
    parts.map(|part| part.chars().map(plain).collect::<String>()).collect::<Vec<_>>().join("/")
}
