//! Announces to the fleet that this node is up and how busy it is (PROTOCOL 2).
//!
//! ```text
//! waiting for the bucket → registered ⇄ outage → purged
//! ```
//!
//! All five fields are written at first, after every reconnect, after every failure, when the bucket is a new one, and
//! every 30 s: another node with the same id may have purged them.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::fleet::availability::Availability;
use crate::nats::{Bucket, Nats, NatsError};
use crate::protocol::announcement::{AnnouncementField, cpu_score};
use crate::protocol::ids::RecorderId;
use crate::unix_time::unix_ms;

/// At least every 3 s (PROTOCOL 2).
const PING_INTERVAL: Duration = Duration::from_secs(2);
const REGISTER_INTERVAL: Duration = Duration::from_secs(30);
/// The time limit for purging all fields.
const PURGE_DEADLINE: Duration = Duration::from_secs(3);
/// The order of writing: the ping last, so that the server never chooses by fields that are missing yet.
const REGISTRATION: [AnnouncementField; 5] = [
    AnnouncementField::MaxLimit,
    AnnouncementField::TotalCores,
    AnnouncementField::CurrentProgress,
    AnnouncementField::CpuScore,
    AnnouncementField::LastPing,
];

/// What this node announces. Only a node that records announces itself.
#[derive(Debug)]
pub struct Heartbeat {
    pub nats: Nats,
    pub recorder: RecorderId,
    /// Recordings and broadcasts at once.
    pub max_limit: u32,
    pub total_cores: usize,
    /// Recordings and broadcasts running.
    pub progress: watch::Receiver<usize>,
    /// Share of the processors in use, 0…1.
    pub load: watch::Receiver<f64>,
    /// What stands in the way of new recordings.
    pub availability: Availability,
}

/// What the bucket holds of this node, as far as known.
#[derive(Debug)]
struct NodeRegistration {
    at: Instant,
    /// [`Nats::connects`] at that time.
    connects: u64,
    /// The highest revision seen: a lower one comes from a new bucket.
    revision: u64,
    score: String,
    progress: usize,
}

impl Heartbeat {
    /// Announces this node until cancelled, through outages; then purges its fields.
    pub async fn run(mut self, cancel: CancellationToken) {
        let Some(bucket) = self.nats.bucket(&cancel).await else { return };
        let mut obstacles = self.availability.watch();
        let mut registered: Option<NodeRegistration> = None;
        let mut announced_before = false;
        let mut outage = false;
        let mut ticks = tokio::time::interval(PING_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let tick = tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                () = changed(&mut obstacles) => true,
                _ = ticks.tick() => true,
                () = changed(&mut self.progress) => false,
            };
            // Not cancelled by `cancel`, so that no write comes after the purge.
            let result = match registered.take() {
                Some(old) if tick => self.ping(&bucket, old).await,
                Some(old) => self.write_progress(&bucket, old).await,
                None => self.register(&bucket).await,
            };
            self.availability.set_announced(result.is_ok());
            match result {
                Ok(now) => {
                    if !std::mem::replace(&mut announced_before, true) {
                        info!(recorder_id = %self.recorder, max_limit = self.max_limit, "this node has joined the fleet");
                    } else if outage {
                        info!(recorder_id = %self.recorder, "this node is announced to the fleet again");
                    }
                    outage = false;
                    registered = Some(now);
                }
                Err(why) => {
                    if !std::mem::replace(&mut outage, true) {
                        warn!(%why, "this node cannot be announced to the fleet, so it gets no work; trying on");
                    }
                }
            }
        }
        self.purge(&bucket).await;
    }

    /// Writes all five fields.
    async fn register(&mut self, bucket: &Bucket) -> Result<NodeRegistration, NatsError> {
        // Read before the writes: after a reconnect between them the next ping registers again.
        let connects = self.nats.connects();
        let progress = *self.progress.borrow_and_update();
        let score = cpu_score(*self.load.borrow());
        let mut revision = 0;
        for field in REGISTRATION {
            let value = match field {
                AnnouncementField::MaxLimit => self.max_limit.to_string(),
                AnnouncementField::LastPing => self.ping_value(),
                AnnouncementField::TotalCores => self.total_cores.to_string(),
                AnnouncementField::CurrentProgress => progress.to_string(),
                AnnouncementField::CpuScore => score.clone(),
            };
            revision = bucket.put(&field.key(&self.recorder), value).await?;
        }
        Ok(NodeRegistration { at: Instant::now(), connects, revision, score, progress })
    }

    /// Writes the ping, and the other values that have changed.
    async fn ping(&mut self, bucket: &Bucket, mut registered: NodeRegistration) -> Result<NodeRegistration, NatsError> {
        if registered.connects != self.nats.connects() || registered.at.elapsed() >= REGISTER_INTERVAL {
            return self.register(bucket).await;
        }
        let revision = bucket.put(&AnnouncementField::LastPing.key(&self.recorder), self.ping_value()).await?;
        if revision < registered.revision {
            return self.register(bucket).await;
        }
        registered.revision = revision;
        let score = cpu_score(*self.load.borrow());
        if score != registered.score {
            registered.revision = bucket.put(&AnnouncementField::CpuScore.key(&self.recorder), score.clone()).await?;
            registered.score = score;
        }
        self.write_progress(bucket, registered).await
    }

    /// A node that accepts nothing announces an old ping: then the server does not choose it, but still knows of its
    /// recordings.
    fn ping_value(&self) -> String {
        if self.availability.watch().borrow().is_empty() { unix_ms().to_string() } else { "0".to_owned() }
    }

    async fn write_progress(
        &mut self,
        bucket: &Bucket,
        mut registered: NodeRegistration,
    ) -> Result<NodeRegistration, NatsError> {
        let progress = *self.progress.borrow_and_update();
        if progress != registered.progress {
            let key = AnnouncementField::CurrentProgress.key(&self.recorder);
            let revision = bucket.put(&key, progress.to_string()).await?;
            if revision < registered.revision {
                return self.register(bucket).await;
            }
            registered.revision = revision;
            registered.progress = progress;
        }
        Ok(registered)
    }

    /// Purges all five fields, so that the server forgets this node.
    async fn purge(&self, bucket: &Bucket) {
        let purge = async {
            for field in AnnouncementField::ALL {
                bucket.purge(&field.key(&self.recorder)).await?;
            }
            Ok::<(), NatsError>(())
        };
        match tokio::time::timeout(PURGE_DEADLINE, purge).await {
            Ok(Ok(())) => info!(recorder_id = %self.recorder, "this node has left the fleet"),
            Ok(Err(why)) => warn!(%why, "this node could not leave the fleet; the server drops it when its pings stop"),
            Err(_) => warn!("leaving the fleet takes too long; the server drops this node when its pings stop"),
        }
    }
}

/// Waits for a change; for ever where the sender is gone.
async fn changed<T>(watched: &mut watch::Receiver<T>) {
    if watched.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
