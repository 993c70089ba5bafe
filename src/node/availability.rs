//! Notes the obstacles that this node knows by itself: that it drains, that a disk lacks space, and that `main_path`
//! cannot be used.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::fleet::availability::{Availability, Obstacle};
use crate::storage::disk_space::{DiskLevel, DiskStatus};
use crate::storage::main_path::StoreStatus;

/// Notes and clears them until the disks are not watched any more.
pub(super) async fn watch(
    mut disk: watch::Receiver<DiskStatus>,
    mut store: watch::Receiver<StoreStatus>,
    drain: CancellationToken,
    availability: Availability,
) {
    loop {
        let DiskStatus { level, reason } = disk.borrow_and_update().clone();
        match level {
            DiskLevel::Enough => drop(availability.clear(Obstacle::DiskSpace)),
            DiskLevel::Low | DiskLevel::Full => availability.block(Obstacle::DiskSpace, reason),
        }
        match store.borrow_and_update().fault.clone() {
            None => drop(availability.clear(Obstacle::MainPath)),
            Some(fault) => availability.block(Obstacle::MainPath, fault),
        }
        if drain.is_cancelled() {
            availability.block(Obstacle::Draining, "the program was asked to end");
        }
        tokio::select! {
            changed = disk.changed() => if changed.is_err() { return },
            changed = store.changed() => if changed.is_err() { return },
            () = drain.cancelled(), if !drain.is_cancelled() => {}
        }
    }
}
