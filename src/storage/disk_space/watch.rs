//! Measures the free space every few seconds and logs changes.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::codes;
use crate::config::Reserve;
use crate::storage::detached;
use crate::storage::disk_space::byte_size::ByteSize;
use crate::storage::disk_space::policy::{DiskLevel, DiskSpace, DiskStatus, judge, reason};

/// Interval of measurements: a recording with its PCM writes some MB per second at most.
const INTERVAL: Duration = Duration::from_secs(5);
/// Time limit for a measurement, which may hang on a lost share; then it counts as failed.
const MEASURE_DEADLINE: Duration = Duration::from_secs(4);

/// Space of the file system of `path`, or of its nearest existing parent directory.
///
/// # Errors
/// Where the file system cannot be read.
pub fn free(path: &Path) -> io::Result<DiskSpace> {
    let path = std::path::absolute(path)?;
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for dir in path.ancestors() {
        match rustix::fs::statvfs(dir) {
            // Blocks are counted in fragments (statvfs(3)).
            Ok(found) => {
                let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
                return Ok(DiskSpace { free: bytes(found.f_bavail), total: bytes(found.f_blocks) });
            }
            Err(error @ (Errno::NOENT | Errno::NOTDIR)) => last = error.into(),
            Err(error) => return Err(error.into()),
        }
    }
    Err(last)
}

/// Refuses where `more` bytes would not leave the reserve on the disk of this path.
///
/// # Errors
/// [`io::ErrorKind::StorageFull`] then; where the file system cannot be read.
pub fn require(path: &Path, reserve: Reserve, more: u64) -> io::Result<()> {
    let space = free(path)?;
    let kept = reserve.bytes(space.total);
    if space.free >= more.saturating_add(kept) {
        return Ok(());
    }
    let (free, more, kept) = (ByteSize(space.free), ByteSize(more), ByteSize(kept));
    let why = format!("{free} free; {more} are to come, and {kept} must stay free (recorder.min_free_space)");
    Err(io::Error::new(io::ErrorKind::StorageFull, why))
}

/// A directory whose space is watched.
#[derive(Debug)]
struct WatchedDirectory {
    what: &'static str,
    path: PathBuf,
    level: DiskLevel,
    reason: String,
    /// Whether the last measurement failed.
    failed: bool,
    /// A measurement that has not returned yet.
    measuring: Option<oneshot::Receiver<io::Result<DiskSpace>>>,
}

impl WatchedDirectory {
    fn new(what: &'static str, path: PathBuf) -> Self {
        Self { what, path, level: DiskLevel::Enough, reason: String::new(), failed: false, measuring: None }
    }

    /// Measures the space on a thread of its own, one measurement at a time: on a lost share it may never return, and
    /// must block neither a shutdown nor further threads. Cancel-safe.
    async fn measure(&mut self) -> io::Result<DiskSpace> {
        let path = &self.path;
        let measuring = self.measuring.get_or_insert_with(|| {
            let path = path.clone();
            detached::start("space", move || free(&path))
        });
        let measured = tokio::time::timeout(MEASURE_DEADLINE, measuring).await.map_err(|_| io::ErrorKind::TimedOut)?;
        self.measuring = None;
        measured.unwrap_or_else(|_| Err(io::Error::other("no thread could be started to look")))
    }

    /// Evaluates a measurement and logs changes.
    fn update(&mut self, measured: io::Result<DiskSpace>, reserve: Reserve) {
        let space = match measured {
            Ok(space) => space,
            Err(error) => {
                // A failed measurement keeps the last level, and recordings continue.
                if !self.failed {
                    warn!(
                        code = %codes::ROOM_UNKNOWN, what = self.what, path = %self.path.display(), %error,
                        "cannot see how much room is left: a disk that fills up is not noticed"
                    );
                }
                self.failed = true;
                return;
            }
        };
        if self.failed {
            info!(what = self.what, path = %self.path.display(), free = %ByteSize(space.free), "the room can be seen again");
        }
        self.failed = false;
        let before = self.level;
        self.level = judge(space, reserve, before);
        self.reason = reason(self.what, &self.path, space, reserve, self.level);
        if self.level == before {
            return;
        }
        match self.level {
            DiskLevel::Enough => info!("enough room again: {}", self.reason),
            DiskLevel::Low => warn!(code = %codes::DISK_NEARLY_FULL, "the disk is nearly full: {}", self.reason),
            DiskLevel::Full => error!(code = %codes::DISK_FULL, "the disk is full: {}", self.reason),
        }
    }
}

/// The worst level; the reason is that of the first directory with this level.
fn worst(directories: &[WatchedDirectory]) -> DiskStatus {
    let level = directories.iter().map(|directory| directory.level).max().unwrap_or_default();
    let reason = directories.iter().find(|directory| directory.level == level && level > DiskLevel::Enough);
    DiskStatus { level, reason: reason.map_or_else(String::new, |directory| directory.reason.clone()) }
}

/// Measures the directories (each with its name in the configuration) at once and then every 5 s until cancelled, logs
/// changes, and sends the worst status when it changed. The numbers in its reason are those of the last measurement.
pub async fn watch(
    paths: Vec<(&'static str, PathBuf)>,
    reserve: Reserve,
    sender: tokio::sync::watch::Sender<DiskStatus>,
    cancel: CancellationToken,
) {
    let mut directories: Vec<WatchedDirectory> =
        paths.into_iter().map(|(what, path)| WatchedDirectory::new(what, path)).collect();
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            _ = ticks.tick() => {}
        }
        for directory in &mut directories {
            let Some(measured) = cancel.run_until_cancelled(directory.measure()).await else { return };
            directory.update(measured, reserve);
        }
        let status = worst(&directories);
        sender.send_if_modified(|sent| std::mem::replace(sent, status.clone()) != status);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::disk_space::byte_size::GIB;

    const DISK: u64 = 1000 * GIB;

    #[test]
    fn the_worst_directory_counts_and_a_failed_measurement_changes_nothing() {
        let mut directories =
            [WatchedDirectory::new("main_path", "/a".into()), WatchedDirectory::new("temporary_dir", "/b".into())];
        let space = |free| Ok(DiskSpace { free, total: DISK });
        assert_eq!(worst(&directories), DiskStatus::default());
        let reserve = Reserve::Size(10 * GIB);
        directories[0].update(space(9 * GIB), reserve);
        directories[1].update(space(50 * GIB), reserve);
        assert!(worst(&directories).level == DiskLevel::Low && worst(&directories).reason.contains("main_path /a"));
        directories[1].update(space(1), reserve);
        directories[1].update(Err(io::ErrorKind::TimedOut.into()), reserve);
        assert!(
            worst(&directories).level == DiskLevel::Full && worst(&directories).reason.contains("temporary_dir /b")
        );
        directories[0].update(space(50 * GIB), reserve);
        directories[1].update(space(50 * GIB), reserve);
        assert_eq!(worst(&directories), DiskStatus::default());
    }

    #[test]
    fn a_disk_keeps_its_reserve() {
        let dir = tempfile::tempdir().unwrap();
        require(dir.path(), Reserve::Size(0), 1).unwrap();
        for (reserve, more) in [(Reserve::Size(u64::MAX / 2), 1), (Reserve::Size(0), u64::MAX / 2)] {
            let why = require(dir.path(), reserve, more).unwrap_err();
            assert!(why.kind() == io::ErrorKind::StorageFull && why.to_string().contains("min_free_space"), "{why}");
        }
    }

    #[test]
    fn a_missing_directory_has_the_space_of_its_parent() {
        let dir = tempfile::tempdir().unwrap();
        let here = free(dir.path()).unwrap();
        assert!(here.total > 0 && here.free <= here.total, "{here:?}");
        std::fs::write(dir.path().join("file"), "x").unwrap();
        for missing in ["not/there/yet", "file/below"] {
            assert_eq!(free(&dir.path().join(missing)).unwrap().total, here.total);
        }
        assert!(free(Path::new("relative/and/missing")).is_ok());
    }

    #[tokio::test]
    async fn a_watch_reports_a_missing_reserve_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let cancel = CancellationToken::new();
        let (sender, mut status) = tokio::sync::watch::channel(DiskStatus::default());
        let paths = vec![("main_path", dir.path().join("rec"))];
        // More than any disk has.
        let task = tokio::spawn(watch(paths, Reserve::Size(1 << 62), sender, cancel.clone()));
        let found = status.wait_for(|status| status.level == DiskLevel::Full).await.unwrap().clone();
        assert!(found.reason.contains(dir.path().to_str().unwrap()), "{}", found.reason);
        cancel.cancel();
        task.await.unwrap();
    }
}
