//! Tells the queue what becomes of a job that is not done.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::codes;
use crate::nats::{JobMessage, NatsError};
use crate::transcode::job::JobOutcome;
use crate::transcode::journal::JobState;
use crate::unix_time::unix_ms;

/// Waits between the attempts to hand a job back, or to terminate it. After the last, the queue's redelivery remains.
const SETTLE_RETRIES: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(30)];

/// Settles a message by `say`, again after an error, at once where `cancel` is cancelled. False where that failed: the
/// queue then redelivers the job. `what`: becomes of it, as a participle for the log.
pub(super) async fn settle<F>(what: &str, cancel: &CancellationToken, say: impl Fn() -> F) -> bool
where
    F: Future<Output = Result<(), NatsError>>,
{
    let mut waits = SETTLE_RETRIES.iter();
    loop {
        let Err(error) = say().await else { return true };
        let Some(wait) = waits.next().filter(|_| !cancel.is_cancelled()) else {
            tracing::error!(
                code = %codes::JOB_NOT_SETTLED, %error,
                "the job could not be {what}; the queue will hand it out again"
            );
            return false;
        };
        tracing::warn!(
            code = %codes::JOB_NOT_SETTLED, %error, retry_s = wait.as_secs(),
            "the job could not be {what}, trying again"
        );
        tokio::select! {
            () = tokio::time::sleep(*wait) => {}
            () = cancel.cancelled() => {}
        }
    }
}

/// Settles a job that is not done in the queue; the state to keep in its record, if any.
pub(super) async fn conclude(
    outcome: JobOutcome,
    message: &JobMessage,
    cancel: &CancellationToken,
) -> Option<JobState> {
    match outcome {
        JobOutcome::Done(_) => None,
        JobOutcome::Again(delay) => {
            settle("handed back", cancel, || message.nak(delay)).await;
            let delay = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            Some(JobState::HandedBack { until: unix_ms().saturating_add(delay) })
        }
        JobOutcome::Kept => Some(JobState::Working),
        JobOutcome::Waiting(delay) => {
            let since = unix_ms();
            let delay = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            Some(JobState::Waiting { since, until: since.saturating_add(delay) })
        }
        JobOutcome::GivenUp => {
            settle("terminated", cancel, || message.term()).await;
            Some(JobState::GivenUp { at: unix_ms() })
        }
    }
}
