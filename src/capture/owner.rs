//! Whose a rig's directory is, and by what its processes are known: written when a rig opens, read by `leftovers.rs`
//! after a daemon that was killed.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::display::Display;
use crate::storage::files;

/// What the directories of all rigs begin with.
pub const PREFIX: &str = "pnm-";
/// What every child of a rig has in its environment, and so has what that starts: the rig's directory.
pub const MARK: &str = "PNM_RIG";
/// Chrome's profile within the rig's directory.
pub const PROFILE: &str = "chrome";
/// The file within the rig's directory that says whose it is.
pub const FILE: &str = "owner.json";
/// What is written here; a file of another version is somebody else's.
const VERSION: u32 = 1;

/// Who opened a rig, and what may be left of it beyond its directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
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

/// Of this life of the kernel (random(4)); empty where `/proc` does not say.
#[must_use]
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// When this process was started, in clock ticks since the host was. `None`: it does not run (any more).
#[must_use]
pub fn started(pid: u32) -> Option<u64> {
    started_by(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// proc(5): `pid (name) state …`, where the name may hold anything and the start is the 22nd field.
fn started_by(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    // A zombie has ended, though nobody has asked how; so has what is `X`.
    if matches!(fields.next()?, "Z" | "X") { None } else { fields.nth(18)?.parse().ok() }
}

impl Owner {
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

/// How a process of a rig is known.
#[derive(Clone, Debug)]
pub struct Marks {
    environ: Vec<u8>,
    profile: Vec<u8>,
}

impl Marks {
    /// `dir`: as the processes were given it.
    #[must_use]
    pub fn of(dir: &str) -> Self {
        Self {
            environ: format!("{MARK}={dir}").into_bytes(),
            profile: format!(" --user-data-dir={dir}/{PROFILE}").into_bytes(),
        }
    }

    /// Whether a process is one of the rig's, by `/proc/PID/environ` and `/proc/PID/cmdline`.
    ///
    /// Chrome's zygotes, and all that they fork, write a title over their command line and environment: arguments with
    /// spaces between them, the profile among them, and zeroes up to the end. Only such a title counts. Who merely speaks of a
    /// profile (`grep`, a shell) has its words apart, with zeroes between.
    #[must_use]
    pub fn are_in(&self, environ: &[u8], command_line: &[u8]) -> bool {
        if environ.split(|byte| *byte == 0).any(|entry| entry == self.environ) {
            return true;
        }
        let end = command_line.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let title = &command_line[..end];
        let whole = |at: usize| matches!(title.get(at + self.profile.len()), None | Some(b' '));
        !title.contains(&0)
            && title.windows(self.profile.len()).enumerate().any(|(at, found)| found == self.profile && whole(at))
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
pub struct Claim(Box<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    owner: Owner,
    /// Some file systems have none.
    _lock: Option<File>,
}

impl Claim {
    /// Says whose the directory of a rig is, before anything is started in it.
    ///
    /// # Errors
    /// Where the owner file cannot be written.
    pub async fn stake(dir: &Path, owner: &str) -> io::Result<Self> {
        let pid = std::process::id();
        let owner = Owner {
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
        let socket = fs::symlink_metadata(super::display::socket(number)).ok().as_ref().map(FileId::from);
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
        let claim = Claim::stake(dir.path(), "/var/state").await.unwrap();
        let read = Owner::parse(&fs::read(dir.path().join(FILE)).unwrap()).unwrap();
        assert_eq!(read, claim.0.owner);
        assert_eq!((read.owner.as_str(), read.dir.as_str()), ("/var/state", dir.path().to_str().unwrap()));
        assert!(read.runs(), "this very process");
        assert!(!Owner { boot_id: "before".into(), ..read.clone() }.runs());
        assert!(!Owner { started: read.started.map(|ticks| ticks + 1), ..read }.runs(), "its pid was given away");
        assert_eq!(lock(dir.path()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(claim);
        assert!(lock(dir.path()).is_ok());
    }

    #[test]
    fn a_file_of_another_kind_or_version_says_nothing() {
        let text = r#"{"version":1,"owner":"o","dir":"/tmp/pnm-a","pid":1,"started":2,"boot_id":"b","display":null}"#;
        assert!(Owner::parse(text.as_bytes()).is_some());
        for other in ["", "{}", "owner", &text.replace(":1,", ":2,"), &text.replace(r#""owner":"o","#, ""), &text[1..]]
        {
            assert_eq!(Owner::parse(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn a_process_is_known_by_its_environment_or_by_the_title_over_it() {
        let marks = Marks::of("/tmp/pnm-a b");
        let by_environ = |environ: &str| marks.are_in(environ.as_bytes(), b"Xvfb\0");
        assert!(by_environ("HOME=/\0PNM_RIG=/tmp/pnm-a b\0"));
        for other in ["", "PNM_RIG=/tmp/pnm-a b2\0", "PNM_RIG=/tmp/pnm-a\0", "OLD_PNM_RIG=/tmp/pnm-a b\0", "\0\0\0"] {
            assert!(!by_environ(other), "{other:?}");
        }
        let by_title = |title: &str| marks.are_in(b"\0\0\0", title.as_bytes());
        assert!(by_title("/usr/lib/chromium --type=zygote --user-data-dir=/tmp/pnm-a b/chrome\0\0"));
        assert!(by_title("chrome --type=renderer --user-data-dir=/tmp/pnm-a b/chrome --no-sandbox\0"));
        for other in [
            "grep\0--\0--user-data-dir=/tmp/pnm-a b/chrome\0",
            "sh\0-c\0chrome --user-data-dir=/tmp/pnm-a b/chrome\0",
            "chrome --user-data-dir=/tmp/pnm-a b/chrome2\0",
            "chrome --user-data-dir=/tmp/pnm-a/chrome\0",
            "",
        ] {
            assert!(!by_title(other), "{other:?}");
        }
    }

    #[test]
    fn a_start_is_read_whatever_the_name_and_a_zombie_has_none() {
        let stat = |state: &str| format!("7 (a) b) {state} 1 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 8899 5 6 7\n");
        assert_eq!(started_by(&stat("S")), Some(8899));
        assert_eq!(started_by(&stat("T")), Some(8899));
        assert_eq!(started_by(&stat("Z")), None);
        assert_eq!(started_by("7 (a"), None);
    }
}
