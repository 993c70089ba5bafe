//! All recordings on their way into the store: a task for each, which goes on until the store has the MP4 and the server is
//! told, or an operator drops it.
//!
//! ```text
//! upload ── fails ──► waits, tried again for ever
//!   │ confirmed
//! told (where the server does not know of the local file) ──► local file: kept, or removed when its time is over,
//!                                                             its job is acknowledged and the store still has the object
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OnceCell, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::codes;
use crate::config::store_url::StoreUrl;
use crate::retry::Backoff;
use crate::storage::files;
use crate::storage::journal::Journal;
use crate::storage::record_writer::RecordWriter;
use crate::store::drop_request;
use crate::store::error::StoreError;
use crate::store::handle::Store;
use crate::store::record::{DIR, StoredObject, UploadEntry, UploadRecord};
pub use crate::store::settings::{Tell, UploadSettings, UploadWaits};
use crate::store::{local_file, sidecars, upload};
use crate::telemetry::log_throttle::LogThrottle;
use crate::telemetry::metrics::NodeGauge;
use crate::unix_time::unix_ms;

/// Files on the line at once.
const FILES_AT_ONCE: usize = 2;
/// Parts of all of them in memory at once.
const PARTS_AT_ONCE: usize = 4;
/// How often orders of operators are looked for.
const POLL: Duration = Duration::from_secs(5);
/// How long the store may take to give up what is dropped.
const ABORT_LIMIT: Duration = Duration::from_secs(20);
/// Between two attempts to have messages on disk.
const TELL_WAIT: Duration = Duration::from_secs(5);
/// Time limit for reading the records and orders.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// The uploads of a node; clones share them.
#[derive(Clone)]
pub struct Uploads {
    shared: Arc<Shared>,
}

struct Shared {
    settings: UploadSettings,
    store: OnceCell<Store>,
    journal: Journal<UploadRecord>,
    running: Mutex<BTreeMap<String, RunningUpload>>,
    files: Semaphore,
    parts: Semaphore,
    tasks: TaskTracker,
    cancel: CancellationToken,
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
        f.debug_struct("Uploads").field("url", &self.shared.settings.url).finish_non_exhaustive()
    }
}

impl Uploads {
    /// `cancel`: the node ends; what is unfinished is left to the next start.
    #[must_use]
    pub fn new(settings: UploadSettings, cancel: CancellationToken) -> Self {
        let journal = Journal::new(settings.state_dir.join(DIR), "uploads");
        let shared = Shared {
            settings,
            store: OnceCell::new(),
            journal,
            running: Mutex::default(),
            files: Semaphore::new(FILES_AT_ONCE),
            parts: Semaphore::new(PARTS_AT_ONCE),
            tasks: TaskTracker::new(),
            cancel,
        };
        Self { shared: Arc::new(shared) }
    }

    /// `storage.deliver`.
    #[must_use]
    pub fn url(&self) -> Option<&StoreUrl> {
        self.shared.settings.url.as_ref()
    }

    /// Recordings that the store does not have yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.waiting().len()
    }

    /// What writes the records.
    #[must_use]
    pub fn writer(&self) -> &RecordWriter {
        self.shared.journal.writer()
    }

    /// The store of `storage.deliver`.
    ///
    /// # Errors
    /// Where none is configured, or its client cannot be made.
    pub async fn store(&self) -> Result<&Store, StoreError> {
        self.shared.store().await
    }

    /// Takes a recording on: its record is on disk when this returns, or the disk is late. An earlier one of this id ends.
    pub async fn add(&self, mut record: UploadRecord) {
        let id = record.recording_id.clone();
        if let Some(earlier) = self.stop(&id).await {
            // Its parts may be those of this very file; else they are given up.
            let earlier = earlier.record();
            (record.begun, record.transfer) = (earlier.begun, earlier.transfer);
        }
        let entry = UploadEntry::new(&self.shared.journal, record);
        entry.update(|_| {}).await;
        self.start(&id, entry);
    }

    /// The recording of this object is deleted: its upload ends, and the local file that waited to be removed goes.
    ///
    /// # Errors
    /// Where the disk of `main_path` fails.
    pub async fn forget(&self, key: &str) -> Result<(), StoreError> {
        // One that the store does not have yet is none that the server can ask for.
        let of_key = |running: &RunningUpload| {
            let record = running.entry.record();
            record.key == key && record.stored.is_some()
        };
        let id = self.shared.running().iter().find(|(_, running)| of_key(running)).map(|(id, _)| id.clone());
        let Some(id) = id else { return Ok(()) };
        let Some(entry) = self.stop(&id).await else { return Ok(()) };
        let record = entry.record();
        // A file that the server knows by its own path is the server's to delete.
        if record.keep_s.is_some() && record.told {
            let (main_path, mp4) = (self.shared.settings.main_path.clone(), record.mp4.clone());
            let remove = move || {
                main_path.check().map_err(std::io::Error::other)?;
                files::remove(&mp4)
            };
            let removed = files::on_disk_within(READ_LIMIT, remove).await;
            if let Err(error) = removed {
                self.start(&id, entry);
                return Err(StoreError::local(format!("removing {}", record.mp4.display()))(error));
            }
        }
        entry.remove().await;
        self.shared.count();
        Ok(())
    }

    /// Goes on with what an earlier run has left, and obeys orders, until the node ends.
    pub async fn run(self) {
        let shared = &self.shared;
        if shared.cancel.run_until_cancelled(self.resume()).await.is_some() {
            let mut ticks = tokio::time::interval(POLL);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while shared.cancel.run_until_cancelled(ticks.tick()).await.is_some() {
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
                        let id = record.recording_id.clone();
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
        let (stop, ended) = (self.shared.cancel.child_token(), CancellationToken::new());
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
            if shared.see_through(&entry, &stop).await {
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
        let state_dir = self.shared.settings.state_dir.clone();
        let dir = state_dir.clone();
        let Ok(ids) = files::on_disk_within(READ_LIMIT, move || drop_request::all(&dir, drop_request::UPLOADS)).await
        else {
            return;
        };
        for id in ids {
            if let Some(entry) = self.stop(&id).await {
                self.shared.let_go(&entry).await;
                tracing::warn!(
                    code = %codes::UPLOAD_DROPPED, recording_id = id,
                    "an operator has dropped the delivery of a recording: its MP4 stays where it is, in main_path"
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

    /// When each was added that the store does not have yet.
    fn waiting(&self) -> Vec<u64> {
        let records: Vec<_> = self.running().values().map(|running| running.entry.record()).collect();
        records.iter().filter(|record| record.stored.is_none()).map(|record| record.added_at).collect()
    }

    /// Sets the numbers of those that the store does not have yet.
    fn count(&self) {
        let waiting = self.waiting();
        let oldest = waiting.iter().min().map_or(0, |oldest| unix_ms().saturating_sub(*oldest));
        self.settings.metrics.set(NodeGauge::UploadsWaiting, u32::try_from(waiting.len()).unwrap_or(u32::MAX));
        self.settings.metrics.set(NodeGauge::UploadsOldestAge, Duration::from_millis(oldest).as_secs_f64());
    }

    async fn store(&self) -> Result<&Store, StoreError> {
        let open = async {
            let url =
                self.settings.url.clone().ok_or_else(|| StoreError::Setup("storage.deliver is not set".to_owned()))?;
            let times = self.settings.waits.times;
            // Reads certificates.
            tokio::task::spawn_blocking(move || Store::open_with(&url, times)).await.map_err(|_| StoreError::Stopped)?
        };
        self.store.get_or_try_init(|| open).await
    }

    /// Tries until it is done; false: the node ends, or the upload is taken away.
    async fn see_through(&self, entry: &UploadEntry, stop: &CancellationToken) -> bool {
        let (mut backoff, mut throttle) =
            (Backoff::new(self.settings.waits.first, self.settings.waits.longest), LogThrottle::default());
        let Some(url) = self.settings.url.clone() else {
            self.let_go(entry).await;
            return true;
        };
        loop {
            let error = match self.go_on(entry, &url, stop).await {
                Ok(()) => return true,
                Err(StoreError::Stopped) => return false,
                Err(error) => error,
            };
            if stop.is_cancelled() {
                return false;
            }
            let wait = backoff.wait();
            let retry_s = wait.as_secs();
            let next = unix_ms().saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
            entry.note_failure(&error.to_string(), next).await;
            if throttle.due(Instant::now()) {
                tracing::error!(
                    code = %codes::NOT_IN_THE_STORE, store = %url, failures = entry.record().failures, retry_s, %error,
                    "a recording is not in the store of storage.deliver yet, and is tried until it is; {}", error.remedy()
                );
            }
            if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return false;
            }
        }
    }

    /// The steps that are left.
    async fn go_on(&self, entry: &UploadEntry, url: &StoreUrl, stop: &CancellationToken) -> Result<(), StoreError> {
        let record = entry.record();
        let store = self.store().await?;
        if record.stored.is_none() {
            if record.store != url.to_string() {
                // An upload in another store that is configured no more cannot be given up from here.
                let at = url.to_string();
                entry.update(|record| (record.store, record.transfer, record.begun) = (at, None, false)).await;
            }
            let permit = stop.run_until_cancelled(self.files.acquire()).await;
            let Some(Ok(_permit)) = permit else { return Err(StoreError::Stopped) };
            let began = Instant::now();
            let size = upload::deliver(store, entry, &self.parts, stop).await?;
            let sidecars = sidecars::put(store, &record);
            stop.run_until_cancelled(sidecars).await.unwrap_or(Err(StoreError::Stopped))?;
            let stored = StoredObject { at: unix_ms(), size };
            let note = |record: &mut UploadRecord| {
                record.stored = Some(stored);
                (record.transfer, record.begun, record.next_try, record.last_error) = (None, false, None, None);
            };
            entry.update(note).await;
            self.count();
            let (took_s, failures) = (began.elapsed().as_secs_f64(), record.failures);
            tracing::info!(object = url.object(&record.key), size, took_s, failures, "the store has the recording");
        }
        self.tell(entry, &entry.record(), |record| url.object(&record.key)).await?;
        local_file::finish(store, entry, &self.settings.main_path, &self.settings.state_dir, stop).await
    }

    /// Gives an upload up: what the store has of it is removed, and the server is told of the local file.
    async fn let_go(&self, entry: &UploadEntry) {
        let record = entry.record();
        let here = self.settings.url.as_ref().is_some_and(|url| url.to_string() == record.store);
        if here && record.stored.is_none() {
            let abort = async { upload::abort(self.store().await?, entry).await };
            let aborted = tokio::time::timeout(ABORT_LIMIT, abort).await.unwrap_or(Err(StoreError::Late(ABORT_LIMIT)));
            if let Err(error) = aborted {
                upload::warn_of_strays(&record.key, &error);
            }
        }
        let local =
            |record: &UploadRecord| record.notice.as_ref().map(|notice| notice.local_path.clone()).unwrap_or_default();
        while self.tell(entry, &record, local).await.is_err() {
            // They are in memory, and are on disk when it answers.
            if self.cancel.run_until_cancelled(tokio::time::sleep(TELL_WAIT)).await.is_none() {
                return;
            }
        }
    }

    /// Has the server told where the MP4 is, unless it was.
    ///
    /// # Errors
    /// Where the messages are not on disk: with the record a crash would lose them.
    async fn tell(
        &self,
        entry: &UploadEntry,
        record: &UploadRecord,
        path: impl Fn(&UploadRecord) -> String,
    ) -> Result<(), StoreError> {
        // The ids were checked when the record was read.
        let notices = record.notices(&path(record)).unwrap_or_default();
        if notices.is_empty() {
            return Ok(());
        }
        if !(self.settings.tell)(notices).await {
            let late = std::io::Error::other("the disk has not taken them yet");
            return Err(StoreError::local("the messages for the server, in recorder.state_dir")(late));
        }
        entry.update(|record| record.told = true).await;
        Ok(())
    }
}
