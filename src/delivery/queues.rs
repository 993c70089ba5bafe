//! What the queues of a dispatcher share: the outbox, the clients, and the list of their workers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::codes;
use crate::delivery::message::{Message, MessageKey};
use crate::delivery::notify_client::NotifyClient;
use crate::delivery::outbox::Outbox;
use crate::nats::Nats;
use crate::protocol::ids::RecordingId;

/// The first outcome of a message in this run of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// The receiver has accepted it.
    Taken,
    /// plugNmeet itself refuses it for now; why. It is tried again.
    Refused(String),
    /// The program ended first; the last failure. The message is in the outbox for the next start.
    Interrupted(String),
    /// An operator gave it up.
    Dropped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum QueueKind {
    Notices,
    Job,
}

impl QueueKind {
    pub fn of(key: MessageKey) -> Self {
        if key == MessageKey::Job { Self::Job } else { Self::Notices }
    }
}

/// Wakes a queue's worker.
#[derive(Debug, Default)]
pub(super) struct Wake {
    /// An operator asked for a retry or a drop.
    pub retry_requested: Notify,
    /// A message was added.
    pub added: Notify,
}

#[derive(Debug)]
pub(super) struct Queues {
    pub client: NotifyClient,
    pub outbox: Outbox,
    /// `None` until the first connection.
    pub nats: watch::Sender<Option<Nats>>,
    /// The number of notices that the server has accepted: after one it does not refuse this node's key.
    pub taken: watch::Sender<u64>,
    pub active: Mutex<ActiveQueues>,
    pub tasks: TaskTracker,
    /// Nobody waits longer than a moment for the disk any more.
    pub hurry: CancellationToken,
    /// The program ends: retry faster.
    pub ending: CancellationToken,
    /// The grace period is over: stop.
    pub ended: CancellationToken,
}

#[derive(Debug, Default)]
pub(super) struct ActiveQueues {
    /// The queues that have a worker task.
    pub workers: HashMap<(RecordingId, QueueKind), Arc<Wake>>,
    /// Receivers of the messages' first outcomes.
    pub listeners: HashMap<(RecordingId, MessageKey), Vec<oneshot::Sender<DeliveryOutcome>>>,
}

impl Queues {
    pub fn lock(&self) -> MutexGuard<'_, ActiveQueues> {
        // Both maps are consistent at every point that could panic.
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn resolve(&self, recording: &RecordingId, key: MessageKey, outcome: &DeliveryOutcome) {
        let listeners = self.lock().listeners.remove(&(recording.clone(), key));
        for listener in listeners.into_iter().flatten() {
            // The receiver may have been dropped.
            let _ = listener.send(outcome.clone());
        }
    }

    /// Makes the recording's workers try again at once.
    pub fn retry_now(&self, recording: &RecordingId) {
        let active = self.lock();
        let of_this = active.workers.iter().filter(|((of, _), _)| of == recording);
        of_this.for_each(|(_, wake)| wake.retry_requested.notify_one());
    }

    /// What `find` picks from the queue's messages; where it picks nothing, the worker is deregistered under the same
    /// lock.
    pub fn next_or_finish<T>(
        &self,
        recording: &RecordingId,
        kind: QueueKind,
        find: impl FnOnce(Vec<Message>) -> Option<T>,
    ) -> Option<T> {
        let mut active = self.lock();
        let mut messages = self.outbox.undelivered(recording);
        messages.retain(|message| QueueKind::of(message.key) == kind);
        let found = find(messages);
        if found.is_none() {
            active.workers.remove(&(recording.clone(), kind));
        }
        found
    }

    /// The program ends: logs the queue's undelivered messages.
    pub fn interrupt(&self, recording: &RecordingId, kind: QueueKind, why: &str) {
        self.lock().workers.remove(&(recording.clone(), kind));
        let messages = self.outbox.undelivered(recording).into_iter();
        for message in messages.filter(|message| QueueKind::of(message.key) == kind) {
            warn!(
                code = %codes::NOT_DELIVERED,
                letter = message.key.as_str(),
                about = message.about,
                why,
                "not delivered yet: it is in the outbox for the next start"
            );
            self.resolve(recording, message.key, &DeliveryOutcome::Interrupted(why.to_owned()));
        }
    }
}
