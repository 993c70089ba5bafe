//! The names of what `size` makes on disks: its directory, and a copy of the configuration. They tell what a killed run has
//! left.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::process::procfs;

/// Hidden, so that nobody takes it for a recording.
const PREFIX: &str = ".plugnmeet-recorder-size-";

/// Begins the names of what this process makes, with its number and the time of its start: in a container each run may have
/// the same number.
#[must_use]
pub fn prefix() -> String {
    let pid = std::process::id();
    format!("{PREFIX}{pid}-{}-", procfs::started(pid).unwrap_or_default())
}

/// Removes the directories and files in `parent` whose processes were killed. Returns those that cannot be removed.
#[must_use]
pub fn remove_leftovers(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let left = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_of_dead) && !is_locked(&entry.path()));
    let kept = left.filter(|entry| {
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let removal = if is_dir { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
        removal.is_err_and(|error| error.kind() != io::ErrorKind::NotFound)
    });
    kept.map(|entry| entry.path()).collect()
}

/// Whether a name is of a process that has ended.
fn is_of_dead(name: &str) -> bool {
    let mut parts = name.strip_prefix(PREFIX).unwrap_or_default().split('-');
    let Some(pid) = parts.next().and_then(|pid| pid.parse().ok()) else { return false };
    let started = parts.next().and_then(|started| started.parse().ok());
    procfs::started(pid).is_none_or(|runs| started.is_some_and(|started: u64| started != runs))
}

/// Whether its process runs, which may be one of another container.
fn is_locked(path: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty()).map(File::from);
    opened.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::rig_directory;

    #[test]
    fn what_a_killed_run_has_left_is_removed_and_what_is_anothers_stays() {
        let parent = tempfile::tempdir().unwrap();
        let place = tempfile::Builder::new().prefix(&prefix()).tempdir_in(parent.path()).unwrap();
        let made = |name: &str| {
            let dir = parent.path().join(name);
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("1.mkv"), "x").unwrap();
            dir
        };
        let pid = std::process::id();
        // No process has these numbers (proc(5): pid_max), and this one has begun at another time.
        let [killed, earlier, locked, other] = [
            format!("{PREFIX}4194305-1-abc"),
            format!("{PREFIX}{pid}-1-abc"),
            format!("{PREFIX}4194306-1-abc"),
            "recording.part1.mkv".to_owned(),
        ]
        .map(|name| made(&name));
        let file = |name: String| {
            let path = parent.path().join(name);
            fs::write(&path, "api_secret: s").unwrap();
            path
        };
        let [copy, locked_copy, mine] =
            [format!("{PREFIX}4194305-1-def"), format!("{PREFIX}4194306-1-def"), format!("{}def", prefix())].map(file);
        let lock = (rig_directory::lock(&locked).unwrap(), File::open(&locked_copy).unwrap());
        lock.1.lock().unwrap();
        assert_eq!(remove_leftovers(parent.path()), Vec::<PathBuf>::new());
        assert!(!killed.exists() && !earlier.exists() && !copy.exists());
        assert!(locked.exists() && other.exists() && place.path().exists() && locked_copy.exists() && mine.exists());
        drop((lock, place));
        assert_eq!(remove_leftovers(parent.path()), Vec::<PathBuf>::new());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 2);
    }
}
