//! Makes the node drain or end.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Both ways to end; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Accept nothing more; running recordings and jobs go on.
    pub drain: CancellationToken,
    /// End running recordings and jobs properly. `drain` is cancelled too then.
    pub end: CancellationToken,
}

impl Shutdown {
    /// Ends everything.
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
