//! Delivers what is in the outbox: notices to the server by HTTP (PROTOCOL 5), jobs to the work queue (PROTOCOL 6).
//!
//! A recording has two lanes ([`super::lane`]), each with one task while something of it is to be told. One that is not
//! taken holds up no other recording.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prost::Message as _;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span, error, info, info_span, warn};

use super::lane::{self, Lane, Wake};
use super::outbox::{Key, Letter, Outbox, State};
pub use super::post::NotifierError;
use super::post::Post;
use super::request::{self, Request};
use crate::config::ServerConfig;
use crate::nats::Nats;
use crate::protocol::ids::RecordingId;
use crate::protocol::job::Job;
use crate::protocol::notice::Notice;
use crate::telemetry::redact;

/// How often it is looked whether an operator asks something of the outbox.
const LOOK_FOR_REQUESTS: Duration = Duration::from_secs(5);

/// What became of a letter at first, in this run of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// The other side has it.
    Taken,
    /// plugNmeet itself does not take it as things stand; why. It is tried again.
    Refused(String),
    /// The program ended first: it is in the outbox for the next start. The last failure.
    Left(String),
    /// An operator does not want it told.
    Dropped,
}

/// What goes into the outbox.
#[derive(Clone, Debug)]
pub enum Message {
    Notice(Notice),
    Job(Job),
}

impl From<Notice> for Message {
    fn from(notice: Notice) -> Self {
        Self::Notice(notice)
    }
}

impl Message {
    fn recording(&self) -> &RecordingId {
        match self {
            Self::Notice(notice) => &notice.info.recording_id,
            Self::Job(job) => &job.info.recording_id,
        }
    }

    fn letter(&self) -> Letter {
        match self {
            Self::Notice(notice) => {
                let mut message = notice.to_message();
                // Whoever gave the cause: it may quote a child's words, and those an address with its secret.
                message.msg = redact::scrub(&message.msg).into_owned();
                let about = format!("{:?} of room {}: {}", notice.event.task(), message.room_id, message.msg);
                Letter::new(Key::of(&notice.event), about, message.encode_to_vec())
            }
            Self::Job(job) => {
                Letter::new(Key::Job, format!("transcoding job of room {}", job.info.room_id), job.encode())
            }
        }
    }
}

/// Delivers; clones share the outbox.
#[derive(Clone, Debug)]
pub struct Courier {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub post: Post,
    pub outbox: Outbox,
    /// `None` until the connection is made for the first time.
    pub nats: watch::Sender<Option<Nats>>,
    /// Counts the notices that the server has taken: then it does not refuse this node's key any more.
    pub taken: watch::Sender<u64>,
    lanes: Mutex<Lanes>,
    tasks: TaskTracker,
    /// The program ends: hurry.
    pub ending: CancellationToken,
    /// The grace is over: leave the rest.
    pub ended: CancellationToken,
}

#[derive(Debug, Default)]
struct Lanes {
    /// Those with a task.
    at_work: HashMap<(RecordingId, Lane), Arc<Wake>>,
    /// Who wants to know what becomes of a letter.
    listeners: HashMap<(RecordingId, Key), Vec<oneshot::Sender<Delivered>>>,
}

impl Courier {
    /// # Errors
    /// Where the server's address or key cannot be used, or TLS cannot be set up on this host.
    pub fn new(server: &ServerConfig, outbox: Outbox) -> Result<Self, NotifierError> {
        Ok(Self {
            shared: Arc::new(Shared {
                post: Post::new(server)?,
                outbox,
                nats: watch::Sender::new(None),
                taken: watch::Sender::new(0),
                lanes: Mutex::default(),
                tasks: TaskTracker::new(),
                ending: CancellationToken::new(),
                ended: CancellationToken::new(),
            }),
        })
    }

    /// From now on jobs can be published.
    pub fn connect(&self, nats: Nats) {
        self.shared.nats.send_replace(Some(nats));
    }

    #[must_use]
    pub fn outbox(&self) -> &Outbox {
        &self.shared.outbox
    }

    /// Takes up what an earlier run has left, also what was refused: the configuration may be another now, on either side. From
    /// now on an operator is heard.
    pub async fn take_up(&self) {
        self.heed_requests().await;
        for recording in self.shared.outbox.open_recordings() {
            let letters = self.shared.outbox.to_tell(&recording);
            let refused = letters.iter().filter(|letter| !letter.is_waiting()).count();
            info!(recording_id = %recording, letters = letters.len(), refused, "an earlier run has left something to be told");
            for letter in letters {
                self.work(&recording, Lane::of(letter.key));
            }
        }
        let courier = self.clone();
        self.shared.tasks.spawn(async move {
            let ending = courier.shared.ending.clone();
            while ending.run_until_cancelled(tokio::time::sleep(LOOK_FOR_REQUESTS)).await.is_some() {
                courier.heed_requests().await;
            }
        });
    }

    /// Does what an operator asks.
    async fn heed_requests(&self) {
        let Some(state_dir) = self.shared.outbox.state_dir() else { return };
        for (id, request) in requests(state_dir.clone()).await {
            let span = info_span!(parent: None, "delivery", recording_id = %id);
            async {
                match request {
                    Request::Retry => info!("the operator wants what is to be told tried again"),
                    Request::Drop { letters } => {
                        for letter in self.shared.outbox.drop_letters(&id, letters).await {
                            warn!(letter = letter.key.as_str(), about = letter.about, "the operator has dropped it: it is not told");
                            self.shared.resolve(&id, letter.key, &Delivered::Dropped);
                        }
                    }
                }
                let (dir, of) = (state_dir.clone(), id.clone());
                if let Err(error) = crate::storage::files::on_disk(move || request::remove(&dir, &of)).await {
                    error!(%error, "the operator's request cannot be removed, and is done again and again; look at the disk of recorder.state_dir");
                }
            }
            .instrument(span)
            .await;
            self.shared.ask_again(&id);
            for letter in self.shared.outbox.to_tell(&id) {
                self.work(&id, Lane::of(letter.key));
            }
        }
    }

    /// Puts one message into the outbox, behind the earlier ones of its recording. It is on disk when this returns; what
    /// becomes of it comes by the receiver, which may be dropped. One whose key is there already is not added again.
    pub async fn send(&self, message: impl Into<Message>) -> oneshot::Receiver<Delivered> {
        let message = message.into();
        let (tell, told) = oneshot::channel();
        let letter = message.letter();
        self.shared.lock().listeners.entry((message.recording().clone(), letter.key)).or_default().push(tell);
        self.add(message.recording(), vec![letter]).await;
        told
    }

    /// Puts these messages, all of one recording, into its outbox in one write. Whether they are on disk when this returns:
    /// else a crash would lose them, and whoever can send them again keeps what he needs for it.
    pub async fn send_all(&self, messages: Vec<Message>) -> bool {
        let Some(recording) = messages.first().map(|message| message.recording().clone()) else { return true };
        let letters = messages.iter().map(Message::letter).collect();
        self.add(&recording, letters).await
    }

    async fn add(&self, recording: &RecordingId, letters: Vec<Letter>) -> bool {
        let keys: Vec<Key> = letters.iter().map(|letter| letter.key).collect();
        let on_disk = self.shared.outbox.add(recording, letters).await;
        for key in keys {
            match self.shared.outbox.state(recording, key) {
                Some(State::Delivered { .. }) => self.shared.resolve(recording, key, &Delivered::Taken),
                Some(State::Dropped { .. }) => self.shared.resolve(recording, key, &Delivered::Dropped),
                Some(State::Refused { why, .. }) => {
                    self.shared.resolve(recording, key, &Delivered::Refused(why));
                    self.work(recording, Lane::of(key));
                }
                Some(State::Waiting) | None => self.work(recording, Lane::of(key)),
            }
        }
        on_disk
    }

    /// Sees to it that somebody works on the lane.
    fn work(&self, recording: &RecordingId, lane: Lane) {
        let wake = Arc::new(Wake::default());
        match self.shared.lock().at_work.entry((recording.clone(), lane)) {
            Entry::Occupied(at_work) => return at_work.get().added.notify_one(),
            Entry::Vacant(vacant) => drop(vacant.insert(Arc::clone(&wake))),
        }
        let work = lane::work_off(Arc::clone(&self.shared), recording.clone(), lane, wake);
        self.shared.tasks.spawn(work.instrument(span_for(recording)));
    }

    /// Tries for `grace` longer to deliver what waits; the rest is left for the next start, each letter with a line.
    pub async fn shutdown(&self, grace: Duration) {
        self.shared.ending.cancel();
        self.shared.tasks.close();
        if tokio::time::timeout(grace, self.shared.tasks.wait()).await.is_err() {
            self.shared.ended.cancel();
            self.shared.tasks.wait().await;
        }
    }
}

/// What an operator asks; a directory that cannot be read asks nothing, and is said.
async fn requests(state_dir: PathBuf) -> Vec<(RecordingId, Request)> {
    let dir = state_dir.clone();
    let read = crate::storage::files::on_disk(move || request::all(&state_dir)).await;
    read.unwrap_or_else(|error| {
        warn!(dir = %dir.join(request::DIR).display(), %error, "what an operator asks of the outbox cannot be read");
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

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Lanes> {
        // Both maps are whole at every point where a panic could be.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn resolve(&self, recording: &RecordingId, key: Key, told: &Delivered) {
        let listeners = self.lock().listeners.remove(&(recording.clone(), key));
        for listener in listeners.into_iter().flatten() {
            // Whoever sent it need not listen.
            let _ = listener.send(told.clone());
        }
    }

    /// Tells the lanes of a recording that an operator has asked something.
    fn ask_again(&self, recording: &RecordingId) {
        let lanes = self.lock();
        let of_this = lanes.at_work.iter().filter(|((of, _), _)| of == recording);
        of_this.for_each(|(_, wake)| wake.asked.notify_one());
    }

    /// What `find` makes of the letters of the lane; where that is nothing, the lane is given up in the same breath.
    pub fn look<T>(
        &self,
        recording: &RecordingId,
        lane: Lane,
        find: impl FnOnce(Vec<Letter>) -> Option<T>,
    ) -> Option<T> {
        let mut lanes = self.lock();
        let mut letters = self.outbox.to_tell(recording);
        letters.retain(|letter| Lane::of(letter.key) == lane);
        let found = find(letters);
        if found.is_none() {
            lanes.at_work.remove(&(recording.clone(), lane));
        }
        found
    }

    /// The program ends: names what is left of a lane.
    pub fn leave(&self, recording: &RecordingId, lane: Lane, why: &str) {
        self.lock().at_work.remove(&(recording.clone(), lane));
        let letters = self.outbox.to_tell(recording).into_iter();
        for letter in letters.filter(|letter| Lane::of(letter.key) == lane) {
            warn!(
                letter = letter.key.as_str(),
                about = letter.about,
                why,
                "not delivered yet: it is in the outbox for the next start"
            );
            self.resolve(recording, letter.key, &Delivered::Left(why.to_owned()));
        }
    }
}
