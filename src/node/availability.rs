//! Notes the obstacles that this node knows by itself: that it drains, that a disk lacks space, that `main_path` cannot
//! be used, and that `state_dir` cannot be written.

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

/// Notes that `state_dir` cannot be written, as one of its writers finds, until `end`.
pub(super) async fn watch_state_dir(
    mut writers: Vec<watch::Receiver<Option<String>>>,
    end: CancellationToken,
    availability: Availability,
) {
    while !writers.is_empty() {
        let faults: Vec<_> = writers.iter_mut().filter_map(|fault| fault.borrow_and_update().clone()).collect();
        match faults.first() {
            Some(why) => availability.block(Obstacle::StateDir, why),
            None => drop(availability.clear(Obstacle::StateDir)),
        }
        let changed = futures::future::select_all(writers.iter_mut().map(|fault| Box::pin(fault.changed())));
        if !matches!(end.run_until_cancelled(changed).await, Some((Ok(()), ..))) {
            return;
        }
    }
}
