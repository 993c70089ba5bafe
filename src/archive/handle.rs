//! The archive of a fleet, as one node uses it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::TryStreamExt as _;
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::sync::OnceCell;

use crate::archive::description::PartDescription;
use crate::archive::names::{self, ArchiveListing, ArchivedRecording, DESCRIPTION, ListedPart};
use crate::config::Reserve;
use crate::config::store_url::StoreUrl;
use crate::protocol::ids::RecorderId;
use crate::storage::{disk_space, files};
use crate::store::connect::StoreTimes;
use crate::store::error::StoreError;
use crate::store::handle::Store;
use crate::store::probe;
use crate::telemetry::metrics::{Metrics, NodeGauge};
use crate::unix_time::unix_ms;

/// Objects that are removed at once.
const REMOVED_AT_ONCE: usize = 8;
/// How long a disk may take to say how much is free.
const DISK_LIMIT: Duration = Duration::from_secs(10);

/// The archive; clones share its connections.
#[derive(Clone)]
pub struct Archive {
    shared: Arc<Shared>,
}

struct Shared {
    url: StoreUrl,
    node: RecorderId,
    store: OnceCell<Store>,
    /// Pieces that are not in the store yet, of all recordings.
    waiting: AtomicUsize,
    /// What fetching leaves free on the disk.
    reserve: Reserve,
    times: StoreTimes,
    metrics: Metrics,
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archive").field("url", &self.shared.url).finish_non_exhaustive()
    }
}

impl Archive {
    /// That at this URL, for `node`. `reserve`: what is fetched leaves so much of the disk free. Nothing is asked of the
    /// store yet.
    #[must_use]
    pub fn new(url: &StoreUrl, node: &RecorderId, reserve: Reserve, metrics: Metrics) -> Self {
        Self::of(url.clone(), node.clone(), reserve, StoreTimes::default(), metrics)
    }

    fn of(url: StoreUrl, node: RecorderId, reserve: Reserve, times: StoreTimes, metrics: Metrics) -> Self {
        let (store, waiting) = (OnceCell::new(), AtomicUsize::new(0));
        Self { shared: Arc::new(Shared { url, node, store, waiting, reserve, times, metrics }) }
    }

    /// The same with other limits; nothing may wait yet.
    #[must_use]
    pub fn with_times(&self, times: StoreTimes) -> Self {
        let Shared { url, node, reserve, metrics, .. } = &*self.shared;
        Self::of(url.clone(), node.clone(), *reserve, times, metrics.clone())
    }

    /// Without secrets.
    #[must_use]
    pub fn url(&self) -> &StoreUrl {
        &self.shared.url
    }

    /// This node.
    #[must_use]
    pub fn node(&self) -> &RecorderId {
        &self.shared.node
    }

    /// A place for one more file of a part.
    #[must_use]
    pub fn new_part(&self) -> String {
        let mut bits = [0; 8];
        let random = getrandom(&mut bits, GetRandomFlags::empty()).is_ok();
        let nonce = if random { u64::from_be_bytes(bits) } else { unix_ms() };
        names::part_dir(&self.shared.node, nonce)
    }

    pub(super) async fn store(&self) -> Result<&Store, StoreError> {
        let open = async {
            let (url, times) = (self.shared.url.clone(), self.shared.times);
            // Reads certificates.
            tokio::task::spawn_blocking(move || Store::open_with(&url, times)).await.map_err(|_| StoreError::Stopped)?
        };
        self.shared.store.get_or_try_init(|| open).await
    }

    /// Whether only one node can take a lease.
    ///
    /// # Errors
    /// [`StoreError::Unsupported`] where several could; see [`StoreError`].
    pub async fn leases(&self) -> Result<(), StoreError> {
        probe::leases(self.store().await?).await
    }

    /// Notes that this node has the recording.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn begin(&self, recording: &ArchivedRecording) -> Result<(), StoreError> {
        self.store().await?.put(&recording.running(&self.shared.node), Bytes::from_static(b"{}")).await
    }

    /// Notes that the recording is handed over: nobody takes it over any more.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn end(&self, recording: &ArchivedRecording) -> Result<(), StoreError> {
        let store = self.store().await?;
        store.put(&recording.ended(), Bytes::from_static(b"{}")).await?;
        store.delete(&recording.running(&self.shared.node)).await
    }

    /// Forgets that `node` has the recording.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn forget(&self, recording: &ArchivedRecording, node: &RecorderId) -> Result<(), StoreError> {
        self.store().await?.delete(&recording.running(node)).await
    }

    /// Notes that this node sends what the archive lacks of a recording that another node has now, or that it has sent all.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn hand_in(&self, recording: &ArchivedRecording, is_complete: bool) -> Result<(), StoreError> {
        let (store, name) = (self.store().await?, recording.handing_in(&self.shared.node));
        if is_complete { store.delete(&name).await } else { store.put(&name, Bytes::from_static(b"{}")).await }
    }

    /// The recordings that are not handed over, each with the node that has it.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn running(&self) -> Result<Vec<(RecorderId, ArchivedRecording)>, StoreError> {
        let objects = self.store().await?.list_objects(names::RUNNING).await?;
        Ok(objects.iter().filter_map(|object| ArchivedRecording::of_running(&object.name)).collect())
    }

    /// The recordings that were handed over, each with the time of that.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn ended(&self) -> Result<Vec<(ArchivedRecording, SystemTime)>, StoreError> {
        let objects = self.store().await?.list_objects(names::ENDED).await?;
        let of = |object: &crate::store::handle::ListedObject| {
            Some((ArchivedRecording::of_ended(&object.name)?, object.modified))
        };
        Ok(objects.iter().filter_map(of).collect())
    }

    /// # Errors
    /// See [`StoreError`].
    pub async fn has_ended(&self, recording: &ArchivedRecording) -> Result<bool, StoreError> {
        Ok(self.store().await?.head(&recording.ended()).await?.is_some())
    }

    /// What the archive has of a recording.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn listing(&self, recording: &ArchivedRecording) -> Result<ArchiveListing, StoreError> {
        let objects = self.store().await?.list_objects(&recording.dir()).await?;
        let objects = objects.into_iter().map(|object| (object.name, object.size, millis(object.modified)));
        Ok(ArchiveListing::read(recording, objects))
    }

    /// The node that has a lease; `None`: nobody has.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn holder(&self, recording: &ArchivedRecording, lease: u32) -> Result<Option<String>, StoreError> {
        match self.store().await?.get(&recording.lease(lease)).await {
            Ok(node) => Ok(Some(String::from_utf8_lossy(&node).into_owned())),
            Err(StoreError::Missing(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes a lease for this node, which only one node can. False: another has it.
    ///
    /// # Errors
    /// See [`StoreError`]. The lease may be taken then: [`Self::holder`] says so.
    pub async fn take_over(&self, recording: &ArchivedRecording, lease: u32) -> Result<bool, StoreError> {
        let node = Bytes::from(self.shared.node.to_string());
        match self.store().await?.put_new(&recording.lease(lease), node).await {
            Ok(()) => Ok(true),
            Err(StoreError::Exists) => {
                Ok(self.holder(recording, lease).await?.is_some_and(|node| node == self.shared.node.as_str()))
            }
            Err(error) => Err(error),
        }
    }

    /// What is said of a part; `None`: nothing, or nothing that this version knows.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn description(
        &self,
        recording: &ArchivedRecording,
        part: &ListedPart,
    ) -> Result<Option<PartDescription>, StoreError> {
        let name = recording.part(&format!("{}/{DESCRIPTION}", part.dir));
        match self.store().await?.get(&name).await {
            Ok(bytes) => {
                let read = PartDescription::read(&bytes);
                Ok(read.inspect_err(|why| tracing::debug!(name, why, "this description is not used")).ok())
            }
            Err(StoreError::Missing(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Refuses where so many bytes more would not leave the reserve on the disk of `dir`.
    ///
    /// # Errors
    /// [`StoreError::Local`].
    pub async fn require_room(&self, dir: &Path, more: u64) -> Result<(), StoreError> {
        let (reserve, path) = (self.shared.reserve, dir.to_owned());
        let look = move || disk_space::require(&path, reserve, more);
        let looked = files::on_disk_within(DISK_LIMIT, look).await;
        looked.map_err(StoreError::local(format!("what is fetched from the archive into {}", dir.display())))
    }

    /// Writes the pieces of a part into a file, one after the other. `from`: so many of them are in the file already, which
    /// is replaced when all are there where that is 0.
    ///
    /// # Errors
    /// Where the store or the disk fails, the disk would not keep its reserve, or a piece has another size than it was
    /// listed with. It may be repeated.
    pub async fn fetch(
        &self,
        recording: &ArchivedRecording,
        part: &ListedPart,
        from: usize,
        to: &Path,
    ) -> Result<(), StoreError> {
        let store = self.store().await?;
        self.require_room(to.parent().unwrap_or(Path::new(".")), part.bytes_from(from)).await?;
        let path = if from == 0 { files::hidden_beside(to, ".fetched") } else { to.to_owned() };
        let disk = |error| StoreError::local(format!("writing {}", path.display()))(error);
        let mut options = tokio::fs::OpenOptions::new();
        let mut file = options.write(true).create(from == 0).open(&path).await.map_err(disk)?;
        // What an interrupted attempt has written goes.
        let length = part.bytes_from(0) - part.bytes_from(from);
        file.set_len(length).await.map_err(disk)?;
        file.seek(std::io::SeekFrom::Start(length)).await.map_err(disk)?;
        for piece in part.pieces.iter().skip(from) {
            let name = recording.part(&format!("{}/{}", part.dir, piece.name));
            let bytes = store.get(&name).await?;
            if bytes.len() as u64 != piece.bytes {
                return Err(StoreError::Mismatch(format!("{name} has {} bytes, not {}", bytes.len(), piece.bytes)));
            }
            file.write_all(&bytes).await.map_err(disk)?;
        }
        file.sync_all().await.map_err(disk)?;
        if from == 0 { tokio::fs::rename(&path, to).await.map_err(disk) } else { Ok(()) }
    }

    /// Removes all of a recording but what says that it has ended: a node that comes back asks for that.
    ///
    /// # Errors
    /// See [`StoreError`]; it may be repeated.
    pub async fn remove(&self, recording: &ArchivedRecording) -> Result<(), StoreError> {
        let store = self.store().await?;
        // Before the lease goes.
        store.put(&recording.ended(), Bytes::from_static(b"{}")).await?;
        let objects = store.list_objects(&recording.dir()).await?;
        let names = objects.iter().map(|object| Ok(object.name.as_str()));
        futures::stream::iter(names).try_for_each_concurrent(REMOVED_AT_ONCE, |name| store.delete(name)).await
    }

    /// Removes the recordings that were handed over before `limit`, which their transcoders need not have done, and what
    /// says that they were.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn remove_ended_before(&self, limit: SystemTime) -> Result<usize, StoreError> {
        let old: Vec<_> = self.ended().await?.into_iter().filter(|(_, at)| *at < limit).collect();
        let store = self.store().await?;
        for (recording, _) in &old {
            self.remove(recording).await?;
            store.delete(&recording.ended()).await?;
        }
        Ok(old.len())
    }

    /// The pieces of all recordings that are not in the store yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.waiting.load(Ordering::Relaxed)
    }

    fn count(&self, waiting: usize) {
        self.shared.metrics.set(NodeGauge::ArchivePiecesWaiting, u32::try_from(waiting).unwrap_or(u32::MAX));
    }
}

fn millis(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Pieces that wait, of one file.
#[derive(Debug)]
pub(super) struct WaitingPieces {
    archive: Archive,
    count: AtomicUsize,
}

impl WaitingPieces {
    pub fn new(archive: &Archive) -> Self {
        Self { archive: archive.clone(), count: AtomicUsize::new(0) }
    }

    pub fn add(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.archive.count(self.archive.shared.waiting.fetch_add(1, Ordering::Relaxed) + 1);
    }

    pub fn remove(&self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.archive.count(self.archive.shared.waiting.fetch_sub(1, Ordering::Relaxed).saturating_sub(1));
    }
}

impl Drop for WaitingPieces {
    fn drop(&mut self) {
        let left = *self.count.get_mut();
        self.archive.count(self.archive.shared.waiting.fetch_sub(left, Ordering::Relaxed).saturating_sub(left));
    }
}

/// How long after its hand-over a recording is in the archive at most: a node that comes back later tells of it again.
pub const KEPT_AFTER_END: Duration = Duration::from_secs(7 * 24 * 60 * 60);
