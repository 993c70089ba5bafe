//! All files on their way into stores: a task for each ([`super::upload_task`]), taken up again at each start, and what
//! operators and the server ask of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::codes;
use crate::config::StorageConfig;
use crate::config::store_url::StoreUrl;
use crate::storage::files;
use crate::storage::journal::Journal;
use crate::storage::record_writer::RecordWriter;
use crate::store::drop_request;
use crate::store::error::StoreError;
use crate::store::handle::Store;
use crate::store::record::{DIR, UploadEntry, UploadRecord};
pub use crate::store::settings::{MakePictures, Tell, UploadSettings, UploadWaits};
use crate::store::upload_task::UploadContext;
use crate::telemetry::log_throttle::LogThrottle;
use crate::telemetry::metrics::NodeGauge;
use crate::unix_time::unix_ms;

/// How often orders of operators are looked for.
const POLL: Duration = Duration::from_secs(5);
/// How often it is looked whether the store has a recording.
const STORED_POLL: Duration = Duration::from_secs(1);
/// Time limit for reading the records and orders.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// The uploads of a node; clones share them.
#[derive(Clone)]
pub struct Uploads {
    shared: Arc<Shared>,
}

struct Shared {
    context: UploadContext,
    journal: Journal<UploadRecord>,
    /// By the ids of their records.
    running: Mutex<BTreeMap<String, RunningUpload>>,
    tasks: TaskTracker,
}

#[derive(Clone)]
struct RunningUpload {
    entry: UploadEntry,
    /// Ends its task; the record stays.
    stop: CancellationToken,
    ended: CancellationToken,
}

impl std::fmt::Debug for Uploads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uploads").field("stores", &self.shared.context.stores).finish_non_exhaustive()
    }
}

impl Uploads {
    /// `cancel`: the node ends; what is unfinished is left to the next start.
    #[must_use]
    pub fn new(settings: UploadSettings, cancel: CancellationToken) -> Self {
        let journal = Journal::new(settings.state_dir.join(DIR), "uploads");
        let context = UploadContext::new(settings, cancel);
        let shared = Shared { context, journal, running: Mutex::default(), tasks: TaskTracker::new() };
        Self { shared: Arc::new(shared) }
    }

    /// The configuration of the stores.
    #[must_use]
    pub fn storage(&self) -> &StorageConfig {
        &self.shared.context.settings.storage
    }

    /// Where an object is that the server was told of: in which store, and its name there. `None`: in none into which
    /// this node delivers.
    #[must_use]
    pub fn of_object(&self, object: &str) -> Option<(&StoreUrl, String)> {
        self.shared.context.stores.of_object(object)
    }

    /// Files that their stores do not have yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.waiting().len()
    }

    /// What writes the records.
    #[must_use]
    pub fn writer(&self) -> &RecordWriter {
        self.shared.journal.writer()
    }

    /// A configured store.
    ///
    /// # Errors
    /// Where its client cannot be made.
    pub async fn store(&self, url: &StoreUrl) -> Result<&Store, StoreError> {
        self.shared.context.stores.open(&url.to_string()).await
    }

    /// Takes a file on: its record is on disk when this returns, or the disk is late. An earlier one of this id ends.
    pub async fn add(&self, mut record: UploadRecord) {
        let id = record.id();
        if let Some(earlier) = self.stop(&id).await {
            // Its parts may be those of this very file; else they are given up.
            let known = earlier.record();
            if known.store == record.store && known.key == record.key {
                (record.begun, record.transfer) = (known.begun, known.transfer);
            } else {
                self.shared.context.abort(&earlier).await;
            }
        }
        let entry = UploadEntry::new(&self.shared.journal, record);
        entry.update(|_| {}).await;
        self.start(&id, entry);
    }

    /// Waits until the store has this recording, or it is not on its way any more.
    pub async fn wait_until_stored(&self, id: &str) {
        while self.is_waiting(id).await {
            tokio::time::sleep(STORED_POLL).await;
        }
    }

    async fn is_waiting(&self, id: &str) -> bool {
        let running = self.shared.running().get(id).cloned();
        if let Some(running) = running {
            return running.entry.record().stored.is_none();
        }
        // It may not be resumed yet.
        let (journal, path) = (self.shared.journal.clone(), self.shared.journal.path(id));
        match files::on_disk_within(READ_LIMIT, move || journal.read(&path)).await {
            Ok(record) => record.is_some_and(|record| record.stored.is_none()),
            Err(_) => true,
        }
    }

    /// The recording of this object is deleted: its upload ends, and the local file that waited to be removed goes.
    ///
    /// # Errors
    /// Where the disk of `main_path` fails.
    pub async fn forget(&self, store: &StoreUrl, key: &str) -> Result<(), StoreError> {
        // One that the store does not have yet is none that the server can ask for.
        let of_object = |running: &RunningUpload| {
            let record = running.entry.record();
            record.key == key && record.store == store.to_string() && record.stored.is_some()
        };
        let id = self.shared.running().iter().find(|(_, running)| of_object(running)).map(|(id, _)| id.clone());
        let Some(id) = id else { return Ok(()) };
        let Some(entry) = self.stop(&id).await else { return Ok(()) };
        let record = entry.record();
        // A file that the server knows by its own path is the server's to delete.
        if record.keep_s.is_some() && record.told {
            let (main_path, mp4) = (self.shared.context.settings.main_path.clone(), record.file.clone());
            let remove = move || {
                main_path.check().map_err(std::io::Error::other)?;
                files::remove(&mp4)
            };
            let removed = files::on_disk_within(READ_LIMIT, remove).await;
            if let Err(error) = removed {
                self.start(&id, entry);
                return Err(StoreError::local(format!("removing {}", record.file.display()))(error));
            }
        }
        entry.remove().await;
        self.shared.count();
        Ok(())
    }

    /// Goes on with what an earlier run has left, and obeys orders, until the node ends.
    pub async fn run(self) {
        let shared = &self.shared;
        let cancel = &shared.context.cancel;
        if cancel.run_until_cancelled(self.resume()).await.is_some() {
            let mut ticks = tokio::time::interval(POLL);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while cancel.run_until_cancelled(ticks.tick()).await.is_some() {
                self.obey().await;
                shared.count();
            }
        }
        shared.tasks.close();
        shared.tasks.wait().await;
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
                            self.start(&id, UploadEntry::new(&self.shared.journal, record));
                        }
                    }
                    let Some((path, error)) = content.unread.into_iter().next() else { return };
                    format!("{}: {error}", path.display())
                }
                Err(error) => error.to_string(),
            };
            if throttle.due(Instant::now()) {
                tracing::error!(
                    code = %codes::UPLOAD_RECORDS_UNREAD, why = unread,
                    "the records of uploads cannot be read: what an earlier run has left waits; look at the disk of recorder.state_dir"
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn start(&self, id: &str, entry: UploadEntry) {
        let (stop, ended) = (self.shared.context.cancel.child_token(), CancellationToken::new());
        let running = RunningUpload { entry: entry.clone(), stop: stop.clone(), ended: ended.clone() };
        self.shared.running().insert(id.to_owned(), running);
        self.shared.count();
        let record = entry.record();
        let span = tracing::info_span!(
            "recording",
            recording_id = record.recording_id,
            room_id = record.room_id,
            task = "upload"
        );
        let (shared, id) = (Arc::clone(&self.shared), id.to_owned());
        let task = async move {
            let _ended = ended.drop_guard();
            if shared.context.see_through(&entry, &stop).await {
                entry.remove().await;
                shared.running().remove(&id);
                shared.count();
            }
        };
        self.shared.tasks.spawn(task.instrument(span));
    }

    /// Ends the task of an upload; its record stays.
    async fn stop(&self, id: &str) -> Option<UploadEntry> {
        let running = self.shared.running().get(id).cloned()?;
        running.stop.cancel();
        running.ended.cancelled().await;
        // It may have come to its end.
        self.shared.running().remove(id).map(|running| running.entry)
    }

    /// Carries out what operators ask.
    async fn obey(&self) {
        let state_dir = self.shared.context.settings.state_dir.clone();
        let dir = state_dir.clone();
        let Ok(ids) = files::on_disk_within(READ_LIMIT, move || drop_request::all(&dir, drop_request::UPLOADS)).await
        else {
            return;
        };
        for id in ids {
            let of_recording = |running: &RunningUpload| running.entry.record().recording_id == id;
            let found: Vec<String> = {
                let running = self.shared.running();
                running.iter().filter(|(_, running)| of_recording(running)).map(|(id, _)| id.clone()).collect()
            };
            for upload in found {
                let Some(entry) = self.stop(&upload).await else { continue };
                self.shared.context.let_go(&entry).await;
                let file = entry.record().file;
                tracing::warn!(
                    code = %codes::UPLOAD_DROPPED, recording_id = id, file = %file.display(),
                    "an operator has dropped the delivery of a recording: its file stays where it is, in main_path"
                );
                entry.remove().await;
                self.shared.count();
            }
            let (dir, id) = (state_dir.clone(), id.clone());
            // One that stays is carried out again, which changes nothing.
            let _ =
                files::on_disk_within(READ_LIMIT, move || drop_request::remove(&dir, drop_request::UPLOADS, &id)).await;
        }
    }
}

impl Shared {
    fn running(&self) -> MutexGuard<'_, BTreeMap<String, RunningUpload>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When each was added that its store does not have yet.
    fn waiting(&self) -> Vec<u64> {
        let records: Vec<_> = self.running().values().map(|running| running.entry.record()).collect();
        records.iter().filter(|record| record.stored.is_none()).map(|record| record.added_at).collect()
    }

    /// Sets the numbers of those that their stores do not have yet.
    fn count(&self) {
        let waiting = self.waiting();
        let oldest = waiting.iter().min().map_or(0, |oldest| unix_ms().saturating_sub(*oldest));
        let metrics = &self.context.settings.metrics;
        metrics.set(NodeGauge::UploadsWaiting, u32::try_from(waiting.len()).unwrap_or(u32::MAX));
        metrics.set(NodeGauge::UploadsOldestAge, Duration::from_millis(oldest).as_secs_f64());
    }
}
