//! Watches the start of the node: names a step that takes long, and lets the program end although a step hangs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::codes;

/// A step that takes longer is named in the log; then again after twice the time, and so on.
const SLOW_STEP: Duration = Duration::from_secs(10);
/// How long a step may go on once the program is to end.
const END_GRACE: Duration = Duration::from_secs(5);

/// The step that the start is at; clones share it.
#[derive(Clone, Debug, Default)]
pub struct StartWatch {
    /// Empty: no step of the start is under way.
    step: Arc<watch::Sender<&'static str>>,
}

impl StartWatch {
    /// The start is at this step.
    pub(super) fn enter(&self, step: &'static str) {
        self.step.send_replace(step);
    }

    /// The start is over.
    pub(super) fn finish(&self) {
        self.enter("");
    }

    /// Logs steps that take long. Resolves with the step that hangs although `drain` has asked the program to end.
    pub async fn hangs(&self, drain: CancellationToken) -> &'static str {
        let mut steps = self.step.subscribe();
        loop {
            let step = *steps.borrow_and_update();
            tokio::select! {
                _ = steps.changed() => {}
                () = warn_slow(step), if !step.is_empty() => {}
                () = overdue(&drain), if !step.is_empty() => return step,
            }
        }
    }
}

async fn warn_slow(step: &'static str) {
    let mut wait = SLOW_STEP;
    loop {
        tokio::time::sleep(wait).await;
        tracing::warn!(
            code = %codes::START_SLOW,
            step,
            "the start takes long; if it says nothing more, a disk that it needs does not answer: look at the mounts of main_path, temporary_dir and state_dir"
        );
        wait = wait.saturating_mul(2);
    }
}

async fn overdue(drain: &CancellationToken) {
    drain.cancelled().await;
    tokio::time::sleep(END_GRACE).await;
}
