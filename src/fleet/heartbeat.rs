//! Announces to the fleet that this node is up and how busy it is (PROTOCOL 2).
//!
//! ```text
//! unregistered ⇄ registered → lost → unregistered
//! ```
//!
//! All five fields are written at first, after every reconnect, after every failure, when the bucket is a new one, and
//! every 30 s. Every write names the revision of the key that this node knows of, so that another recorder with the same
//! id is noticed at the next write, and nothing of it is overwritten. A node that has lost its id to another recorder
//! notes that as an obstacle, and writes nothing until it has taken the id back.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::codes;
use crate::fleet::availability::{Availability, Obstacle, Obstacles};
use crate::fleet::holder::{Holder, IdState, IdWatch, Ownership, name_of};
use crate::fleet::id_claim::IdClaim;
use crate::nats::{Nats, UpdateError};
use crate::protocol::announcement::{AnnouncementField, cpu_score};
use crate::telemetry::log_throttle::LogThrottle;
use crate::unix_time::unix_ms;

/// At least every 3 s (PROTOCOL 2).
const PING_INTERVAL: Duration = Duration::from_secs(2);
/// Between two tries after a failure: a ping must not be older than 8 s for long (PROTOCOL 2).
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
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
    /// The id under which it does.
    pub claim: IdClaim,
    /// Recordings and broadcasts at once.
    pub max_limit: u32,
    pub total_cores: usize,
    /// Recordings and broadcasts running.
    pub progress: watch::Receiver<usize>,
    /// Share of the processors in use, 0…1.
    pub load: watch::Receiver<f64>,
    /// What stands in the way of new recordings; the heartbeat notes that the id is lost.
    pub availability: Availability,
}

/// What the bucket holds of this node, as far as known.
#[derive(Debug)]
struct NodeRegistration {
    at: Instant,
    /// [`Nats::connects`] at that time.
    connects: u64,
    /// Of the fields but `last_ping`.
    revisions: Revisions,
    score: String,
    progress: usize,
    /// What stood in the way of new recordings at the last ping.
    obstacles: Obstacles,
}

/// By the number of the field.
type Revisions = [u64; 5];

enum State {
    /// What the bucket holds is to be read before the next write.
    Unregistered,
    Registered(NodeRegistration),
    /// Another recorder has the id.
    Lost(IdWatch),
}

/// What was logged of the announcement.
#[derive(Debug, Default)]
struct AnnouncementLog {
    is_announced: bool,
    has_joined: bool,
    outage: bool,
    lost: LogThrottle,
}

impl Heartbeat {
    /// Announces this node until cancelled, through outages; then purges its fields.
    pub async fn run(mut self, cancel: CancellationToken) {
        self.availability.clear(Obstacle::Starting);
        let mut obstacles = self.availability.watch();
        let (mut state, mut log) = (State::Unregistered, AnnouncementLog::default());
        let mut had_conflict = false;
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
            if matches!(&state, State::Registered(old) if old.connects != self.nats.connects()) {
                // The server may have a new bucket, or another recorder the id.
                state = State::Unregistered;
            }
            // Not cancelled by `cancel`, so that no write comes after the purge.
            let result = match state {
                State::Lost(watch) => Ok(self.take_back(watch, &mut log).await),
                State::Registered(old) if tick => self.ping(old).await.map(State::Registered),
                State::Registered(old) => self.write_progress(old).await.map(State::Registered),
                State::Unregistered => match self.still_own(&mut log).await {
                    Ok(None) => self.register_anew().await.map(State::Registered),
                    Ok(Some(lost)) => Ok(State::Lost(lost)),
                    Err(error) => Err(error),
                },
            };
            state = match result {
                Ok(state) => {
                    had_conflict = false;
                    match &state {
                        State::Registered(now) => log.announced(&self, &now.obstacles),
                        State::Unregistered => ticks.reset_immediately(),
                        State::Lost(_) => {}
                    }
                    state
                }
                Err(UpdateError::Conflict(_)) if !std::mem::replace(&mut had_conflict, true) => {
                    ticks.reset_immediately();
                    State::Unregistered
                }
                Err(error) => {
                    log.failed(&error);
                    ticks.reset_after(RETRY_INTERVAL);
                    State::Unregistered
                }
            };
            self.availability.set_announced(matches!(state, State::Registered(_)));
        }
        match state {
            State::Lost(_) => {
                let recorder_id = &self.claim.recorder;
                info!(%recorder_id, "the announcement is not purged: the id is another recorder's");
            }
            State::Unregistered | State::Registered(_) => self.leave().await,
        }
    }

    /// Makes sure that the id is still this node's, or takes it where it is nobody's. Where it is another's, what is watched
    /// from then on.
    async fn still_own(&mut self, log: &mut AnnouncementLog) -> Result<Option<IdWatch>, UpdateError> {
        let (ownership, seen) = self.claim.ownership().await?;
        match ownership {
            Ownership::Own => {}
            Ownership::Vacant => self.claim.take(&seen).await?,
            Ownership::Other(holder) => {
                self.note_loss(holder.as_ref(), log);
                return Ok(Some(IdWatch::after_loss()));
            }
        }
        Ok(None)
    }

    fn note_loss(&self, holder: Option<&Holder>, log: &mut AnnouncementLog) {
        let recorder_id = &self.claim.recorder;
        let holder = name_of(holder);
        self.availability.block(Obstacle::NotUnique, format!("the id {recorder_id} is in use by {holder}"));
        if log.lost.due(Instant::now()) {
            error!(
                code = %codes::ID_LOST,
                %recorder_id, %holder,
                "another recorder has this node's id: nothing new is taken on, running recordings go on. Give one of them an \
                 id of its own, or stop it; the id is taken back when the other one has been silent for 10 s"
            );
        }
    }

    /// Takes the id back where the other recorder has gone.
    async fn take_back(&mut self, mut watch: IdWatch, log: &mut AnnouncementLog) -> State {
        match self.claim.look(&mut watch).await {
            Ok((IdState::Free, seen)) => match self.claim.take(&seen).await {
                Ok(()) => {
                    self.availability.clear(Obstacle::NotUnique);
                    log.lost.end();
                    info!(recorder_id = %self.claim.recorder, "the id is this node's again: the other recorder has gone");
                    return State::Unregistered;
                }
                Err(UpdateError::Conflict(_)) => {}
                Err(UpdateError::Failed(_)) => watch.interrupt(),
            },
            Ok((_, seen)) => self.note_loss(self.claim.other(&seen).as_ref(), log),
            Err(_) => watch.interrupt(),
        }
        State::Lost(watch)
    }

    /// Writes all five fields at the revisions that the bucket says they have.
    async fn register_anew(&mut self) -> Result<NodeRegistration, UpdateError> {
        // Read before all else: after a reconnect in between, the next ping registers again.
        let connects = self.nats.connects();
        let mut revisions = Revisions::default();
        for field in REGISTRATION.into_iter().filter(|field| *field != AnnouncementField::LastPing) {
            revisions[field as usize] = self.claim.bucket.read(&field.key(&self.claim.recorder)).await?.revision;
        }
        self.register(revisions, connects).await
    }

    async fn register(&mut self, mut revisions: Revisions, connects: u64) -> Result<NodeRegistration, UpdateError> {
        let progress = *self.progress.borrow_and_update();
        let score = cpu_score(*self.load.borrow());
        let mut obstacles = Obstacles::default();
        for field in REGISTRATION {
            let value = match field {
                AnnouncementField::LastPing => {
                    obstacles = self.availability.watch().borrow().clone();
                    self.claim.write_ping(ping_value(&obstacles)).await?;
                    continue;
                }
                AnnouncementField::MaxLimit => self.max_limit.to_string(),
                AnnouncementField::TotalCores => self.total_cores.to_string(),
                AnnouncementField::CurrentProgress => progress.to_string(),
                AnnouncementField::CpuScore => score.clone(),
            };
            self.write(field, value, &mut revisions).await?;
        }
        Ok(NodeRegistration { at: Instant::now(), connects, revisions, score, progress, obstacles })
    }

    /// Writes the ping, and the other values that have changed.
    async fn ping(&mut self, mut registered: NodeRegistration) -> Result<NodeRegistration, UpdateError> {
        if registered.at.elapsed() >= REGISTER_INTERVAL {
            return self.register(registered.revisions, registered.connects).await;
        }
        registered.obstacles = self.availability.watch().borrow().clone();
        self.claim.write_ping(ping_value(&registered.obstacles)).await?;
        let score = cpu_score(*self.load.borrow());
        if score != registered.score {
            self.write(AnnouncementField::CpuScore, score.clone(), &mut registered.revisions).await?;
            registered.score = score;
        }
        self.write_progress(registered).await
    }

    async fn write_progress(&mut self, mut registered: NodeRegistration) -> Result<NodeRegistration, UpdateError> {
        let progress = *self.progress.borrow_and_update();
        if progress != registered.progress {
            self.write(AnnouncementField::CurrentProgress, progress.to_string(), &mut registered.revisions).await?;
            registered.progress = progress;
        }
        Ok(registered)
    }

    async fn write(
        &self,
        field: AnnouncementField,
        value: String,
        revisions: &mut Revisions,
    ) -> Result<(), UpdateError> {
        let revision = &mut revisions[field as usize];
        *revision = self.claim.bucket.update(&field.key(&self.claim.recorder), value, *revision).await?;
        Ok(())
    }

    /// Purges all keys, so that the server forgets this node.
    async fn leave(&mut self) {
        let recorder_id = self.claim.recorder.clone();
        match tokio::time::timeout(PURGE_DEADLINE, self.claim.give_back()).await {
            Ok(Ok(true)) => info!(%recorder_id, "this node has left the fleet"),
            Ok(Ok(false)) => info!(%recorder_id, "the announcement is not purged: the id is another recorder's"),
            Ok(Err(why)) => {
                warn!(
                    code = %codes::NOT_LEFT, %why,
                    "this node could not leave the fleet; the server drops it when its pings stop"
                );
            }
            Err(_) => {
                warn!(
                    code = %codes::NOT_LEFT,
                    "leaving the fleet takes too long; the server drops this node when its pings stop"
                );
            }
        }
    }
}

impl AnnouncementLog {
    fn announced(&mut self, node: &Heartbeat, obstacles: &Obstacles) {
        let recorder_id = &node.claim.recorder;
        let is_first = !std::mem::replace(&mut self.is_announced, true);
        if std::mem::take(&mut self.outage) {
            info!(%recorder_id, "this node is announced to the fleet again");
        }
        match obstacles.first_key_value() {
            None if !std::mem::replace(&mut self.has_joined, true) => {
                info!(%recorder_id, max_limit = node.max_limit, "this node has joined the fleet");
            }
            Some((obstacle, why)) if is_first => {
                let reason = obstacle.refusal();
                warn!(
                    code = %codes::ANNOUNCED_WITHOUT_WORK, %recorder_id, reason, why,
                    "this node is announced to the fleet, but takes nothing on yet"
                );
            }
            _ => {}
        }
    }

    fn failed(&mut self, why: &UpdateError) {
        if !std::mem::replace(&mut self.outage, true) {
            warn!(
                code = %codes::NOT_ANNOUNCED, %why,
                "this node cannot be announced to the fleet, so it gets no work; trying on"
            );
        }
    }
}

/// A node that accepts nothing announces an old ping: then the server does not choose it, but still knows of its
/// recordings.
fn ping_value(obstacles: &Obstacles) -> String {
    if obstacles.is_empty() { unix_ms().to_string() } else { "0".to_owned() }
}

/// Waits for a change; for ever where the sender is gone.
async fn changed<T>(watched: &mut watch::Receiver<T>) {
    if watched.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
