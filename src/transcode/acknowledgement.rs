//! Has a job that is done acknowledged, for as long as that takes: until then the queue may give it to another node, which
//! would tell the server again and run the scripts again.

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::codes;
use crate::delivery::message::MessageKey;
use crate::delivery::outbox::Outbox;
use crate::nats::JobMessage;
use crate::protocol::ids::{RecorderId, RecordingId};
use crate::retry::Backoff;
use crate::storage::files;
use crate::storage::main_path::MainPath;
use crate::store::raw_store::RawStore;
use crate::telemetry::log_throttle::LogThrottle;
use crate::transcode::claim;
use crate::transcode::raw_object::{self, DoneRawObject};

/// How long the first attempt may take, so that the claim soon says how far the job is.
const FIRST_ATTEMPT: Duration = Duration::from_secs(3);
/// A little more than the connection itself tries.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(20);
const FIRST_WAIT: Duration = Duration::from_secs(3);
/// With the attempts themselves well within `AckWait` (10 min, PROTOCOL 1), which each sign of life starts again.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A job that is done.
pub(super) struct Acknowledgement {
    /// The newest delivery of it.
    pub deliveries: watch::Receiver<Arc<JobMessage>>,
    pub recording: RecordingId,
    /// The claim of the result, if this node holds it, and whether the raw file stays.
    pub claim: Option<PathBuf>,
    pub keep_raw: bool,
    /// The raw file in a store, whose claim this node holds.
    pub object: Option<DoneRawObject>,
    pub raw_store: Option<RawStore>,
    pub node: RecorderId,
    /// `main_path`.
    pub store: MainPath,
    pub outbox: Outbox,
}

impl Acknowledgement {
    /// Acknowledges the job, for as long as that takes. After the first failure another job may have the slot. False: the
    /// program ended first.
    pub async fn run(&self, slot: OwnedSemaphorePermit, cancel: &CancellationToken) -> bool {
        let mut slot = Some(slot);
        let reported = Arc::new(AtomicBool::new(false));
        let ack = || {
            let message = Arc::clone(&self.deliveries.borrow());
            async move { message.ack().await }
        };
        let keep = |wait| {
            drop(slot.take());
            self.keep(Arc::clone(&reported), wait)
        };
        until_confirmed(ack, keep, cancel).await
    }

    /// Keeps the job for this node until the next attempt: after `wait`, or with the next delivery.
    async fn keep(&self, reported: Arc<AtomicBool>, wait: Duration) {
        let mut deliveries = self.deliveries.clone();
        let message = Arc::clone(&deliveries.borrow_and_update());
        // Where the acknowledgement is lost, so may this be; otherwise the job is not handed out meanwhile.
        if let Err(error) = message.in_progress().await {
            tracing::debug!(%error, "the queue did not hear that the job is this node's");
        }
        if !reported.load(Ordering::Relaxed) {
            reported.store(self.mark_reported().await, Ordering::Relaxed);
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            Ok(()) = deliveries.changed() => {}
        }
    }

    /// Notes in the claim that the server has what it is told of the result, once that is so: another node that is handed
    /// the job meanwhile has nothing left to do. Whether nothing more is to be noted.
    async fn mark_reported(&self) -> bool {
        if self.claim.is_none() && self.object.is_none() {
            return true;
        }
        let told = |key| self.outbox.state(&self.recording, key).is_some_and(|state| state.is_over());
        if !told(MessageKey::Proceeded) || !told(MessageKey::Finished) {
            return false;
        }
        if let Some(object) = &self.object
            && let Err(error) = raw_object::mark_reported(self.raw_store.as_ref(), object, &self.node).await
        {
            tracing::warn!(
                code = %codes::CLAIM_NOT_MARKED, raw = object.object, %error,
                "the claim in the store does not say yet that the server was told of the result"
            );
            return false;
        }
        let Some(claim) = self.claim.clone() else { return true };
        let (store, path, node, keep_raw) = (self.store.clone(), claim.clone(), self.node.clone(), self.keep_raw);
        match files::on_disk(move || claim::mark_reported(&store, &path, &node, keep_raw)).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(
                    code = %codes::CLAIM_NOT_MARKED, claim = %claim.display(), %error,
                    "the claim does not say yet that the server was told of the result"
                );
                false
            }
        }
    }
}

/// Tries `ack` until it succeeds. After each failure, `keep` keeps the job for this node until the next attempt, for so
/// long at most. False: the program ended first.
async fn until_confirmed<A, K, E>(
    mut ack: impl FnMut() -> A,
    mut keep: impl FnMut(Duration) -> K,
    cancel: &CancellationToken,
) -> bool
where
    A: Future<Output = Result<(), E>>,
    K: Future<Output = ()>,
    E: Display,
{
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    let mut throttle = LogThrottle::default();
    let mut limit = Some(FIRST_ATTEMPT);
    loop {
        let attempt = tokio::time::timeout(limit.take().unwrap_or(LONGEST_ATTEMPT), ack()).await;
        let error = match attempt {
            Ok(Ok(())) => break,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no confirmation yet".to_owned(),
        };
        if cancel.is_cancelled() {
            return false;
        }
        if throttle.due(Instant::now()) {
            tracing::warn!(
                code = %codes::NOT_ACKNOWLEDGED_YET, error,
                "the job is done, but the queue does not confirm its acknowledgement; trying on"
            );
        }
        if cancel.run_until_cancelled(keep(backoff.wait())).await.is_none() {
            return false;
        }
    }
    if throttle.end() {
        tracing::info!("the job is acknowledged at last");
    }
    true
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_acknowledgement_is_tried_until_it_is_confirmed_and_the_job_kept_meanwhile() {
        let (tries, kept, begun) = (Cell::new(0), Cell::new(0), Instant::now());
        let longest_silence = Cell::new(Duration::ZERO);
        let last_sign = Cell::new(begun);
        // The queue is away for two hours. An attempt takes as long as that of a real one.
        let ack = || {
            tries.set(tries.get() + 1);
            async {
                if begun.elapsed() > Duration::from_secs(7200) {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_secs(15)).await;
                Err("no answer")
            }
        };
        let keep = |wait| {
            kept.set(kept.get() + 1);
            longest_silence.set(longest_silence.get().max(last_sign.replace(Instant::now()).elapsed()));
            tokio::time::sleep(wait)
        };
        assert!(until_confirmed(ack, keep, &CancellationToken::new()).await);
        assert_eq!(tries.get(), kept.get() + 1);
        assert!(tries.get() > 90 && longest_silence.get() < Duration::from_secs(300), "{tries:?} {longest_silence:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_program_ends_the_attempts_after_one_at_least() {
        let cancel = CancellationToken::new();
        let wait = |wait| tokio::time::sleep(wait);
        let ending = cancel.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(100)).await;
            ending.cancel();
        });
        assert!(!until_confirmed(|| std::future::ready(Err("no answer")), wait, &cancel).await);
        assert!(until_confirmed(|| std::future::ready(Ok::<_, &str>(())), wait, &cancel).await, "it is tried once");
    }
}
