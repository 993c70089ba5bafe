//! An object into a file, once: piece by piece into a hidden file, behind what an earlier attempt has of this very object,
//! checked, then renamed.
//!
//! ```text
//! what the store says of it → pieces, from where the hidden file ends ─► size, checksum → fsync → rename
//!             ▲                    ▲ cut, stalled, 5xx: as long as  │              │
//!             │                    └─ some of it comes ─────────────┘              │
//!             └── it is another object meanwhile, or other bytes came ─────────────┘
//! ```
//!
//! Where the `ETag` is a checksum, the file is compared with it. One of its form that is another is no proof, as stores that
//! encrypt give such ones: then the object is read a second time, and compared with the file. Where it is none, the size
//! decides, and what an earlier run of the program has left is not trusted.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt as _;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use crate::config::Reserve;
use crate::retry::Backoff;
use crate::storage::disk_space;
use crate::storage::files;
use crate::store::error::StoreError;
use crate::store::handle::{ObjectState, Store};
use crate::store::part_plan::{EtagChecksum, PartComparison, PartPlan, etag};
use crate::store::transfer::Source;

/// So much is written at once.
const PIECE: usize = 1 << 20;
/// Time limit for one write, and for the small steps of the disk.
const DISK_LIMIT: Duration = Duration::from_secs(60);
/// Bytes per second of the slowest disk that is waited for.
const SLOWEST_DISK: u64 = 4 << 20;
/// Tries in a row during which not a byte comes.
const TRIES: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// So often it may be another object, or come wrong, within one call.
const OBJECTS: u32 = 3;
/// What a hidden file's name ends with.
const SUFFIX: &str = ".part";

/// What is fetched, and where to.
#[derive(Clone, Copy, Debug)]
pub struct Download<'a> {
    pub store: &'a Store,
    /// The object's name below the store's URL.
    pub key: &'a str,
    /// The file; its directory must exist, and only one download may write there at a time.
    pub to: &'a Path,
    /// What must stay free on its disk.
    pub reserve: Reserve,
}

impl Download<'_> {
    /// Fetches it; what the store says of it. A file that is there and has its checksum is taken as it is. Where this fails,
    /// what has come stays for the next call, unless the disk is too small for it.
    ///
    /// # Errors
    /// [`StoreError::Missing`]: there is no such object. [`StoreError::Altered`]: other bytes come than the store tells of,
    /// or it is replaced again and again. [`StoreError::Local`]: the disk, also where its reserve would be touched.
    pub async fn run(&self, cancel: &CancellationToken) -> Result<ObjectState, StoreError> {
        let work = async {
            let mut objects = 1;
            loop {
                match self.attempt().await {
                    Err(StoreError::Altered(why)) if objects < OBJECTS => {
                        tracing::info!(key = self.key, why, "what came is not what the store has: it is fetched anew");
                        objects += 1;
                    }
                    ended => return ended,
                }
            }
        };
        cancel.run_until_cancelled(work).await.unwrap_or(Err(StoreError::Stopped))
    }

    async fn attempt(&self) -> Result<ObjectState, StoreError> {
        let state = self.store.head(self.key).await?;
        let state = state.ok_or_else(|| StoreError::Missing(self.store.url().object(self.key)))?;
        if self.is_here(&state).await? {
            return Ok(state);
        }
        let mut part = PartialFile::open(self.to, &state, self.reserve).await?;
        let limit = self.store.limit(state.size);
        let filled = tokio::time::timeout(limit, self.fill(&state, &mut part)).await;
        if let Err(error) = filled.unwrap_or(Err(StoreError::Late(limit))) {
            if matches!(&error, StoreError::Local { .. } | StoreError::Altered(_)) {
                part.remove().await;
            }
            return Err(error);
        }
        part.sync().await?;
        let source = Source::look(&part.path).await?;
        if !self.is_right(&source, &state, true).await? {
            part.remove().await;
            return Err(StoreError::Altered("its checksum is another".to_owned()));
        }
        part.rename(self.to).await?;
        Ok(state)
    }

    /// Whether an earlier attempt has fetched it.
    async fn is_here(&self, state: &ObjectState) -> Result<bool, StoreError> {
        match Source::look(self.to).await {
            Ok(found) if found.size == state.size && checksum(state).is_some() => {
                self.is_right(&found, state, false).await
            }
            _ => Ok(false),
        }
    }

    /// Has the rest come.
    async fn fill(&self, state: &ObjectState, part: &mut PartialFile) -> Result<(), StoreError> {
        let (mut backoff, mut tries) = (Backoff::new(FIRST_WAIT, LONGEST_WAIT), 0);
        let mut furthest = part.length;
        while part.length < state.size || state.size == 0 {
            let error = match self.read_on(state, part).await {
                Ok(()) => break,
                Err(error) => error,
            };
            if !matches!(&error, StoreError::Unreachable(_) | StoreError::Other(_) | StoreError::Late(_)) {
                return Err(error);
            }
            if part.length > furthest {
                (furthest, tries) = (part.length, 0);
                backoff.reset();
            }
            tries += 1;
            if tries >= TRIES {
                return Err(error);
            }
            // Nobody knows whether an object without an ETag goes on as it began; and some servers give no ranges.
            if state.etag.is_none() || error.is_without_ranges() {
                part.length = 0;
            }
            tracing::debug!(key = self.key, at = part.length, of = state.size, %error, "fetching goes on from here");
            tokio::time::sleep(backoff.wait()).await;
        }
        Ok(())
    }

    /// One request, as far as it comes.
    async fn read_on(&self, state: &ObjectState, part: &mut PartialFile) -> Result<(), StoreError> {
        let (now, mut pieces) = self.store.pieces(self.key, part.length, state.size).await?;
        let is_other = |(a, b): (&String, &String)| a != b;
        if now.size != state.size || now.etag.as_ref().zip(state.etag.as_ref()).is_some_and(is_other) {
            return Err(StoreError::Altered(format!(
                "{} bytes, {:?} instead of {} bytes, {:?}",
                now.size, now.etag, state.size, state.etag
            )));
        }
        let stall = self.store.stall();
        let mut come = BytesMut::with_capacity(PIECE);
        let ended = loop {
            let piece = match tokio::time::timeout(stall, pieces.try_next()).await {
                Ok(Ok(Some(piece))) => piece,
                Ok(Ok(None)) => break Ok(()),
                Ok(Err(error)) => break Err(error.into()),
                Err(_) => break Err(StoreError::Late(stall)),
            };
            if part.length + (come.len() + piece.len()) as u64 > state.size {
                return Err(StoreError::Altered(format!("more than {} bytes", state.size)));
            }
            come.extend_from_slice(&piece);
            if come.len() >= PIECE {
                part.write(come.split().freeze(), state.size).await?;
            }
        };
        part.write(come.freeze(), state.size).await?;
        ended?;
        if part.length < state.size {
            let (come, of) = (part.length, state.size);
            return Err(StoreError::Unreachable(format!("the answer ends after {come} of {of} bytes")));
        }
        Ok(())
    }

    /// Whether the file has the size and the checksum of the object, as far as there is one. `again`: a checksum that is
    /// another has the object read once more, which decides.
    async fn is_right(&self, file: &Source, state: &ObjectState, again: bool) -> Result<bool, StoreError> {
        if file.size != state.size {
            return Ok(false);
        }
        let plan = PartPlan::of(file.size);
        let right = match checksum(state) {
            None => return Ok(true),
            Some(EtagChecksum::Whole(expected)) => file.md5().await? == expected,
            Some(EtagChecksum::Parts(expected)) => etag(&part_md5s(file, plan).await?, false) == Some(expected),
        };
        if right || !again {
            return Ok(right);
        }
        tracing::debug!(key = self.key, "the store's checksum is another one: the object is read a second time");
        let md5s = part_md5s(file, plan).await?;
        let mut comparison = PartComparison::new(plan, &md5s);
        self.store.read(self.key, file.size, |bytes| comparison.take(&bytes)).await?;
        Ok(comparison.is_same())
    }
}

fn checksum(state: &ObjectState) -> Option<EtagChecksum> {
    EtagChecksum::of(state.etag.as_deref()?, PartPlan::of(state.size))
}

/// The MD5 of each part of a file; of an empty one that of no byte.
async fn part_md5s(file: &Source, plan: PartPlan) -> Result<Vec<String>, StoreError> {
    let mut md5s = Vec::with_capacity(plan.count().max(1));
    for index in 0..plan.count().max(1) {
        let (at, length) = plan.part(index);
        md5s.push(file.read(at, length).await?.1);
    }
    Ok(md5s)
}

/// The hidden file, as far as it has come.
struct PartialFile {
    path: PathBuf,
    file: Arc<File>,
    /// Bytes that were written.
    length: u64,
    reserve: Reserve,
}

impl PartialFile {
    /// That of this object; those of others of its name are removed.
    async fn open(to: &Path, state: &ObjectState, reserve: Reserve) -> Result<Self, StoreError> {
        let (to, state) = (to.to_owned(), state.clone());
        let what = format!("the file to fetch into, {}", to.display());
        let open = move || {
            let path = hidden(&to, &state);
            remove_parts(&to, Some(&path))?;
            let file = File::options().create(true).write(true).truncate(false).open(&path)?;
            let there = file.metadata()?.len();
            // Without a checksum at the end nobody would see what a power failure has left.
            let length = if checksum(&state).is_some() && there <= state.size { there } else { 0 };
            file.set_len(length)?;
            disk_space::require(&path, reserve, state.size - length).inspect_err(|_| drop(files::remove(&path)))?;
            Ok(Self { path, file: Arc::new(file), length, reserve })
        };
        files::on_disk_within(DISK_LIMIT, open).await.map_err(StoreError::local(what))
    }

    async fn write(&mut self, bytes: Bytes, size: u64) -> Result<(), StoreError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let (file, at, come) = (Arc::clone(&self.file), self.length, bytes.len() as u64);
        let (path, reserve, left) = (self.path.clone(), self.reserve, size - at);
        let write = move || {
            // Others write there too.
            disk_space::require(&path, reserve, left)?;
            file.write_all_at(&bytes, at)
        };
        let what = format!("what is fetched, {}", self.path.display());
        files::on_disk_within(DISK_LIMIT, write).await.map_err(StoreError::local(what))?;
        self.length += come;
        Ok(())
    }

    async fn sync(&self) -> Result<(), StoreError> {
        let (file, length) = (Arc::clone(&self.file), self.length);
        let limit = DISK_LIMIT + Duration::from_secs(length / SLOWEST_DISK);
        let sync = move || {
            file.set_len(length)?;
            file.sync_all()
        };
        let what = format!("what is fetched, {}", self.path.display());
        files::on_disk_within(limit, sync).await.map_err(StoreError::local(what))
    }

    async fn rename(self, to: &Path) -> Result<(), StoreError> {
        let (from, to) = (self.path, to.to_owned());
        let what = format!("what is fetched, {}", to.display());
        let rename = move || {
            fs::rename(&from, &to)?;
            files::fsync_dir(to.parent().unwrap_or(Path::new(".")))
        };
        files::on_disk_within(DISK_LIMIT, rename).await.map_err(StoreError::local(what))
    }

    async fn remove(self) {
        let path = self.path;
        // One that stays is found by the next attempt.
        let _ = files::on_disk_within(DISK_LIMIT, move || files::remove(&path)).await;
    }
}

/// `.NAME.xxxxxxxx.part`, of this very object.
fn hidden(to: &Path, state: &ObjectState) -> PathBuf {
    let digest = Sha256::digest(format!("{} {:?}", state.size, state.etag));
    files::hidden_beside(to, &format!(".{}{SUFFIX}", hex::encode(&digest[..4])))
}

/// Removes the hidden files of `to` but one.
fn remove_parts(to: &Path, keep: Option<&Path>) -> io::Result<()> {
    let begin = files::hidden_beside(to, ".");
    let begin = begin.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for entry in fs::read_dir(to.parent().unwrap_or(Path::new(".")))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with(&begin) && name.ends_with(SUFFIX) && Some(path.as_path()) != keep {
            files::remove(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hidden_file_is_of_one_object_only() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("a.mkv");
        let of = |size, etag: &str| hidden(&to, &ObjectState { size, etag: Some(etag.to_owned()) });
        assert_eq!(of(1, "x"), of(1, "x"));
        assert!(of(1, "x") != of(2, "x") && of(1, "x") != of(1, "y"));
        for path in [of(1, "x"), of(1, "y"), dir.path().join(".a.mkv.claim"), dir.path().join(".b.mkv.0.part")] {
            fs::write(path, "x").unwrap();
        }
        remove_parts(&to, Some(&of(1, "x"))).unwrap();
        assert!(of(1, "x").exists() && !of(1, "y").exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }
}
