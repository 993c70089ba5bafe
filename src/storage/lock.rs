//! One daemon on a state directory: two would record, tell and clean up the same things.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file in `state_dir`.
const NAME: &str = "lock";
/// Whoever only looks ([`holder`]) has the lock for some microseconds; a daemon that starts just then tries again after
/// this long.
const LOOKED_AT: Duration = Duration::from_millis(20);
const TRIES: u32 = 3;

/// Holds the directory until it is dropped, or the process is gone.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

/// Why the directory cannot be held.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("{path} is held by another recorder ({holder}); give each one a recorder.id and a recorder.state_dir of its own", path = .path.display())]
    Held { path: PathBuf, holder: String },
    #[error("cannot lock {path}: {source}", path = .path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl StateLock {
    /// Takes the lock of `state_dir`, which must be there.
    ///
    /// # Errors
    /// Where another process holds it, or the file cannot be made or locked.
    pub fn take(state_dir: &Path) -> Result<Self, LockError> {
        let path = state_dir.join(NAME);
        let failed = |source| LockError::Io { path: path.clone(), source };
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        match lock(&file, || std::thread::sleep(LOOKED_AT)) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockError::Held { path, holder: written_by(&mut file) }),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
        writeln!(file, "pid {} on {}", std::process::id(), host()).map_err(failed)?;
        Ok(Self { _file: file })
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

/// Who runs on `state_dir`, in words (`pid 12 on recorder-1`), without waiting and without keeping the lock. `None`: nobody,
/// or nobody knows, where the lock cannot be looked at.
#[must_use]
pub fn holder(state_dir: &Path) -> Option<String> {
    let mut file = File::open(state_dir.join(NAME)).ok()?;
    // Shared, so that two who look do not take each other for a daemon; given back when the file is closed, in a moment.
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(written_by(&mut file)),
        _ => None,
    }
}

/// What the one who holds the lock has written into it.
fn written_by(file: &mut File) -> String {
    let mut holder = String::new();
    // Only for a message.
    let _ = io::Read::by_ref(file).take(200).read_to_string(&mut holder);
    let holder = holder.trim();
    if holder.is_empty() { "it has just been started".to_owned() } else { holder.to_owned() }
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_held_by_one_only() {
        let dir = tempfile::tempdir().unwrap();
        let lock = StateLock::take(dir.path()).unwrap();
        let error = StateLock::take(dir.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("pid {}", std::process::id())) && error.contains("state_dir"), "{error}");
        drop(lock);
        StateLock::take(dir.path()).unwrap();
    }

    #[test]
    fn a_look_names_the_holder_and_takes_nothing() {
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
    fn somebody_who_looks_keeps_no_daemon_from_starting() {
        let dir = tempfile::tempdir().unwrap();
        drop(StateLock::take(dir.path()).unwrap());
        let looking = File::open(dir.path().join(NAME)).unwrap();
        looking.try_lock_shared().unwrap();
        // Two who look see each other's lock and no daemon.
        assert_eq!(holder(dir.path()), None);
        let daemon = File::options().write(true).open(dir.path().join(NAME)).unwrap();
        let mut looking = Some(looking);
        lock(&daemon, || drop(looking.take())).unwrap();
        assert!(looking.is_none());
    }
}
