//! How long the processes of hooks live.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Time limits that no operator sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HookTimeouts {
    /// Between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// The first and the longest wait before an ended process is started again.
    pub first_wait: Duration,
    pub longest_wait: Duration,
    /// How long a long-lived script must be silent after its start and after an answer before it gets a request.
    pub quiet_period: Duration,
}

impl Default for HookTimeouts {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(10),
            first_wait: Duration::from_millis(250),
            longest_wait: Duration::from_secs(30),
            quiet_period: Duration::from_millis(250),
        }
    }
}

/// What the tasks of the hooks share.
#[derive(Clone, Debug)]
pub(super) struct HookLifetime {
    pub stop: CancellationToken,
    pub tasks: TaskTracker,
    pub timeouts: HookTimeouts,
}
