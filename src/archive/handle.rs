//! The archive of a fleet, as one node uses it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::TryStreamExt as _;
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::OnceCell;

use crate::archive::description::PartDescription;
use crate::archive::names::{self, ArchiveListing, ArchivedRecording, DESCRIPTION, ListedPart};
use crate::config::store_url::StoreUrl;
use crate::protocol::ids::RecorderId;
use crate::storage::files;
use crate::store::error::StoreError;
use crate::store::handle::Store;
use crate::store::probe;
use crate::telemetry::metrics::{Metrics, NodeGauge};
use crate::unix_time::unix_ms;

/// Objects that are removed at once.
const REMOVED_AT_ONCE: usize = 8;

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
    metrics: Metrics,
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archive").field("url", &self.shared.url).finish_non_exhaustive()
    }
}

impl Archive {
    /// That at this URL, for `node`. Nothing is asked of the store yet.
    #[must_use]
    pub fn new(url: &StoreUrl, node: &RecorderId, metrics: Metrics) -> Self {
        let (url, node) = (url.clone(), node.clone());
        Self { shared: Arc::new(Shared { url, node, store: OnceCell::new(), waiting: AtomicUsize::new(0), metrics }) }
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
            let url = self.shared.url.clone();
            // Reads certificates.
            tokio::task::spawn_blocking(move || Store::open(&url)).await.map_err(|_| StoreError::Stopped)?
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
        Ok(ArchiveListing::read(recording, objects.into_iter().map(|object| (object.name, object.size))))
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

    /// Writes the pieces of a part into a file, one after the other; an existing file is replaced when all are there.
    ///
    /// # Errors
    /// Where the store or the disk fails, or a piece has another size than it was listed with.
    pub async fn fetch(&self, recording: &ArchivedRecording, part: &ListedPart, to: &Path) -> Result<(), StoreError> {
        let store = self.store().await?;
        let unfinished = files::hidden_beside(to, ".fetched");
        let disk = |error| StoreError::local(format!("writing {}", unfinished.display()))(error);
        let mut file = tokio::fs::File::create(&unfinished).await.map_err(disk)?;
        for (piece, size) in &part.pieces {
            let name = recording.part(&format!("{}/{piece}", part.dir));
            let bytes = store.get(&name).await?;
            if bytes.len() as u64 != *size {
                return Err(StoreError::Mismatch(format!("{name} has {} bytes, not {size}", bytes.len())));
            }
            file.write_all(&bytes).await.map_err(disk)?;
        }
        file.sync_all().await.map_err(disk)?;
        tokio::fs::rename(&unfinished, to).await.map_err(disk)
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
