//! Decides what the free space of a file system is enough for. Pure.

use std::path::Path;

use crate::config::Reserve;
use crate::storage::disk_space::byte_size::{ByteSize, MIB};

/// Recordings are ended below a tenth of the reserve, or below this many bytes: enough to close files, to join parts of
/// a few minutes, and to write the outbox.
const FULL_SIZE: u64 = 256 * MIB;

/// Space of a file system in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// Free space for this process.
    pub free: u64,
    pub total: u64,
}

/// What the free space is enough for, from best to worst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskLevel {
    #[default]
    Enough,
    /// New work is refused.
    Low,
    /// Running recordings are ended.
    Full,
}

/// The level over all watched directories.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskStatus {
    /// The worst level.
    pub level: DiskLevel,
    /// The directory with this level, its free space and the reserve; empty for [`DiskLevel::Enough`].
    pub reason: String,
}

/// Running recordings are ended below this many free bytes, which is never more than the reserve.
#[must_use]
pub fn full_below(reserve: Reserve, total: u64) -> u64 {
    let reserve = reserve.bytes(total);
    (reserve / 10).max(FULL_SIZE).min(reserve)
}

/// The level for `space`; `before`: the last level.
#[must_use]
pub fn judge(space: DiskSpace, reserve: Reserve, before: DiskLevel) -> DiskLevel {
    let (low, full) = (reserve.bytes(space.total), full_below(reserve, space.total));
    // A limit that was undercut must be exceeded by a tenth.
    let limit = |limit: u64, was_below: bool| if was_below { limit.saturating_add(limit / 10) } else { limit };
    if space.free < limit(full, before == DiskLevel::Full) {
        DiskLevel::Full
    } else if space.free < limit(low, before >= DiskLevel::Low) {
        DiskLevel::Low
    } else {
        DiskLevel::Enough
    }
}

/// The reason of the level, for the log and for refusals. `what`: the directory's name in the configuration.
#[must_use]
pub fn reason(what: &str, path: &Path, space: DiskSpace, reserve: Reserve, level: DiskLevel) -> String {
    let (free, total) = (ByteSize(space.free), ByteSize(space.total));
    let place = format!("{what} {}: {free} of {total} free", path.display());
    let wanted = ByteSize(reserve.bytes(space.total));
    match level {
        DiskLevel::Enough => place,
        DiskLevel::Low => format!("{place}, {wanted} must stay so (recorder.min_free_space); nothing new is recorded"),
        DiskLevel::Full => format!(
            "{place}, below {} recordings are ended ({wanted} must stay free, recorder.min_free_space)",
            ByteSize(full_below(reserve, space.total))
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::disk_space::byte_size::GIB;

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

    fn levels(reserve: Reserve, free: &[u64]) -> Vec<DiskLevel> {
        let mut room = DiskLevel::Enough;
        free.iter()
            .map(|free| {
                room = judge(DiskSpace { free: *free, total: DISK }, reserve, room);
                room
            })
            .collect()
    }

    #[test]
    fn a_limit_must_be_exceeded_by_a_tenth() {
        use DiskLevel::{Enough, Full, Low};
        let reserve = Reserve::Size(10 * GIB);
        let free = [10 * GIB, 10 * GIB - 1, 10 * GIB, 11 * GIB - 1, 11 * GIB, 10 * GIB];
        assert_eq!(levels(reserve, &free), [Enough, Low, Low, Low, Enough, Enough]);
        let free = [GIB, GIB - 1, GIB, GIB * 11 / 10 + 1, GIB, GIB - 1, 12 * GIB, 0];
        assert_eq!(levels(reserve, &free), [Low, Full, Full, Low, Low, Full, Enough, Full]);
        // Where both limits are equal, Low is skipped in both directions.
        let small = Reserve::Size(100 * MIB);
        assert_eq!(levels(small, &[100 * MIB, 100 * MIB - 1, 105 * MIB, 111 * MIB]), [Enough, Full, Full, Enough]);
    }

    #[test]
    fn without_a_reserve_the_space_is_always_enough() {
        assert_eq!(levels(Reserve::Size(0), &[0, 1, 0]), [DiskLevel::Enough; 3]);
        assert_eq!(levels(Reserve::Percent(0.0), &[0]), [DiskLevel::Enough]);
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
    }
}
