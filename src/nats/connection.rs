//! The connection that all calls share.

use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::{self, context::PublishErrorKind, message::PublishMessage};
use bytes::Bytes;

/// The time limit of one query.
pub(super) const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// The time limit for storing a job: the server answers only after the stream's replicas have it.
const STORE_DEADLINE: Duration = Duration::from_secs(10);
/// How often the client's state is read while waiting for a change of it.
const STATE_POLL: Duration = Duration::from_millis(100);
/// The durable consumer of the jobs (PROTOCOL 1).
pub(super) const CONSUMER: &str = "transcoderWorker";

/// Why a call to NATS failed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NatsError(pub String);

/// The connection; clones share it.
#[derive(Clone, Debug)]
pub struct Nats {
    pub(super) link: Arc<Link>,
}

#[derive(Debug)]
pub(super) struct Link {
    pub client: async_nats::Client,
    pub context: jetstream::Context,
    /// PROTOCOL 1's C.
    pub channel: String,
    /// PROTOCOL 1's B.
    pub bucket: String,
    /// PROTOCOL 1's J: the subject and the stream's name.
    pub jobs: String,
}

impl Nats {
    /// Whether the connection is up, as far as this side can know.
    pub fn is_connected(&self) -> bool {
        self.link.client.connection_state() == State::Connected
    }

    /// How often the client has connected: after a change, earlier announcements may have to be repeated.
    pub fn connects(&self) -> u64 {
        self.link.client.statistics().connects.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Publishes a job and waits until the server has stored it. The server drops a second one with the same
    /// `message_id` within the stream's duplicate window (2 min by default).
    ///
    /// # Errors
    /// Where the job may not be stored: not connected, no such stream, refused, or no answer within 10 s.
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

    /// Waits until the client connects another time, counted from this call on.
    pub fn reconnected(&self) -> impl Future<Output = ()> + Send + '_ {
        let before = self.connects();
        async move {
            while self.connects() == before || !self.is_connected() {
                tokio::time::sleep(STATE_POLL).await;
            }
        }
    }

    pub(super) fn check_connected(&self) -> Result<(), NatsError> {
        if self.is_connected() { Ok(()) } else { Err(NatsError("not connected to NATS".to_owned())) }
    }

    /// Waits until the connection is up.
    pub(super) async fn connected(&self) {
        while !self.is_connected() {
            tokio::time::sleep(STATE_POLL).await;
        }
    }
}

pub(super) fn no_answer(what: &str, deadline: Duration) -> NatsError {
    NatsError(format!("{what}: no answer within {} s", deadline.as_secs()))
}
