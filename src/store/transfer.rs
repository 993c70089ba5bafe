//! The parts of an upload on their way: several at once, each noted in the record when the store has it.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use md5::{Digest as _, Md5};
use tokio::sync::Semaphore;

use crate::storage::files;
use crate::store::error::StoreError;
use crate::store::handle::Store;
use crate::store::part_plan::{PartPlan, md5_of};
use crate::store::record::{PartTransfer, SentPart, UploadEntry};
use crate::unix_time::unix_ms_of;

/// Parts of one upload on the line at once.
const AT_ONCE: usize = 4;
/// The record is written this often at most; a crash sends the parts of this time again.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);
const BUFFER: usize = 1 << 20;
/// Bytes per second of the slowest disk that is waited for.
const SLOWEST_DISK: u64 = 4 << 20;
/// Time limit for reading a part.
const READ_LIMIT: Duration = Duration::from_secs(60);

/// The file that is delivered, as it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub path: PathBuf,
    pub size: u64,
    /// Unix milliseconds.
    pub modified: u64,
}

impl Source {
    pub async fn look(path: &Path) -> Result<Self, StoreError> {
        let (at, what) = (path.to_owned(), format!("the file to deliver, {}", path.display()));
        let look = move || {
            let found = std::fs::metadata(&at)?;
            let modified = unix_ms_of(found.modified().unwrap_or(SystemTime::UNIX_EPOCH));
            Ok(Self { path: at, size: found.len(), modified })
        };
        files::on_disk_within(READ_LIMIT, look).await.map_err(StoreError::local(what))
    }

    /// The bytes of a part, and their MD5.
    pub async fn read(&self, at: u64, length: u64) -> Result<(Bytes, String), StoreError> {
        let path = self.path.clone();
        let what = format!("the file to deliver, {}", path.display());
        let read = move || {
            let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
            File::open(path)?.read_exact_at(&mut bytes, at)?;
            let md5 = md5_of(&bytes);
            Ok((Bytes::from(bytes), md5))
        };
        files::on_disk_within(READ_LIMIT, read).await.map_err(StoreError::local(what))
    }

    /// The MD5 of the whole file in hexadecimal digits.
    pub async fn md5(&self) -> Result<String, StoreError> {
        let path = self.path.clone();
        let what = format!("the file to deliver, {}", path.display());
        let read = move || {
            let (mut file, mut hash, mut buffer) = (File::open(path)?, Md5::new(), vec![0; BUFFER]);
            loop {
                match file.read(&mut buffer)? {
                    0 => return Ok(hex::encode(hash.finalize())),
                    read => hash.update(&buffer[..read]),
                }
            }
        };
        let limit = READ_LIMIT + Duration::from_secs(self.size / SLOWEST_DISK);
        files::on_disk_within(limit, read).await.map_err(StoreError::local(what))
    }

    /// Whether an upload in parts that was begun earlier is of this very file.
    pub fn is_of(&self, transfer: &PartTransfer) -> bool {
        (transfer.size, transfer.modified) == (self.size, self.modified)
    }
}

/// Sends the parts that the store does not have. What it has taken is in the record when this returns, also where it fails
/// or is dropped.
pub(super) async fn send_parts(
    store: &Store,
    entry: &UploadEntry,
    source: &Source,
    transfer: PartTransfer,
    permits: &Semaphore,
) -> Result<PartTransfer, StoreError> {
    let plan = PartPlan::with(transfer.size, transfer.part_size);
    let missing: Vec<usize> = (0..plan.count()).filter(|index| !transfer.parts.contains_key(index)).collect();
    let (key, id) = (entry.record().key, transfer.id.clone());
    let notes = PartNotes { entry, state: Mutex::new((transfer, Instant::now())) };
    let send = |index: usize| {
        let (notes, key, id) = (&notes, &key, &id);
        async move {
            // Bounds what all uploads together hold in memory.
            let _permit = permits.acquire().await.map_err(|_| StoreError::Stopped)?;
            let (at, length) = plan.part(index);
            let (bytes, md5) = source.read(at, length).await?;
            let sent = SentPart { id: store.put_part(key, id, index, bytes).await?, md5 };
            notes.add(index, sent);
            Ok::<_, StoreError>(())
        }
    };
    let all = futures::stream::iter(missing.into_iter().map(send)).buffer_unordered(AT_ONCE);
    let ended = all.try_collect::<()>().await;
    let transfer = notes.transfer();
    drop(notes);
    ended.map(|()| transfer)
}

struct PartNotes<'a> {
    entry: &'a UploadEntry,
    /// And when it was written last.
    state: Mutex<(PartTransfer, Instant)>,
}

impl PartNotes<'_> {
    fn add(&self, index: usize, part: SentPart) {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.0.parts.insert(index, part);
        if state.1.elapsed() >= NOTE_INTERVAL {
            state.1 = Instant::now();
            let transfer = state.0.clone();
            self.entry.change(|record| record.transfer = Some(transfer));
        }
    }

    fn transfer(&self) -> PartTransfer {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner).0.clone()
    }
}

impl Drop for PartNotes<'_> {
    fn drop(&mut self) {
        let transfer = self.transfer();
        self.entry.change(|record| record.transfer = Some(transfer));
    }
}
