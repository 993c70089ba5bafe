//! What the rigs of a daemon leave behind that was killed, or that went down with its host: their directories, X's lock
//! and socket, processes. The next start removes all that is its own, and nothing else.
//!
//! The kernel ends a rig's direct children with the daemon (`process.rs`) and Chrome's own end when they notice; one that
//! stands still notices nothing. Nothing is left in `/dev/shm`: PulseAudio's and Chrome's shared memory has no name there,
//! and what Chrome shares with the X server is marked for removal as soon as both have it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
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
use crate::process::procfs;

/// What killed processes may take to be gone; longer only where the kernel waits for a disk or a driver.
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// More than any owner file has, in bytes.
const FILE_LIMIT: u64 = 64 * 1024;

/// What was removed, for a line in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CleanupReport {
    /// Directories, each of which was a rig.
    pub rigs: u32,
    /// Processes that were killed.
    pub processes: u32,
    /// Displays of which a lock or a socket was left.
    pub displays: u32,
    /// Rigs of which something could not be removed; a line says what and why.
    pub kept: u32,
}

/// Removes what is left in `temp_dir` of rigs that `owner` (see [`rig_directory::name`]) opened, and the processes that belong to
/// them. The caller holds what makes it the only daemon of that name. Rigs that are open are left alone all the same.
pub async fn clean_up(temp_dir: &Path, owner: &str) -> CleanupReport {
    let (temp_dir, owner) = (temp_dir.to_owned(), owner.to_owned());
    tokio::task::spawn_blocking(move || sweep_blocking(&temp_dir, &owner)).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "what killed recorders have left was not looked for");
        CleanupReport::default()
    })
}

fn sweep_blocking(temp_dir: &Path, owner: &str) -> CleanupReport {
    let mut swept = CleanupReport::default();
    let boot_id = procfs::boot_id();
    let entries = match fs::read_dir(temp_dir) {
        Ok(entries) => entries,
        Err(error) => {
            let dir = temp_dir.display();
            tracing::warn!(%dir, %error, "cannot look for what killed recorders have left");
            return swept;
        }
    };
    for entry in entries.flatten().filter(|entry| entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes())) {
        let dir = entry.path();
        let Some(left) = owner_of(&dir, owner).filter(|left| is_from(left, &dir, owner)) else { continue };
        // Held until the directory is gone: of two that sweep, one does.
        let lock = rig_directory::lock(&dir);
        let open = lock.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        if open || left.runs() {
            tracing::debug!(dir = %dir.display(), pid = left.pid, "a rig is open here, it stays");
            continue;
        }
        match remove(&dir, &left, left.boot_id == boot_id, &mut swept) {
            Ok(()) => swept.rigs += 1,
            Err(why) => {
                swept.kept += 1;
                let dir = dir.display();
                tracing::warn!(%dir, why, "what a killed recorder has left cannot be removed, remove it by hand");
            }
        }
    }
    swept
}

/// Who opened the rig of this directory. `None` where this user does not own it, or neither it nor its name says.
fn owner_of(dir: &Path, owner: &str) -> Option<RigOwner> {
    let mine = |file: &fs::Metadata| file.uid() == rustix::process::geteuid().as_raw();
    // A symbolic link is not followed: it is neither a directory nor a file.
    fs::symlink_metadata(dir).ok().filter(|dir| dir.is_dir() && mine(dir))?;
    let path = dir.join(rig_directory::FILE);
    match fs::symlink_metadata(&path) {
        Ok(file) if file.is_file() && mine(&file) && file.len() <= FILE_LIMIT => {
            RigOwner::parse(&fs::read(&path).ok()?)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => RigOwner::of_nameless(dir, owner),
        Ok(_) | Err(_) => None,
    }
}

/// Whether the rig in `dir` was opened by `owner`. Where the file speaks of another directory, this one is a copy.
fn is_from(left: &RigOwner, dir: &Path, owner: &str) -> bool {
    !owner.is_empty() && left.owner == owner && Path::new(&left.dir).file_name() == dir.file_name()
}

/// Ends and removes all that is left of a rig; of one before the host's last start only files are.
fn remove(dir: &Path, left: &RigOwner, same_boot: bool, swept: &mut CleanupReport) -> Result<(), String> {
    if same_boot {
        swept.processes += end_all(&ProcessTag::of(&left.dir))?;
    }
    if let Some(server) = &left.display {
        swept.displays += u32::from(remove_display(server)?);
    }
    remove_dir(dir)?;
    tracing::debug!(dir = %dir.display(), pid = left.pid, "removed what a killed recorder has left");
    Ok(())
}

/// The directory with all in it; the owner file goes last, so that what is left of a try is found again.
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

/// Kills every process that bears the marks and waits until they are gone; how many there were.
fn end_all(marks: &ProcessTag) -> Result<u32, String> {
    let end = Instant::now() + KILL_LIMIT;
    let mut killed = BTreeSet::new();
    loop {
        // One may have started another between the look and the kill.
        let found = marked(marks)?;
        if found.is_empty() {
            return Ok(u32::try_from(killed.len()).unwrap_or(u32::MAX));
        }
        for (pid, process) in &found {
            match rustix::process::pidfd_send_signal(process, Signal::KILL) {
                // It may have ended by itself.
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

/// Every process that bears the marks, each by a handle that stays its own, whoever is given its number next.
fn marked(marks: &ProcessTag) -> Result<Vec<(u32, OwnedFd)>, String> {
    let bears = |pid: u32| {
        // What may not be read, or is gone, says nothing.
        let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        marks.is_on(&read("environ"), &read("cmdline"))
    };
    let processes = fs::read_dir("/proc").map_err(|error| format!("cannot look for processes in /proc: {error}"))?;
    let pids = processes.flatten().filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok());
    let mut found = Vec::new();
    for pid in pids.filter(|pid| *pid != std::process::id() && bears(*pid)) {
        let Some(handle) = Pid::from_raw(pid.cast_signed()) else { continue };
        match rustix::process::pidfd_open(handle, PidfdFlags::empty()) {
            // The second look is at the process that the handle stands for, or at one of the same number after its end:
            // then the signal goes nowhere.
            Ok(handle) if bears(pid) => found.push((pid, handle)),
            Ok(_) | Err(Errno::SRCH) => {}
            Err(error) => return Err(format!("no handle on process {pid} (pidfd_open, Linux 5.3): {error}")),
        }
    }
    Ok(found)
}

/// Waits for the end of a process, which makes its handle readable (`pidfd_open(2)`).
fn gone_by(process: &OwnedFd, end: Instant) -> bool {
    loop {
        let left = Timespec::try_from(end.saturating_duration_since(Instant::now())).ok();
        match rustix::event::poll(&mut [PollFd::new(process, PollFlags::IN)], left.as_ref()) {
            Err(Errno::INTR) => {}
            ready => return ready.is_ok_and(|ready| ready > 0),
        }
    }
}

/// Removes the lock and the socket that this X server has left; whether there was any. Another's, which has taken the
/// number since, stay.
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
    let is_left = |file: &fs::Metadata| {
        file.uid() == uid && file.file_type().is_socket() && server.socket == Some(FileId::from(file))
    };
    // Its server bore the marks, if it outlived the daemon at all, and has been killed.
    if fs::symlink_metadata(&socket).is_ok_and(|file| is_left(&file)) {
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

/// Whether an X lock is that of a server which is gone: a lock holds the pid, in ten columns. Where a process of that
/// number runs, nobody can tell whether it is another X server, or another's pid.
fn is_stale(lock: &str, server: u32, running: bool) -> bool {
    !running && lock.trim().parse() == Ok(server)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    const ME: &str = "/var/lib/recorder/.state-node_01";

    /// A rig's directory of a daemon that is gone, and what its owner file says.
    fn left(temp: &Path, name: &str, owner: &str) -> (PathBuf, serde_json::Value) {
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
    async fn ones_own_goes_and_whatever_else_looks_like_it_stays() {
        let temp = tempfile::tempdir().unwrap();
        let temp = temp.path();
        left(temp, "pnm-mine", ME);
        left(temp, "pnm-mine-too", ME);
        left(temp, "pnm-foreign", "/var/lib/recorder/.state-node_02");
        left(temp, "pnm-nobodys", "");
        left(temp, "other", ME);
        let (copy, text) = left(temp, "pnm-copy", ME);
        fs::write(copy.join(rig_directory::FILE), text.to_string().replace("pnm-copy", "pnm-mine")).unwrap();
        let (next, text) = left(temp, "pnm-next-version", ME);
        fs::write(next.join(rig_directory::FILE), text.to_string().replace("\"version\":1", "\"version\":2")).unwrap();
        fs::write(left(temp, "pnm-torn", ME).0.join(rig_directory::FILE), r#"{"version":1,"own"#).unwrap();
        fs::remove_file(left(temp, "pnm-says-nothing", ME).0.join(rig_directory::FILE)).unwrap();
        fs::write(temp.join("pnm-file"), ME).unwrap();
        symlink(temp.join("other"), temp.join("pnm-link")).unwrap();
        let open = left(temp, "pnm-open", ME).0;
        let _open = rig_directory::lock(&open).unwrap();
        // Not followed out of the directory that goes.
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
    fn what_cannot_be_removed_is_named_with_the_cause() {
        let temp = tempfile::tempdir().unwrap();
        let (dir, _) = left(temp.path(), "pnm-mine", ME);
        // Tests run as root, too, who may remove anything but what is not there.
        let gone = remove_dir(&dir.join("chrome/gone")).unwrap_err();
        assert!(gone.contains("chrome/gone: No such file"), "{gone}");
        assert!(dir.join(rig_directory::FILE).exists());
        remove_dir(&dir).unwrap();
        assert!(!dir.exists());
    }

    #[tokio::test]
    async fn a_directory_without_a_file_is_known_by_its_name() {
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
    fn a_socket_goes_only_as_the_one_that_was_noted() {
        // A number that no server chooses by itself.
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
    fn a_lock_goes_only_with_its_own_server_gone() {
        assert!(is_stale("      4711\n", 4711, false));
        assert!(!is_stale("      4711\n", 4711, true), "or whoever has its number now");
        assert!(!is_stale("      4712\n", 4711, false), "another server's");
        assert!(!is_stale("", 4711, false) && !is_stale("no number\n", 4711, false));
    }
}
