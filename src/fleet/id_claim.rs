//! Takes this node's recorder id, notices that it is lost, and gives it back. What is decided by is in
//! [`crate::fleet::holder`].

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::codes;
use crate::fleet::holder::{Holder, IdEntries, IdState, IdWatch, OwnWrites, Ownership, name_of, ownership};
use crate::nats::{Bucket, Nats, NatsError, UpdateError};
use crate::process::procfs;
use crate::protocol::announcement::{AnnouncementField, holder_key};
use crate::protocol::ids::RecorderId;
use crate::storage::lock::{self, StateLock};
use crate::telemetry::log_throttle::LogThrottle;
use crate::unix_time::unix_ms;

/// How often the bucket is read while the id is not free.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// A replica of the bucket that is behind is asked again so often, at this interval.
const READS: u32 = 5;
const READ_INTERVAL: Duration = Duration::from_millis(100);

/// Another recorder has the id.
#[derive(Debug, thiserror::Error)]
#[error(
    "recorder.id {id} is in use by {holder}: two recorders with one id would both take each recording. Give this one an id \
     of its own, or stop the other one; an id is free 10 s after its recorder has ended"
)]
pub struct IdInUse {
    id: RecorderId,
    holder: String,
}

/// The id, which this process holds or has held.
#[derive(Debug)]
pub struct IdClaim {
    pub(super) bucket: Bucket,
    pub(super) recorder: RecorderId,
    own: Holder,
    writes: OwnWrites,
    started: Instant,
}

/// This process, as the holder of an id. `lock`: that of its state directory.
#[must_use]
pub fn this_process(lock: &StateLock) -> Holder {
    let (pid, start) = (std::process::id(), unix_ms());
    let mut bits = [0; 16];
    let random = rustix::rand::getrandom(&mut bits, rustix::rand::GetRandomFlags::empty());
    let nonce = random.map_or_else(|_| format!("{pid} {start}"), |_| hex::encode(bits));
    let boot = procfs::boot_id();
    let file = lock.file_id().filter(|_| !boot.is_empty());
    let lock = file.map(|(device, inode)| format!("{boot}:{device}:{inode}")).unwrap_or_default();
    Holder { host: lock::host(), pid, start, nonce, lock }
}

impl IdClaim {
    /// Takes the id, as soon as the bucket exists and the id is free. `None`: cancelled first.
    ///
    /// # Errors
    /// Where another recorder has the id and nothing runs here: a node that has resumed recordings keeps them first.
    pub async fn at_start(
        nats: &Nats,
        recorder: RecorderId,
        own: Holder,
        running: &watch::Receiver<usize>,
        cancel: &CancellationToken,
    ) -> Result<Option<Self>, IdInUse> {
        let Some(bucket) = nats.bucket(cancel).await else { return Ok(None) };
        let mut claim = Self { bucket, recorder, own, writes: OwnWrites::default(), started: Instant::now() };
        let (mut watch, mut throttle, mut is_used) = (IdWatch::at_start(), LogThrottle::default(), false);
        loop {
            let holder = match claim.look(&mut watch).await {
                Ok((IdState::Free, seen)) => match claim.take(&seen).await {
                    Ok(()) => return Ok(Some(claim)),
                    Err(UpdateError::Conflict(_)) => None,
                    Err(UpdateError::Failed(why)) => {
                        watch.interrupt();
                        claim.log_failure(&mut throttle, &why);
                        None
                    }
                },
                Ok((state, seen)) => {
                    is_used |= state == IdState::Alive;
                    Some(name_of(Holder::of(&seen.holder).as_ref()))
                }
                Err(why) => {
                    watch.interrupt();
                    claim.log_failure(&mut throttle, &why);
                    None
                }
            };
            if let Some(holder) = holder {
                if is_used && *running.borrow() == 0 {
                    return Err(IdInUse { id: claim.recorder, holder });
                }
                if throttle.due(Instant::now()) {
                    let recorder_id = &claim.recorder;
                    if is_used {
                        warn!(
                            code = %codes::ID_LOST, %recorder_id, %holder,
                            "another recorder has this node's id: the recordings of an earlier run go on, and nothing \
                             new is taken on; give one of them an id of its own"
                        );
                    } else {
                        info!(%recorder_id, %holder, "the id was held by a recorder that may be alive: waiting until it has been silent for 10 s");
                    }
                }
            }
            if cancel.run_until_cancelled(tokio::time::sleep(LOOK_INTERVAL)).await.is_none() {
                return Ok(None);
            }
        }
    }

    fn log_failure(&self, throttle: &mut LogThrottle, why: &NatsError) {
        if throttle.due(Instant::now()) {
            warn!(
                code = %codes::ID_NOT_TAKEN, %why, recorder_id = %self.recorder,
                "the recorder id cannot be taken, so this node gets no work; trying on"
            );
        }
    }

    /// Looks whether the id, which this process does not hold, is free.
    pub(super) async fn look(&self, watch: &mut IdWatch) -> Result<(IdState, IdEntries), NatsError> {
        let seen = self.read().await?;
        Ok((watch.look(self.started.elapsed(), &self.own, &seen), seen))
    }

    /// The other recorder that has its name in the bucket.
    pub(super) fn other(&self, seen: &IdEntries) -> Option<Holder> {
        Holder::of(&seen.holder).filter(|holder| holder.nonce != self.own.nonce)
    }

    /// Takes the id, where the holder key is as it was seen.
    pub(super) async fn take(&mut self, seen: &IdEntries) -> Result<(), UpdateError> {
        let key = holder_key(&self.recorder);
        let revision = self.bucket.update(&key, self.own.to_json(), seen.holder.revision).await?;
        self.writes = OwnWrites::since(revision, seen.ping.revision);
        Ok(())
    }

    /// Whose id it is now, and what is in the bucket.
    pub(super) async fn ownership(&mut self) -> Result<(Ownership, IdEntries), NatsError> {
        let mut seen = self.read().await?;
        for _ in 1..READS {
            if !self.writes.are_newer_than(&seen) {
                break;
            }
            tokio::time::sleep(READ_INTERVAL).await;
            seen = self.read().await?;
        }
        let ownership = ownership(&self.own, &self.writes, &seen);
        if ownership == Ownership::Own {
            self.writes.found(seen.ping.revision);
        }
        Ok((ownership, seen))
    }

    /// Writes `last_ping` where it is as this process has left it.
    pub(super) async fn write_ping(&mut self, value: String) -> Result<(), UpdateError> {
        self.writes.writes(&value);
        let key = AnnouncementField::LastPing.key(&self.recorder);
        match self.bucket.update(&key, value, self.writes.ping_revision).await {
            Ok(revision) => self.writes.wrote(revision),
            Err(error) => {
                if matches!(error, UpdateError::Conflict(_)) {
                    self.writes.was_refused();
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Purges all keys of the id, `last_ping` first and the holder's last, if the id is still this process's. False where it
    /// is another's.
    ///
    /// A purge of any key removes the recorder from the server's cache (PROTOCOL 2), so none is purged alone.
    pub(super) async fn give_back(&mut self) -> Result<bool, UpdateError> {
        let (Ownership::Own | Ownership::Vacant, seen) = self.ownership().await? else { return Ok(false) };
        match self.bucket.purge_at(&AnnouncementField::LastPing.key(&self.recorder), seen.ping.revision).await {
            Err(UpdateError::Conflict(_)) => return Ok(false),
            purged => purged?,
        }
        for field in AnnouncementField::ALL.into_iter().filter(|field| *field != AnnouncementField::LastPing) {
            self.bucket.purge(&field.key(&self.recorder)).await?;
        }
        self.bucket.purge(&holder_key(&self.recorder)).await?;
        Ok(true)
    }

    async fn read(&self) -> Result<IdEntries, NatsError> {
        Ok(IdEntries {
            holder: self.bucket.read(&holder_key(&self.recorder)).await?,
            ping: self.bucket.read(&AnnouncementField::LastPing.key(&self.recorder)).await?,
        })
    }
}
