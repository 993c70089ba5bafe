//! Removes what the rigs of a killed daemon, or of a crashed host, leave behind: directories, the X lock and socket,
//! processes. The next start of the daemon removes its own rigs and nothing else.
//!
//! The kernel ends a rig's direct children with the daemon (`process/child.rs`). Chrome's own children end when they
//! notice; a stopped one does not. Nothing is left in `/dev/shm`: the shared memory of PulseAudio and Chrome has no
//! name there, and the segments that Chrome shares with the X server are marked for removal as soon as both have
//! attached them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::ops::AddAssign;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::capture::process_tag::ProcessTag;
use crate::capture::rig_directory::{self, FileId, PREFIX, RigOwner, XServer};
use crate::capture::video::display;
use crate::codes;
use crate::process::procfs;

/// Time limit for killed processes to end; the kernel is slower only when it waits for a disk or a driver.
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// Size limit of an owner file in bytes; none is as large.
const FILE_LIMIT: u64 = 64 * 1024;

/// What was removed, for the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CleanupReport {
    /// Rig directories removed.
    pub rigs: u32,
    /// Processes killed.
    pub processes: u32,
    /// Displays whose lock or socket was removed.
    pub displays: u32,
    /// Rigs that could not be removed completely; the log says why.
    pub kept: u32,
}

impl AddAssign for CleanupReport {
    fn add_assign(&mut self, other: Self) {
        let Self { rigs, processes, displays, kept } = other;
        self.rigs += rigs;
        self.processes += processes;
        self.displays += displays;
        self.kept += kept;
    }
}

/// Removes the rigs in `temp_dir` that `owner` (see [`rig_directory::name`]) opened, and their processes. The caller
/// holds the lock that makes it the only daemon with that name. Open rigs are skipped nevertheless.
pub async fn clean_up(temp_dir: &Path, owner: &str) -> CleanupReport {
    let (temp_dir, owner) = (temp_dir.to_owned(), owner.to_owned());
    tokio::task::spawn_blocking(move || clean_up_blocking(&temp_dir, &owner)).await.unwrap_or_else(|error| {
        tracing::warn!(code = %codes::CLEANUP_NOT_DONE, %error, "what killed recorders have left was not looked for");
        CleanupReport::default()
    })
}

fn clean_up_blocking(temp_dir: &Path, owner: &str) -> CleanupReport {
    let mut report = CleanupReport::default();
    let boot_id = procfs::boot_id();
    let entries = match fs::read_dir(temp_dir) {
        Ok(entries) => entries,
        Err(error) => {
            let dir = temp_dir.display();
            tracing::warn!(
                code = %codes::CLEANUP_NOT_DONE, %dir, %error,
                "cannot look for what killed recorders have left: this directory cannot be listed"
            );
            return report;
        }
    };
    for entry in entries.flatten().filter(|entry| entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes())) {
        let dir = entry.path();
        let Some(rig) = owner_of(&dir, owner).filter(|rig| is_from(rig, &dir, owner)) else { continue };
        // Held until the directory is gone, so that only one of two cleanups removes it.
        let lock = rig_directory::lock(&dir);
        let open = lock.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        if open || rig.daemon_runs() {
            tracing::debug!(dir = %dir.display(), pid = rig.pid, "a rig is open here, it stays");
            continue;
        }
        match remove(&dir, &rig, rig.boot_id == boot_id, &mut report) {
            Ok(()) => report.rigs += 1,
            Err(why) => {
                report.kept += 1;
                let dir = dir.display();
                tracing::warn!(
                    code = %codes::LEFTOVER_KEPT, %dir, why,
                    "what a killed recorder has left cannot be removed, remove it by hand"
                );
            }
        }
    }
    report
}

/// The owner of the rig in this directory. `None` where this user does not own it, or neither owner file nor name tell.
fn owner_of(dir: &Path, owner: &str) -> Option<RigOwner> {
    let mine = |file: &fs::Metadata| file.uid() == rustix::process::geteuid().as_raw();
    // A symbolic link is neither a directory nor a file here, so it is not followed.
    fs::symlink_metadata(dir).ok().filter(|dir| dir.is_dir() && mine(dir))?;
    let path = dir.join(rig_directory::FILE);
    match fs::symlink_metadata(&path) {
        Ok(file) if file.is_file() && mine(&file) && file.len() <= FILE_LIMIT => {
            RigOwner::parse(&fs::read(&path).ok()?)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => RigOwner::of_directory_name(dir, owner),
        Ok(_) | Err(_) => None,
    }
}

/// Whether `owner` opened the rig in `dir`. A directory whose owner file names another directory is a copy.
fn is_from(rig: &RigOwner, dir: &Path, owner: &str) -> bool {
    !owner.is_empty() && rig.owner == owner && Path::new(&rig.dir).file_name() == dir.file_name()
}

/// Ends the rig's processes and removes its files. After a reboot only files are left.
fn remove(dir: &Path, rig: &RigOwner, same_boot: bool, report: &mut CleanupReport) -> Result<(), String> {
    if same_boot {
        report.processes += end_all(&ProcessTag::of(&rig.dir))?;
    }
    if let Some(server) = &rig.display {
        report.displays += u32::from(remove_display(server)?);
    }
    remove_dir(dir)?;
    tracing::debug!(dir = %dir.display(), pid = rig.pid, "removed what a killed recorder has left");
    Ok(())
}

/// Removes the directory; the owner file goes last, so that an interrupted removal is found again.
fn remove_dir(dir: &Path) -> Result<(), String> {
    let failed = |path: PathBuf| move |error: io::Error| format!("{}: {error}", path.display());
    for entry in fs::read_dir(dir).map_err(failed(dir.to_owned()))? {
        let entry = entry.map_err(failed(dir.to_owned()))?;
        let path = entry.path();
        if entry.file_name() == rig_directory::FILE {
            continue;
        }
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let removed = if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(failed(path))?;
    }
    fs::remove_dir_all(dir).map_err(failed(dir.to_owned()))
}

/// Kills every process with the tag and waits until all are gone. Returns their number.
fn end_all(tag: &ProcessTag) -> Result<u32, String> {
    let end = Instant::now() + KILL_LIMIT;
    let mut killed = BTreeSet::new();
    loop {
        // A process may have forked between the search and the kill.
        let found = processes_with(tag)?;
        if found.is_empty() {
            return Ok(u32::try_from(killed.len()).unwrap_or(u32::MAX));
        }
        for (pid, process) in &found {
            match rustix::process::pidfd_send_signal(process, Signal::KILL) {
                // The process may have ended by itself.
                Ok(()) | Err(Errno::SRCH) => killed.insert(*pid),
                Err(error) => return Err(format!("process {pid} cannot be killed: {error}")),
            };
        }
        for (pid, process) in &found {
            if !gone_by(process, end) {
                return Err(format!("process {pid} still runs {} s after it was killed", KILL_LIMIT.as_secs()));
            }
        }
    }
}

/// Every process with the tag, by pidfd: a handle that stays valid when its pid is reused.
fn processes_with(tag: &ProcessTag) -> Result<Vec<(u32, OwnedFd)>, String> {
    let bears = |pid: u32| {
        // A file that cannot be read counts as empty.
        let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        tag.matches(&read("environ"), &read("cmdline"))
    };
    let processes = fs::read_dir("/proc").map_err(|error| format!("cannot look for processes in /proc: {error}"))?;
    let pids = processes.flatten().filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok());
    let mut found = Vec::new();
    for pid in pids.filter(|pid| *pid != std::process::id() && bears(*pid)) {
        let Some(handle) = Pid::from_raw(pid.cast_signed()) else { continue };
        match rustix::process::pidfd_open(handle, PidfdFlags::empty()) {
            // Checked again: the pid may have been reused before `pidfd_open`. If the process has ended since, the
            // signal has no effect.
            Ok(handle) if bears(pid) => found.push((pid, handle)),
            Ok(_) | Err(Errno::SRCH) => {}
            Err(error) => return Err(format!("no handle on process {pid} (pidfd_open, Linux 5.3): {error}")),
        }
    }
    Ok(found)
}

/// Waits until `end` for a process to exit, which makes its pidfd readable (`pidfd_open(2)`).
fn gone_by(process: &OwnedFd, end: Instant) -> bool {
    loop {
        let timeout = Timespec::try_from(end.saturating_duration_since(Instant::now())).ok();
        match rustix::event::poll(&mut [PollFd::new(process, PollFlags::IN)], timeout.as_ref()) {
            Err(Errno::INTR) => {}
            ready => return ready.is_ok_and(|ready| ready > 0),
        }
    }
}

/// Removes lock and socket of this X server; returns whether there were any. Files of a later X server with the same
/// number stay.
fn remove_display(server: &XServer) -> Result<bool, String> {
    let uid = rustix::process::geteuid().as_raw();
    let (socket, lock) = (display::socket(server.number), display::lock(server.number));
    let mut any = false;
    let mut unlink = |path: &Path| match fs::remove_file(path) {
        Ok(()) => {
            any = true;
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("{}: {error}", path.display())),
    };
    let is_stale_socket = |file: &fs::Metadata| {
        file.uid() == uid && file.file_type().is_socket() && server.socket == Some(FileId::from(file))
    };
    // If the X server outlived the daemon, `end_all` has killed it: it has the tag.
    if fs::symlink_metadata(&socket).is_ok_and(|file| is_stale_socket(&file)) {
        unlink(&socket)?;
    }
    if fs::symlink_metadata(&lock).is_ok_and(|file| file.uid() == uid && file.is_file())
        && fs::read_to_string(&lock)
            .is_ok_and(|text| is_stale(&text, server.pid, procfs::started(server.pid).is_some()))
    {
        unlink(&lock)?;
    }
    Ok(any)
}

/// Whether an X lock belongs to a server that is gone. The lock file holds the server's pid in ten columns. While a
/// process with that pid runs, it may be another X server.
fn is_stale(lock: &str, server: u32, running: bool) -> bool {
    !running && lock.trim().parse() == Ok(server)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    const ME: &str = "/var/lib/recorder/.state-node_01";

    /// The rig directory of a daemon that is gone, and the content of its owner file.
    fn rig_dir(temp: &Path, name: &str, owner: &str) -> (PathBuf, serde_json::Value) {
        let dir = temp.join(name);
        fs::create_dir_all(dir.join("chrome/Default")).unwrap();
        fs::write(dir.join("chrome/Default/History"), "x").unwrap();
        let text = serde_json::json!({
            "version": 1, "owner": owner, "dir": dir, "pid": u32::MAX, "started": 1, "boot_id": "an earlier one",
            "display": null
        });
        fs::write(dir.join(rig_directory::FILE), text.to_string()).unwrap();
        (dir, text)
    }

    fn names(dir: &Path) -> BTreeSet<String> {
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[tokio::test]
    async fn own_rigs_are_removed_and_all_else_is_kept() {
        let temp = tempfile::tempdir().unwrap();
        let temp = temp.path();
        rig_dir(temp, "pnm-mine", ME);
        rig_dir(temp, "pnm-mine-too", ME);
        rig_dir(temp, "pnm-foreign", "/var/lib/recorder/.state-node_02");
        rig_dir(temp, "pnm-nobodys", "");
        rig_dir(temp, "other", ME);
        let (copy, text) = rig_dir(temp, "pnm-copy", ME);
        fs::write(copy.join(rig_directory::FILE), text.to_string().replace("pnm-copy", "pnm-mine")).unwrap();
        let (next, text) = rig_dir(temp, "pnm-next-version", ME);
        fs::write(next.join(rig_directory::FILE), text.to_string().replace("\"version\":1", "\"version\":2")).unwrap();
        fs::write(rig_dir(temp, "pnm-torn", ME).0.join(rig_directory::FILE), r#"{"version":1,"own"#).unwrap();
        fs::remove_file(rig_dir(temp, "pnm-says-nothing", ME).0.join(rig_directory::FILE)).unwrap();
        fs::write(temp.join("pnm-file"), ME).unwrap();
        symlink(temp.join("other"), temp.join("pnm-link")).unwrap();
        let open = rig_dir(temp, "pnm-open", ME).0;
        let _open = rig_directory::lock(&open).unwrap();
        // Not followed when the directory is removed.
        symlink(temp.join("other"), temp.join("pnm-mine/chrome/link")).unwrap();

        let mut wanted = names(temp);
        let report = clean_up(temp, ME).await;
        assert_eq!(report, CleanupReport { rigs: 2, ..CleanupReport::default() });
        assert!(wanted.remove("pnm-mine") && wanted.remove("pnm-mine-too"));
        assert_eq!(names(temp), wanted);
        assert!(temp.join("other/chrome/Default/History").exists());
        assert_eq!(clean_up(temp, ME).await, CleanupReport::default());
        assert_eq!(clean_up(temp, "").await, CleanupReport::default(), "no name is nobody's");
        assert_eq!(clean_up(&temp.join("gone"), ME).await, CleanupReport::default());
    }

    #[test]
    fn a_failed_removal_names_path_and_cause() {
        let temp = tempfile::tempdir().unwrap();
        let (dir, _) = rig_dir(temp.path(), "pnm-mine", ME);
        // Tests may run as root, so a missing file is the only failure that always occurs.
        let gone = remove_dir(&dir.join("chrome/gone")).unwrap_err();
        assert!(gone.contains("chrome/gone: No such file"), "{gone}");
        assert!(dir.join(rig_directory::FILE).exists());
        remove_dir(&dir).unwrap();
        assert!(!dir.exists());
    }

    #[tokio::test]
    async fn a_directory_without_owner_file_is_recognised_by_its_name() {
        let temp = tempfile::tempdir().unwrap();
        let made = |name: String| {
            let dir = temp.path().join(name);
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("Xauthority"), "cookie").unwrap();
            dir
        };
        let ours = made(format!("{}aBcDeF", rig_directory::prefix("/var/state")));
        let others = [format!("{}aBcDeF", rig_directory::prefix("/var/other")), "pnm-aBcDeF".to_owned()].map(made);
        let report = clean_up(temp.path(), "/var/state").await;
        assert_eq!(report, CleanupReport { rigs: 1, ..CleanupReport::default() });
        assert!(!ours.exists() && others.iter().all(|dir| dir.exists()));
    }

    #[test]
    fn only_the_recorded_socket_is_removed() {
        // A display number that no server chooses by itself.
        let number = 60_000 + std::process::id() % 5_000;
        let path = display::socket(number);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let bind = || {
            drop(UnixListener::bind(&path).unwrap());
            XServer { number, pid: u32::MAX, socket: fs::symlink_metadata(&path).ok().as_ref().map(FileId::from) }
        };
        let ours = bind();
        assert_eq!(remove_display(&XServer { socket: None, ..ours }), Ok(false));
        assert!(path.exists());
        assert_eq!(remove_display(&ours), Ok(true));
        assert!(!path.exists());
        let theirs = bind();
        assert_ne!(ours.socket, theirs.socket);
        assert_eq!(remove_display(&ours), Ok(false));
        assert!(path.exists());
        assert_eq!(remove_display(&theirs), Ok(true));
    }

    #[test]
    fn a_lock_is_removed_only_if_its_own_server_is_gone() {
        assert!(is_stale("      4711\n", 4711, false));
        assert!(!is_stale("      4711\n", 4711, true), "or whoever has its number now");
        assert!(!is_stale("      4712\n", 4711, false), "another server's");
        assert!(!is_stale("", 4711, false) && !is_stale("no number\n", 4711, false));
    }
}
