//! Jobs to the work queue: published until the server has confirmed to have stored them (PROTOCOL 6).

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::backoff::{Backoff, Reminder};
use crate::nats::Nats;
use crate::protocol::job::Job;

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The job is not known to be in the work queue; the program ended first. The last failure.
#[derive(Debug, thiserror::Error)]
#[error("the job was not published before the program ended: {0}")]
pub struct NotPublished(String);

/// Publishes jobs; clones share the connection.
#[derive(Clone, Debug)]
pub struct JobPublisher {
    nats: Nats,
    shutdown: CancellationToken,
    grace: Duration,
}

impl JobPublisher {
    /// Once `shutdown` is cancelled, a job is tried for `grace` longer (or for `grace` from when it was handed over, where
    /// that is later).
    #[must_use]
    pub fn new(nats: Nats, shutdown: CancellationToken, grace: Duration) -> Self {
        Self { nats, shutdown, grace }
    }

    /// Tries through outages until the job is stored. Its message id is the recording id, so a second one within the
    /// stream's duplicate window is not stored again.
    ///
    /// # Errors
    /// Where the program ends before that.
    pub async fn publish(&self, job: &Job) -> Result<(), NotPublished> {
        let (recording_id, room_id) = (&job.info.recording_id, &job.info.room_id);
        let bytes = Bytes::from(job.encode());
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut reminder = Reminder::default();
        let mut last = "NATS did not answer in time".to_owned();
        let give_up = async {
            self.shutdown.cancelled().await;
            tokio::time::sleep(self.grace).await;
        };
        let mut give_up = std::pin::pin!(give_up);
        loop {
            let tried = tokio::select! {
                tried = self.nats.publish_job(recording_id.as_str(), bytes.clone()) => tried,
                () = &mut give_up => break,
            };
            match tried {
                Ok(()) => {
                    info!(%recording_id, %room_id, "the job is in the work queue");
                    return Ok(());
                }
                Err(why) if reminder.due(Instant::now()) => {
                    warn!(%recording_id, %room_id, %why, "the job is not in the work queue yet; trying on");
                    last = why.to_string();
                }
                Err(why) => {
                    debug!(%recording_id, %room_id, %why, "the job is still not in the work queue");
                    last = why.to_string();
                }
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.wait()) => {}
                () = self.nats.reconnected() => backoff.reset(),
                () = &mut give_up => break,
            }
        }
        error!(
            %recording_id,
            %room_id,
            why = last,
            "the job could not be put into the work queue before the program ended: the raw file is kept, but nobody converts it"
        );
        Err(NotPublished(last))
    }
}
