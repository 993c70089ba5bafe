//! Looks at the disks every few seconds, and says what changes.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::Reserve;
use crate::storage::disk_space::byte_size::ByteSize;
use crate::storage::disk_space::policy::{DiskLevel, DiskSpace, DiskStatus, judge, reason};

/// How often is looked: a recording with its PCM takes some MB a second at the most.
const INTERVAL: Duration = Duration::from_secs(5);
/// A look at a share that is gone may hang; then it is as if it had failed.
const LOOK_DEADLINE: Duration = Duration::from_secs(4);

/// The room on the file system of `path`; where that is not there yet, of the nearest directory above that is.
///
/// # Errors
/// Where the file system cannot be asked.
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

/// A place that is watched.
#[derive(Debug)]
struct WatchedDirectory {
    what: &'static str,
    path: PathBuf,
    room: DiskLevel,
    reason: String,
    /// The last look failed.
    failed: bool,
    /// A look that has not come back.
    looking: Option<oneshot::Receiver<io::Result<DiskSpace>>>,
}

impl WatchedDirectory {
    fn new(what: &'static str, path: PathBuf) -> Self {
        Self { what, path, room: DiskLevel::Enough, reason: String::new(), failed: false, looking: None }
    }

    /// One look, of which there is only one at a time, on a thread of its own: on a share that is gone it may never end,
    /// and must hold up neither a shutdown nor further threads. Cancel-safe.
    async fn see(&mut self) -> io::Result<DiskSpace> {
        let looking = self.looking.get_or_insert_with(|| {
            let (path, (answer, looked)) = (self.path.clone(), oneshot::channel());
            let look = move || {
                // The watch may have ended meanwhile.
                let _ = answer.send(free(&path));
            };
            // Where there can be no thread, its answer is dropped.
            let _ = std::thread::Builder::new().name("space".to_owned()).spawn(look);
            looked
        });
        let looked = tokio::time::timeout(LOOK_DEADLINE, looking).await.map_err(|_| io::ErrorKind::TimedOut)?;
        self.looking = None;
        looked.unwrap_or_else(|_| Err(io::Error::other("no thread could be started to look")))
    }

    /// Takes the result of a look, and logs what changed.
    fn take(&mut self, looked: io::Result<DiskSpace>, reserve: Reserve) {
        let space = match looked {
            Ok(space) => space,
            Err(error) => {
                // A look that fails says nothing of the room: what was known stays, and recordings go on.
                if !self.failed {
                    warn!(what = self.what, path = %self.path.display(), %error, "cannot see how much room is left");
                }
                self.failed = true;
                return;
            }
        };
        if self.failed {
            info!(what = self.what, path = %self.path.display(), free = %ByteSize(space.free), "the room can be seen again");
        }
        self.failed = false;
        let before = self.room;
        self.room = judge(space, reserve, before);
        self.reason = reason(self.what, &self.path, space, reserve, self.room);
        if self.room == before {
            return;
        }
        match self.room {
            DiskLevel::Enough => info!("enough room again: {}", self.reason),
            DiskLevel::Low => warn!("the disk is nearly full: {}", self.reason),
            DiskLevel::Full => error!("the disk is full: {}", self.reason),
        }
    }
}

/// The worst of the places, the first where two are as bad.
fn worst(places: &[WatchedDirectory]) -> DiskStatus {
    let room = places.iter().map(|place| place.room).max().unwrap_or_default();
    let reason = places.iter().find(|place| place.room == room && room > DiskLevel::Enough);
    DiskStatus { room, reason: reason.map_or_else(String::new, |place| place.reason.clone()) }
}

/// Looks at the places (each with its name in the configuration) at once and then every 5 s until cancelled, logs what
/// changes, and sends the worst verdict whenever a look changed it; the numbers in its reason are those of the last look.
pub async fn watch(
    paths: Vec<(&'static str, PathBuf)>,
    reserve: Reserve,
    sender: tokio::sync::watch::Sender<DiskStatus>,
    cancel: CancellationToken,
) {
    let mut places: Vec<WatchedDirectory> =
        paths.into_iter().map(|(what, path)| WatchedDirectory::new(what, path)).collect();
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            _ = ticks.tick() => {}
        }
        for place in &mut places {
            let Some(looked) = cancel.run_until_cancelled(place.see()).await else { return };
            place.take(looked, reserve);
        }
        let verdict = worst(&places);
        sender.send_if_modified(|sent| std::mem::replace(sent, verdict.clone()) != verdict);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::disk_space::byte_size::GIB;

    const DISK: u64 = 1000 * GIB;

    #[test]
    fn the_worst_place_counts_and_a_failed_look_changes_nothing() {
        let mut places =
            [WatchedDirectory::new("main_path", "/a".into()), WatchedDirectory::new("temporary_dir", "/b".into())];
        let space = |free| Ok(DiskSpace { free, total: DISK });
        assert_eq!(worst(&places), DiskStatus::default());
        let reserve = Reserve::Size(10 * GIB);
        places[0].take(space(9 * GIB), reserve);
        places[1].take(space(50 * GIB), reserve);
        assert!(worst(&places).room == DiskLevel::Low && worst(&places).reason.contains("main_path /a"));
        places[1].take(space(1), reserve);
        places[1].take(Err(io::ErrorKind::TimedOut.into()), reserve);
        assert!(worst(&places).room == DiskLevel::Full && worst(&places).reason.contains("temporary_dir /b"));
        places[0].take(space(50 * GIB), reserve);
        places[1].take(space(50 * GIB), reserve);
        assert_eq!(worst(&places), DiskStatus::default());
    }

    #[test]
    fn a_directory_that_is_not_there_yet_has_the_room_of_the_one_above() {
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
    async fn a_watch_says_at_once_that_the_reserve_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let cancel = CancellationToken::new();
        let (sender, mut verdict) = tokio::sync::watch::channel(DiskStatus::default());
        let paths = vec![("main_path", dir.path().join("rec"))];
        // More than any disk has.
        let task = tokio::spawn(watch(paths, Reserve::Size(1 << 62), sender, cancel.clone()));
        let found = verdict.wait_for(|verdict| verdict.room == DiskLevel::Full).await.unwrap().clone();
        assert!(found.reason.contains(dir.path().to_str().unwrap()), "{}", found.reason);
        cancel.cancel();
        task.await.unwrap();
    }
}
