//! The record of a recording that becomes HLS (`docs/on-disk-protocol.md`). It holds no secret.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::codes;
use crate::config::store_url::check_key;
use crate::protocol::ids::{RecordingId, RoomId};
use crate::storage::journal::{Journal, Record, RecordFile};
use crate::store::record::key_for;
use crate::store::sidecars::hls_dir;
use crate::telemetry::redact;
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

impl HlsRecord {
    /// `file_path`: the MP4 relative to `main_path`.
    #[must_use]
    pub fn new(recording: &RecordingId, room: &RoomId, mp4: &Path, file_path: &str) -> Self {
        Self {
            version: Self::VERSION,
            recording_id: recording.to_string(),
            room_id: room.to_string(),
            mp4: mp4.to_owned(),
            key: key_for(file_path),
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

/// The record of a recording; clones share it.
#[derive(Clone, Debug)]
pub struct HlsEntry(RecordFile<HlsRecord>);

impl HlsEntry {
    pub(super) fn new(journal: &Journal<HlsRecord>, record: HlsRecord) -> Self {
        Self(journal.record(&record.recording_id.clone(), record))
    }

    #[must_use]
    pub fn record(&self) -> HlsRecord {
        self.0.get()
    }

    /// Changes the record; waits up to a second for the disk. Where that fails the work goes on from memory.
    pub(super) async fn update(&self, change: impl FnOnce(&mut HlsRecord)) {
        if let Err(error) = self.0.update(change).await {
            tracing::error!(
                code = %codes::HLS_RECORD_NOT_WRITTEN, path = %self.0.path().display(), %error,
                "the record of a recording that becomes HLS is not on disk; look at the disk of recorder.state_dir"
            );
        }
    }

    pub(super) async fn note_failure(&self, why: &str, next_try: u64) {
        let why = redact::scrub(why).into_owned();
        let note = move |record: &mut HlsRecord| {
            record.failures = record.failures.saturating_add(1);
            (record.last_error, record.next_try) = (Some(why), Some(next_try));
        };
        self.update(note).await;
    }

    pub(super) async fn remove(&self) {
        if let Err(error) = self.0.remove().await {
            tracing::error!(
                code = %codes::HLS_RECORD_NOT_WRITTEN, path = %self.0.path().display(), %error,
                "the record of a recording that became HLS is not removed yet; a start that finds it makes the HLS again"
            );
        }
    }
}
