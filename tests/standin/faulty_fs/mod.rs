//! A file system that shows a directory of the host, and misbehaves on command: it hangs, fails with an error number, or
//! lacks what object stores and some network shares lack. It is a FUSE server in this process.

mod server;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use fuser::{BackgroundSession, Config, INodeNo, MountOption};

use server::Server;

/// Requests that may hang at once while others are answered.
const THREADS: usize = 16;

/// Which requests a fault meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requests {
    All,
    /// Those that change something, with fsync.
    Changes,
    /// Writes into files, with fsync.
    Writes,
    /// Writes into files, as on a full disk.
    Contents,
    /// Writes into files whose names end so.
    ContentsOf(&'static str),
    Fsync,
    /// Removals of files and directories.
    Removals,
    /// Reads of files that go beyond this byte.
    ReadsBeyond(u64),
}

/// How a request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It has no answer before [`FaultyFs::heal`].
    Hang,
    /// An error number, such as `rustix::io::Errno::STALE.raw_os_error()`.
    Error(i32),
}

/// What the file system can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an operation that is there or not")]
pub struct Abilities {
    /// Files may be written at any offset, and shortened; otherwise only at their end.
    pub rewrite: bool,
    pub rename: bool,
    pub link: bool,
    pub fsync: bool,
}

impl Abilities {
    pub const ALL: Self = Self { rewrite: true, rename: true, link: true, fsync: true };
    /// Like a bucket of objects.
    pub const NONE: Self = Self { rewrite: false, rename: false, link: false, fsync: false };
}

/// A mounted file system; unmounted when dropped, and then nothing hangs on it any more.
pub struct FaultyFs {
    gate: Arc<Gate>,
    place: PathBuf,
    session: Option<BackgroundSession>,
}

impl FaultyFs {
    /// Shows `backing` at `place`; both are made where they are missing.
    pub fn mount(backing: &Path, place: &Path, abilities: Abilities) -> Self {
        for dir in [backing, place] {
            std::fs::create_dir_all(dir).unwrap();
        }
        let gate = Arc::new(Gate::default());
        let root = HashMap::from([(INodeNo::ROOT.0, PathBuf::new())]);
        let server = Server {
            backing: backing.to_owned(),
            abilities,
            gate: Arc::clone(&gate),
            paths: Mutex::new(root),
            files: Mutex::default(),
            next_handle: AtomicU64::new(1),
        };
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("faulty".into()), MountOption::DefaultPermissions];
        config.n_threads = Some(THREADS);
        config.clone_fd = true;
        let session = fuser::spawn_mount(server, place, &config)
            .unwrap_or_else(|error| panic!("no FUSE file system at {}: {error}; is /dev/fuse there?", place.display()));
        Self { gate, place: place.to_owned(), session: Some(session) }
    }

    /// From now on these requests fail so. A later call replaces an earlier one.
    pub fn break_down(&self, requests: Requests, fault: Fault) {
        self.gate.set(Some((requests, fault)));
    }

    /// From now on requests are answered, also those that hang.
    pub fn heal(&self) {
        self.gate.set(None);
    }

    /// How often a directory was synced.
    pub fn synced_directories(&self) -> usize {
        self.gate.synced_directories.load(Ordering::Relaxed)
    }

    /// Returns when this many requests have failed since the last [`Self::break_down`].
    pub async fn wait_until_failed(&self, requests: usize) {
        while self.gate.failures() < requests {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Returns when this many requests hang at once.
    pub async fn wait_until_hanging(&self, requests: usize) {
        while self.gate.hanging() < requests {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for FaultyFs {
    fn drop(&mut self) {
        self.heal();
        // Also where a process still has a file open.
        let detached = std::process::Command::new("umount").arg("-l").arg(&self.place).status();
        if !detached.is_ok_and(|status| status.success()) {
            let _ = std::process::Command::new("fusermount3").arg("-uz").arg(&self.place).status();
        }
        drop(self.session.take());
    }
}

#[derive(Default)]
struct Gate {
    synced_directories: AtomicUsize,
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    fault: Option<(Requests, Fault)>,
    hanging: usize,
    /// Requests that the fault has refused.
    failures: usize,
}

impl Gate {
    fn set(&self, fault: Option<(Requests, Fault)>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.fault, state.failures) = (fault, 0);
        drop(state);
        self.changed.notify_all();
    }

    fn failures(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).failures
    }

    fn hanging(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).hanging
    }

    /// Waits while a write into this file of the host hangs.
    fn pass_contents(&self, file: &File) -> io::Result<()> {
        self.pass(Requests::Contents)?;
        let fault = self.state.lock().unwrap_or_else(PoisonError::into_inner).fault;
        let Some((Requests::ContentsOf(end), _)) = fault else { return Ok(()) };
        let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        if path.to_string_lossy().ends_with(end) { self.pass(Requests::ContentsOf(end)) } else { Ok(()) }
    }

    /// Waits while a request of this kind hangs.
    fn pass(&self, kind: Requests) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match state.fault.filter(|(requests, _)| meets(*requests, kind)) {
                None => return Ok(()),
                Some((_, Fault::Error(number))) => {
                    state.failures += 1;
                    return Err(io::Error::from_raw_os_error(number));
                }
                Some((_, Fault::Hang)) => {
                    state.hanging += 1;
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                    state.hanging -= 1;
                }
            }
        }
    }
}

/// Whether a fault of `requests` meets a request of this kind.
fn meets(requests: Requests, kind: Requests) -> bool {
    match requests {
        Requests::All => true,
        Requests::Changes => !matches!(kind, Requests::All | Requests::ReadsBeyond(_) | Requests::ContentsOf(_)),
        Requests::Writes => matches!(kind, Requests::Contents | Requests::Fsync),
        Requests::Contents | Requests::ContentsOf(_) | Requests::Fsync | Requests::Removals => kind == requests,
        Requests::ReadsBeyond(limit) => matches!(kind, Requests::ReadsBeyond(end) if end > limit),
    }
}
