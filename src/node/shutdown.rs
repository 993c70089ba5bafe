//! How the node is told to end.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Both ways to end; clones are told together.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Take nothing on any more; what runs goes on.
    pub drain: CancellationToken,
    /// End what runs, properly. Implies the other.
    pub end: CancellationToken,
}

impl Shutdown {
    /// Ends all of it.
    pub fn end_now(&self) {
        self.drain.cancel();
        self.end.cancel();
    }

    /// Ends what still runs when draining has taken `limit`.
    pub async fn limit_drain(self, limit: Duration) {
        self.drain.cancelled().await;
        if self.end.run_until_cancelled(tokio::time::sleep(limit)).await.is_some() {
            tracing::info!(
                drain_timeout_s = limit.as_secs(),
                "recorder.drain_timeout is over: recordings are closed now"
            );
            self.end.cancel();
        }
    }
}
