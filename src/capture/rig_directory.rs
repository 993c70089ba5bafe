//! The owner file of a rig's directory: written when a rig opens, read by `cleanup.rs` after a daemon was killed.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::capture::video::display::Display;
use crate::process::procfs::{boot_id, started};
use crate::storage::files;

/// Common prefix of the names of all rig directories.
pub const PREFIX: &str = "pnm-";
/// Name of the owner file within the rig's directory.
pub const FILE: &str = "owner.json";
/// Version of the owner file; files of other versions are left alone.
const VERSION: u32 = 1;

/// The owner file: who opened a rig, and what the rig may leave outside of its directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RigOwner {
    version: u32,
    /// See [`name`].
    pub owner: String,
    /// Path of the rig's directory as its processes were given it.
    pub dir: String,
    /// Process id of the daemon.
    pub pid: u32,
    /// Start time of the daemon in clock ticks since boot. With pid and [`boot_id`] it identifies one process.
    pub started: Option<u64>,
    pub boot_id: String,
    /// Set once the X server runs.
    pub display: Option<XServer>,
}

/// An X server, and its files in `/tmp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct XServer {
    pub number: u32,
    pub pid: u32,
    /// `None`: the socket was not there.
    pub socket: Option<FileId>,
}

/// Tells a file from a later one with the same name and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileId {
    inode: u64,
    /// `st_mtim`: the creation time of a socket.
    made_s: i64,
    made_ns: i64,
}

impl From<&fs::Metadata> for FileId {
    fn from(file: &fs::Metadata) -> Self {
        Self { inode: file.ino(), made_s: file.mtime(), made_ns: file.mtime_nsec() }
    }
}

/// The owner name of a daemon's rigs: the absolute path of its state directory, which only one daemon uses at a time.
#[must_use]
pub fn name(state_dir: &Path) -> String {
    std::path::absolute(state_dir).unwrap_or_else(|_| state_dir.to_owned()).display().to_string()
}

/// Prefix of the directory names of an owner's rigs. It identifies a directory without owner file: one just created, or
/// almost removed. An empty owner gets [`PREFIX`] alone.
#[must_use]
pub fn prefix(owner: &str) -> String {
    if owner.is_empty() {
        return PREFIX.to_owned();
    }
    format!("{PREFIX}{}-", hex::encode(&Sha256::digest(owner)[..4]))
}

impl RigOwner {
    /// Parses an owner file. `None`: this version did not write it.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|owner: &Self| owner.version == VERSION)
    }

    /// The owner of a directory that has the owner's [`prefix`] but no owner file.
    #[must_use]
    pub fn of_directory_name(dir: &Path, owner: &str) -> Option<Self> {
        let marked = !owner.is_empty() && dir.file_name()?.to_str()?.starts_with(&prefix(owner));
        marked.then(|| Self {
            version: VERSION,
            owner: owner.to_owned(),
            dir: dir.display().to_string(),
            pid: 0,
            started: None,
            boot_id: boot_id(),
            display: None,
        })
    }

    /// Whether the daemon may still run, by this process table.
    #[must_use]
    pub fn daemon_runs(&self) -> bool {
        self.boot_id == boot_id() && self.started.is_some() && started(self.pid) == self.started
    }
}

/// Locks the directory of an open rig. The kernel releases the lock when the daemon ends. Unlike pids, the lock is also
/// seen from other containers, and systemd-tmpfiles respects it.
///
/// # Errors
/// `WouldBlock` where the lock is held, so a rig is open; others where the directory is gone or its file system has no
/// locks.
pub fn lock(dir: &Path) -> io::Result<DirectoryLock> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = File::from(rustix::fs::open(dir, flags, Mode::empty())?);
    dir.try_lock()?;
    Ok(DirectoryLock(dir))
}

/// The lock of a directory; released when dropped.
#[derive(Debug)]
pub struct DirectoryLock(File);

impl Drop for DirectoryLock {
    /// Unlocks by name: a child that another thread is just starting has a copy of the descriptor until it runs its
    /// program, and would hold the lock as long.
    fn drop(&mut self) {
        // Nothing else can be done: where it fails, closing the file unlocks it.
        let _ = self.0.unlock();
    }
}

/// The directory of an open rig, locked and with an owner file.
#[derive(Debug)]
pub struct RigDirectory(Box<HeldDirectory>);

#[derive(Debug)]
struct HeldDirectory {
    dir: PathBuf,
    owner: RigOwner,
    /// `None`: the file system has no locks.
    _lock: Option<DirectoryLock>,
}

impl RigDirectory {
    /// Writes the owner file before anything is started in the directory.
    ///
    /// # Errors
    /// Where the owner file cannot be written.
    pub async fn acquire(dir: &Path, owner: &str) -> io::Result<Self> {
        let pid = std::process::id();
        let owner = RigOwner {
            version: VERSION,
            owner: owner.to_owned(),
            dir: dir.display().to_string(),
            pid,
            started: started(pid),
            boot_id: boot_id(),
            display: None,
        };
        let acquire = Self(Box::new(HeldDirectory { dir: dir.to_owned(), owner, _lock: lock(dir).ok() }));
        acquire.write().await?;
        Ok(acquire)
    }

    /// Adds the X server to the owner file.
    ///
    /// # Errors
    /// Where the owner file cannot be replaced; the old one stays.
    pub async fn add(&mut self, display: &Display) -> io::Result<()> {
        let (number, pid) = (display.number(), display.pid());
        let socket =
            fs::symlink_metadata(crate::capture::video::display::socket(number)).ok().as_ref().map(FileId::from);
        self.0.owner.display = Some(XServer { number, pid, socket });
        self.write().await
    }

    async fn write(&self) -> io::Result<()> {
        let (path, bytes) = (self.0.dir.join(FILE), serde_json::to_vec(&self.0.owner)?);
        tokio::task::spawn_blocking(move || files::write(&path, &bytes)).await.map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_acquired_directory_is_locked_and_its_owner_file_is_readable() {
        let dir = tempfile::tempdir().unwrap();
        let acquire = RigDirectory::acquire(dir.path(), "/var/state").await.unwrap();
        let read = RigOwner::parse(&fs::read(dir.path().join(FILE)).unwrap()).unwrap();
        assert_eq!(read, acquire.0.owner);
        assert_eq!((read.owner.as_str(), read.dir.as_str()), ("/var/state", dir.path().to_str().unwrap()));
        assert!(read.daemon_runs(), "this very process");
        assert!(!RigOwner { boot_id: "before".into(), ..read.clone() }.daemon_runs());
        assert!(
            !RigOwner { started: read.started.map(|ticks| ticks + 1), ..read }.daemon_runs(),
            "its pid was given away"
        );
        assert_eq!(lock(dir.path()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(acquire);
        assert!(lock(dir.path()).is_ok());
    }

    #[test]
    fn a_child_that_was_just_started_does_not_hold_the_lock_of_a_closed_directory() {
        let dir = tempfile::tempdir().unwrap();
        let directory = lock(dir.path()).unwrap();
        let _of_child = directory.0.try_clone().unwrap();
        drop(directory);
        assert!(lock(dir.path()).is_ok());
    }

    #[test]
    fn a_file_of_another_kind_or_version_is_ignored() {
        let text = r#"{"version":1,"owner":"o","dir":"/tmp/pnm-a","pid":1,"started":2,"boot_id":"b","display":null}"#;
        assert!(RigOwner::parse(text.as_bytes()).is_some());
        for other in ["", "{}", "owner", &text.replace(":1,", ":2,"), &text.replace(r#""owner":"o","#, ""), &text[1..]]
        {
            assert_eq!(RigOwner::parse(other.as_bytes()), None, "{other}");
        }
    }
}
