//! Delivers what is in the outbox: notices to the server by HTTP (PROTOCOL 5), jobs to the work queue (PROTOCOL 6).
//!
//! A recording has two queues ([`crate::delivery::queue`]), each with one worker task while it holds an undelivered
//! message. A message that the other side does not accept delays no other recording.

use std::collections::hash_map::Entry;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prost::Message as _;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span, error, info, info_span, warn};

use crate::codes;
use crate::config::ServerConfig;
use crate::delivery::message::{Message, MessageKey, MessageState};
use crate::delivery::notify_client::NotifyClient;
use crate::delivery::notify_client::NotifyClientError;
use crate::delivery::outbox::Outbox;
use crate::delivery::queue;
use crate::delivery::queues::{DeliveryOutcome, Queues};
use crate::delivery::queues::{QueueKind, Wake};
use crate::delivery::retry_request::{self, RetryRequest};
use crate::nats::Nats;
use crate::protocol::ids::RecordingId;
use crate::protocol::job::Job;
use crate::protocol::notice::Notice;
use crate::protocol::public_text::without_directories;
use crate::storage::journal::RECORD_LIMIT;
use crate::storage::record_writer::PendingWrite;
use crate::telemetry::redact;

/// How often requests of the operator are looked for.
const REQUEST_POLL_INTERVAL: Duration = Duration::from_secs(5);
/// How long messages that must be on disk before the next step are waited for.
const ON_DISK_LIMIT: Duration = Duration::from_secs(240);
/// How long a worker may take to end once it is told to. Only a disk that hangs holds one up.
const LAST_GRACE: Duration = Duration::from_secs(2);

/// What can be put into the outbox.
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

    fn message(&self) -> Message {
        match self {
            Self::Notice(notice) => {
                let mut message = notice.to_message();
                // A cause may quote a child process's output, which may hold an address with its secret.
                message.msg = redact::scrub(&message.msg).into_owned();
                let about = format!("{:?} of room {}: {}", notice.event.task(), message.room_id, message.msg);
                // The operator sees the paths in the log and the outbox.
                message.msg = without_directories(&message.msg);
                Message::new(MessageKey::of(&notice.event), about, message.encode_to_vec())
            }
            Self::Job(job) => {
                Message::new(MessageKey::Job, format!("transcoding job of room {}", job.info.room_id), job.encode())
            }
        }
    }
}

/// Delivers what is in the outbox; clones share it.
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
                hurry: CancellationToken::new(),
                ending: CancellationToken::new(),
                ended: CancellationToken::new(),
            }),
        })
    }

    /// Sets the connection by which jobs are published.
    pub fn connect(&self, nats: Nats) {
        self.queues.nats.send_replace(Some(nats));
    }

    #[must_use]
    pub fn outbox(&self) -> &Outbox {
        &self.queues.outbox
    }

    /// Starts delivering what an earlier run has not delivered, refused messages too: the configuration of either side
    /// may have changed. From then on, requests of the operator are processed.
    pub async fn resume_outbox(&self) {
        self.process_requests().await;
        for recording in self.queues.outbox.open_recordings() {
            let messages = self.queues.outbox.undelivered(&recording);
            let refused = messages.iter().filter(|message| !message.is_waiting()).count();
            info!(recording_id = %recording, letters = messages.len(), refused, "an earlier run has left something to be told");
            for message in messages {
                self.start_worker(&recording, QueueKind::of(message.key));
            }
        }
        let dispatcher = self.clone();
        self.queues.tasks.spawn(async move {
            let ending = dispatcher.queues.ending.clone();
            while ending.run_until_cancelled(tokio::time::sleep(REQUEST_POLL_INTERVAL)).await.is_some() {
                // May hang with the disk. A request that is interrupted is carried out again by the next start.
                let look = async {
                    for recording in dispatcher.queues.outbox.read_rest().await {
                        dispatcher.start_workers(&recording);
                    }
                    dispatcher.process_requests().await;
                };
                ending.run_until_cancelled(look).await;
            }
        });
    }

    /// Carries out the requests of the operator.
    async fn process_requests(&self) {
        let Some(state_dir) = self.queues.outbox.state_dir() else { return };
        for (id, request) in requests(state_dir.clone()).await {
            let span = info_span!(parent: None, "delivery", recording_id = %id);
            async {
                match request {
                    RetryRequest::Retry => info!("the operator wants what is to be told tried again"),
                    RetryRequest::Drop { messages } => {
                        for message in self.queues.outbox.drop_messages(&id, messages).await {
                            warn!(
                                code = %codes::DROPPED_BY_OPERATOR, letter = message.key.as_str(), about = message.about,
                                "the operator has dropped it: it is not told"
                            );
                            self.queues.resolve(&id, message.key, &DeliveryOutcome::Dropped);
                        }
                    }
                }
                let (dir, of) = (state_dir.clone(), id.clone());
                if let Err(error) = crate::storage::files::on_disk(move || retry_request::remove(&dir, &of)).await {
                    error!(
                        code = %codes::OPERATOR_REQUEST_KEPT, %error,
                        "the operator's request cannot be removed, and is done again and again; look at the disk of \
                         recorder.state_dir"
                    );
                }
            }
            .instrument(span)
            .await;
            self.queues.retry_now(&id);
            self.start_workers(&id);
        }
    }

    /// Starts or wakes the workers of a recording's undelivered messages.
    fn start_workers(&self, recording: &RecordingId) {
        for message in self.queues.outbox.undelivered(recording) {
            self.start_worker(recording, QueueKind::of(message.key));
        }
    }

    /// Adds one message to the outbox, behind the earlier ones of its recording. It is in memory and being delivered when
    /// this returns, and on disk when the disk takes it; its first outcome comes by the receiver, which may be dropped. A
    /// message whose key is in the outbox already is not added again.
    pub fn send_now(&self, message: impl Into<Delivery>) -> oneshot::Receiver<DeliveryOutcome> {
        let delivery = message.into();
        let (sender, outcome) = oneshot::channel();
        let message = delivery.message();
        self.queues.lock().listeners.entry((delivery.recording().clone(), message.key)).or_default().push(sender);
        // The outbox keeps trying to write it, and says so.
        drop(self.add(delivery.recording(), vec![message]));
        outcome
    }

    /// [`Self::send_now`], and waits for the disk as [`Self::send_all`] does.
    pub async fn send(&self, message: impl Into<Delivery>) -> oneshot::Receiver<DeliveryOutcome> {
        let delivery = message.into();
        let recording = delivery.recording().clone();
        let outcome = self.send_now(delivery);
        self.on_disk(self.queues.outbox.put(&recording, Vec::new())).await;
        outcome
    }

    /// Adds these messages, all of one recording, to the outbox in one write; they are being delivered at once. Waits up
    /// to 240 s for the disk, but only a moment once the program is to end. Whether they are on disk then: if not, a crash
    /// would lose them, and the caller keeps what it needs to send them again.
    pub async fn send_all(&self, messages: Vec<Delivery>) -> bool {
        let Some(recording) = messages.first().map(|message| message.recording().clone()) else { return true };
        let messages = messages.iter().map(Delivery::message).collect();
        let pending = self.add(&recording, messages);
        self.on_disk(pending).await
    }

    /// From now on the disk is waited for only a moment: the program is to end.
    pub fn hurry(&self) {
        self.queues.hurry.cancel();
    }

    async fn on_disk(&self, pending: Option<PendingWrite>) -> bool {
        let Some(pending) = pending else { return true };
        if pending.within(RECORD_LIMIT).await.is_ok() {
            return true;
        }
        let settled = self.queues.hurry.run_until_cancelled(pending.settled(ON_DISK_LIMIT)).await;
        match settled {
            Some(settled) => settled.is_ok(),
            None => pending.within(RECORD_LIMIT).await.is_ok(),
        }
    }

    fn add(&self, recording: &RecordingId, messages: Vec<Message>) -> Option<PendingWrite> {
        let keys: Vec<MessageKey> = messages.iter().map(|message| message.key).collect();
        let pending = self.queues.outbox.put(recording, messages);
        for key in keys {
            match self.queues.outbox.state(recording, key) {
                Some(MessageState::Delivered { .. }) => self.queues.resolve(recording, key, &DeliveryOutcome::Taken),
                Some(MessageState::Dropped { .. }) => self.queues.resolve(recording, key, &DeliveryOutcome::Dropped),
                Some(MessageState::Refused { why, .. }) => {
                    self.queues.resolve(recording, key, &DeliveryOutcome::Refused(why));
                    self.start_worker(recording, QueueKind::of(key));
                }
                Some(MessageState::Waiting) | None => self.start_worker(recording, QueueKind::of(key)),
            }
        }
        pending
    }

    /// Starts the queue's worker task, or wakes it.
    fn start_worker(&self, recording: &RecordingId, kind: QueueKind) {
        let wake = Arc::new(Wake::default());
        match self.queues.lock().workers.entry((recording.clone(), kind)) {
            Entry::Occupied(worker) => return worker.get().added.notify_one(),
            Entry::Vacant(vacant) => drop(vacant.insert(Arc::clone(&wake))),
        }
        let worker = queue::deliver_all(Arc::clone(&self.queues), recording.clone(), kind, wake);
        self.queues.tasks.spawn(worker.instrument(span_for(recording)));
    }

    /// Tries for `grace` longer to deliver; what then remains is logged and stays in the outbox for the next start.
    pub async fn shutdown(&self, grace: Duration) {
        self.queues.ending.cancel();
        self.queues.tasks.close();
        if tokio::time::timeout(grace, self.queues.tasks.wait()).await.is_err() {
            self.queues.ended.cancel();
            if tokio::time::timeout(LAST_GRACE, self.queues.tasks.wait()).await.is_err() {
                warn!(
                    code = %codes::DELIVERY_HANGS,
                    "the delivery does not end, as the disk of recorder.state_dir does not answer; ending without it: the next start delivers"
                );
            }
        }
    }
}

/// The requests of the operator; none, and a warning, where the directory cannot be read.
async fn requests(state_dir: PathBuf) -> Vec<(RecordingId, RetryRequest)> {
    let dir = state_dir.clone();
    let read = crate::storage::files::on_disk(move || retry_request::all(&state_dir)).await;
    read.unwrap_or_else(|error| {
        warn!(
            code = %codes::OPERATOR_REQUESTS_UNREAD, dir = %dir.join(retry_request::DIR).display(), %error,
            "what an operator asks of the outbox cannot be read"
        );
        Vec::new()
    })
}

/// The current span where it is a recording's; else a new one, for messages of an earlier run.
fn span_for(recording: &RecordingId) -> Span {
    let current = Span::current();
    if current.has_field("recording_id") {
        return current;
    }
    info_span!(parent: None, "delivery", recording_id = %recording)
}
