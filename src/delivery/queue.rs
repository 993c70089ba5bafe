//! The two queues of a recording, each delivered one message after the other: its notices in their order, and its job.
//! The job follows the notice of the end, so that the notices about the MP4 come last, but it waits at most a minute for
//! it.
//!
//! ```text
//! plugNmeet does not answer (unreachable, a proxy's page) → the same notice again after 0.5 s … 30 s
//! plugNmeet refuses this node's key (401)                 → the same again after 1 min … 1 h, and once another is accepted
//! plugNmeet knows no such room (404)                      → the same again after 1 min … 1 h
//! plugNmeet cannot read this notice                       → the next notices; this one again after 1 min … 1 h
//! ```
//!
//! This keeps the order: a refusal of the key or the room concerns the recording's later notices too, and they wait
//! behind the refused one. An operator's `outbox retry` and each start try at once; only `outbox drop` gives a message
//! up.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::codes;
use crate::delivery::answer::{NoticeAnswer, NoticeRefusal, RefusalScope};
use crate::delivery::message::{Message, MessageKey};
use crate::delivery::queues::{DeliveryOutcome, Queues};
use crate::delivery::queues::{QueueKind, Wake};
use crate::protocol::ids::RecordingId;
use crate::retry::Backoff;
use crate::telemetry::log_throttle::LogThrottle;

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// While the program ends, so that a server that comes back within the grace period still gets its notices.
const LONGEST_WAIT_AT_END: Duration = Duration::from_secs(1);
/// After a refusal by plugNmeet: somebody has to change something first.
const FIRST_WAIT_REFUSED: Duration = Duration::from_secs(60);
const LONGEST_WAIT_REFUSED: Duration = Duration::from_secs(3600);
/// How long a job waits for the delivery of the notice of the end.
const END_NOTICE_TIMEOUT: Duration = Duration::from_secs(60);

/// How an attempt to deliver ended.
enum AttemptOutcome {
    Delivered,
    Refused(NoticeRefusal),
    /// The program ended; the last failure.
    Interrupted(String),
    /// An operator asked for a retry or a drop.
    RetryRequested,
}

/// A message that plugNmeet itself refused.
struct RefusedMessage {
    why: String,
    scope: RefusalScope,
    due: Instant,
    backoff: Backoff,
}

/// What a worker does next.
#[derive(Debug, PartialEq, Eq)]
enum NextAction {
    Try(Box<Message>),
    /// Wait until this refused message is due.
    Wait(MessageKey),
}

/// The first message that is due and not held up by a refused one before it; else the refused message to wait for.
fn next(messages: Vec<Message>, refused: &HashMap<MessageKey, RefusedMessage>, now: Instant) -> Option<NextAction> {
    let mut wait: Option<(Instant, MessageKey)> = None;
    for message in messages {
        match refused.get(&message.key) {
            // A waiting message has replaced the refused one.
            Some(refusal) if now < refusal.due && !message.is_waiting() => {
                if wait.is_none_or(|(due, _)| refusal.due < due) {
                    wait = Some((refusal.due, message.key));
                }
                if refusal.scope != RefusalScope::Notice {
                    break;
                }
            }
            _ => return Some(NextAction::Try(Box::new(message))),
        }
    }
    wait.map(|(_, key)| NextAction::Wait(key))
}

/// The worker of a queue: delivers until the queue is empty or the program ends.
pub(super) async fn deliver_all(queues: Arc<Queues>, recording: RecordingId, kind: QueueKind, wake: Arc<Wake>) {
    let mut refused: HashMap<MessageKey, RefusedMessage> = HashMap::new();
    let mut taken = queues.taken.subscribe();
    while let Some(next) = queues.next_or_finish(&recording, kind, |messages| next(messages, &refused, Instant::now()))
    {
        let message = match next {
            NextAction::Try(message) => message,
            NextAction::Wait(key) => {
                let Some(first) = refused.get(&key) else { continue };
                tokio::select! {
                    () = tokio::time::sleep_until(first.due) => {}
                    () = wake.retry_requested.notified() => refused.clear(),
                    () = wake.added.notified() => {}
                    // The server has accepted another notice: it does not refuse this node's key any more.
                    () = changed(&mut taken), if first.scope == RefusalScope::Node => {
                        for refusal in refused.values_mut() {
                            refusal.due = Instant::now();
                        }
                    }
                    () = queues.ending.cancelled() => return queues.interrupt(&recording, kind, &first.why),
                }
                continue;
            }
        };
        let outcome = match kind {
            QueueKind::Notices => queues.send_notice(&recording, &message, &wake.retry_requested).await,
            QueueKind::Job => tokio::select! {
                outcome = queues.publish_job(&recording, &message) => outcome,
                // Cancelling is safe: a job that is published again has the same message id.
                () = wake.retry_requested.notified() => AttemptOutcome::RetryRequested,
            },
        };
        match outcome {
            AttemptOutcome::Delivered => {
                refused.remove(&message.key);
                queues.outbox.delivered(&recording, &message).await;
                queues.resolve(&recording, message.key, &DeliveryOutcome::Taken);
            }
            AttemptOutcome::Refused(refusal) => {
                taken.mark_unchanged();
                let why = refusal.why.clone();
                let wait = postpone(&mut refused, &message, refusal);
                queues.outbox.note_refusal(&recording, message.key, why.clone(), wait).await;
                queues.resolve(&recording, message.key, &DeliveryOutcome::Refused(why));
            }
            AttemptOutcome::Interrupted(why) => return queues.interrupt(&recording, kind, &why),
            AttemptOutcome::RetryRequested => refused.clear(),
        }
    }
}

/// Sets when a refused message is tried again; returns the wait until then.
fn postpone(
    refused: &mut HashMap<MessageKey, RefusedMessage>,
    message: &Message,
    NoticeRefusal { why, scope }: NoticeRefusal,
) -> Duration {
    let previous = refused.remove(&message.key);
    let first = previous.is_none();
    let mut backoff =
        previous.map_or_else(|| Backoff::new(FIRST_WAIT_REFUSED, LONGEST_WAIT_REFUSED), |previous| previous.backoff);
    let wait = backoff.wait();
    let (notice, about, retry_s) = (message.key.as_str(), message.about.as_str(), wait.as_secs());
    if first {
        error!(
            code = %codes::NOTICE_REFUSED,
            notice,
            about,
            %why,
            retry_s,
            "plugNmeet refuses the notice: it is kept and tried again; `outbox retry ID` tries at once, `outbox drop ID` gives it up"
        );
    } else {
        warn!(
            code = %codes::NOTICE_REFUSED, notice, about, %why, retry_s,
            "plugNmeet still refuses the notice; trying on"
        );
    }
    refused.insert(message.key, RefusedMessage { why, scope, due: Instant::now() + wait, backoff });
    wait
}

/// Resolves when another notice was accepted; never once the sender is gone.
async fn changed(taken: &mut watch::Receiver<u64>) {
    if taken.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

impl Queues {
    /// Tries until plugNmeet has accepted or refused the notice, or the program ends.
    async fn send_notice(
        &self,
        recording: &RecordingId,
        message: &Message,
        retry_requested: &Notify,
    ) -> AttemptOutcome {
        let (key, about) = (message.key, message.about.as_str());
        let body = Bytes::from(message.body.clone());
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut throttle = LogThrottle::default();
        let mut hurrying = false;
        let mut last = "the server did not answer in time".to_owned();
        loop {
            let answer = tokio::select! {
                biased;
                () = self.ended.cancelled() => return AttemptOutcome::Interrupted(last),
                answer = self.client.send(body.clone()) => answer,
            };
            match answer {
                NoticeAnswer::Taken => {
                    if throttle.end() || message.failures > 0 {
                        info!(notice = key.as_str(), "the server has taken the notice at last");
                    } else {
                        debug!(notice = key.as_str(), "the server has taken the notice");
                    }
                    self.taken.send_modify(|taken| *taken += 1);
                    return AttemptOutcome::Delivered;
                }
                NoticeAnswer::Refused(refusal) => return AttemptOutcome::Refused(refusal),
                NoticeAnswer::Again(why) => {
                    if throttle.due(Instant::now()) {
                        warn!(
                            code = %codes::NOTICE_NOT_TAKEN, notice = key.as_str(), about, %why,
                            "the server has not taken the notice; trying on"
                        );
                    }
                    last = why;
                }
            }
            if self.ending.is_cancelled() && !std::mem::replace(&mut hurrying, true) {
                backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT_AT_END);
            }
            let wait = backoff.wait();
            // Counted from the failure, as the outbox notes it: a slow disk does not delay the next attempt.
            let waited = tokio::time::sleep(wait);
            self.outbox.note_failure(recording, key, last.clone(), wait).await;
            tokio::select! {
                () = waited => {}
                () = self.ending.cancelled(), if !hurrying => {}
                () = self.ended.cancelled() => return AttemptOutcome::Interrupted(last),
                () = retry_requested.notified() => return AttemptOutcome::RetryRequested,
            }
        }
    }

    /// Tries until the job is stored. Its message id is the recording's, so the stream drops a second one within its
    /// duplicate window.
    async fn publish_job(&self, recording: &RecordingId, message: &Message) -> AttemptOutcome {
        let bytes = Bytes::from(message.body.clone());
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut throttle = LogThrottle::default();
        tokio::select! {
            () = self.end_delivered(recording) => {}
            () = self.ended.cancelled() => {
                let why = "it follows the notice of the recording's end, which the server has not answered yet";
                return AttemptOutcome::Interrupted(why.to_owned());
            }
        }
        let mut connected = self.nats.subscribe();
        let nats = tokio::select! {
            nats = connected.wait_for(Option::is_some) => nats.ok().and_then(|nats| nats.clone()),
            () = self.ended.cancelled() => None,
        };
        let Some(nats) = nats else {
            return AttemptOutcome::Interrupted("there is no connection to NATS yet".to_owned());
        };
        let mut last = "NATS has not confirmed it yet".to_owned();
        loop {
            let outcome = tokio::select! {
                outcome = nats.publish_job(recording.as_str(), bytes.clone()) => outcome,
                () = self.ended.cancelled() => return AttemptOutcome::Interrupted(last),
            };
            match outcome {
                Ok(()) => {
                    info!("the job is in the work queue");
                    return AttemptOutcome::Delivered;
                }
                Err(why) => {
                    last = why.to_string();
                    if throttle.due(Instant::now()) {
                        warn!(
                            code = %codes::JOB_NOT_QUEUED, why = last,
                            "the job is not in the work queue yet; trying on"
                        );
                    } else {
                        debug!(why = last, "the job is still not in the work queue");
                    }
                }
            }
            let wait = backoff.wait();
            let waited = tokio::time::sleep(wait);
            self.outbox.note_failure(recording, message.key, last.clone(), wait).await;
            tokio::select! {
                () = waited => {}
                () = nats.reconnected() => backoff.reset(),
                () = self.ended.cancelled() => return AttemptOutcome::Interrupted(last),
            }
        }
    }

    /// Waits until the notice of the recording's end was answered, at most [`END_NOTICE_TIMEOUT`].
    async fn end_delivered(&self, recording: &RecordingId) {
        if tokio::time::timeout(END_NOTICE_TIMEOUT, self.outbox.answered(recording, MessageKey::Ended)).await.is_err() {
            warn!(code = %codes::JOB_BEFORE_NOTICE, "the job goes out before the server knows of the recording's end, whose notice follows");
        }
    }
}
