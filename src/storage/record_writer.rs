//! Writes the small files of one directory, on a thread of its own: whoever changes a record waits for the disk only as
//! long as it wants to, and a disk that hangs holds up one thread and no more.
//!
//! - Only the newest content of a file is written. What is late is written when the disk takes it.
//! - Files that are changed while others are being written become the next group. A group is written by several threads
//!   and shares one fsync of the directory.
//! - A write that fails is tried again until it succeeds, or until the program ends.
//! - A file that is to be removed while it is being written never gets its name, unless the rename has begun already; then
//!   it is removed right after it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::watch;

use crate::codes;
use crate::retry::Backoff;
use crate::storage::files;

/// Threads that write the files of a group: enough to hide the latency of a network disk.
const GROUP_THREADS: usize = 16;
/// Between two attempts to write a file that the disk does not take.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(10);
/// The name of a file that never exists. No record has a space in its name.
const PROBE: &str = "probe of the disk.json";

/// Why a change is not on disk (yet). It is written when the disk takes it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    #[error("the disk has not answered within {} s; it is written when the disk does", .0.as_secs_f64())]
    Late(Duration),
    #[error("{0}; it is tried again")]
    Failed(Arc<io::Error>),
}

/// The writer of one directory; clones share it. When the last one is dropped, what waits is tried once more.
#[derive(Clone, Debug)]
pub struct RecordWriter {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    /// What the files are, for the log.
    of: &'static str,
    create_dir: bool,
    queue: Mutex<Queue>,
    /// Wakes the thread.
    added: Condvar,
    /// Changes after each group.
    written: watch::Sender<()>,
    /// Why the files are not on disk; `None` while the disk takes them in time.
    fault: watch::Sender<Option<String>>,
}

#[derive(Debug, Default)]
struct Queue {
    /// The files whose newest content is not on disk.
    files: BTreeMap<PathBuf, QueuedFile>,
    versions: u64,
    thread_runs: bool,
    /// Nobody can change a file any more.
    closed: bool,
}

#[derive(Debug)]
struct QueuedFile {
    version: u64,
    content: Content,
    /// The newest version that is on disk; 0: none of these.
    written: u64,
    /// The newest version that could not be written.
    failed: Option<(u64, Arc<io::Error>)>,
    due: Instant,
    backoff: Backoff,
}

/// What a file is to hold; `None`: it is to be removed.
type Content = Option<Arc<[u8]>>;

/// One file of a group.
#[derive(Debug)]
struct GroupFile {
    path: PathBuf,
    version: u64,
    content: Content,
}

/// One change of a file, which may not be on disk yet. Dropping it cancels nothing.
#[derive(Clone, Debug)]
#[must_use = "the change may not be on disk"]
pub struct PendingWrite {
    shared: Arc<Shared>,
    path: PathBuf,
    version: u64,
    /// Why there is nothing to write.
    refused: Option<Arc<io::Error>>,
}

impl RecordWriter {
    /// `of`: what the files are, for the log. `create_dir`: a missing directory is made, readable for this user only.
    #[must_use]
    pub fn new(dir: PathBuf, of: &'static str, create_dir: bool) -> Self {
        let shared = Shared {
            dir,
            of,
            create_dir,
            queue: Mutex::default(),
            added: Condvar::new(),
            written: watch::Sender::new(()),
            fault: watch::Sender::new(None),
        };
        Self { handle: Arc::new(Handle(Arc::new(shared))) }
    }

    /// Has `content` written to `path`, a file of the directory, readable for this user only. Replaces what was not
    /// written yet. Waits for nothing.
    pub fn write(&self, path: &Path, content: Vec<u8>) -> PendingWrite {
        self.put(path, Some(content.into()))
    }

    /// [`Self::write`], with a value as JSON.
    pub fn write_json(&self, path: &Path, value: &impl Serialize) -> PendingWrite {
        match serde_json::to_vec_pretty(value) {
            Ok(content) => self.write(path, content),
            Err(error) => self.refuse(error.into()),
        }
    }

    /// A change that is not made, for this reason.
    pub fn refuse(&self, why: io::Error) -> PendingWrite {
        PendingWrite { refused: Some(Arc::new(why)), ..self.pending_write(&self.handle.0.dir, 0) }
    }

    /// Has the file removed. Waits for nothing.
    pub fn remove(&self, path: &Path) -> PendingWrite {
        self.put(path, None)
    }

    /// Has the disk tried, by a change that changes nothing. Where it does not answer in time, that is a fault.
    pub fn try_disk(&self) -> PendingWrite {
        self.put(&self.handle.0.dir.join(PROBE), None)
    }

    /// The latest change of this file; `None` where it is on disk.
    #[must_use]
    pub fn pending(&self, path: &Path) -> Option<PendingWrite> {
        let shared = &self.handle.0;
        let version = shared.lock().files.get(path)?.version;
        Some(self.pending_write(path, version))
    }

    /// Waits until everything is on disk, at most `limit`. Returns the number of files that are not.
    pub async fn flush(&self, limit: Duration) -> usize {
        let shared = &self.handle.0;
        let mut written = shared.written.subscribe();
        let all = async { while !shared.lock().files.is_empty() && written.changed().await.is_ok() {} };
        // The number says whether it was in time.
        let _ = tokio::time::timeout(limit, all).await;
        shared.lock().files.len()
    }

    /// Why the files are not on disk; `None` while the disk takes them in time.
    #[must_use]
    pub fn fault(&self) -> watch::Receiver<Option<String>> {
        self.handle.0.fault.subscribe()
    }

    fn put(&self, path: &Path, content: Content) -> PendingWrite {
        let shared = &self.handle.0;
        let mut queue = shared.lock();
        queue.versions += 1;
        let (version, due) = (queue.versions, Instant::now());
        let file = queue.files.entry(path.to_owned()).or_insert_with(|| QueuedFile {
            version,
            content: None,
            written: 0,
            failed: None,
            due,
            backoff: Backoff::new(FIRST_RETRY, LONGEST_RETRY),
        });
        (file.version, file.content, file.due) = (version, content, due);
        if !queue.thread_runs {
            let own = Arc::clone(shared);
            let started = std::thread::Builder::new().name("records".to_owned()).spawn(move || own.run());
            queue.thread_runs = started.is_ok();
            // Without a thread the change waits for the next one.
            if let (Err(error), Some(file)) = (started, queue.files.get_mut(path)) {
                file.failed = Some((version, Arc::new(error)));
            }
        }
        shared.added.notify_one();
        self.pending_write(path, version)
    }

    fn pending_write(&self, path: &Path, version: u64) -> PendingWrite {
        PendingWrite { shared: Arc::clone(&self.handle.0), path: path.to_owned(), version, refused: None }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.added.notify_one();
    }
}

impl PendingWrite {
    /// Waits until this change or a later one is on disk.
    ///
    /// # Errors
    /// Where that takes longer than `limit`, or the disk fails.
    pub async fn within(&self, limit: Duration) -> Result<(), WriteError> {
        let mut written = self.shared.written.subscribe();
        let on_disk = async {
            loop {
                if let Some(result) = self.result() {
                    return result.map_err(WriteError::Failed);
                }
                // The sender lives as long as this.
                let _ = written.changed().await;
            }
        };
        tokio::time::timeout(limit, on_disk).await.unwrap_or_else(|_| self.late(limit))
    }

    /// Waits until this change or a later one is on disk, also through failures.
    ///
    /// # Errors
    /// Where that takes longer than `limit`.
    pub async fn settled(&self, limit: Duration) -> Result<(), WriteError> {
        let mut written = self.shared.written.subscribe();
        let on_disk = async {
            while self.refused.is_none() && self.result().is_none_or(|result| result.is_err()) {
                let _ = written.changed().await;
            }
        };
        tokio::time::timeout(limit, on_disk).await.or_else(|_| self.late(limit))?;
        self.refused.clone().map_or(Ok(()), |why| Err(WriteError::Failed(why)))
    }

    /// `None`: it is being written, or waits.
    fn result(&self) -> Option<Result<(), Arc<io::Error>>> {
        if let Some(error) = &self.refused {
            return Some(Err(Arc::clone(error)));
        }
        self.result_in(&self.shared.lock())
    }

    fn result_in(&self, queue: &Queue) -> Option<Result<(), Arc<io::Error>>> {
        match queue.files.get(&self.path) {
            None => Some(Ok(())),
            Some(file) if file.written >= self.version => Some(Ok(())),
            Some(QueuedFile { failed: Some((version, error)), .. }) if *version >= self.version => {
                Some(Err(Arc::clone(error)))
            }
            Some(_) => None,
        }
    }

    /// Notes that the disk is late, unless it has just answered.
    fn late(&self, limit: Duration) -> Result<(), WriteError> {
        let late = WriteError::Late(limit);
        let first = {
            // A group that ends after this clears the fault.
            let queue = self.shared.lock();
            if self.result_in(&queue).is_some_and(|result| result.is_ok()) {
                return Ok(());
            }
            self.shared.set_fault(&late)
        };
        if first {
            self.shared.log_fault(&late);
        }
        Err(late)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // The queue is consistent at every point that could panic.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread: writes groups until nothing is left.
    fn run(&self) {
        while let Some(group) = self.next_group() {
            let results = self.write_group(&group);
            self.settle(&group, results);
        }
    }

    /// The files that are due. `None`: nothing is left, or nobody waits for what cannot be written.
    fn next_group(&self) -> Option<Vec<GroupFile>> {
        let mut queue = self.lock();
        loop {
            let now = Instant::now();
            let due = queue.files.iter().filter(|(_, file)| file.due <= now);
            let group: Vec<_> = due
                .map(|(path, file)| GroupFile {
                    path: path.clone(),
                    version: file.version,
                    content: file.content.clone(),
                })
                .collect();
            if !group.is_empty() {
                return Some(group);
            }
            let next = queue.files.values().map(|file| file.due).min().filter(|_| !queue.closed);
            let Some(next) = next else {
                queue.thread_runs = false;
                return None;
            };
            let wait = next.saturating_duration_since(now);
            queue = self.added.wait_timeout(queue, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Writes the files, then syncs the directory. The results are in the order of the files.
    fn write_group(&self, group: &[GroupFile]) -> Vec<io::Result<()>> {
        if let Err(error) = self.directory().and_then(|()| self.probe(group)) {
            return group.iter().map(|_| Err(copy_of(&error))).collect();
        }
        let results: Vec<Mutex<io::Result<()>>> =
            group.iter().map(|_| Mutex::new(Err(io::Error::other("it was not tried")))).collect();
        let next = AtomicUsize::new(0);
        let work = || {
            let turn = || next.fetch_add(1, Ordering::Relaxed);
            while let Some((file, result)) = Some(turn()).and_then(|at| group.get(at).zip(results.get(at))) {
                *result.lock().unwrap_or_else(PoisonError::into_inner) = self.write_file(file);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..group.len().min(GROUP_THREADS) {
                // Without a further thread, the others do its part.
                let _ = std::thread::Builder::new().name("records".to_owned()).spawn_scoped(scope, work);
            }
            work();
        });
        let results = results.into_iter().map(|result| result.into_inner().unwrap_or_else(PoisonError::into_inner));
        let mut results: Vec<_> = results.collect();
        if results.iter().any(Result::is_ok)
            && let Err(error) = files::fsync_dir(&self.dir)
        {
            results.iter_mut().filter(|result| result.is_ok()).for_each(|result| *result = Err(copy_of(&error)));
        }
        results
    }

    fn directory(&self) -> io::Result<()> {
        if self.create_dir { files::create_private_dir(&self.dir) } else { Ok(()) }
    }

    /// After a fault, a group that only removes files must not end it: a read-only disk lets a missing file be removed.
    fn probe(&self, group: &[GroupFile]) -> io::Result<()> {
        if self.fault.borrow().is_none() || group.iter().any(|file| file.content.is_some()) {
            return Ok(());
        }
        // Written and synced, but never given its name.
        files::write_private_unsynced(&self.dir.join(PROBE), b"{}", || false)
    }

    fn write_file(&self, file: &GroupFile) -> io::Result<()> {
        match &file.content {
            Some(bytes) => files::write_private_unsynced(&file.path, bytes, || self.is_wanted(&file.path)),
            None => files::remove_unsynced(&file.path),
        }
    }

    /// Whether the file is not to be removed.
    fn is_wanted(&self, path: &Path) -> bool {
        self.lock().files.get(path).is_some_and(|file| file.content.is_some())
    }

    fn settle(&self, group: &[GroupFile], results: Vec<io::Result<()>>) {
        let mut failure = None;
        let all_written = {
            let mut queue = self.lock();
            for (GroupFile { path, version, .. }, result) in group.iter().zip(results) {
                let Some(file) = queue.files.get_mut(path) else { continue };
                match result {
                    Ok(()) if file.version == *version => drop(queue.files.remove(path)),
                    Ok(()) => {
                        file.written = *version;
                        file.failed = None;
                        file.backoff.reset();
                    }
                    Err(error) => {
                        let error = Arc::new(error);
                        failure = Some(Arc::clone(&error));
                        file.failed = Some((*version, error));
                        file.due = Instant::now() + file.backoff.wait();
                    }
                }
            }
            queue.files.values().all(|file| file.failed.is_none())
        };
        if let Some(error) = failure {
            let failed = WriteError::Failed(error);
            if self.set_fault(&failed) {
                self.log_fault(&failed);
            }
        } else if all_written && self.fault.send_replace(None).is_some() {
            tracing::info!(dir = %self.dir.display(), "{} are written again: the disk of recorder.state_dir answers", self.of);
        }
        self.written.send_replace(());
    }

    /// Whether it is the first fault since everything could be written.
    fn set_fault(&self, why: &WriteError) -> bool {
        self.fault.send_replace(Some(format!("{}: {why}", self.dir.display()))).is_none()
    }

    fn log_fault(&self, why: &WriteError) {
        tracing::error!(
            code = %codes::RECORDS_NOT_WRITTEN,
            dir = %self.dir.display(), %why,
            "{} cannot be written: the work goes on from memory, and a crash would lose what is not written; look at the disk of recorder.state_dir",
            self.of
        );
    }
}

/// The same error for another file of the group.
fn copy_of(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| io::Error::new(error.kind(), error.to_string()), io::Error::from_raw_os_error)
}
