//! SIGINT, SIGTERM and SIGHUP: the first one ends the recording, which is still made into an MP4; a second one stops at
//! once.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What the signals ask for.
#[derive(Clone, Debug, Default)]
pub struct StopRequests {
    /// End the recording.
    pub end: CancellationToken,
    /// Stop at once; `end` is cancelled before it.
    pub now: CancellationToken,
}

impl StopRequests {
    /// Starts a task that waits for signals; within a runtime.
    ///
    /// # Errors
    /// Where they cannot be received.
    pub fn of_signals() -> io::Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        // The terminal was closed.
        let mut hangup = signal(SignalKind::hangup())?;
        let stop = Self::default();
        let requests = stop.clone();
        tokio::spawn(async move {
            for request in [&requests.end, &requests.now] {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                request.cancel();
            }
        });
        Ok(stop)
    }
}
