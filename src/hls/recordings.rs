//! All recordings that are not there as HLS yet: a task for each, which goes on until it is made and the store has it, or an
//! operator drops it.
//!
//! ```text
//! MP4 in its place ── make (one at a time) ──► main_path ──► store, once that has the MP4 ──► record removed
//!   ▲                     │ fails                               │ fails
//!   └── tried again ◄─────┴─────────────────────────────────────┘   MP4 gone: let go
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::codes;
use crate::hls::error::HlsError;
use crate::hls::live::publisher::{LiveHls, LiveRecording, LiveSettings};
use crate::hls::local_files;
use crate::hls::record::{DIR, HlsEntry, HlsRecord};
use crate::hls::settings::HlsSettings;
use crate::hls::steps::HlsSteps;
use crate::protocol::ids::{RecordingId, RoomId};
use crate::retry::Backoff;
use crate::storage::files;
use crate::storage::journal::Journal;
use crate::storage::record_writer::RecordWriter;
use crate::store::drop_request;
use crate::store::record::key_for;
use crate::store::sidecars::hls_dir;
use crate::telemetry::log_throttle::LogThrottle;
use crate::telemetry::metrics::NodeGauge;
use crate::unix_time::unix_ms;

/// How often orders of operators are looked for.
const POLL: Duration = Duration::from_secs(5);
/// How often directories are looked for whose MP4 is gone.
const SWEEP: Duration = Duration::from_secs(60 * 60);
/// Time limit for reading the records and orders.
const READ_LIMIT: Duration = Duration::from_secs(10);
/// Time limit for looking through `main_path`.
const SWEEP_LIMIT: Duration = Duration::from_secs(300);

/// The recordings of a node that become HLS; clones share them.
#[derive(Clone)]
pub struct HlsRecordings {
    shared: Arc<Shared>,
}

struct Shared {
    settings: HlsSettings,
    journal: Journal<HlsRecord>,
    /// Ends what goes on into a store of a recording that was published while it ran, by its id.
    live: Mutex<BTreeMap<String, CancellationToken>>,
    running: Mutex<BTreeMap<String, RunningHls>>,
    making: Semaphore,
    tasks: TaskTracker,
    cancel: CancellationToken,
}

#[derive(Clone)]
struct RunningHls {
    entry: HlsEntry,
    /// Ends its task; the record stays.
    stop: CancellationToken,
    ended: CancellationToken,
}

impl std::fmt::Debug for HlsRecordings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HlsRecordings").field("config", &self.shared.settings.config).finish_non_exhaustive()
    }
}

impl HlsRecordings {
    /// `cancel`: the node ends; what is unfinished is left to the next start.
    #[must_use]
    pub fn new(settings: HlsSettings, cancel: CancellationToken) -> Self {
        let journal = Journal::new(settings.state_dir.join(DIR), "recordings that become HLS");
        let (running, tasks) = (Mutex::default(), TaskTracker::new());
        let (making, live) = (Semaphore::new(1), Mutex::default());
        Self { shared: Arc::new(Shared { settings, journal, live, running, making, tasks, cancel }) }
    }

    /// Whether recordings become HLS.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.shared.settings.config.is_some()
    }

    /// Publishes a recording that begins, whose MP4 will have this path relative to `main_path`. `None`: that is not wanted.
    #[must_use]
    pub fn publish(&self, recording: &RecordingId, room: &RoomId, file_path: &str) -> Option<LiveHls> {
        let Shared { settings, live, tasks, cancel, .. } = &*self.shared;
        let config = settings.config.clone().filter(|config| config.live)?;
        let (stop_store, store) = (cancel.child_token(), settings.uploads.storage().deliver_for(room).cloned());
        if store.is_some() {
            let mut live = lock(live);
            live.retain(|_, stop| !stop.is_cancelled());
            live.insert(recording.to_string(), stop_store.clone());
        }
        let recording = LiveRecording { dir: hls_dir(&key_for(file_path)), store, stop_store };
        let live = LiveSettings {
            config,
            copies: settings.keyframes,
            encoding: settings.encoding.clone(),
            node: settings.recorder_id.to_string(),
            main_path: settings.main_path.clone(),
            uploads: settings.uploads.clone(),
            limit: settings.waits.behind,
        };
        Some(LiveHls::start(live, recording, tasks))
    }

    /// What writes the records.
    #[must_use]
    pub fn writer(&self) -> &RecordWriter {
        self.shared.journal.writer()
    }

    /// Takes a recording on whose MP4 is in its place: its record is on disk when this returns, or the disk is late. An
    /// earlier one of this id ends.
    pub async fn add(&self, record: HlsRecord) {
        let id = record.recording_id.clone();
        self.stop(&id).await;
        let entry = HlsEntry::new(&self.shared.journal, record);
        entry.update(|_| {}).await;
        self.start(&id, entry);
    }

    /// The recording with this name in a store is deleted: what is under way ends, and what of it is in `main_path` goes.
    pub async fn forget(&self, key: &str) {
        let of_key = |running: &RunningHls| running.entry.record().key == key;
        let id = self.shared.running().iter().find(|(_, running)| of_key(running)).map(|(id, _)| id.clone());
        if let Some(id) = id
            && let Some(entry) = self.stop(&id).await
        {
            self.shared.let_go(&entry).await;
            entry.remove().await;
            self.shared.count();
        }
    }

    /// Goes on with what an earlier run has left, and obeys orders, until the node ends.
    pub async fn run(self) {
        let shared = &self.shared;
        if shared.cancel.run_until_cancelled(self.resume()).await.is_some() {
            let mut ticks = tokio::time::interval(POLL);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let mut swept: Option<Instant> = None;
            while shared.cancel.run_until_cancelled(ticks.tick()).await.is_some() {
                self.obey().await;
                shared.count();
                if self.is_wanted() && swept.is_none_or(|at| at.elapsed() >= SWEEP) {
                    swept = Some(Instant::now());
                    shared.cancel.run_until_cancelled(shared.sweep()).await;
                }
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
                            self.start(&id, HlsEntry::new(&self.shared.journal, record));
                        }
                    }
                    let Some((path, error)) = content.unread.into_iter().next() else { return };
                    format!("{}: {error}", path.display())
                }
                Err(error) => error.to_string(),
            };
            if throttle.due(Instant::now()) {
                tracing::error!(
                    code = %codes::HLS_RECORDS_UNREAD, why = unread,
                    "the records of recordings that become HLS cannot be read: what an earlier run has left waits; look at the \
                     disk of recorder.state_dir"
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn start(&self, id: &str, entry: HlsEntry) {
        let (stop, ended) = (self.shared.cancel.child_token(), CancellationToken::new());
        let running = RunningHls { entry: entry.clone(), stop: stop.clone(), ended: ended.clone() };
        self.shared.running().insert(id.to_owned(), running);
        self.shared.count();
        let record = entry.record();
        let span = tracing::info_span!(
            "recording",
            recording_id = record.recording_id,
            room_id = record.room_id,
            task = "hls"
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

    /// Ends the task of a recording; its record stays.
    async fn stop(&self, id: &str) -> Option<HlsEntry> {
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
        let asked = move || drop_request::all(&dir, drop_request::HLS);
        let Ok(ids) = files::on_disk_within(READ_LIMIT, asked).await else { return };
        for id in ids {
            if let Some(entry) = self.stop(&id).await {
                self.shared.let_go(&entry).await;
                tracing::warn!(
                    code = %codes::HLS_DROPPED, recording_id = id,
                    "an operator has dropped the HLS of a recording: there is its MP4 only"
                );
                entry.remove().await;
                self.shared.count();
            }
            let dir = state_dir.clone();
            // One that stays is carried out again, which changes nothing.
            let _ = files::on_disk_within(READ_LIMIT, move || drop_request::remove(&dir, drop_request::HLS, &id)).await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn running(&self) -> MutexGuard<'_, BTreeMap<String, RunningHls>> {
        lock(&self.running)
    }

    /// Has this task alone see to the HLS of a recording.
    fn end_live(&self, id: &str) {
        if let Some(stop) = lock(&self.live).remove(id) {
            stop.cancel();
        }
    }

    fn count(&self) {
        let waiting = self.running().len();
        self.settings.metrics.set(NodeGauge::HlsWaiting, u32::try_from(waiting).unwrap_or(u32::MAX));
    }

    /// Tries until it is done; false: the node ends, or the recording is taken away.
    async fn see_through(&self, entry: &HlsEntry, stop: &CancellationToken) -> bool {
        let (mut backoff, mut throttle) =
            (Backoff::new(self.settings.waits.first, self.settings.waits.longest), LogThrottle::default());
        let Some(config) = &self.settings.config else {
            tracing::info!("hls.renditions is not set any more: this recording does not become HLS");
            return true;
        };
        let id = entry.record().recording_id;
        let end_live = || self.end_live(&id);
        let steps =
            HlsSteps { settings: &self.settings, config, entry, making: &self.making, stop, end_live: &end_live };
        loop {
            let error = match steps.run().await {
                Ok(()) => return true,
                Err(HlsError::Stopped) => return false,
                Err(error) => error,
            };
            if stop.is_cancelled() {
                return false;
            }
            if let HlsError::WithoutMp4(why) = &error {
                tracing::warn!(
                    code = %codes::HLS_WITHOUT_MP4, why,
                    "a recording does not become HLS: its MP4 is not there any more; where a script moves MP4s, have it copy them"
                );
                return true;
            }
            let wait = backoff.wait();
            let retry_s = wait.as_secs();
            let next = unix_ms().saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
            entry.note_failure(&error.to_string(), next).await;
            if throttle.due(Instant::now()) {
                tracing::error!(
                    code = %codes::HLS_NOT_MADE, failures = entry.record().failures, retry_s, %error,
                    "a recording is not there as HLS yet, and is tried until it is; {}", error.remedy()
                );
            }
            if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return false;
            }
        }
    }

    /// Removes what of a recording is in `main_path`; what fails is found by the next sweep.
    async fn let_go(&self, entry: &HlsEntry) {
        let Some(config) = &self.settings.config else { return };
        let (making, stop) = (&self.making, &self.cancel);
        let steps = HlsSteps { settings: &self.settings, config, entry, making, stop, end_live: &|| {} };
        if let Err(error) = steps.remove_local().await {
            warn_of_left(&entry.record().dir(), &error.to_string());
        }
    }

    /// Removes what has lost its MP4: the server deletes that alone.
    async fn sweep(&self) {
        let making: BTreeSet<String> = self.running().keys().cloned().collect();
        let (store, place) = (self.settings.main_path.clone(), self.settings.main_path.path().to_owned());
        let sweep = move || {
            let mut left = Vec::new();
            let found = local_files::without_mp4(&store, &making)?;
            for dir in &found {
                let unfinished = dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
                let removed = if unfinished { std::fs::remove_dir_all(dir) } else { local_files::remove(&store, dir) };
                left.extend(removed.err().map(|error| (dir.display().to_string(), error.to_string())));
            }
            Ok((found.len() - left.len(), left))
        };
        match files::on_disk_within(SWEEP_LIMIT, sweep).await {
            Ok((removed, left)) => {
                if removed > 0 {
                    tracing::info!(removed, "the HLS of recordings is removed whose MP4 is not there any more");
                }
                for (dir, error) in left {
                    warn_of_left(&dir, &error);
                }
            }
            // A main_path that is away is told of elsewhere.
            Err(error) => tracing::debug!(main_path = %place.display(), %error, "HLS without MP4 was not looked for"),
        }
    }
}

fn warn_of_left(dir: &str, error: &str) {
    tracing::warn!(
        code = %codes::HLS_NOT_REMOVED, dir, error,
        "the HLS of a recording that is not there any more cannot be removed; it is tried every hour"
    );
}
