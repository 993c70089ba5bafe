//! An operator's request to this node to stop one of its recordings or broadcasts.

use tokio::sync::{mpsc, oneshot};

use crate::protocol::ids::RecordingId;
use crate::protocol::request::Kind;

/// Why such a recording ends, as the server is told.
pub(super) const REASON: &str = "an operator has stopped it";
/// Requests that wait for the service, which takes each at once.
const WAITING: usize = 8;

/// A request to stop a recording.
#[derive(Debug)]
pub struct OperatorStop {
    kind: Kind,
    id: RecordingId,
    answer: oneshot::Sender<bool>,
}

impl OperatorStop {
    /// Whether this recording is meant.
    pub(super) fn is_for(&self, kind: Kind, id: &RecordingId) -> bool {
        self.kind == kind && self.id == *id
    }

    /// `stopped`: it runs, and ends now.
    pub(super) fn answer(self, stopped: bool) {
        // Who has asked waits no longer.
        let _ = self.answer.send(stopped);
    }
}

/// Asks the request service to stop recordings; clones ask the same one.
#[derive(Clone, Debug)]
pub struct OperatorStops(mpsc::Sender<OperatorStop>);

impl OperatorStops {
    /// Where to ask, and what the service receives.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<OperatorStop>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), receiver)
    }

    /// Stops a recording; false where none with this id runs. `None`: the node answers no requests any more, or as many
    /// wait as may.
    pub async fn stop(&self, kind: Kind, id: RecordingId) -> Option<bool> {
        let (answer, stopped) = oneshot::channel();
        self.0.try_send(OperatorStop { kind, id, answer }).ok()?;
        stopped.await.ok()
    }
}
