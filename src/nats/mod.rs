//! The one connection to NATS: authentication at each connect, the requests, the bucket, the job queue.
//!
//! The server's credentials allow the subjects of PROTOCOL 1 and nothing more, so no call here may ask for another:
//! no STREAM.INFO of the jobs' stream, no creating of consumers (a KV watch or `keys()` is one), no inbox prefix of
//! our own. `tests/suite/fleet.rs` runs every call against a NATS server that allows exactly those.
//!
//! Nothing is handed to the client while it is disconnected: it would send it, stale, after the reconnect.

mod address;
mod bucket;
mod connect;
mod connect_error;
mod jobs;
mod requests;

use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::{self, context::PublishErrorKind, message::PublishMessage};
use bytes::Bytes;

pub use bucket::Bucket;
pub use connect_error::ConnectError;
pub use jobs::{JobMessage, Jobs, Queue};
pub use requests::{RequestMessage, Requests};

/// How long one question to the server may take.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// How long the server may take to store a job: it is answered only after the stream's replicas have it.
const STORE_DEADLINE: Duration = Duration::from_secs(10);
/// The client tells its state, but offers no wait for it.
const STATE_POLL: Duration = Duration::from_millis(100);
/// The durable consumer of the jobs (PROTOCOL 1).
const CONSUMER: &str = "transcoderWorker";

/// NATS did not take what it was told.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NatsError(pub String);

/// The connection; clones share it.
#[derive(Clone, Debug)]
pub struct Nats {
    link: Arc<Link>,
}

#[derive(Debug)]
struct Link {
    client: async_nats::Client,
    context: jetstream::Context,
    /// PROTOCOL 1's C.
    channel: String,
    /// PROTOCOL 1's B.
    bucket: String,
    /// PROTOCOL 1's J: the subject and the stream's name.
    jobs: String,
}

impl Nats {
    /// Whether the connection is up, as far as this side can know.
    pub fn is_connected(&self) -> bool {
        self.link.client.connection_state() == State::Connected
    }

    /// How often the connection was made: when it has changed, what was told before may have to be told anew.
    pub fn connects(&self) -> u64 {
        self.link.client.statistics().connects.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Puts a job into the work queue and waits until the server has stored it. A second one with the same
    /// `message_id` within the stream's duplicate window (2 min by default) is not stored again.
    ///
    /// # Errors
    /// Where it is not known to be stored: not connected, no such stream, refused, or no answer within 10 s.
    pub async fn publish_job(&self, message_id: &str, job: Bytes) -> Result<(), NatsError> {
        self.check_connected()?;
        let message = PublishMessage::build().payload(job).message_id(message_id);
        let stored = async { self.link.context.send_publish(self.link.jobs.clone(), message).await?.await };
        match tokio::time::timeout(STORE_DEADLINE, stored).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if error.kind() == PublishErrorKind::StreamNotFound => Err(NatsError(format!(
                "there is no stream for {}: the plugNmeet server makes it at its start",
                self.link.jobs
            ))),
            Ok(Err(error)) => Err(NatsError(format!("storing a job in {}: {error}", self.link.jobs))),
            Err(_) => Err(no_answer("storing a job", STORE_DEADLINE)),
        }
    }

    /// Waits until the connection is made another time, counted from this call on.
    pub fn reconnected(&self) -> impl Future<Output = ()> + Send + '_ {
        let before = self.connects();
        async move {
            while self.connects() == before || !self.is_connected() {
                tokio::time::sleep(STATE_POLL).await;
            }
        }
    }

    fn check_connected(&self) -> Result<(), NatsError> {
        if self.is_connected() { Ok(()) } else { Err(NatsError("not connected to NATS".to_owned())) }
    }

    /// Waits until the connection is up.
    async fn connected(&self) {
        while !self.is_connected() {
            tokio::time::sleep(STATE_POLL).await;
        }
    }
}

fn no_answer(what: &str, deadline: Duration) -> NatsError {
    NatsError(format!("{what}: no answer within {} s", deadline.as_secs()))
}
