//! Notes the obstacles that this node knows by itself: that it drains, and that a disk lacks space.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::fleet::availability::{Availability, Obstacle};
use crate::storage::disk_space::{DiskLevel, DiskStatus};

/// Notes and clears them until the disks are not watched any more.
pub(super) async fn watch(mut disk: watch::Receiver<DiskStatus>, drain: CancellationToken, availability: Availability) {
    loop {
        let DiskStatus { level, reason } = disk.borrow_and_update().clone();
        match level {
            DiskLevel::Enough => drop(availability.clear(Obstacle::DiskSpace)),
            DiskLevel::Low | DiskLevel::Full => availability.block(Obstacle::DiskSpace, reason),
        }
        if drain.is_cancelled() {
            availability.block(Obstacle::Draining, "the program was asked to end");
        }
        tokio::select! {
            changed = disk.changed() => if changed.is_err() { return },
            () = drain.cancelled(), if !drain.is_cancelled() => {}
        }
    }
}
