//! Delivers what is in the outbox: notices to the server by HTTP (PROTOCOL 5), jobs to the work queue (PROTOCOL 6).
//!
//! A recording has two lanes ([`crate::delivery::queue`]), each with one task while something of it is to be told. One that is not
//! taken holds up no other recording.

use crate::delivery::notify_client::NotifyClientError;
use crate::delivery::queues::{DeliveryOutcome, Queues};
use std::collections::hash_map::Entry;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prost::Message as _;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span, error, info, info_span, warn};

use crate::config::ServerConfig;
use crate::delivery::message::{Message, MessageKey, MessageState};
use crate::delivery::notify_client::NotifyClient;
use crate::delivery::outbox::Outbox;
use crate::delivery::queue;
use crate::delivery::queues::{QueueKind, Wake};
use crate::delivery::retry_request::{self, RetryRequest};
use crate::nats::Nats;
use crate::protocol::ids::RecordingId;
use crate::protocol::job::Job;
use crate::protocol::notice::Notice;
use crate::telemetry::redact;

/// How often it is looked whether an operator asks something of the outbox.
const LOOK_FOR_REQUESTS: Duration = Duration::from_secs(5);

/// What goes into the outbox.
#[derive(Clone, Debug)]
pub enum Delivery {
    Notice(Notice),
    Job(Job),
}

impl From<Notice> for Delivery {
    fn from(notice: Notice) -> Self {
        Self::Notice(notice)
    }
}

impl Delivery {
    fn recording(&self) -> &RecordingId {
        match self {
            Self::Notice(notice) => &notice.info.recording_id,
            Self::Job(job) => &job.info.recording_id,
        }
    }

    fn letter(&self) -> Message {
        match self {
            Self::Notice(notice) => {
                let mut message = notice.to_message();
                // Whoever gave the cause: it may quote a child's words, and those an address with its secret.
                message.msg = redact::scrub(&message.msg).into_owned();
                let about = format!("{:?} of room {}: {}", notice.event.task(), message.room_id, message.msg);
                Message::new(MessageKey::of(&notice.event), about, message.encode_to_vec())
            }
            Self::Job(job) => {
                Message::new(MessageKey::Job, format!("transcoding job of room {}", job.info.room_id), job.encode())
            }
        }
    }
}

/// Delivers; clones share the outbox.
#[derive(Clone, Debug)]
pub struct Dispatcher {
    queues: Arc<Queues>,
}

impl Dispatcher {
    /// # Errors
    /// Where the server's address or key cannot be used, or TLS cannot be set up on this host.
    pub fn new(server: &ServerConfig, outbox: Outbox) -> Result<Self, NotifyClientError> {
        Ok(Self {
            queues: Arc::new(Queues {
                client: NotifyClient::new(server)?,
                outbox,
                nats: watch::Sender::new(None),
                taken: watch::Sender::new(0),
                active: Mutex::default(),
                tasks: TaskTracker::new(),
                ending: CancellationToken::new(),
                ended: CancellationToken::new(),
            }),
        })
    }

    /// From now on jobs can be published.
    pub fn connect(&self, nats: Nats) {
        self.queues.nats.send_replace(Some(nats));
    }

    #[must_use]
    pub fn outbox(&self) -> &Outbox {
        &self.queues.outbox
    }

    /// Takes up what an earlier run has left, also what was refused: the configuration may be another now, on either side. From
    /// now on an operator is heard.
    pub async fn take_up(&self) {
        self.heed_requests().await;
        for recording in self.queues.outbox.open_recordings() {
            let letters = self.queues.outbox.to_tell(&recording);
            let refused = letters.iter().filter(|letter| !letter.is_waiting()).count();
            info!(recording_id = %recording, letters = letters.len(), refused, "an earlier run has left something to be told");
            for letter in letters {
                self.work(&recording, QueueKind::of(letter.key));
            }
        }
        let dispatcher = self.clone();
        self.queues.tasks.spawn(async move {
            let ending = dispatcher.queues.ending.clone();
            while ending.run_until_cancelled(tokio::time::sleep(LOOK_FOR_REQUESTS)).await.is_some() {
                dispatcher.heed_requests().await;
            }
        });
    }

    /// Does what an operator asks.
    async fn heed_requests(&self) {
        let Some(state_dir) = self.queues.outbox.state_dir() else { return };
        for (id, request) in requests(state_dir.clone()).await {
            let span = info_span!(parent: None, "delivery", recording_id = %id);
            async {
                match request {
                    RetryRequest::Retry => info!("the operator wants what is to be told tried again"),
                    RetryRequest::Drop { letters } => {
                        for letter in self.queues.outbox.drop_letters(&id, letters).await {
                            warn!(letter = letter.key.as_str(), about = letter.about, "the operator has dropped it: it is not told");
                            self.queues.resolve(&id, letter.key, &DeliveryOutcome::Dropped);
                        }
                    }
                }
                let (dir, of) = (state_dir.clone(), id.clone());
                if let Err(error) = crate::storage::files::on_disk(move || retry_request::remove(&dir, &of)).await {
                    error!(%error, "the operator's request cannot be removed, and is done again and again; look at the disk of recorder.state_dir");
                }
            }
            .instrument(span)
            .await;
            self.queues.ask_again(&id);
            for letter in self.queues.outbox.to_tell(&id) {
                self.work(&id, QueueKind::of(letter.key));
            }
        }
    }

    /// Puts one message into the outbox, behind the earlier ones of its recording. It is on disk when this returns; what
    /// becomes of it comes by the receiver, which may be dropped. One whose key is there already is not added again.
    pub async fn send(&self, message: impl Into<Delivery>) -> oneshot::Receiver<DeliveryOutcome> {
        let message = message.into();
        let (tell, told) = oneshot::channel();
        let letter = message.letter();
        self.queues.lock().listeners.entry((message.recording().clone(), letter.key)).or_default().push(tell);
        self.add(message.recording(), vec![letter]).await;
        told
    }

    /// Puts these messages, all of one recording, into its outbox in one write. Whether they are on disk when this returns:
    /// else a crash would lose them, and whoever can send them again keeps what he needs for it.
    pub async fn send_all(&self, messages: Vec<Delivery>) -> bool {
        let Some(recording) = messages.first().map(|message| message.recording().clone()) else { return true };
        let letters = messages.iter().map(Delivery::letter).collect();
        self.add(&recording, letters).await
    }

    async fn add(&self, recording: &RecordingId, letters: Vec<Message>) -> bool {
        let keys: Vec<MessageKey> = letters.iter().map(|letter| letter.key).collect();
        let on_disk = self.queues.outbox.add(recording, letters).await;
        for key in keys {
            match self.queues.outbox.state(recording, key) {
                Some(MessageState::Delivered { .. }) => self.queues.resolve(recording, key, &DeliveryOutcome::Taken),
                Some(MessageState::Dropped { .. }) => self.queues.resolve(recording, key, &DeliveryOutcome::Dropped),
                Some(MessageState::Refused { why, .. }) => {
                    self.queues.resolve(recording, key, &DeliveryOutcome::Refused(why));
                    self.work(recording, QueueKind::of(key));
                }
                Some(MessageState::Waiting) | None => self.work(recording, QueueKind::of(key)),
            }
        }
        on_disk
    }

    /// Sees to it that somebody works on the lane.
    fn work(&self, recording: &RecordingId, lane: QueueKind) {
        let wake = Arc::new(Wake::default());
        match self.queues.lock().at_work.entry((recording.clone(), lane)) {
            Entry::Occupied(at_work) => return at_work.get().added.notify_one(),
            Entry::Vacant(vacant) => drop(vacant.insert(Arc::clone(&wake))),
        }
        let work = queue::work_off(Arc::clone(&self.queues), recording.clone(), lane, wake);
        self.queues.tasks.spawn(work.instrument(span_for(recording)));
    }

    /// Tries for `grace` longer to deliver what waits; the rest is left for the next start, each letter with a line.
    pub async fn shutdown(&self, grace: Duration) {
        self.queues.ending.cancel();
        self.queues.tasks.close();
        if tokio::time::timeout(grace, self.queues.tasks.wait()).await.is_err() {
            self.queues.ended.cancel();
            self.queues.tasks.wait().await;
        }
    }
}

/// What an operator asks; a directory that cannot be read asks nothing, and is said.
async fn requests(state_dir: PathBuf) -> Vec<(RecordingId, RetryRequest)> {
    let dir = state_dir.clone();
    let read = crate::storage::files::on_disk(move || retry_request::all(&state_dir)).await;
    read.unwrap_or_else(|error| {
        warn!(dir = %dir.join(retry_request::DIR).display(), %error, "what an operator asks of the outbox cannot be read");
        Vec::new()
    })
}

/// The span of whatever the lane works for; what an earlier run has left is worked on in one of its own.
fn span_for(recording: &RecordingId) -> Span {
    let around = Span::current();
    if around.has_field("recording_id") {
        return around;
    }
    info_span!(parent: None, "delivery", recording_id = %recording)
}
