//! Whether this node accepts recordings: not while it drains or lacks disk space.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::storage::disk_space::{DiskLevel, DiskStatus};

/// Updates `available` until the disks are not watched any more.
pub(super) async fn watch(
    mut disk: watch::Receiver<DiskStatus>,
    drain: CancellationToken,
    available: watch::Sender<bool>,
) {
    loop {
        let open = !drain.is_cancelled() && disk.borrow_and_update().level == DiskLevel::Enough;
        available.send_if_modified(|was| std::mem::replace(was, open) != open);
        tokio::select! {
            changed = disk.changed() => if changed.is_err() { return },
            () = drain.cancelled(), if !drain.is_cancelled() => {}
        }
    }
}
