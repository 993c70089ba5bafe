//! Notices to the server (PROTOCOL 5): signed, retried with backoff, in order per recording.

use tokio::sync::oneshot;

use crate::protocol::notice::Notice;

/// How a notice ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// The server took it.
    Taken,
    /// The server will never take it, or the program ended first; why.
    GivenUp(String),
}

/// Tells the server; clones share the queues.
#[derive(Clone, Debug)]
pub struct Notifier;

impl Notifier {
    /// Queues a notice behind the earlier ones of its recording, at once. The receiver resolves when it is delivered
    /// or given up; it may be dropped.
    pub fn tell(&self, _notice: Notice) -> oneshot::Receiver<Delivered> {
        todo!()
    }
}
