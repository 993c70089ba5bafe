//! The one connection to NATS: authentication at each connect, the bucket, the job consumer, publishing with PubAck.

use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

/// A job as it came from the work queue; it stays there until it is acknowledged.
#[derive(Debug)]
pub struct JobMessage;

/// NATS did not take what it was told.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NatsError(pub String);

impl JobMessage {
    pub fn payload(&self) -> &Bytes {
        todo!()
    }
    /// How often this job has been handed out, this time included.
    pub fn delivered(&self) -> u64 {
        todo!()
    }
    /// The job is over; confirmed by the server.
    pub async fn ack(&self) -> Result<(), NatsError> {
        todo!()
    }
    /// Hand it out again after `delay`.
    pub async fn nak(&self, _delay: Duration) -> Result<(), NatsError> {
        todo!()
    }
    /// Never hand it out again.
    pub async fn term(&self) -> Result<(), NatsError> {
        todo!()
    }
    /// Still at work: AckWait begins anew.
    pub async fn in_progress(&self) -> Result<(), NatsError> {
        todo!()
    }
}

/// The work queue's consumer.
#[derive(Debug)]
pub struct Jobs;

impl Jobs {
    /// Waits for the next job, one at a time, through outages. `None`: cancelled.
    pub async fn next(&mut self, _cancel: &CancellationToken) -> Option<JobMessage> {
        todo!()
    }
}
