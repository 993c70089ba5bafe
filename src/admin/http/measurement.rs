//! A look at a disk that may hang: on a thread of its own, one at a time.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::storage::detached;

/// How long one round waits for a disk; a measurement that takes longer is asked for again in the next round.
const DISK_LIMIT: Duration = Duration::from_secs(2);

/// A measurement on a thread of its own, one at a time.
pub(super) struct Measurement<T> {
    name: &'static str,
    running: Option<oneshot::Receiver<T>>,
}

impl<T: Send + 'static> Measurement<T> {
    pub fn new(name: &'static str) -> Self {
        Self { name, running: None }
    }

    /// The result of `work`, or of the one before that still runs; `None` where it takes longer.
    pub async fn take(&mut self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let running = self.running.get_or_insert_with(|| detached::start(self.name, work));
        let result = tokio::time::timeout(DISK_LIMIT, running).await.ok()?;
        self.running = None;
        result.ok()
    }
}
