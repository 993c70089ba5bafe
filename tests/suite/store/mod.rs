//! Delivery into object stores: two different S3 servers and a directory, read by an independent client (`rclone`).

mod credentials;
mod download;
mod failed;
mod faults;
mod merge_jobs;
mod node;
mod pictures;
mod raw;
mod rooms;
mod uploads;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use plugnmeet_recorder::config::StorageConfig;
use plugnmeet_recorder::config::store_url::StoreUrl;
use plugnmeet_recorder::media::thumbnails;
use plugnmeet_recorder::protocol::ids::{RecorderId, RecordingId, RoomId, RoomSid};
use plugnmeet_recorder::protocol::notice::{Notice, NoticeEvent};
use plugnmeet_recorder::protocol::request::RecordingInfo;
use plugnmeet_recorder::storage::main_path::{MainPath, StoreAbilities};
use plugnmeet_recorder::store::connect::StoreTimes;
use plugnmeet_recorder::store::record::{StoredNotice, UploadRecord};
use plugnmeet_recorder::store::sidecars::Pictures;
use plugnmeet_recorder::store::uploads::{MakePictures, Tell, UploadSettings, UploadWaits, Uploads};
use plugnmeet_recorder::telemetry::metrics::{Metrics, NodeGauge};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::recorder::SOON;
use crate::standin::object_store::ObjectStore;
use crate::transcode::names;

pub const MIB: usize = 1 << 20;
/// What belongs to an MP4 with a picture.
pub const ALL: [&str; 5] = ["jpg", "json", "mp4", "thumbnails.jpg", "vtt"];

/// The uploads of a node, which may be ended and begun again on the same directories.
pub struct Sender {
    pub dir: Arc<tempfile::TempDir>,
    pub uploads: Uploads,
    pub metrics: Metrics,
    /// MP4s that are added get poster and thumbnails.
    pub with_pictures: bool,
    told: Arc<Mutex<Vec<NoticeEvent>>>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Sender {
    pub fn start(url: &str) -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), url)
    }

    pub fn start_in(dir: Arc<tempfile::TempDir>, url: &str) -> Self {
        let deliver = Some(StoreUrl::parse(url).unwrap());
        Self::start_with(dir, StorageConfig { deliver, ..StorageConfig::default() }, pictures())
    }

    pub fn start_with(dir: Arc<tempfile::TempDir>, storage: StorageConfig, pictures: MakePictures) -> Self {
        let main_path = dir.path().join("main");
        std::fs::create_dir_all(main_path.join("node_01/room01")).unwrap();
        let told = Arc::<Mutex<Vec<NoticeEvent>>>::default();
        let heard = Arc::clone(&told);
        let tell: Tell = Arc::new(move |notices: Vec<Notice>| {
            heard.lock().unwrap().extend(notices.into_iter().map(|notice| notice.event));
            Box::pin(std::future::ready(true))
        });
        let metrics = Metrics::default();
        let times = StoreTimes { stall: Duration::from_secs(2), answer: Duration::from_secs(10), slowest: MIB as u64 };
        let settings = UploadSettings {
            storage,
            pictures,
            state_dir: dir.path().join("state"),
            main_path: MainPath::unwatched(&main_path, StoreAbilities::ALL),
            metrics: metrics.clone(),
            tell,
            waits: UploadWaits { first: Duration::from_millis(50), longest: Duration::from_millis(400), times },
        };
        let cancel = CancellationToken::new();
        let uploads = Uploads::new(settings, cancel.clone());
        let task = tokio::spawn(uploads.clone().run());
        Self { dir, uploads, metrics, with_pictures: false, told, cancel, task }
    }

    pub fn mp4(&self, id: &str) -> PathBuf {
        self.dir.path().join(format!("main/node_01/room01/{id}.mp4"))
    }

    /// An MP4 of so many bytes in `main_path`; its content, which is that of no other.
    pub fn make(&self, id: &str, size: usize) -> Vec<u8> {
        let bytes = noise(id, size);
        std::fs::write(self.mp4(id), &bytes).unwrap();
        bytes
    }

    /// Takes it on. `keep`: of the local file; `None` for ever, and the server knows of that.
    pub async fn add(&self, id: &str, keep: Option<Duration>) {
        let (recording, room) = (RecordingId::parse(id).unwrap(), RoomId::parse("room01").unwrap());
        let store = self.uploads.storage().deliver.as_ref().unwrap().to_string();
        let key = format!("node_01/room01/{id}.mp4");
        let mut record = UploadRecord::new(&recording, &room, &self.mp4(id), &key, &store, keep);
        record.pictures_due = self.with_pictures;
        record.summary = Some(format!("{{\"recording_id\": \"{id}\"}}"));
        record.notice = keep.map(|_| {
            let info = RecordingInfo {
                room_table_id: 7,
                room_id: room,
                room_sid: RoomSid::parse("RM_x").unwrap(),
                recording_id: recording,
            };
            StoredNotice::new(&info, &RecorderId::parse("node_01").unwrap(), &key, 1)
        });
        self.uploads.add(record).await;
    }

    pub fn records(&self) -> Vec<String> {
        names(&self.dir.path().join("state/uploads"))
    }

    pub fn record(&self, id: &str) -> Option<UploadRecord> {
        let path = self.dir.path().join(format!("state/uploads/{id}.json"));
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    /// Waits until no record is left. One may come late, where the disk is busy.
    pub async fn wait_until_done(&self) {
        let is_done = || self.uploads.waiting() == 0 && self.records().is_empty();
        self.wait_until("nothing is on its way", is_done).await;
    }

    pub async fn wait_until(&self, what: &str, so: impl Fn() -> bool) {
        let end = Instant::now() + 2 * SOON;
        while !so() {
            let records: Vec<_> =
                self.records().iter().map(|name| self.record(name.trim_end_matches(".json"))).collect();
            assert!(Instant::now() < end, "never: {what}: {records:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn told(&self) -> Vec<NoticeEvent> {
        self.told.lock().unwrap().clone()
    }

    pub fn waiting(&self) -> f64 {
        self.metrics.get(NodeGauge::UploadsWaiting)
    }

    /// Ends as a node does; its directories, for the next start.
    pub async fn stop(self) -> Arc<tempfile::TempDir> {
        self.cancel.cancel();
        tokio::time::timeout(SOON, self.task).await.unwrap().unwrap();
        self.dir
    }
}

/// Bytes that compress badly and differ by name.
pub fn noise(name: &str, size: usize) -> Vec<u8> {
    let mut state = name
        .bytes()
        .fold(0x9E37_79B9_7F4A_7C15_u64, |state, byte| (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3));
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// What makes pictures in a node.
pub fn pictures() -> MakePictures {
    Arc::new(|mp4: PathBuf, sprite: String, stop: CancellationToken| {
        Box::pin(async move {
            let made = thumbnails::make(&mp4, &sprite, &stop).await.map_err(|error| error.to_string())?;
            Ok(made.map(|made| Pictures { poster: made.poster, sprite: made.sprite, index: made.index }))
        })
    })
}

/// The store has this MP4 with its summary, and nothing else of it; no upload is left open.
pub fn assert_stored(store: &ObjectStore, id: &str, content: &[u8]) {
    assert_stored_with(store, id, content, &["json", "mp4"]);
}

/// The same with files of these extensions, in the order of their names.
pub fn assert_stored_with(store: &ObjectStore, id: &str, content: &[u8], extensions: &[&str]) {
    let key = format!("pre/node_01/room01/{id}.mp4");
    assert!(store.read(&key) == content, "{key} is another one: {:?}", store.list());
    let keys = store.keys();
    let of_it: Vec<&String> = keys.iter().filter(|key| key.contains(&format!("/{id}."))).collect();
    let expected: Vec<String> =
        extensions.iter().map(|extension| format!("pre/node_01/room01/{id}.{extension}")).collect();
    assert_eq!(of_it, expected.iter().collect::<Vec<_>>());
    assert_eq!(store.unfinished_uploads(), 0, "{id}");
}

/// All files below a directory, by their paths in it.
pub fn tree(dir: &Path) -> Vec<String> {
    let (mut found, mut dirs) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(next) = dirs.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                found.push(path.strip_prefix(dir).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}
