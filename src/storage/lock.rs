//! The lock of a state directory, which only one daemon may use.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Name of the file in `state_dir`.
const NAME: &str = "lock";
/// [`holder`] holds the lock for some microseconds. A daemon that starts at that moment tries again after this time.
const RETRY_AFTER: Duration = Duration::from_millis(20);
const TRIES: u32 = 3;

/// The lock; released when dropped, or by the kernel when the process ends.
#[derive(Debug)]
pub struct StateLock {
    file: File,
}

impl Drop for StateLock {
    /// Unlocks by name: a child that another thread is just starting has a copy of the descriptor until it runs its
    /// program, and would hold the lock as long.
    fn drop(&mut self) {
        // Nothing else can be done: where it fails, closing the file unlocks it.
        let _ = self.file.unlock();
    }
}

/// Why the lock cannot be acquired.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("{path} is held by another recorder ({holder}); give each one a recorder.id and a recorder.state_dir of its own", path = .path.display())]
    Held { path: PathBuf, holder: String },
    #[error("cannot lock {path}: {source}", path = .path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl StateLock {
    /// Acquires the lock of `state_dir`, which must exist.
    ///
    /// # Errors
    /// Where another process holds the lock, or the file cannot be created or locked.
    pub fn take(state_dir: &Path) -> Result<Self, LockError> {
        let path = state_dir.join(NAME);
        let failed = |source| LockError::Io { path: path.clone(), source };
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        match lock(&file, || std::thread::sleep(RETRY_AFTER)) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockError::Held { path, holder: written_by(&mut file) }),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
        writeln!(file, "pid {} on {}", std::process::id(), host()).map_err(failed)?;
        Ok(Self { file })
    }

    /// Device and inode of the file, which name it on this host until it is removed. `None`: its disk fails.
    #[must_use]
    pub fn file_id(&self) -> Option<(u64, u64)> {
        self.file.metadata().ok().map(|meta| (meta.dev(), meta.ino()))
    }
}

fn lock(file: &File, mut wait: impl FnMut()) -> Result<(), TryLockError> {
    for _ in 1..TRIES {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => wait(),
            locked => return locked,
        }
    }
    file.try_lock()
}

/// The daemon that runs on `state_dir` (`pid 12 on recorder-1`); does not wait and does not keep the lock. `None`:
/// none, or the lock cannot be read.
#[must_use]
pub fn holder(state_dir: &Path) -> Option<String> {
    let mut file = File::open(state_dir.join(NAME)).ok()?;
    // A shared lock, so that two such calls do not take each other for a daemon.
    if let Err(TryLockError::WouldBlock) = file.try_lock_shared() {
        return Some(written_by(&mut file));
    }
    // As in `StateLock::drop`.
    let _ = file.unlock();
    None
}

/// The holder's own entry in the lock file.
fn written_by(file: &mut File) -> String {
    let mut holder = String::new();
    // Only for a message, so errors are ignored.
    let _ = io::Read::by_ref(file).take(200).read_to_string(&mut holder);
    let holder = holder.trim();
    if holder.is_empty() { "it has just been started".to_owned() } else { holder.to_owned() }
}

/// The name of this host.
#[must_use]
pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_daemon_holds_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let lock = StateLock::take(dir.path()).unwrap();
        let error = StateLock::take(dir.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("pid {}", std::process::id())) && error.contains("state_dir"), "{error}");
        drop(lock);
        StateLock::take(dir.path()).unwrap();
    }

    #[test]
    fn a_child_that_was_just_started_holds_no_directory() {
        let dir = tempfile::tempdir().unwrap();
        let lock = StateLock::take(dir.path()).unwrap();
        let _of_child = lock.file.try_clone().unwrap();
        drop(lock);
        StateLock::take(dir.path()).unwrap();
    }

    #[test]
    fn holder_names_the_daemon_and_keeps_no_lock() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(holder(dir.path()), None);
        assert!(!dir.path().join(NAME).exists());
        let lock = StateLock::take(dir.path()).unwrap();
        assert!(holder(dir.path()).unwrap().starts_with(&format!("pid {} on ", std::process::id())));
        drop(lock);
        assert_eq!(holder(dir.path()), None);
        StateLock::take(dir.path()).unwrap();
    }

    #[test]
    fn holder_does_not_prevent_a_start() {
        let dir = tempfile::tempdir().unwrap();
        drop(StateLock::take(dir.path()).unwrap());
        let looking = File::open(dir.path().join(NAME)).unwrap();
        looking.try_lock_shared().unwrap();
        // Two such calls see only each other's lock, and no daemon.
        assert_eq!(holder(dir.path()), None);
        let daemon = File::options().write(true).open(dir.path().join(NAME)).unwrap();
        let mut looking = Some(looking);
        lock(&daemon, || drop(looking.take())).unwrap();
        assert!(looking.is_none());
    }
}
