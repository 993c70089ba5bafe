//! The disk reserve: how much room must be left on the file systems of the recordings, and what follows where it is not.
//!
//! ```text
//!          below the reserve         below a tenth of it (at least 256 MiB)
//! Enough ─────────────────────→ Low ───────────────────────────────────────→ Full
//!    no new work is taken on         running recordings are ended, while their files can still be closed
//! ```
//!
//! Low ends at 1.1 times the reserve, and Full at 1.1 times its own limit: room that comes and goes with a few files
//! changes nothing. The policy is pure; only [`free`] and [`watch`] look at the disk.

use crate::config::Reserve;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
/// Below a tenth of the reserve recordings are ended, and below this many bytes: to close files, to join parts of a few
/// minutes, to write down what is to be delivered.
const FULL_SIZE: u64 = 256 * MIB;
/// How often is looked: a recording with its PCM takes some MB a second at the most.
const INTERVAL: Duration = Duration::from_secs(5);
/// A look at a share that is gone may hang; then it is as if it had failed.
const LOOK_DEADLINE: Duration = Duration::from_secs(4);

/// The room of a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// What this process may still write.
    pub free: u64,
    pub total: u64,
}

/// What the room is enough for; a later one is worse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskLevel {
    #[default]
    Enough,
    /// Nothing new is taken on.
    Low,
    /// What runs is ended.
    Full,
}

/// What is said of all the places that are watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskStatus {
    /// The worst of them.
    pub room: DiskLevel,
    /// Which place that is, what is free there and what is wanted; empty where the room is enough.
    pub reason: String,
}

/// Below how many free bytes running recordings are ended; never more than the reserve itself.
#[must_use]
pub fn full_below(reserve: Reserve, total: u64) -> u64 {
    let reserve = reserve.bytes(total);
    (reserve / 10).max(FULL_SIZE).min(reserve)
}

/// What the room is enough for, given what it was `before`.
#[must_use]
pub fn judge(space: DiskSpace, reserve: Reserve, before: DiskLevel) -> DiskLevel {
    let (low, full) = (reserve.bytes(space.total), full_below(reserve, space.total));
    // Where the room was below a limit, it must be a tenth above it to count as above.
    let limit = |limit: u64, was_below: bool| if was_below { limit.saturating_add(limit / 10) } else { limit };
    if space.free < limit(full, before == DiskLevel::Full) {
        DiskLevel::Full
    } else if space.free < limit(low, before >= DiskLevel::Low) {
        DiskLevel::Low
    } else {
        DiskLevel::Enough
    }
}

/// Why the room is what it is, for the log and for whoever is refused. `what` is the place's name in the configuration.
#[must_use]
pub fn reason(what: &str, path: &Path, space: DiskSpace, reserve: Reserve, room: DiskLevel) -> String {
    let (free, total) = (ByteSize(space.free), ByteSize(space.total));
    let place = format!("{what} {}: {free} of {total} free", path.display());
    let wanted = ByteSize(reserve.bytes(space.total));
    match room {
        DiskLevel::Enough => place,
        DiskLevel::Low => format!("{place}, {wanted} must stay so (recorder.min_free_space); nothing new is recorded"),
        DiskLevel::Full => format!(
            "{place}, below {} recordings are ended ({wanted} must stay free, recorder.min_free_space)",
            ByteSize(full_below(reserve, space.total))
        ),
    }
}

/// A number of bytes in a unit in which it is easily read: `1.5 GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize(pub u64);

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit =
            [(TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")].into_iter().find(|(unit, _)| self.0 >= *unit);
        let Some((unit, name)) = unit else { return write!(f, "{} B", self.0) };
        // Rounded down: what is less than a limit must not be shown as the limit.
        let tenths = u128::from(self.0) * 10 / u128::from(unit);
        if tenths.is_multiple_of(10) {
            write!(f, "{} {name}", tenths / 10)
        } else {
            write!(f, "{}.{} {name}", tenths / 10, tenths % 10)
        }
    }
}

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

    const DISK: u64 = 1000 * GIB;

    #[test]
    fn full_is_a_tenth_of_the_reserve_and_never_more_than_it() {
        for (reserve, full) in [
            (5 * GIB, 512 * MIB),
            (20 * GIB, 2 * GIB),
            (GIB, 256 * MIB),
            (300 * MIB, 256 * MIB),
            (100 * MIB, 100 * MIB),
            (0, 0),
        ] {
            assert_eq!(full_below(Reserve::Size(reserve), DISK), full, "{reserve}");
        }
    }

    fn rooms(reserve: Reserve, free: &[u64]) -> Vec<DiskLevel> {
        let mut room = DiskLevel::Enough;
        free.iter()
            .map(|free| {
                room = judge(DiskSpace { free: *free, total: DISK }, reserve, room);
                room
            })
            .collect()
    }

    #[test]
    fn each_limit_has_to_be_left_well_behind() {
        use DiskLevel::{Enough, Full, Low};
        let reserve = Reserve::Size(10 * GIB);
        let free = [10 * GIB, 10 * GIB - 1, 10 * GIB, 11 * GIB - 1, 11 * GIB, 10 * GIB];
        assert_eq!(rooms(reserve, &free), [Enough, Low, Low, Low, Enough, Enough]);
        let free = [GIB, GIB - 1, GIB, GIB * 11 / 10 + 1, GIB, GIB - 1, 12 * GIB, 0];
        assert_eq!(rooms(reserve, &free), [Low, Full, Full, Low, Low, Full, Enough, Full]);
        // Where both limits are one, there is no Low on the way down nor back.
        let small = Reserve::Size(100 * MIB);
        assert_eq!(rooms(small, &[100 * MIB, 100 * MIB - 1, 105 * MIB, 111 * MIB]), [Enough, Full, Full, Enough]);
    }

    #[test]
    fn without_a_reserve_the_room_is_always_enough() {
        assert_eq!(rooms(Reserve::Size(0), &[0, 1, 0]), [DiskLevel::Enough; 3]);
        assert_eq!(rooms(Reserve::Percent(0.0), &[0]), [DiskLevel::Enough]);
    }

    #[test]
    fn a_reason_names_the_place_and_the_sizes() {
        let space = DiskSpace { free: 4 * GIB + 921 * MIB, total: 250 * GIB };
        let text = |room| reason("main_path", Path::new("/srv/rec"), space, Reserve::Default, room);
        assert_eq!(
            text(DiskLevel::Low),
            "main_path /srv/rec: 4.8 GiB of 250 GiB free, 5 GiB must stay so (recorder.min_free_space); nothing new is recorded"
        );
        assert_eq!(
            text(DiskLevel::Full),
            "main_path /srv/rec: 4.8 GiB of 250 GiB free, below 512 MiB recordings are ended (5 GiB must stay free, recorder.min_free_space)"
        );
        for (bytes, shown) in
            [(0, "0 B"), (1023, "1023 B"), (5 * GIB - 1, "4.9 GiB"), (1536, "1.5 KiB"), (u64::MAX, "16777215.9 TiB")]
        {
            assert_eq!(ByteSize(bytes).to_string(), shown);
        }
    }

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
