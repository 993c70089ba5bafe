//! What all queues of a dispatcher share: the outbox, both ways out, and who works on which queue.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::delivery::message::{Message, MessageKey};
use crate::delivery::notify_client::NotifyClient;
use crate::delivery::outbox::Outbox;
use crate::nats::Nats;
use crate::protocol::ids::RecordingId;

/// What became of a letter at first, in this run of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// The other side has it.
    Taken,
    /// plugNmeet itself does not take it as things stand; why. It is tried again.
    Refused(String),
    /// The program ended first: it is in the outbox for the next start. The last failure.
    Left(String),
    /// An operator does not want it told.
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

/// How a lane at work is woken.
#[derive(Debug, Default)]
pub(super) struct Wake {
    /// An operator has asked something.
    pub asked: Notify,
    /// There is one more letter.
    pub added: Notify,
}

#[derive(Debug)]
pub(super) struct Queues {
    pub client: NotifyClient,
    pub outbox: Outbox,
    /// `None` until the connection is made for the first time.
    pub nats: watch::Sender<Option<Nats>>,
    /// Counts the notices that the server has taken: then it does not refuse this node's key any more.
    pub taken: watch::Sender<u64>,
    pub active: Mutex<ActiveQueues>,
    pub tasks: TaskTracker,
    /// The program ends: hurry.
    pub ending: CancellationToken,
    /// The grace is over: leave the rest.
    pub ended: CancellationToken,
}

#[derive(Debug, Default)]
pub(super) struct ActiveQueues {
    /// Those with a task.
    pub at_work: HashMap<(RecordingId, QueueKind), Arc<Wake>>,
    /// Who wants to know what becomes of a letter.
    pub listeners: HashMap<(RecordingId, MessageKey), Vec<oneshot::Sender<DeliveryOutcome>>>,
}

impl Queues {
    pub fn lock(&self) -> MutexGuard<'_, ActiveQueues> {
        // Both maps are whole at every point where a panic could be.
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn resolve(&self, recording: &RecordingId, key: MessageKey, told: &DeliveryOutcome) {
        let listeners = self.lock().listeners.remove(&(recording.clone(), key));
        for listener in listeners.into_iter().flatten() {
            // Whoever sent it need not listen.
            let _ = listener.send(told.clone());
        }
    }

    /// Tells the lanes of a recording that an operator has asked something.
    pub fn ask_again(&self, recording: &RecordingId) {
        let lanes = self.lock();
        let of_this = lanes.at_work.iter().filter(|((of, _), _)| of == recording);
        of_this.for_each(|(_, wake)| wake.asked.notify_one());
    }

    /// What `find` makes of the letters of the lane; where that is nothing, the lane is given up in the same breath.
    pub fn look<T>(
        &self,
        recording: &RecordingId,
        lane: QueueKind,
        find: impl FnOnce(Vec<Message>) -> Option<T>,
    ) -> Option<T> {
        let mut lanes = self.lock();
        let mut letters = self.outbox.to_tell(recording);
        letters.retain(|letter| QueueKind::of(letter.key) == lane);
        let found = find(letters);
        if found.is_none() {
            lanes.at_work.remove(&(recording.clone(), lane));
        }
        found
    }

    /// The program ends: names what is left of a lane.
    pub fn leave(&self, recording: &RecordingId, lane: QueueKind, why: &str) {
        self.lock().at_work.remove(&(recording.clone(), lane));
        let letters = self.outbox.to_tell(recording).into_iter();
        for letter in letters.filter(|letter| QueueKind::of(letter.key) == lane) {
            warn!(
                letter = letter.key.as_str(),
                about = letter.about,
                why,
                "not delivered yet: it is in the outbox for the next start"
            );
            self.resolve(recording, letter.key, &DeliveryOutcome::Left(why.to_owned()));
        }
    }
}
