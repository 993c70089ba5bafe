//! The store of `storage.raw`: raw files on their way from the node that records to one that transcodes.
//!
//! The recording node puts a raw file there with its summary ([`RawTransfer`]), which goes on where it was after a restart; the
//! job names the object, a transcoding node fetches it ([`crate::store::download`]) and removes it last.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OnceCell, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::store_url::StoreUrl;
use crate::protocol::ids::{RecordingId, RoomId};
use crate::storage::files;
use crate::storage::journal::Journal;
use crate::storage::record_writer::RecordWriter;
use crate::store::connect::StoreTimes;
use crate::store::error::StoreError;
use crate::store::handle::Store;
use crate::store::record::{StoredObject, UploadEntry, UploadRecord, key_for};
use crate::store::transfer::Source;
use crate::store::{sidecars, upload};
use crate::unix_time::unix_ms;

/// The directory of the records in `state_dir`.
pub const DIR: &str = "raw-uploads";
/// Files on the line at once.
const FILES_AT_ONCE: usize = 2;
/// Parts of all of them in memory at once.
const PARTS_AT_ONCE: usize = 4;
/// Time limit for reading or removing a record.
const RECORD_LIMIT: Duration = Duration::from_secs(10);

/// The store of `storage.raw`; clones share it.
#[derive(Clone)]
pub struct RawStore {
    shared: Arc<Shared>,
}

struct Shared {
    url: StoreUrl,
    times: StoreTimes,
    store: OnceCell<Store>,
    journal: Journal<UploadRecord>,
    files: Semaphore,
    parts: Semaphore,
}

/// A raw file that is in its place on this node.
#[derive(Clone, Debug)]
pub struct StoredRawFile {
    pub recording: RecordingId,
    pub room: RoomId,
    pub file: PathBuf,
    /// Its name below the store's URL.
    pub key: String,
    /// The content of its summary.
    pub summary: Option<String>,
}

impl std::fmt::Debug for RawStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawStore").field("url", &self.shared.url).finish_non_exhaustive()
    }
}

impl RawStore {
    /// Nothing is asked of the store yet.
    #[must_use]
    pub fn new(url: StoreUrl, state_dir: &Path, times: StoreTimes) -> Self {
        let shared = Shared {
            url,
            times,
            store: OnceCell::new(),
            journal: Journal::new(state_dir.join(DIR), "raw files on their way into a store"),
            files: Semaphore::new(FILES_AT_ONCE),
            parts: Semaphore::new(PARTS_AT_ONCE),
        };
        Self { shared: Arc::new(shared) }
    }

    /// `storage.raw`.
    #[must_use]
    pub fn url(&self) -> &StoreUrl {
        &self.shared.url
    }

    /// What writes the records.
    #[must_use]
    pub fn writer(&self) -> &RecordWriter {
        self.shared.journal.writer()
    }

    /// # Errors
    /// Where its client cannot be made.
    pub async fn store(&self) -> Result<&Store, StoreError> {
        let open = async {
            let (url, times) = (self.shared.url.clone(), self.shared.times);
            // Reads certificates.
            tokio::task::spawn_blocking(move || Store::open_with(&url, times)).await.map_err(|_| StoreError::Stopped)?
        };
        self.shared.store.get_or_try_init(|| open).await
    }

    /// The name of a raw file below the store's URL, by its place in `main_path`: `<sub_path>/<room_id>` and its own name.
    #[must_use]
    pub fn key(dir: &Path, name: &str) -> String {
        key_for(&format!("{}/{name}", dir.display()))
    }

    /// The object that a job names by its directory's URL and its file name. `None`: it is not below `storage.raw`.
    #[must_use]
    pub fn key_of(&self, dir_url: &str, name: &str) -> Option<String> {
        self.shared.url.key_of(&format!("{}/{name}", dir_url.trim_end_matches('/')))
    }

    /// Takes a raw file on, or on from where an earlier run has left it.
    pub async fn begin(&self, raw: StoredRawFile) -> RawTransfer {
        let Shared { journal, url, .. } = &*self.shared;
        let path = journal.path(raw.recording.as_str());
        let (records, at) = (journal.clone(), path.clone());
        let earlier = files::on_disk_within(RECORD_LIMIT, move || records.read(&at)).await;
        let is_it =
            |record: &UploadRecord| record.file == raw.file && record.key == raw.key && record.store == url.to_string();
        let unknown = earlier.is_err();
        let mut record = match earlier.ok().flatten().filter(is_it) {
            Some(record) => record,
            None => UploadRecord::new(&raw.recording, &raw.room, &raw.file, &raw.key, &url.to_string(), None),
        };
        // What a record that cannot be read knows of an upload is looked for in the store.
        record.begun |= unknown;
        record.summary = raw.summary;
        let entry = UploadEntry::new(journal, record);
        entry.update(|_| {}).await;
        RawTransfer { raw_store: self.clone(), entry }
    }

    /// Removes the record of a raw file whose job is in the outbox.
    ///
    /// # Errors
    /// Where the disk of `state_dir` fails.
    pub async fn forget(&self, recording: &RecordingId) -> std::io::Result<()> {
        let path = self.shared.journal.path(recording.as_str());
        files::on_disk_within(RECORD_LIMIT, move || files::remove(&path)).await
    }

    /// Removes a raw file from the store, and its summary before it; what is not there is no error.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn remove(&self, key: &str) -> Result<(), StoreError> {
        let store = self.store().await?;
        for key in sidecars::all_of(key).iter().rev() {
            store.delete(key).await?;
        }
        Ok(())
    }
}

/// A raw file on its way into the store.
#[derive(Debug)]
pub struct RawTransfer {
    raw_store: RawStore,
    entry: UploadEntry,
}

impl RawTransfer {
    /// One attempt: returns once the store has confirmed the file, by size and checksum, and has its summary.
    ///
    /// # Errors
    /// See [`StoreError`]; the record says how far it came.
    pub async fn put(&self, stop: &CancellationToken) -> Result<(), StoreError> {
        let Shared { files, parts, url, .. } = &*self.raw_store.shared;
        let Some(Ok(_permit)) = stop.run_until_cancelled(files.acquire()).await else {
            return Err(StoreError::Stopped);
        };
        let store = self.raw_store.store().await?;
        if self.is_there(store).await? {
            return Ok(());
        }
        let began = Instant::now();
        let size = upload::deliver(store, &self.entry, parts, stop).await?;
        let record = self.entry.record();
        stop.run_until_cancelled(sidecars::put_texts(store, &record)).await.unwrap_or(Err(StoreError::Stopped))?;
        let stored = StoredObject { at: unix_ms(), size };
        let note = |record: &mut UploadRecord| {
            record.stored = Some(stored);
            (record.transfer, record.begun, record.next_try, record.last_error) = (None, false, None, None);
        };
        self.entry.update(note).await;
        let (took_s, failures) = (began.elapsed().as_secs_f64(), record.failures);
        tracing::info!(object = url.object(&record.key), size, took_s, failures, "the store has the raw file");
        Ok(())
    }

    /// Whether an earlier attempt has put this very file there.
    async fn is_there(&self, store: &Store) -> Result<bool, StoreError> {
        let record = self.entry.record();
        let Some(stored) = record.stored else { return Ok(false) };
        let is_it = store.head(&record.key).await?.is_some_and(|found| found.size == stored.size)
            && Source::look(&record.file).await?.size == stored.size;
        if !is_it {
            self.entry.update(|record| record.stored = None).await;
        }
        Ok(is_it)
    }

    /// Notes a failed attempt. `next_try`: Unix milliseconds.
    pub async fn note_failure(&self, why: &str, next_try: u64) {
        self.entry.note_failure(why, next_try).await;
    }

    /// Its job is in the outbox: nothing is left to be noted.
    pub async fn finish(self) {
        self.entry.remove().await;
    }
}
