//! Whose a rig's directory is, and by what its processes are known: written when a rig opens, read by `leftovers.rs`
//! after a daemon that was killed.

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

/// What the directories of all rigs begin with.
pub const PREFIX: &str = "pnm-";
/// The file within the rig's directory that says whose it is.
pub const FILE: &str = "owner.json";
/// What is written here; a file of another version is somebody else's.
const VERSION: u32 = 1;

/// Who opened a rig, and what may be left of it beyond its directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RigOwner {
    version: u32,
    /// See [`name`].
    pub owner: String,
    /// The directory as its processes know it.
    pub dir: String,
    /// Of the daemon.
    pub pid: u32,
    /// When that was started, in clock ticks since the host was: with its pid and [`boot_id`] it is one process.
    pub started: Option<u64>,
    pub boot_id: String,
    /// Once the X server runs.
    pub display: Option<XServer>,
}

/// What an X server leaves in `/tmp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct XServer {
    pub number: u32,
    pub pid: u32,
    /// `None`: it was not there.
    pub socket: Option<FileId>,
}

/// Tells a file from a later one of the same name, whose inode may be the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileId {
    inode: u64,
    /// `st_mtim`: a socket's is when it was made.
    made_s: i64,
    made_ns: i64,
}

impl From<&fs::Metadata> for FileId {
    fn from(file: &fs::Metadata) -> Self {
        Self { inode: file.ino(), made_s: file.mtime(), made_ns: file.mtime_nsec() }
    }
}

/// The owner of a daemon's rigs: where it keeps its state, which is its alone while it runs.
#[must_use]
pub fn name(state_dir: &Path) -> String {
    std::path::absolute(state_dir).unwrap_or_else(|_| state_dir.to_owned()).display().to_string()
}

/// What the directories of an owner's rigs begin with: so one is known even in the moments in which it has no owner file, just
/// made or nearly removed. An empty owner has no mark.
#[must_use]
pub fn prefix(owner: &str) -> String {
    if owner.is_empty() {
        return PREFIX.to_owned();
    }
    format!("{PREFIX}{}-", hex::encode(&Sha256::digest(owner)[..4]))
}

impl RigOwner {
    /// What the file says. `None`: nothing that this version wrote.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|owner: &Self| owner.version == VERSION)
    }

    /// Of a directory that bears an owner's [`prefix`], but no file that says more.
    #[must_use]
    pub fn of_nameless(dir: &Path, owner: &str) -> Option<Self> {
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

    /// Whether the daemon may still run, as far as this process table knows.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.boot_id == boot_id() && self.started.is_some() && started(self.pid) == self.started
    }
}

/// What keeps others away from a directory while its rig is open: a lock that ends with the daemon, however that ends.
/// It says so beyond a container's own process table, too, and systemd-tmpfiles heeds it.
///
/// # Errors
/// `WouldBlock` where a rig is open in it; others where the directory is gone or its file system has no locks.
pub fn lock(dir: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = File::from(rustix::fs::open(dir, flags, Mode::empty())?);
    dir.try_lock()?;
    Ok(dir)
}

/// A directory that is known as one's own, for as long as this lives.
#[derive(Debug)]
pub struct RigDirectory(Box<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    owner: RigOwner,
    /// Some file systems have none.
    _lock: Option<File>,
}

impl RigDirectory {
    /// Says whose the directory of a rig is, before anything is started in it.
    ///
    /// # Errors
    /// Where the owner file cannot be written.
    pub async fn claim(dir: &Path, owner: &str) -> io::Result<Self> {
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
        let claim = Self(Box::new(Inner { dir: dir.to_owned(), owner, _lock: lock(dir).ok() }));
        claim.write().await?;
        Ok(claim)
    }

    /// Adds the X server.
    ///
    /// # Errors
    /// Where the owner file cannot be written anew; the one that was there stays.
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
    async fn what_is_claimed_is_read_again_and_locked() {
        let dir = tempfile::tempdir().unwrap();
        let claim = RigDirectory::claim(dir.path(), "/var/state").await.unwrap();
        let read = RigOwner::parse(&fs::read(dir.path().join(FILE)).unwrap()).unwrap();
        assert_eq!(read, claim.0.owner);
        assert_eq!((read.owner.as_str(), read.dir.as_str()), ("/var/state", dir.path().to_str().unwrap()));
        assert!(read.runs(), "this very process");
        assert!(!RigOwner { boot_id: "before".into(), ..read.clone() }.runs());
        assert!(!RigOwner { started: read.started.map(|ticks| ticks + 1), ..read }.runs(), "its pid was given away");
        assert_eq!(lock(dir.path()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(claim);
        assert!(lock(dir.path()).is_ok());
    }

    #[test]
    fn a_file_of_another_kind_or_version_says_nothing() {
        let text = r#"{"version":1,"owner":"o","dir":"/tmp/pnm-a","pid":1,"started":2,"boot_id":"b","display":null}"#;
        assert!(RigOwner::parse(text.as_bytes()).is_some());
        for other in ["", "{}", "owner", &text.replace(":1,", ":2,"), &text.replace(r#""owner":"o","#, ""), &text[1..]]
        {
            assert_eq!(RigOwner::parse(other.as_bytes()), None, "{other}");
        }
    }
}
