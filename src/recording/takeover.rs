//! Takes over the recordings of nodes that are gone, from the archive of the fleet ([`crate::archive`]).
//!
//! ```text
//! nodes with recordings ── announcement not renewed for a minute ──► lease, which one node gets ──► parts from the archive
//!                                                                                                        │
//!      record, as a crash of this node would have left it ◄─────────────────────────────────────────────┘
//!      │ the meeting goes on, and this node has room: joined, as the next part
//!      └ else: it ends with its cause, and its MP4 is made
//! ```
//!
//! A recording that the archive says is this node's, and that has no record here, is taken over as well: its disk is a new
//! one.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::archive::description::PartDescription;
use crate::archive::handle::{Archive, KEPT_AFTER_END};
use crate::archive::lease::{self, LeaseStep};
use crate::archive::names::{ArchiveListing, ArchivedRecording};
use crate::archive::owner_watch::OwnerWatch;
use crate::archive::rebuild_request;
use crate::capture::rig::Rig;
use crate::codes;
use crate::fleet::availability::Availability;
use crate::nats::{Bucket, Nats};
use crate::protocol::access::RoomAccess;
use crate::protocol::announcement::AnnouncementField;
use crate::protocol::ids::{AccessToken, RecorderId};
use crate::protocol::request::{Kind, Output, RecordingInfo, Start};
use crate::protocol::room_status::RoomStatus;
use crate::recording::archived_parts;
use crate::recording::journal::{RecordingEntry, RecordingJournal, StopRequest};
use crate::recording::rig_factory::RigFactory;
use crate::recording::room_client::RoomClient;
use crate::storage::files;
use crate::store::error::StoreError;
use crate::telemetry::log_throttle::LogThrottle;

/// How often the archive and the announcements are looked at: so many times while a node is silent,
const LOOKS: u32 = 4;
/// but not more rarely.
const LONGEST_INTERVAL: Duration = Duration::from_secs(15);
/// How much longer a node that cannot record now leaves a recording to others, as a part of that time.
const PATIENCE: u32 = 3;
/// Time limit for reading what operators ask.
const READ_LIMIT: Duration = Duration::from_secs(10);
/// How often the archives of recordings are looked for that were handed over long ago.
const CLEANUP_INTERVAL: Duration = Duration::from_secs(3600);
/// Stands for a token that has no claims; no room takes it.
const NO_TOKEN: &str = "none";

/// Takes recordings over.
pub struct Takeover<R> {
    pub archive: Archive,
    pub journal: RecordingJournal,
    pub rigs: Arc<dyn RigFactory<R>>,
    pub room: RoomClient,
    pub availability: Availability,
    /// To who goes on with them.
    pub records: mpsc::Sender<RecordingEntry>,
    /// `storage.archive_keep`.
    pub keep: bool,
    /// `storage.takeover_after`: how long another node's announcement is not renewed.
    pub after: Duration,
    /// Where operators ask for it.
    pub state_dir: PathBuf,
    /// Where parts are fetched to.
    pub temporary_dir: PathBuf,
}

/// Why a recording is not taken over now.
#[derive(Debug, thiserror::Error)]
enum TakeoverFailure {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the archive has nothing that can be read of it")]
    Nothing,
    #[error("its parts cannot be fetched: {0}")]
    Name(#[from] crate::protocol::ids::InvalidName),
    #[error("its description cannot be read: {0}")]
    Description(String),
    #[error("this node ends")]
    Ending,
}

fn span(recording: &ArchivedRecording) -> tracing::Span {
    tracing::info_span!(
        "recording", recording_id = %recording.recording, room_id = %recording.room, task = "takeover"
    )
}

impl<R: Rig> Takeover<R> {
    /// Until `drain`.
    pub async fn run(self, nats: Nats, drain: CancellationToken) {
        let look = async {
            let Some(bucket) = nats.bucket(&drain).await else { return };
            self.look_for_ever(&bucket).await;
        };
        drain.run_until_cancelled(look).await;
    }

    async fn look_for_ever(&self, bucket: &Bucket) {
        let (began, mut watch, mut throttle) = (Instant::now(), OwnerWatch::new(self.after), LogThrottle::default());
        let mut gone_since: HashMap<RecorderId, Instant> = HashMap::new();
        let mut cleaned = None::<Instant>;
        let mut leases = None::<bool>;
        let mut failures = HashMap::new();
        loop {
            self.obey().await;
            if leases.is_none() {
                leases = self.leases().await;
            }
            if !self.keep && cleaned.is_none_or(|at| at.elapsed() >= CLEANUP_INTERVAL) {
                cleaned = Some(Instant::now());
                self.clean_up().await;
            }
            match self.archive.running().await {
                Ok(running) => {
                    let mut owners: Vec<RecorderId> = running.iter().map(|(node, _)| node.clone()).collect();
                    owners.sort();
                    owners.dedup();
                    watch.keep(&owners);
                    let mut gone = Vec::new();
                    for node in owners {
                        if node == *self.archive.node() {
                            continue;
                        }
                        match bucket.read(&AnnouncementField::LastPing.key(&node)).await {
                            Ok(ping) if watch.look(began.elapsed(), &node, ping.revision) => gone.push(node),
                            Ok(_) => {}
                            Err(error) => {
                                tracing::debug!(%error, "whether other nodes are gone is not known now");
                                watch.interrupt();
                                gone.clear();
                                break;
                            }
                        }
                    }
                    gone_since.retain(|node, _| gone.contains(node));
                    for (node, recording) in running {
                        let since =
                            gone.contains(&node).then(|| *gone_since.entry(node.clone()).or_insert_with(Instant::now));
                        if leases == Some(true) {
                            self.consider(&node, &recording, since, &mut failures).await;
                        }
                    }
                }
                Err(error) => {
                    if throttle.due(Instant::now()) {
                        tracing::warn!(
                            code = %codes::NOT_TAKEN_OVER_YET, store = %self.archive.url(), %error,
                            "the archive cannot be looked at, so that recordings of a node that is gone would not be taken over; \
                             trying on; {}", error.remedy()
                        );
                    }
                }
            }
            tokio::time::sleep((self.after / LOOKS).min(LONGEST_INTERVAL)).await;
        }
    }

    /// Whether only one node can take a recording over; `None`: not known yet.
    async fn leases(&self) -> Option<bool> {
        match self.archive.leases().await {
            Ok(()) => Some(true),
            Err(error @ StoreError::Unsupported(_)) => {
                tracing::warn!(
                    code = %codes::ARCHIVE_WITHOUT_LEASES, store = %self.archive.url(), %error,
                    "recordings are archived, but those of a node that is gone are not taken over by themselves: take another \
                     store, or `plugnmeet-recorder recordings rebuild`"
                );
                Some(false)
            }
            // That the archive cannot be looked at is logged.
            Err(_) => None,
        }
    }

    /// Takes over what operators ask for, whoever has it.
    async fn obey(&self) {
        let dir = self.state_dir.clone();
        let asked = files::on_disk_within(READ_LIMIT, move || rebuild_request::all(&dir)).await;
        for recording in asked.unwrap_or_default() {
            let span = span(&recording);
            let rebuilt = async {
                if self.is_here(&recording).await {
                    tracing::info!("this node has the recording in hand already");
                    return Ok(());
                }
                let listing = self.archive.listing(&recording).await?;
                let lease = listing.lease;
                self.adopt(&recording, listing, lease, false, "it was put together from the archive by an operator")
                    .await
            };
            let rebuilt = rebuilt.instrument(span.clone()).await;
            if let Err(why) = rebuilt {
                let _in = span.enter();
                tracing::error!(
                    code = %codes::NOT_TAKEN_OVER_YET, store = %self.archive.url(), %why,
                    "a recording is not put together from the archive yet; trying on, until the file in \
                     rebuild-requests of recorder.state_dir is removed"
                );
                continue;
            }
            let (dir, recording) = (self.state_dir.clone(), recording.clone());
            // One that stays finds the recording in hand.
            let _ = files::on_disk_within(READ_LIMIT, move || rebuild_request::remove(&dir, &recording)).await;
        }
    }

    /// `gone`: since when its node is known to be gone.
    /// `failures`: of the recordings that were not taken over when they were looked at before.
    async fn consider(
        &self,
        node: &RecorderId,
        recording: &ArchivedRecording,
        gone: Option<Instant>,
        failures: &mut HashMap<ArchivedRecording, LogThrottle>,
    ) {
        let is_own = node == self.archive.node();
        if !is_own && gone.is_none() {
            failures.remove(recording);
            return;
        }
        if self.is_here(recording).await {
            return;
        }
        let span = span(recording);
        let may_join = self.availability.obstacle().is_none();
        if !may_join && gone.is_some_and(|since| since.elapsed() < self.after / PATIENCE) {
            return;
        }
        let taken = self.take_over(node, recording, may_join).instrument(span.clone()).await;
        let Err(why) = taken else {
            failures.remove(recording);
            return;
        };
        if !failures.entry(recording.clone()).or_default().due(Instant::now()) {
            return;
        }
        let _in = span.enter();
        if matches!(why, TakeoverFailure::Nothing) {
            tracing::error!(
                code = %codes::NOTHING_TO_TAKE_OVER, node = %node, store = %self.archive.url(),
                "the recorder of this recording is gone, and the archive has nothing of it: it is left to its recorder; bring \
                 that node back"
            );
        } else {
            tracing::error!(
                code = %codes::NOT_TAKEN_OVER_YET, node = %node, store = %self.archive.url(), %why,
                "a recording whose recorder is gone is not taken over yet; trying on: look at the store of \
                 storage.archive and the disk of recorder.temporary_dir"
            );
        }
    }

    async fn is_here(&self, recording: &ArchivedRecording) -> bool {
        let (journal, id) = (self.journal.clone(), recording.recording.clone());
        let looked = crate::storage::detached::run("journal", move || Ok(journal.holds(Kind::Recording, &id)));
        looked.await.unwrap_or(true)
    }

    async fn take_over(
        &self,
        node: &RecorderId,
        recording: &ArchivedRecording,
        may_join: bool,
    ) -> Result<(), TakeoverFailure> {
        if self.archive.has_ended(recording).await? {
            return Ok(self.archive.forget(recording, node).await?);
        }
        let listing = self.archive.listing(recording).await?;
        let own = self.archive.node();
        let holder = match listing.lease {
            0 => None,
            latest => self.archive.holder(recording, latest).await?,
        };
        let lease = match lease::step(node.as_str(), own.as_str(), listing.lease, holder.as_deref()) {
            LeaseStep::ForgetMarker => return Ok(self.archive.forget(recording, node).await?),
            LeaseStep::GoOn(lease) => {
                self.archive.begin(recording).await?;
                lease
            }
            LeaseStep::Take(lease) => {
                let found = archived_parts::find(&self.archive, recording, listing.clone()).await?;
                if found.is_empty() {
                    return Err(TakeoverFailure::Nothing);
                }
                // Another node may have the room.
                let bytes = found.iter().map(|file| file.listed.bytes_from(0)).sum();
                self.archive.require_room(&self.temporary_dir, bytes).await?;
                // Before the lease: who has that has a marker, by which others know that it lives.
                self.archive.begin(recording).await?;
                if !self.archive.take_over(recording, lease).await? {
                    tracing::info!(%node, "another node takes the recording over");
                    return Ok(self.archive.forget(recording, own).await?);
                }
                lease
            }
        };
        tracing::warn!(
            code = %codes::TAKEN_OVER, %node, lease,
            "the recorder of this recording is gone: it is taken over from the archive"
        );
        match self.adopt(recording, listing, lease, may_join, &format!("its recorder {node} is gone")).await {
            Err(TakeoverFailure::Nothing) => {
                tracing::error!(
                    code = %codes::NOT_TAKEN_OVER_YET, %node,
                    "its node was gone before the archive had anything of this recording: there is nothing to deliver"
                );
                self.archive.end(recording).await?;
            }
            adopted => adopted?,
        }
        if node != own {
            self.archive.forget(recording, node).await?;
        }
        Ok(())
    }

    /// Makes it a recording of this node. `cause`: of its end, where it ends here.
    async fn adopt(
        &self,
        recording: &ArchivedRecording,
        listing: ArchiveListing,
        lease: u32,
        may_join: bool,
        cause: &str,
    ) -> Result<(), TakeoverFailure> {
        let found = archived_parts::find(&self.archive, recording, listing).await?;
        let first = found.iter().min_by_key(|file| file.description.order()).ok_or(TakeoverFailure::Nothing)?;
        let info = first.description.info().map_err(TakeoverFailure::Description)?;
        if info.recording_id != recording.recording || info.room_id != recording.room {
            return Err(TakeoverFailure::Description("it is of another recording".to_owned()));
        }
        let raw = self.rigs.raw_file(&info)?;
        let seconds: u64 = found.iter().map(|file| file.listed.length_ms()).sum::<u64>() / 1000;
        tracing::info!(seconds, files = found.len(), "what the archive has of the recording is fetched");
        let parts = archived_parts::fetch(&self.archive, recording, &raw, &[], &found).await?;
        let stop = self.stop_of(&first.description, &info, may_join, cause.to_owned()).await;
        let access = match first.description.claims.clone() {
            Some(claims) => RoomAccess::Claims(claims),
            None => RoomAccess::Token(AccessToken::parse(NO_TOKEN)?),
        };
        let began_at = found.iter().filter_map(|file| file.description.recording_began_at).min();
        let entry = self.journal.entry(&Start { info, access, output: Output::File });
        entry
            .update(move |record| {
                // They have no place of this node in the archive, and so are never sent there again.
                (record.parts, record.stop, record.lease, record.archived) = (parts, stop, lease, true);
                record.began_at = began_at.or_else(|| record.parts.iter().find_map(|part| part.began_at));
            })
            .await;
        // A node that ends takes it up at its next start.
        self.records.send(entry).await.map_err(|_| TakeoverFailure::Ending)
    }

    /// Why the recording ends here; `None`: it goes on.
    async fn stop_of(
        &self,
        description: &PartDescription,
        info: &RecordingInfo,
        may_join: bool,
        cause: String,
    ) -> Option<StopRequest> {
        let stop = Some(StopRequest { reason: Some(cause) });
        let Some(access) = description.claims.clone().map(RoomAccess::Claims).filter(|_| may_join) else { return stop };
        match self.room.check(&access).await {
            RoomStatus::Over => stop,
            RoomStatus::Refused(why) => {
                tracing::warn!(
                    code = %codes::NOT_REJOINED, room_table_id = info.room_table_id, why,
                    "the room does not take the recorder: the recording ends here"
                );
                stop
            }
            RoomStatus::Open | RoomStatus::Occupied | RoomStatus::Unknown(_) => None,
        }
    }

    async fn clean_up(&self) {
        let limit = SystemTime::now().checked_sub(KEPT_AFTER_END).unwrap_or(SystemTime::UNIX_EPOCH);
        match self.archive.remove_ended_before(limit).await {
            Ok(0) => {}
            Ok(recordings) => tracing::info!(recordings, "removed from the archive: they were handed over a week ago"),
            Err(error) => tracing::debug!(%error, "the archive is not cleaned up now"),
        }
    }
}
