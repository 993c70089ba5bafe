//! Runs the vital parts of a node: if one of them ends before the node does, the node ends.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::codes;
use crate::node::shutdown::Shutdown;

/// Runs the parts of a node.
pub(super) struct Supervisor {
    pub shutdown: Shutdown,
    /// All parts, vital or not.
    pub tasks: TaskTracker,
    failed: CancellationToken,
}

impl Supervisor {
    pub fn new(shutdown: Shutdown) -> Self {
        Self { shutdown, tasks: TaskTracker::new(), failed: CancellationToken::new() }
    }

    /// Runs a vital part.
    pub fn spawn_vital(&self, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
        let (shutdown, failed) = (self.shutdown.clone(), self.failed.clone());
        self.tasks.spawn(async move {
            // In a task of its own, so that a panic does not end this one.
            let ended = tokio::spawn(part).await;
            if shutdown.drain.is_cancelled() && ended.is_ok() {
                return;
            }
            let ended = ended.err().map_or("it returned".to_owned(), |error| error.to_string());
            tracing::error!(
                code = %codes::PART_ENDED,
                part = name,
                ended,
                "a part of the node has ended by itself: shutting down; restart the recorder"
            );
            failed.cancel();
            shutdown.end_now();
        });
    }

    /// Waits until all parts have ended.
    ///
    /// # Errors
    /// Where one of them has ended by itself.
    pub async fn wait(&self) -> Result<(), anyhow::Error> {
        self.tasks.close();
        self.tasks.wait().await;
        anyhow::ensure!(!self.failed.is_cancelled(), "stopped because a part of the node has ended by itself");
        Ok(())
    }
}
