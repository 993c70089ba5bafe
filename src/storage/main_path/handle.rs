//! `main_path` as the parts of the program share it.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::StatVfsMountFlags;
use tokio::sync::watch;

use crate::codes;
use crate::storage::files;
use crate::storage::main_path::abilities::StoreAbilities;
use crate::storage::main_path::identity::{DirectoryId, FoundStore, KnownStore, StoreMatch, compare};
use crate::storage::main_path::marker::{self, MARKER, MEMORY, StoreMemory};
use crate::storage::main_path::trial;

/// Why `main_path` cannot be used now.
#[derive(Debug, thiserror::Error)]
pub enum StoreFault {
    #[error("{path} cannot be used: {source}", path = path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is mounted read-only", path = .0.display())]
    ReadOnly(PathBuf),
    #[error(
        "{path} is not the file system that it was: {MARKER} is {found} in it. Mount the right one; or, if this is the right \
         one from now on, remove {memory}",
        path = path.display(), memory = memory.display()
    )]
    Other { path: PathBuf, found: &'static str, memory: PathBuf },
    #[error("{path} does not answer", path = .0.display())]
    Silent(PathBuf),
}

/// What is known of `main_path` now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStatus {
    /// Why it cannot be used; `None`: it can.
    pub fault: Option<String>,
    pub abilities: StoreAbilities,
}

/// `main_path`; clones share it.
#[derive(Clone, Debug)]
pub struct MainPath {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Absolute.
    path: PathBuf,
    /// `None`: whatever is at the path is taken for it.
    memory: Option<Memory>,
    known: Mutex<Option<NotedStore>>,
    status: watch::Sender<StoreStatus>,
}

#[derive(Debug)]
struct Memory {
    path: PathBuf,
    /// The state directory that holds the memory. In another one the memory is missing for another reason than that an
    /// operator has removed it.
    state_dir: Mutex<Option<DirectoryId>>,
}

/// What is known in this run of the program.
#[derive(Clone, Debug)]
struct NotedStore {
    store: KnownStore,
    /// It is also in the memory.
    remembered: bool,
}

impl MainPath {
    /// `main_path` of a node with this state directory. Nothing is looked at yet: see [`Self::look`].
    #[must_use]
    pub fn new(path: &Path, state_dir: &Path) -> Self {
        let memory = Memory { path: state_dir.join(MEMORY), state_dir: Mutex::default() };
        Self::with(path, Some(memory), StoreAbilities::ALL)
    }

    /// A directory that is taken as it is, with these abilities.
    #[must_use]
    pub fn unwatched(path: &Path, abilities: StoreAbilities) -> Self {
        Self::with(path, None, abilities)
    }

    fn with(path: &Path, memory: Option<Memory>, abilities: StoreAbilities) -> Self {
        let status = watch::Sender::new(StoreStatus { fault: None, abilities });
        Self { shared: Arc::new(Shared { path: files::absolute(path), memory, known: Mutex::default(), status }) }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// What [`watch`](super::watch()) has found last.
    #[must_use]
    pub fn status(&self) -> StoreStatus {
        self.shared.status.borrow().clone()
    }

    /// The status, as it changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<StoreStatus> {
        self.shared.status.subscribe()
    }

    #[must_use]
    pub fn abilities(&self) -> StoreAbilities {
        self.shared.status.borrow().abilities
    }

    /// Publishes what was found; returns what was published before.
    pub(super) fn publish(&self, status: StoreStatus) -> StoreStatus {
        let mut before = status.clone();
        self.shared.status.send_if_modified(|last| {
            before = std::mem::replace(last, status);
            *last != before
        });
        before
    }

    /// Checks that what is at the path now is `main_path`. Blocks for as long as the file system does.
    ///
    /// # Errors
    /// See [`StoreFault`].
    pub fn check(&self) -> Result<(), StoreFault> {
        if self.shared.memory.is_none() {
            return Ok(());
        }
        self.identify().map(drop)
    }

    /// Checks all of it: that it is `main_path`, may be written, and what it can do. Blocks for as long as the file
    /// system does.
    ///
    /// # Errors
    /// See [`StoreFault`].
    pub fn look(&self) -> Result<StoreAbilities, StoreFault> {
        let status = self.status();
        if self.shared.memory.is_none() {
            return Ok(status.abilities);
        }
        let changed = self.identify()?;
        let path = self.path();
        let flags = rustix::fs::statvfs(path).map_err(|error| self.io(error.into()))?.f_flag;
        if flags.contains(StatVfsMountFlags::RDONLY) {
            return Err(StoreFault::ReadOnly(path.to_owned()));
        }
        if changed || status.fault.is_some() {
            return trial::try_out(path).map_err(|error| self.io(error));
        }
        Ok(status.abilities)
    }

    /// Whether `main_path` is on another device now: it is mounted anew.
    fn identify(&self) -> Result<bool, StoreFault> {
        let Some(memory) = &self.shared.memory else { return Ok(false) };
        let path = self.path();
        let found = self.found().map_err(|error| self.io(error))?;
        let known = self.recall(memory).map_err(|error| self.io(error))?;
        let marker = match compare(known.as_ref().map(|noted| &noted.store), &found) {
            StoreMatch::Other => {
                let found = if found.marker.is_some() { "another one" } else { "not" };
                return Err(StoreFault::Other { path: path.to_owned(), found, memory: memory.path.clone() });
            }
            StoreMatch::New | StoreMatch::Same => found.marker,
            StoreMatch::MarkerMissing => None,
        };
        let remembered = known.as_ref().is_some_and(|noted| noted.remembered);
        let marker = match (marker, known) {
            (Some(marker), _) => marker,
            (None, None) => marker::write(path, &marker::new_id()).map_err(|error| self.io(error))?,
            (None, Some(noted)) => {
                match marker::write(path, &noted.store.marker) {
                    Ok(_) => tracing::warn!(
                        code = %codes::MARKER_REMOVED,
                        marker = %path.join(MARKER).display(),
                        "somebody has removed this file, by which main_path is known: it is written again; leave it there"
                    ),
                    // Its absence is noticed again at the next look.
                    Err(error) => tracing::debug!(%error, "the marker of main_path cannot be written again"),
                }
                noted.store.marker
            }
        };
        let remembered = remembered || self.remember(memory, &marker);
        let store = KnownStore { marker, directory: Some(found.directory) };
        let last = self.lock().replace(NotedStore { store, remembered });
        // Some stores behind FUSE give a directory another inode now and then.
        let device = last.and_then(|last| last.store.directory).map(|directory| directory.device);
        Ok(device != Some(found.directory.device))
    }

    fn found(&self) -> io::Result<FoundStore> {
        let path = self.path();
        let directory = directory_id(path)?;
        Ok(FoundStore { marker: marker::read(path)?, directory })
    }

    /// What is known: from this run of the program, or remembered. Where the operator has removed the memory, nothing.
    fn recall(&self, memory: &Memory) -> io::Result<Option<NotedStore>> {
        let noted = self.lock().clone();
        let remembered = match (marker::recall(&memory.path, self.path()), &noted) {
            (Err(error), None) => return Err(error),
            // The state directory's fault is not that of main_path.
            (Err(_), Some(_)) => return Ok(noted),
            (Ok(remembered), _) => remembered,
        };
        let state_dir = directory_id(files::parent(&memory.path)).ok();
        let mut before = memory.state_dir.lock().unwrap_or_else(PoisonError::into_inner);
        match (remembered, noted) {
            (Some(StoreMemory { marker, .. }), noted) => {
                *before = state_dir;
                let store = noted.map_or(KnownStore { marker, directory: None }, |noted| noted.store);
                Ok(Some(NotedStore { store, remembered: true }))
            }
            (None, Some(noted)) if noted.remembered && state_dir.is_some() && *before == state_dir => {
                tracing::warn!(
                    code = %codes::MEMORY_REMOVED, memory = %memory.path.display(),
                    "this file was removed: what is at main_path now is accepted"
                );
                Ok(None)
            }
            (None, noted) => Ok(noted),
        }
    }

    fn remember(&self, memory: &Memory, marker: &str) -> bool {
        let remembered = StoreMemory { path: self.path().to_owned(), marker: marker.to_owned() };
        match marker::remember(&memory.path, &remembered) {
            Ok(()) => {
                let state_dir = directory_id(files::parent(&memory.path)).ok();
                *memory.state_dir.lock().unwrap_or_else(PoisonError::into_inner) = state_dir;
                true
            }
            Err(error) => {
                tracing::warn!(
                    code = %codes::MAIN_PATH_NOT_REMEMBERED,
                    path = %memory.path.display(), %error,
                    "which file system main_path is cannot be written down, so after a restart a missing mount would not \
                     be noticed; look at the disk of recorder.state_dir"
                );
                false
            }
        }
    }

    fn io(&self, source: io::Error) -> StoreFault {
        StoreFault::Io { path: self.path().to_owned(), source }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<NotedStore>> {
        self.shared.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn directory_id(path: &Path) -> io::Result<DirectoryId> {
    let found = std::fs::metadata(path)?;
    Ok(DirectoryId { device: found.dev(), inode: found.ino() })
}
