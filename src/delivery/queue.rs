//! What is to be told of one recording, one after the other. Its notices are one lane, in their order; its job is the other:
//! it follows the notice of the end, so that the server hears of the MP4 last, but it does not wait for ever for a
//! server that is away.
//!
//! ```text
//! no answer of plugNmeet's (nobody there, a proxy's page)  → the same notice again after 0.5 s … 30 s
//! plugNmeet refuses this node's key (401)                  → the same again after 1 min … 1 h, and once another one is taken
//! plugNmeet knows no such room (404)                       → the same again after 1 min … 1 h
//! plugNmeet cannot read this one notice                    → the next ones; this one again after 1 min … 1 h
//! ```
//!
//! So order is kept: a refusal of the key or the room concerns the later notices of the recording as well, and they wait
//! behind the first. An operator's `outbox retry` and each start try at once; only `outbox drop` ends it.

use crate::delivery::queues::{QueueKind, Wake};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::delivery::answer::{NoticeAnswer, Refusal, RefusalScope};
use crate::delivery::message::{Message, MessageKey};
use crate::delivery::queues::{DeliveryOutcome, Queues};
use crate::protocol::ids::RecordingId;
use crate::retry::Backoff;
use crate::telemetry::log_throttle::LogThrottle;

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// While the program ends, so that a server that comes back within the grace still gets them.
const LONGEST_WAIT_AT_END: Duration = Duration::from_secs(1);
/// After plugNmeet's own no: somebody has to change something first.
const FIRST_WAIT_REFUSED: Duration = Duration::from_secs(60);
const LONGEST_WAIT_REFUSED: Duration = Duration::from_secs(3600);
/// How long a job waits for the server to have taken the notice of the end.
const JOB_PATIENCE: Duration = Duration::from_secs(60);

/// What a try came to.
enum AttemptOutcome {
    Delivered,
    Refused(Refusal),
    /// The program ended; the last failure.
    Left(String),
    /// An operator has asked something: look again.
    Asked,
}

/// A letter that plugNmeet itself does not take.
struct RefusedMessage {
    why: String,
    concerns: RefusalScope,
    due: Instant,
    backoff: Backoff,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
enum NextAction {
    Try(Box<Message>),
    /// Wait for a refused one.
    Wait(MessageKey),
}

/// The first letter that is due and behind no refused one that concerns it as well, or else which one is to be waited for.
fn next(letters: Vec<Message>, refused: &HashMap<MessageKey, RefusedMessage>, now: Instant) -> Option<NextAction> {
    let mut wait: Option<(Instant, MessageKey)> = None;
    for letter in letters {
        match refused.get(&letter.key) {
            // One that waits has come into the place of the refused one.
            Some(refusal) if now < refusal.due && !letter.is_waiting() => {
                if wait.is_none_or(|(due, _)| refusal.due < due) {
                    wait = Some((refusal.due, letter.key));
                }
                if refusal.concerns != RefusalScope::Notice {
                    break;
                }
            }
            _ => return Some(NextAction::Try(Box::new(letter))),
        }
    }
    wait.map(|(_, key)| NextAction::Wait(key))
}

/// Works on a lane until there is nothing left to be told, or the program ends.
pub(super) async fn work_off(queues: Arc<Queues>, recording: RecordingId, lane: QueueKind, wake: Arc<Wake>) {
    let mut refused: HashMap<MessageKey, RefusedMessage> = HashMap::new();
    let mut taken = queues.taken.subscribe();
    while let Some(next) = queues.look(&recording, lane, |letters| next(letters, &refused, Instant::now())) {
        let letter = match next {
            NextAction::Try(letter) => letter,
            NextAction::Wait(key) => {
                let Some(first) = refused.get(&key) else { continue };
                tokio::select! {
                    () = tokio::time::sleep_until(first.due) => {}
                    () = wake.asked.notified() => refused.clear(),
                    () = wake.added.notified() => {}
                    // What concerns the key is over when the server takes anything.
                    () = changed(&mut taken), if first.concerns == RefusalScope::Node => {
                        for refusal in refused.values_mut() {
                            refusal.due = Instant::now();
                        }
                    }
                    () = queues.ending.cancelled() => return queues.leave(&recording, lane, &first.why),
                }
                continue;
            }
        };
        let tried = match lane {
            QueueKind::Notices => queues.tell(&recording, &letter, &wake.asked).await,
            QueueKind::Job => tokio::select! {
                tried = queues.publish(&recording, &letter) => tried,
                // Storing a job twice is the same as once.
                () = wake.asked.notified() => AttemptOutcome::Asked,
            },
        };
        match tried {
            AttemptOutcome::Delivered => {
                refused.remove(&letter.key);
                queues.outbox.delivered(&recording, &letter).await;
                queues.resolve(&recording, letter.key, &DeliveryOutcome::Taken);
            }
            AttemptOutcome::Refused(refusal) => {
                taken.mark_unchanged();
                let why = refusal.why.clone();
                let wait = put_off(&mut refused, &letter, refusal);
                queues.outbox.note_refusal(&recording, letter.key, why.clone(), wait).await;
                queues.resolve(&recording, letter.key, &DeliveryOutcome::Refused(why));
            }
            AttemptOutcome::Left(why) => return queues.leave(&recording, lane, &why),
            AttemptOutcome::Asked => refused.clear(),
        }
    }
}

/// Puts the next try of a refused letter off; by how much.
fn put_off(
    refused: &mut HashMap<MessageKey, RefusedMessage>,
    letter: &Message,
    Refusal { why, concerns }: Refusal,
) -> Duration {
    let earlier = refused.remove(&letter.key);
    let first = earlier.is_none();
    let mut backoff =
        earlier.map_or_else(|| Backoff::new(FIRST_WAIT_REFUSED, LONGEST_WAIT_REFUSED), |earlier| earlier.backoff);
    let wait = backoff.wait();
    let (notice, about, retry_s) = (letter.key.as_str(), letter.about.as_str(), wait.as_secs());
    if first {
        error!(
            notice,
            about,
            %why,
            retry_s,
            "plugNmeet refuses the notice: it is kept and tried again; `outbox retry ID` tries at once, `outbox drop ID` gives it up"
        );
    } else {
        warn!(notice, about, %why, retry_s, "plugNmeet still refuses the notice; trying on");
    }
    refused.insert(letter.key, RefusedMessage { why, concerns, due: Instant::now() + wait, backoff });
    wait
}

/// Resolves when there is something new; never once nobody can send any more.
async fn changed(taken: &mut watch::Receiver<u64>) {
    if taken.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

impl Queues {
    /// Tries until plugNmeet has said something, or the program has ended.
    async fn tell(&self, recording: &RecordingId, letter: &Message, asked: &Notify) -> AttemptOutcome {
        let (key, about) = (letter.key, letter.about.as_str());
        let body = Bytes::from(letter.body.clone());
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut reminder = LogThrottle::default();
        let mut hurried = false;
        let mut last = "the server did not answer in time".to_owned();
        loop {
            let answer = tokio::select! {
                biased;
                () = self.ended.cancelled() => return AttemptOutcome::Left(last),
                answer = self.client.send(body.clone()) => answer,
            };
            match answer {
                NoticeAnswer::Taken => {
                    if reminder.end() || letter.failures > 0 {
                        info!(notice = key.as_str(), "the server has taken the notice at last");
                    } else {
                        debug!(notice = key.as_str(), "the server has taken the notice");
                    }
                    self.taken.send_modify(|taken| *taken += 1);
                    return AttemptOutcome::Delivered;
                }
                NoticeAnswer::Refused(refusal) => return AttemptOutcome::Refused(refusal),
                NoticeAnswer::Again(why) => {
                    if reminder.due(Instant::now()) {
                        warn!(notice = key.as_str(), about, %why, "the server has not taken the notice; trying on");
                    }
                    last = why;
                }
            }
            if self.ending.is_cancelled() && !std::mem::replace(&mut hurried, true) {
                backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT_AT_END);
            }
            let wait = backoff.wait();
            // Counted from the failure, as it is noted: a slow disk does not put the next try off.
            let waited = tokio::time::sleep(wait);
            self.outbox.note_failure(recording, key, last.clone(), wait).await;
            tokio::select! {
                () = waited => {}
                () = self.ending.cancelled(), if !hurried => {}
                () = self.ended.cancelled() => return AttemptOutcome::Left(last),
                () = asked.notified() => return AttemptOutcome::Asked,
            }
        }
    }

    /// Tries through outages until the job is stored. Its message id is the recording's, so a second one within the
    /// stream's duplicate window is not stored again.
    async fn publish(&self, recording: &RecordingId, letter: &Message) -> AttemptOutcome {
        let bytes = Bytes::from(letter.body.clone());
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut reminder = LogThrottle::default();
        let mut last = "there is no connection to NATS yet".to_owned();
        tokio::select! {
            () = self.end_told(recording) => {}
            () = self.ended.cancelled() => return AttemptOutcome::Left(last),
        }
        let mut connected = self.nats.subscribe();
        let nats = tokio::select! {
            nats = connected.wait_for(Option::is_some) => nats.ok().and_then(|nats| nats.clone()),
            () = self.ended.cancelled() => None,
        };
        let Some(nats) = nats else { return AttemptOutcome::Left(last) };
        loop {
            let tried = tokio::select! {
                tried = nats.publish_job(recording.as_str(), bytes.clone()) => tried,
                () = self.ended.cancelled() => return AttemptOutcome::Left(last),
            };
            match tried {
                Ok(()) => {
                    info!("the job is in the work queue");
                    return AttemptOutcome::Delivered;
                }
                Err(why) => {
                    last = why.to_string();
                    if reminder.due(Instant::now()) {
                        warn!(why = last, "the job is not in the work queue yet; trying on");
                    } else {
                        debug!(why = last, "the job is still not in the work queue");
                    }
                }
            }
            let wait = backoff.wait();
            let waited = tokio::time::sleep(wait);
            self.outbox.note_failure(recording, letter.key, last.clone(), wait).await;
            tokio::select! {
                () = waited => {}
                () = nats.reconnected() => backoff.reset(),
                () = self.ended.cancelled() => return AttemptOutcome::Left(last),
            }
        }
    }

    /// Waits until the server knows of the recording's end, or has had its time.
    async fn end_told(&self, recording: &RecordingId) {
        if tokio::time::timeout(JOB_PATIENCE, self.outbox.settled(recording, MessageKey::Ended)).await.is_err() {
            warn!("the job goes out before the server knows of the recording's end");
        }
    }
}
