//! The record of a recording that becomes HLS (`docs/on-disk-protocol.md`). It holds no secret.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::codes;
use crate::config::store_url::check_key;
use crate::protocol::ids::{RecordingId, RoomId};
use crate::storage::journal::Record;
use crate::storage::task_record::{TaskEntry, TaskRecord, TaskWords};
use crate::store::record::key_for;
use crate::store::sidecars::hls_dir;
use crate::unix_time::unix_ms;

/// The directory in `state_dir`; `store/local_file.rs` looks there before it removes an MP4.
pub const DIR: &str = "hls";

/// The content of a record's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HlsRecord {
    version: u32,
    pub recording_id: String,
    pub room_id: String,
    /// What it is made of.
    pub mp4: PathBuf,
    /// The MP4 relative to `main_path`, which is its name in a store.
    pub key: String,
    #[serde(default)]
    pub store: HlsStore,
    /// Unix milliseconds, as the other times.
    pub added_at: u64,
    /// The names of the files in `main_path`, in the order in which they are put into a store; `None`: they are not made.
    #[serde(default)]
    pub files: Option<Vec<String>>,
    /// The store has them, and `main_path` does not: another node has published them while it recorded.
    #[serde(default)]
    pub only_in_store: bool,
    #[serde(default)]
    pub failures: u32,
    #[serde(default)]
    pub next_try: Option<u64>,
    #[serde(default)]
    pub last_error: Option<String>,
}

/// The store that gets it: the one that gets the MP4.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HlsStore {
    /// That of its room, as in the records of earlier versions.
    #[default]
    OfRoom,
    NoStore,
    /// Its URL without secrets.
    Url(String),
}

impl HlsRecord {
    /// `file_path`: the MP4 relative to `main_path`.
    #[must_use]
    pub fn new(recording: &RecordingId, room: &RoomId, mp4: &Path, file_path: &str, store: HlsStore) -> Self {
        Self {
            version: Self::VERSION,
            recording_id: recording.to_string(),
            room_id: room.to_string(),
            mp4: mp4.to_owned(),
            key: key_for(file_path),
            store,
            added_at: unix_ms(),
            files: None,
            only_in_store: false,
            failures: 0,
            next_try: None,
            last_error: None,
        }
    }

    /// Its directory, relative to `main_path` and to the URL of a store.
    #[must_use]
    pub fn dir(&self) -> String {
        hls_dir(&self.key)
    }
}

impl Record for HlsRecord {
    const VERSION: u32 = 1;

    fn version(&self) -> u32 {
        self.version
    }

    fn check(&self) -> Result<(), String> {
        check_key(&self.key).map_err(|why| format!("the name of its MP4 {why}"))?;
        let is_name = |name: &String| !name.is_empty() && !name.starts_with('.') && !name.contains('/');
        if let Some(name) = self.files.iter().flatten().find(|name| !is_name(name)) {
            return Err(format!("{name:?} is no name of a file"));
        }
        let ids = RecordingId::parse(&self.recording_id).and(RoomId::parse(&self.room_id).map(drop));
        ids.map_err(|error| error.to_string())
    }
}

impl TaskRecord for HlsRecord {
    const DIR: &'static str = DIR;
    const WORDS: TaskWords = TaskWords {
        all: "recordings that become HLS",
        one: "a recording that becomes HLS",
        when_found_again: "makes the HLS again",
        unread: codes::HLS_RECORDS_UNREAD,
        not_written: codes::HLS_RECORD_NOT_WRITTEN,
    };

    fn id(&self) -> String {
        self.recording_id.clone()
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

/// The record of a recording; clones share it.
pub type HlsEntry = TaskEntry<HlsRecord>;
