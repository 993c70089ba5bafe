//! The task of one upload, until the store has the file and the server is told, or an operator drops it.
//!
//! ```text
//! upload ── fails ──► waits, tried again for ever
//!   │ confirmed
//! told (where the server does not know of the local file) ──► poster and thumbnails
//!   ──► local file: kept, or removed when its time is over, its job is acknowledged and the store still has the object
//! ```

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::codes;
use crate::config::store_url::StoreUrl;
use crate::protocol::ids::RoomId;
use crate::storage::durable_tasks::{Attempt, DurableWork};
use crate::storage::{drop_request, files};
use crate::store::error::StoreError;
use crate::store::handle::Store;
use crate::store::record::{StoredObject, UploadEntry, UploadKind, UploadRecord};
use crate::store::settings::UploadSettings;
use crate::store::stores::Stores;
use crate::store::{local_file, sidecars, upload};
use crate::telemetry::metrics::NodeGauge;
use crate::unix_time::unix_ms;

/// MP4s on the line at once.
const MP4S_AT_ONCE: usize = 2;
/// Raw files on the line at once: they are large, and nobody waits for them.
const RAWS_AT_ONCE: usize = 1;
/// Parts of all of them in memory at once.
const PARTS_AT_ONCE: usize = 4;
/// MP4s of which pictures are made at once.
const PICTURES_AT_ONCE: usize = 1;
/// How long the store may take to give up what is dropped.
const ABORT_LIMIT: Duration = Duration::from_secs(20);
/// Between two attempts to have messages on disk.
const TELL_WAIT: Duration = Duration::from_secs(5);
/// How long the end of the program waits for a store, or for what makes pictures, that does not heed it.
const END_GRACE: Duration = Duration::from_secs(3);
/// Time limit for looking at a file of `main_path`.
const LOOK_LIMIT: Duration = Duration::from_secs(10);

/// What the tasks of all uploads share.
pub(super) struct UploadContext {
    pub settings: UploadSettings,
    pub stores: Stores,
    /// The node ends.
    pub cancel: CancellationToken,
    mp4s: Semaphore,
    raws: Semaphore,
    parts: Semaphore,
    pictures: Semaphore,
}

impl UploadContext {
    pub fn new(settings: UploadSettings, cancel: CancellationToken) -> Self {
        Self {
            stores: Stores::new(&settings.storage, settings.waits.times),
            settings,
            cancel,
            mp4s: Semaphore::new(MP4S_AT_ONCE),
            raws: Semaphore::new(RAWS_AT_ONCE),
            parts: Semaphore::new(PARTS_AT_ONCE),
            pictures: Semaphore::new(PICTURES_AT_ONCE),
        }
    }

    /// Where the file goes: into the store that its record names, else, where that is configured no more, into the one
    /// that is configured now. `None`: nowhere.
    fn destination(&self, record: &UploadRecord) -> Option<&StoreUrl> {
        if let Some(url) = self.stores.url(&record.store) {
            return Some(url);
        }
        let storage = &self.settings.storage;
        match (record.stored, record.kind) {
            (Some(_), _) => None,
            // It was checked when the record was read.
            (None, UploadKind::Mp4) => storage.deliver_for(&RoomId::parse(&record.room_id).ok()?),
            (None, UploadKind::Raw) => storage.fail.as_ref(),
        }
    }

    /// The steps that are left.
    async fn go_on(&self, entry: &UploadEntry, stop: &CancellationToken) -> Result<(), StoreError> {
        let Some(url) = self.destination(&entry.record()).cloned() else {
            self.let_go(entry).await;
            return Ok(());
        };
        let record = entry.record();
        let store = self.stores.open(&url.to_string()).await?;
        if record.kind == UploadKind::Raw && record.stored.is_none() && self.is_gone(&record).await {
            tracing::warn!(
                code = %codes::RAW_NOT_COPIED, raw = %record.file.display(),
                "a raw file that could not be transcoded is not there any more: it is not copied into storage.fail"
            );
            self.let_go(entry).await;
            return Ok(());
        }
        if record.stored.is_none() {
            self.upload(entry, store, stop).await?;
        }
        self.tell(entry, &entry.record(), |record| url.object(&record.key)).await?;
        self.add_pictures(entry, store, stop).await?;
        local_file::finish(store, entry, &self.settings.main_path, &self.settings.state_dir, stop).await
    }

    async fn upload(&self, entry: &UploadEntry, store: &Store, stop: &CancellationToken) -> Result<(), StoreError> {
        let url = store.url();
        if entry.record().store != url.to_string() {
            // An upload in another store that is configured no more cannot be given up from here.
            let at = url.to_string();
            entry.update(|record| (record.store, record.transfer, record.begun) = (at, None, false)).await;
        }
        let record = entry.record();
        let line = if record.kind == UploadKind::Mp4 { &self.mp4s } else { &self.raws };
        let Some(Ok(_permit)) = stop.run_until_cancelled(line.acquire()).await else { return Err(StoreError::Stopped) };
        let began = Instant::now();
        let texts = async |kind| {
            if record.kind != kind {
                return Ok(());
            }
            let put = sidecars::put_texts(store, &record);
            stop.run_until_cancelled(put).await.unwrap_or(Err(StoreError::Stopped))
        };
        // What is known of a raw file arrives even where the disk does not give the file.
        texts(UploadKind::Raw).await?;
        let size = upload::deliver(store, entry, &self.parts, stop).await?;
        texts(UploadKind::Mp4).await?;
        let stored = StoredObject { at: unix_ms(), size };
        let note = |record: &mut UploadRecord| {
            record.stored = Some(stored);
            (record.transfer, record.begun, record.next_try, record.last_error) = (None, false, None, None);
        };
        entry.update(note).await;
        let (took_s, failures) = (began.elapsed().as_secs_f64(), record.failures);
        let what = match record.kind {
            UploadKind::Mp4 => "the store has the recording",
            UploadKind::Raw => "the store has the raw file that could not be transcoded",
        };
        tracing::info!(object = url.object(&record.key), size, took_s, failures, "{what}");
        Ok(())
    }

    /// Puts poster and thumbnails beside the MP4, where they are due. Without pictures the recording is whole: what fails
    /// here but the store itself is told and left.
    async fn add_pictures(
        &self,
        entry: &UploadEntry,
        store: &Store,
        stop: &CancellationToken,
    ) -> Result<(), StoreError> {
        let record = entry.record();
        if !record.pictures_due {
            return Ok(());
        }
        let work = async {
            // Deleted already, by a hook of the server: nobody would remove the pictures.
            if store.head(&record.key).await?.is_none() {
                tracing::info!("the recording is deleted from the store: no poster and thumbnails are made");
                return Ok(());
            }
            let made = {
                let _permit = self.pictures.acquire().await.map_err(|_| StoreError::Stopped)?;
                let began = Instant::now();
                let name = sidecars::sprite_name(&record.key);
                let made = (self.settings.pictures)(record.file.clone(), name, stop.clone()).await;
                tracing::debug!(took_s = began.elapsed().as_secs_f64(), "looked for poster and thumbnails");
                made
            };
            if stop.is_cancelled() {
                return Err(StoreError::Stopped);
            }
            match made {
                Ok(Some(pictures)) => sidecars::put_pictures(store, &record.key, pictures).await,
                Ok(None) => Ok(()),
                Err(why) => {
                    tracing::warn!(
                        code = %codes::NO_PICTURES, mp4 = %record.file.display(), why,
                        "a delivered recording gets no poster and thumbnails"
                    );
                    Ok(())
                }
            }
        };
        // What makes pictures ends its ffmpeg before this returns.
        tokio::select! {
            added = work => added?,
            () = ended_long_ago(stop) => return Err(StoreError::Stopped),
        }
        let done = |record: &mut UploadRecord| {
            record.pictures_due = false;
            (record.next_try, record.last_error) = (None, None);
        };
        entry.update(done).await;
        Ok(())
    }

    /// Whether a file of `main_path` is certainly not there: `main_path` is, and the file is not in it.
    async fn is_gone(&self, record: &UploadRecord) -> bool {
        let (main_path, file) = (self.settings.main_path.clone(), record.file.clone());
        let look = move || {
            main_path.check().map_err(io::Error::other)?;
            Ok(!file.try_exists()?)
        };
        files::on_disk_within(LOOK_LIMIT, look).await.unwrap_or(false)
    }

    /// Gives an upload up: what the store has of it is removed, and the server is told of the local file.
    pub async fn let_go(&self, entry: &UploadEntry) {
        let record = entry.record();
        self.abort(entry).await;
        let is_configured = self.stores.url(&record.store).is_some();
        if !is_configured && record.local_until().is_some() {
            tracing::warn!(
                code = %codes::LOCAL_COPY_KEPT, store = record.store, mp4 = %record.file.display(),
                "the store that has this recording is configured no more, and cannot be asked for it: the local MP4 stays"
            );
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

    /// Removes what the store has of an upload that is not completed.
    pub async fn abort(&self, entry: &UploadEntry) {
        let record = entry.record();
        if record.stored.is_some() || self.stores.url(&record.store).is_none() {
            return;
        }
        let abort = async { upload::abort(self.stores.open(&record.store).await?, entry).await };
        let aborted = tokio::time::timeout(ABORT_LIMIT, abort).await.unwrap_or(Err(StoreError::Late(ABORT_LIMIT)));
        if let Err(error) = aborted {
            upload::warn_of_strays(&record.key, &error);
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
        let tell = Arc::clone(&self.settings.tell);
        if !tell(notices).await {
            let late = io::Error::other("the disk has not taken them yet");
            return Err(StoreError::local("the messages for the server, in recorder.state_dir")(late));
        }
        entry.update(|record| record.told = true).await;
        Ok(())
    }
}

impl DurableWork for UploadContext {
    type Record = UploadRecord;
    type Error = StoreError;

    const TASK: &'static str = "upload";
    const DROP_REQUESTS: &'static str = drop_request::UPLOADS;

    async fn attempt(&self, entry: &UploadEntry, stop: &CancellationToken) -> Attempt<StoreError> {
        match self.go_on(entry, stop).await {
            Ok(()) => Attempt::Done,
            Err(StoreError::Stopped) => Attempt::Stopped,
            Err(error) => Attempt::Failed(error),
        }
    }

    fn log_failure(&self, record: &UploadRecord, wait: Duration, error: &StoreError) {
        let (retry_s, failures, remedy) = (wait.as_secs(), record.failures, error.remedy());
        let store = self.destination(record).map(ToString::to_string);
        match (record.stored, record.kind) {
            (Some(_), _) => tracing::error!(
                code = %codes::DELIVERY_UNFINISHED, store, failures, retry_s, %error,
                "the store has the recording, but what follows its delivery fails, and is tried until it is done; {remedy}"
            ),
            (None, UploadKind::Mp4) => tracing::error!(
                code = %codes::NOT_IN_THE_STORE, store, failures, retry_s, %error,
                "a recording is not in the store of storage.deliver yet, and is tried until it is; {remedy}"
            ),
            (None, UploadKind::Raw) => tracing::error!(
                code = %codes::RAW_COPY_WAITS, store, failures, retry_s, %error,
                "a raw file that could not be transcoded is not in storage.fail yet, and is tried until it is; {remedy}"
            ),
        }
    }

    async fn give_up(&self, entry: &UploadEntry) {
        self.let_go(entry).await;
        let record = entry.record();
        tracing::warn!(
            code = %codes::UPLOAD_DROPPED, recording_id = record.recording_id, file = %record.file.display(),
            "an operator has dropped the delivery of a recording: its file stays where it is, in main_path"
        );
    }

    /// Sets the numbers of those that their stores do not have yet.
    fn count(&self, records: &[UploadRecord]) {
        let waiting: Vec<_> = records.iter().filter(|record| record.stored.is_none()).collect();
        let oldest = waiting.iter().map(|record| record.added_at).min();
        let age = oldest.map_or(0, |oldest| unix_ms().saturating_sub(oldest));
        let metrics = &self.settings.metrics;
        metrics.set(NodeGauge::UploadsWaiting, u32::try_from(waiting.len()).unwrap_or(u32::MAX));
        metrics.set(NodeGauge::UploadsOldestAge, Duration::from_millis(age).as_secs_f64());
    }
}

/// Resolves when what heeds the end should have ended.
async fn ended_long_ago(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(END_GRACE).await;
}
