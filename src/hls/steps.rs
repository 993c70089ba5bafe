//! The steps of one recording: from its MP4 to its HLS in `main_path` and in the store. Each may be done again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::store_url::StoreUrl;
use crate::config::{HlsConfig, KeepLocal, StorageConfig};
use crate::hls::error::HlsError;
use crate::hls::live::note::{LiveNote, LiveState, NOTE};
use crate::hls::packager::{MASTER, Packager};
use crate::hls::record::{HlsEntry, HlsRecord, HlsStore};
use crate::hls::settings::HlsSettings;
use crate::hls::{delivery, local_files};
use crate::media::ffprobe;
use crate::protocol::ids::RoomId;
use crate::storage::files;

/// Time limit for the disk.
const DISK_LIMIT: Duration = Duration::from_secs(60);
/// By how much what was published while it was recorded may be longer or shorter than the MP4: its end may show the page
/// after the meeting, which the MP4 does not (`recording/trim.rs`), and parts are joined without a gap.
const OTHER_LENGTH: Duration = Duration::from_secs(5);
/// The number of bytes of the recorder's id in the name of an unfinished directory (`transcode/plan.rs`).
const ID_IN_NAME: usize = 100;

/// One recording that becomes HLS.
pub(super) struct HlsSteps<'a> {
    pub settings: &'a HlsSettings,
    pub config: &'a HlsConfig,
    pub entry: &'a HlsEntry,
    /// One is made at a time.
    pub making: &'a Semaphore,
    pub stop: &'a CancellationToken,
    /// Ends what of it goes on into a store since it was recorded here.
    pub end_live: &'a (dyn Fn() + Send + Sync),
}

impl HlsSteps<'_> {
    /// Does what is left.
    ///
    /// # Errors
    /// See [`HlsError`]; it may be called again then.
    pub async fn run(&self) -> Result<(), HlsError> {
        if self.entry.record().files.is_none() && !self.take_published().await? {
            (self.end_live)();
            self.make().await?;
        }
        self.remove_note().await?;
        let uploads = &self.settings.uploads;
        // Checked when the record was read.
        let Ok(room) = RoomId::parse(&self.entry.record().room_id) else { return Ok(()) };
        let Some(url) = destination(&self.entry.record().store, uploads.storage(), &room) else { return Ok(()) };
        let store = uploads.store(url).await?;
        let (record, waits) = (self.entry.record(), self.settings.waits);
        delivery::wait_for_mp4(store, &record, &self.settings.state_dir, waits.mp4, self.stop).await?;
        (self.end_live)();
        let (dir, began) = (self.dir(), Instant::now());
        delivery::deliver(store, &record, &dir, self.stop).await?;
        let took_s = began.elapsed().as_secs_f64();
        tracing::info!(
            master = store.url().object(&format!("{}/{MASTER}", record.dir())),
            took_s,
            "the store has the HLS"
        );
        if uploads.storage().keep_local_for(&room) != KeepLocal::Always {
            self.remove_local().await?;
        }
        Ok(())
    }

    /// Removes it from `main_path`, also what is not finished.
    pub async fn remove_local(&self) -> Result<(), HlsError> {
        let (store, dir, unfinished) = (self.settings.main_path.clone(), self.dir(), self.unfinished_dir());
        let what = format!("removing {}", dir.display());
        let remove = move || {
            remove_unfinished(&unfinished)?;
            local_files::remove(&store, &dir)
        };
        files::on_disk_within(DISK_LIMIT, remove).await.map_err(HlsError::disk(what))
    }

    /// Takes what was published while it was recorded, where that is all of it, as its HLS.
    async fn take_published(&self) -> Result<bool, HlsError> {
        let (record, place) = (self.entry.record(), self.dir());
        let read =
            move || Ok(LiveNote::read(&place)?.filter(|note| note.files.iter().all(|name| place.join(name).is_file())));
        let what = format!("reading {}", self.dir().join(NOTE).display());
        let here = files::on_disk_within(DISK_LIMIT, read).await.map_err(HlsError::disk(what))?;
        let is_whole = |note: &LiveNote| note.state == LiveState::Complete;
        let (note, only_in_store) = match here.filter(is_whole) {
            Some(note) => (note, false),
            None => match self.note_in_store(&record).await.filter(is_whole) {
                Some(note) => (note, true),
                None => return Ok(false),
            },
        };
        let mp4 = self.stop.run_until_cancelled(ffprobe::probe(&record.mp4)).await.ok_or(HlsError::Stopped)?;
        // Making it will say what is wrong with the MP4.
        let Ok(mp4) = mp4 else { return Ok(false) };
        if mp4.duration.abs_diff(Duration::from_millis(note.length_ms)) > OTHER_LENGTH {
            tracing::info!(
                published_ms = note.length_ms,
                mp4_ms = mp4.duration.as_millis(),
                "what was published of the recording is not as long as its MP4: it becomes HLS of that"
            );
            return Ok(false);
        }
        tracing::info!(node = note.node, "the recording is there as HLS since it ran");
        let take = |record: &mut HlsRecord| (record.files, record.only_in_store) = (Some(note.files), only_in_store);
        self.entry.update(take).await;
        Ok(true)
    }

    /// `None`: there is none, or the store does not say.
    async fn note_in_store(&self, record: &HlsRecord) -> Option<LiveNote> {
        let (uploads, room) = (&self.settings.uploads, RoomId::parse(&record.room_id).ok()?);
        let store = uploads.store(destination(&record.store, uploads.storage(), &room)?).await.ok()?;
        let key = format!("{}/{NOTE}", record.dir());
        LiveNote::from_bytes(&self.stop.run_until_cancelled(store.get(&key)).await?.ok()?)
    }

    /// From here on the HLS goes with its MP4.
    async fn remove_note(&self) -> Result<(), HlsError> {
        let note = self.dir().join(NOTE);
        let what = format!("removing {}", note.display());
        files::on_disk_within(DISK_LIMIT, move || files::remove_unsynced(&note)).await.map_err(HlsError::disk(what))
    }

    async fn make(&self) -> Result<(), HlsError> {
        let permit = self.stop.run_until_cancelled(self.making.acquire()).await;
        let Some(Ok(_permit)) = permit else { return Err(HlsError::Stopped) };
        let (record, began) = (self.entry.record(), Instant::now());
        let (store, mp4, unfinished) = (self.settings.main_path.clone(), record.mp4.clone(), self.unfinished_dir());
        let dir = unfinished.clone();
        let prepare = move || {
            store.check().map_err(std::io::Error::other)?;
            let is_there = mp4.try_exists()?;
            if is_there {
                // What a killed attempt has left.
                remove_unfinished(&dir)?;
                std::fs::create_dir_all(&dir)?;
            }
            Ok(is_there)
        };
        let what = format!("preparing {}", unfinished.display());
        if !files::on_disk_within(DISK_LIMIT, prepare).await.map_err(HlsError::disk(what))? {
            return Err(HlsError::WithoutMp4(format!("there is no {}", record.mp4.display())));
        }
        let made = self.package(&record.mp4, &unfinished).await;
        let gone = unfinished.clone();
        let removed = files::on_disk_within(DISK_LIMIT, move || remove_unfinished(&gone)).await;
        let names = made?;
        removed.map_err(HlsError::disk(format!("removing {}", unfinished.display())))?;
        let (renditions, took_s) = (names.len() / 2, began.elapsed().as_secs_f64());
        self.entry.update(|record| (record.files, record.next_try) = (Some(names), None)).await;
        tracing::info!(master = %self.dir().join(MASTER).display(), tracks = renditions, took_s, "the recording is there as HLS");
        Ok(())
    }

    async fn package(&self, mp4: &Path, unfinished: &Path) -> Result<Vec<String>, HlsError> {
        let packager = Packager { mp4, dir: unfinished, config: self.config, cancel: self.stop };
        let package = packager.run().await?;
        let dir = self.dir();
        let placed = local_files::place(&self.settings.main_path, &package, &dir);
        Ok(self.stop.run_until_cancelled(placed).await.ok_or(HlsError::Stopped)??)
    }

    fn dir(&self) -> PathBuf {
        self.settings.main_path.path().join(self.entry.record().dir())
    }

    fn unfinished_dir(&self) -> PathBuf {
        let node = self.settings.recorder_id.as_str();
        let node = node.get(..ID_IN_NAME).unwrap_or(node);
        let elsewhere = (!self.settings.main_path.abilities().rewrite).then_some(self.settings.temporary_dir.as_path());
        local_files::unfinished_dir(&self.dir(), node, elsewhere)
    }
}

/// Where the HLS goes: into the store of its record, else, where that is configured no more, into that of its room, as its
/// MP4 does. `None`: nowhere.
fn destination<'a>(store: &HlsStore, storage: &'a StorageConfig, room: &RoomId) -> Option<&'a StoreUrl> {
    let named = match store {
        HlsStore::NoStore => return None,
        HlsStore::OfRoom => None,
        HlsStore::Url(name) => storage.delivery_stores().into_iter().find(|url| url.to_string() == *name),
    };
    named.or_else(|| storage.deliver_for(room))
}

fn remove_unfinished(dir: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
