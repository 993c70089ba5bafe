//! All recordings that are not there as HLS yet: a task for each, which goes on until it is made and the store has it, or an
//! operator drops it.
//!
//! ```text
//! MP4 in its place ── make (one at a time) ──► main_path ──► store, once that has the MP4 ──► record removed
//!   ▲                     │ fails                               │ fails
//!   └── tried again ◄─────┴─────────────────────────────────────┘   MP4 gone: let go
//! ```

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::codes;
use crate::hls::error::HlsError;
use crate::hls::live::publisher::{LiveHls, LiveRecording, LiveSettings};
use crate::hls::local_files;
use crate::hls::record::{HlsEntry, HlsRecord};
use crate::hls::settings::HlsSettings;
use crate::hls::steps::HlsSteps;
use crate::protocol::ids::{RecordingId, RoomId};
use crate::storage::durable_tasks::{Attempt, AttemptWaits, DurableTasks, DurableWork};
use crate::storage::record_writer::RecordWriter;
use crate::storage::{drop_request, files};
use crate::store::record::key_for;
use crate::store::sidecars::hls_dir;
use crate::telemetry::metrics::NodeGauge;

/// How often directories are looked for whose MP4 is gone.
const SWEEP: Duration = Duration::from_secs(60 * 60);
/// Time limit for looking through `main_path`.
const SWEEP_LIMIT: Duration = Duration::from_secs(300);

/// The recordings of a node that become HLS; clones share them.
#[derive(Clone)]
pub struct HlsRecordings {
    tasks: DurableTasks<HlsWork>,
    /// What of recordings that are published while they run goes on into stores.
    publications: TaskTracker,
    cancel: CancellationToken,
}

/// What the tasks of all recordings share.
struct HlsWork {
    settings: HlsSettings,
    making: Semaphore,
    /// Ends what goes on into a store of a recording that was published while it ran, by its id.
    live: Mutex<BTreeMap<String, CancellationToken>>,
    /// The node ends.
    cancel: CancellationToken,
}

impl std::fmt::Debug for HlsRecordings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HlsRecordings").field("config", &self.tasks.work().settings.config).finish_non_exhaustive()
    }
}

impl HlsRecordings {
    /// `cancel`: the node ends; what is unfinished is left to the next start.
    #[must_use]
    pub fn new(settings: HlsSettings, cancel: CancellationToken) -> Self {
        let waits = AttemptWaits { first: settings.waits.first, longest: settings.waits.longest };
        let state_dir = settings.state_dir.clone();
        let (making, live) = (Semaphore::new(1), Mutex::default());
        let work = HlsWork { settings, making, live, cancel: cancel.clone() };
        let tasks = DurableTasks::new(work, state_dir, waits, cancel.clone());
        Self { tasks, publications: TaskTracker::new(), cancel }
    }

    /// Whether recordings become HLS.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.tasks.work().settings.config.is_some()
    }

    /// Publishes a recording that begins, whose MP4 will have this path relative to `main_path`. `None`: that is not wanted.
    #[must_use]
    pub fn publish(&self, recording: &RecordingId, room: &RoomId, file_path: &str) -> Option<LiveHls> {
        let HlsWork { settings, live, .. } = self.tasks.work();
        let config = settings.config.clone().filter(|config| config.live)?;
        let (stop_store, store) = (self.cancel.child_token(), settings.uploads.storage().deliver_for(room).cloned());
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
        Some(LiveHls::start(live, recording, &self.publications))
    }

    /// What writes the records.
    #[must_use]
    pub fn writer(&self) -> &RecordWriter {
        self.tasks.journal().writer()
    }

    /// Takes a recording on whose MP4 is in its place: its record is on disk when this returns, or the disk is late. An
    /// earlier one of this id ends.
    pub async fn add(&self, record: HlsRecord) {
        self.tasks.begin(record).await;
    }

    /// The recording with this name in a store is deleted: what is under way ends, and what of it is in `main_path` goes.
    pub async fn forget(&self, key: &str) {
        let found = self.tasks.records().into_iter().find(|(_, record)| record.key == key);
        if let Some((id, _)) = found
            && let Some(entry) = self.tasks.stop(&id).await
        {
            self.tasks.work().let_go(&entry).await;
            self.tasks.forget(&entry).await;
        }
    }

    /// Goes on with what an earlier run has left, and obeys orders, until the node ends.
    pub async fn run(self) {
        let sweeps = async {
            // What is being made has no MP4 to be found by.
            self.tasks.resumed().await;
            while self.is_wanted() {
                self.sweep().await;
                tokio::time::sleep(SWEEP).await;
            }
        };
        tokio::join!(self.tasks.clone().run(), self.cancel.run_until_cancelled(sweeps));
        self.publications.close();
        self.publications.wait().await;
    }

    /// Removes what has lost its MP4: the server deletes that alone.
    async fn sweep(&self) {
        let making = self.tasks.records().into_keys().collect();
        let store = self.tasks.work().settings.main_path.clone();
        let place = store.path().to_owned();
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HlsWork {
    /// `end_live`: see [`HlsSteps`].
    fn steps<'a>(
        &'a self,
        entry: &'a HlsEntry,
        stop: &'a CancellationToken,
        end_live: &'a (dyn Fn() + Send + Sync),
    ) -> Option<HlsSteps<'a>> {
        let config = self.settings.config.as_ref()?;
        Some(HlsSteps { settings: &self.settings, config, entry, making: &self.making, stop, end_live })
    }

    /// Has this task alone see to the HLS of a recording.
    fn end_live(&self, id: &str) {
        if let Some(stop) = lock(&self.live).remove(id) {
            stop.cancel();
        }
    }

    /// Removes what of a recording is in `main_path`; what fails is found by the next sweep.
    async fn let_go(&self, entry: &HlsEntry) {
        let Some(steps) = self.steps(entry, &self.cancel, &|| {}) else { return };
        if let Err(error) = steps.remove_local().await {
            warn_of_left(&entry.record().dir(), &error.to_string());
        }
    }
}

impl DurableWork for HlsWork {
    type Record = HlsRecord;
    type Error = HlsError;

    const TASK: &'static str = "hls";
    const DROP_REQUESTS: &'static str = drop_request::HLS;

    async fn attempt(&self, entry: &HlsEntry, stop: &CancellationToken) -> Attempt<HlsError> {
        let id = entry.record().recording_id;
        let end_live = || self.end_live(&id);
        let Some(steps) = self.steps(entry, stop, &end_live) else {
            tracing::info!("hls.renditions is not set any more: this recording does not become HLS");
            return Attempt::Done;
        };
        match steps.run().await {
            Ok(()) => Attempt::Done,
            Err(HlsError::WithoutMp4(why)) if !stop.is_cancelled() => {
                tracing::warn!(
                    code = %codes::HLS_WITHOUT_MP4, why,
                    "a recording does not become HLS: its MP4 is not there any more; where a script moves MP4s, have it copy them"
                );
                Attempt::Done
            }
            Err(HlsError::Stopped) => Attempt::Stopped,
            Err(error) => Attempt::Failed(error),
        }
    }

    fn log_failure(&self, record: &HlsRecord, wait: Duration, error: &HlsError) {
        tracing::error!(
            code = %codes::HLS_NOT_MADE, failures = record.failures, retry_s = wait.as_secs(), %error,
            "a recording is not there as HLS yet, and is tried until it is; {}", error.remedy()
        );
    }

    async fn give_up(&self, entry: &HlsEntry) {
        self.let_go(entry).await;
        tracing::warn!(
            code = %codes::HLS_DROPPED, recording_id = entry.record().recording_id,
            "an operator has dropped the HLS of a recording: there is its MP4 only"
        );
    }

    fn count(&self, records: &[HlsRecord]) {
        self.settings.metrics.set(NodeGauge::HlsWaiting, u32::try_from(records.len()).unwrap_or(u32::MAX));
    }
}

fn warn_of_left(dir: &str, error: &str) {
    tracing::warn!(
        code = %codes::HLS_NOT_REMOVED, dir, error,
        "the HLS of a recording that is not there any more cannot be removed; it is tried every hour"
    );
}
