//! Counts the openings of rigs that failed in a row, over all recordings of this node: some failures are a meeting's
//! own, but many in a row raise the question whether this host can record at all.

use std::sync::Arc;

use tokio::sync::watch;

/// The count; clones share it.
#[derive(Clone, Debug, Default)]
pub struct OpenFailures {
    in_a_row: Arc<watch::Sender<u32>>,
}

impl OpenFailures {
    /// A rig could not be opened.
    pub fn failed(&self) {
        self.in_a_row.send_modify(|count| *count = count.saturating_add(1));
    }

    /// A rig was opened, or this host has proved in another way that it can record.
    pub fn reset(&self) {
        self.in_a_row.send_if_modified(|count| std::mem::take(count) > 0);
    }

    /// The count as it changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u32> {
        self.in_a_row.subscribe()
    }
}
