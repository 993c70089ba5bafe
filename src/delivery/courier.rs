//! Delivers what is in the outbox: notices to the server by HTTP (PROTOCOL 5), jobs to the work queue (PROTOCOL 6).
//!
//! A recording has two lanes, each with one task while it has letters waiting. Its notices go in their order: one that the
//! server does not take holds up the later ones of its recording, and of no other. Its job follows the notice of the
//! end, so that the server hears of the MP4 last; but it does not wait for ever for a server that is away.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span, debug, error, info, info_span, warn};

use super::outbox::{Key, Letter, Outbox, State};
pub use super::post::NotifierError;
use super::post::{Answer, Post};
use crate::backoff::{Backoff, Reminder};
use crate::config::ServerConfig;
use crate::nats::Nats;
use crate::protocol::ids::{RecorderId, RecordingId};
use crate::protocol::job::Job;
use crate::protocol::notice::Notice;
use crate::wall_clock::unix_ms;

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// While the program ends, so that a server that comes back within the grace still gets them.
const LONGEST_WAIT_AT_END: Duration = Duration::from_secs(1);
/// How long a job waits for the server to have taken the notice of the end.
const JOB_PATIENCE: Duration = Duration::from_secs(60);

/// How a letter ended, for this run of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// The other side has it.
    Taken,
    /// It will never be taken; why.
    Refused(String),
    /// The program ended first: it is in the outbox for the next start. The last failure.
    Left(String),
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

    fn letter(&self, recorder: &RecorderId) -> Letter {
        match self {
            Self::Notice(notice) => {
                let message = notice.to_message(recorder);
                let about = format!("{:?} of room {}: {}", notice.event.task(), message.room_id, message.msg);
                Letter::new(Key::of(&notice.event), about, message.encode_to_vec())
            }
            Self::Job(job) => {
                Letter::new(Key::Job, format!("transcoding job of room {}", job.info.room_id), job.encode())
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Lane {
    Notices,
    Job,
}

impl Lane {
    fn of(key: Key) -> Self {
        if key == Key::Job { Self::Job } else { Self::Notices }
    }
}

/// Delivers; clones share the outbox.
#[derive(Clone, Debug)]
pub struct Courier {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    post: Post,
    recorder: RecorderId,
    outbox: Outbox,
    /// `None` until the connection is made for the first time.
    nats: watch::Sender<Option<Nats>>,
    lanes: Mutex<Lanes>,
    tasks: TaskTracker,
    /// The program ends: hurry.
    ending: CancellationToken,
    /// The grace is over: leave the rest.
    ended: CancellationToken,
}

#[derive(Debug, Default)]
struct Lanes {
    at_work: HashSet<(RecordingId, Lane)>,
    /// Who wants to know what becomes of a letter.
    listeners: HashMap<(RecordingId, Key), Vec<oneshot::Sender<Delivered>>>,
}

impl Courier {
    /// # Errors
    /// Where the server's address or key cannot be used, or TLS cannot be set up on this host.
    pub fn new(server: &ServerConfig, recorder: &RecorderId, outbox: Outbox) -> Result<Self, NotifierError> {
        Ok(Self {
            shared: Arc::new(Shared {
                post: Post::new(server)?,
                recorder: recorder.clone(),
                outbox,
                nats: watch::Sender::new(None),
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

    /// Takes up what an earlier run has left.
    pub fn take_up(&self) {
        for recording in self.shared.outbox.waiting() {
            let letters = self.shared.outbox.letters(&recording);
            let waiting: Vec<_> = letters.iter().filter(|letter| letter.is_waiting()).collect();
            info!(recording_id = %recording, letters = waiting.len(), "an earlier run has left something to be told");
            for letter in waiting {
                self.work(&recording, Lane::of(letter.key));
            }
        }
    }

    /// Puts one message into the outbox, behind the earlier ones of its recording. It is on disk when this returns; what
    /// becomes of it comes by the receiver, which may be dropped. One whose key is there already is not added again.
    pub async fn send(&self, message: impl Into<Message>) -> oneshot::Receiver<Delivered> {
        let message = message.into();
        let (tell, told) = oneshot::channel();
        let letter = message.letter(&self.shared.recorder);
        self.shared.lock().listeners.entry((message.recording().clone(), letter.key)).or_default().push(tell);
        self.add(message.recording(), vec![letter]).await;
        told
    }

    /// Puts these messages, all of one recording, into its outbox in one write. Whether they are on disk when this returns:
    /// else a crash would lose them, and whoever can send them again keeps what he needs for it.
    pub async fn send_all(&self, messages: Vec<Message>) -> bool {
        let Some(recording) = messages.first().map(|message| message.recording().clone()) else { return true };
        let letters = messages.iter().map(|message| message.letter(&self.shared.recorder)).collect();
        self.add(&recording, letters).await
    }

    async fn add(&self, recording: &RecordingId, letters: Vec<Letter>) -> bool {
        let keys: Vec<Key> = letters.iter().map(|letter| letter.key).collect();
        let on_disk = self.shared.outbox.add(recording, letters).await;
        for key in keys {
            match self.shared.outbox.state(recording, key) {
                Some(State::Delivered { .. }) => self.shared.resolve(recording, key, &Delivered::Taken),
                Some(State::Refused { why, .. }) => self.shared.resolve(recording, key, &Delivered::Refused(why)),
                Some(State::Waiting) | None => self.work(recording, Lane::of(key)),
            }
        }
        on_disk
    }

    /// Sees to it that somebody works on the lane.
    fn work(&self, recording: &RecordingId, lane: Lane) {
        if self.shared.lock().at_work.insert((recording.clone(), lane)) {
            let shared = Arc::clone(&self.shared);
            self.shared.tasks.spawn(work_off(shared, recording.clone(), lane).instrument(span_for(recording)));
        }
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

/// What a try came to.
enum Tried {
    Over(State),
    Left(String),
}

/// The span of whatever the lane works for; what an earlier run has left is worked on in one of its own.
fn span_for(recording: &RecordingId) -> Span {
    let around = Span::current();
    if around.has_field("recording_id") {
        return around;
    }
    info_span!(parent: None, "delivery", recording_id = %recording)
}

async fn work_off(shared: Arc<Shared>, recording: RecordingId, lane: Lane) {
    while let Some(letter) = shared.next(&recording, lane) {
        let tried = match lane {
            Lane::Notices => shared.tell(&recording, &letter).await,
            Lane::Job => shared.publish(&recording, &letter).await,
        };
        match tried {
            Tried::Over(state) => {
                let told = match &state {
                    State::Refused { why, .. } => Delivered::Refused(why.clone()),
                    State::Waiting | State::Delivered { .. } => Delivered::Taken,
                };
                shared.outbox.settle(&recording, letter.key, state).await;
                shared.resolve(&recording, letter.key, &told);
            }
            Tried::Left(why) => {
                shared.leave(&recording, lane, &why);
                return;
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Lanes> {
        // Both maps are whole at every point where a panic could be.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resolve(&self, recording: &RecordingId, key: Key, told: &Delivered) {
        let listeners = self.lock().listeners.remove(&(recording.clone(), key));
        for listener in listeners.into_iter().flatten() {
            // Whoever sent it need not listen.
            let _ = listener.send(told.clone());
        }
    }

    /// The next letter of the lane; where there is none, the lane is given up in the same breath.
    fn next(&self, recording: &RecordingId, lane: Lane) -> Option<Letter> {
        let mut lanes = self.lock();
        let letters = self.outbox.letters(recording).into_iter();
        let next = letters.filter(Letter::is_waiting).find(|letter| Lane::of(letter.key) == lane);
        if next.is_none() {
            lanes.at_work.remove(&(recording.clone(), lane));
        }
        next
    }

    /// The program ends: names what is left of a lane.
    fn leave(&self, recording: &RecordingId, lane: Lane, why: &str) {
        self.lock().at_work.remove(&(recording.clone(), lane));
        let letters = self.outbox.letters(recording).into_iter();
        for letter in letters.filter(|letter| letter.is_waiting() && Lane::of(letter.key) == lane) {
            warn!(
                letter = letter.key.as_str(),
                about = letter.about,
                why,
                "not delivered yet: it is in the outbox for the next start"
            );
            self.resolve(recording, letter.key, &Delivered::Left(why.to_owned()));
        }
    }

    /// Tries until the server has taken the notice or never will, or the program has ended.
    async fn tell(&self, recording: &RecordingId, letter: &Letter) -> Tried {
        let (key, about) = (letter.key, letter.about.as_str());
        let body = Bytes::from(letter.body.clone());
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut reminder = Reminder::default();
        let mut hurried = false;
        let mut last = "the server did not answer in time".to_owned();
        loop {
            let answer = tokio::select! {
                biased;
                () = self.ended.cancelled() => return Tried::Left(last),
                answer = self.post.send(body.clone()) => answer,
            };
            match answer {
                Answer::Taken => {
                    if reminder.over() || letter.failures > 0 {
                        info!(notice = key.as_str(), "the server has taken the notice at last");
                    } else {
                        debug!(notice = key.as_str(), "the server has taken the notice");
                    }
                    return Tried::Over(State::Delivered { at: unix_ms() });
                }
                Answer::Final(why) => {
                    error!(notice = key.as_str(), about, %why, "the notice could not be delivered and is given up");
                    return Tried::Over(State::Refused { at: unix_ms(), why });
                }
                Answer::Again(why) => {
                    if reminder.due(Instant::now()) {
                        warn!(notice = key.as_str(), about, %why, "the server has not taken the notice; trying on");
                    }
                    last = why;
                }
            }
            if self.ending.is_cancelled() && !std::mem::replace(&mut hurried, true) {
                backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT_AT_END);
            }
            let wait = backoff.wait();
            // Counted from the failure, as it is noted: a slow disk does not put the next try off.
            let waited = tokio::time::sleep(wait);
            self.outbox.note_failure(recording, key, last.clone(), wait).await;
            tokio::select! {
                () = waited => {}
                () = self.ending.cancelled(), if !hurried => {}
                () = self.ended.cancelled() => return Tried::Left(last),
            }
        }
    }

    /// Tries through outages until the job is stored. Its message id is the recording's, so a second one within the
    /// stream's duplicate window is not stored again.
    async fn publish(&self, recording: &RecordingId, letter: &Letter) -> Tried {
        let bytes = Bytes::from(letter.body.clone());
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut reminder = Reminder::default();
        let mut last = "there is no connection to NATS yet".to_owned();
        tokio::select! {
            () = self.end_told(recording) => {}
            () = self.ended.cancelled() => return Tried::Left(last),
        }
        let mut connected = self.nats.subscribe();
        let nats = tokio::select! {
            nats = connected.wait_for(Option::is_some) => nats.ok().and_then(|nats| nats.clone()),
            () = self.ended.cancelled() => None,
        };
        let Some(nats) = nats else { return Tried::Left(last) };
        loop {
            let tried = tokio::select! {
                tried = nats.publish_job(recording.as_str(), bytes.clone()) => tried,
                () = self.ended.cancelled() => return Tried::Left(last),
            };
            match tried {
                Ok(()) => {
                    info!("the job is in the work queue");
                    return Tried::Over(State::Delivered { at: unix_ms() });
                }
                Err(why) => {
                    last = why.to_string();
                    if reminder.due(Instant::now()) {
                        warn!(why = last, "the job is not in the work queue yet; trying on");
                    } else {
                        debug!(why = last, "the job is still not in the work queue");
                    }
                }
            }
            let wait = backoff.wait();
            let waited = tokio::time::sleep(wait);
            self.outbox.note_failure(recording, letter.key, last.clone(), wait).await;
            tokio::select! {
                () = waited => {}
                () = nats.reconnected() => backoff.reset(),
                () = self.ended.cancelled() => return Tried::Left(last),
            }
        }
    }

    /// Waits until the server knows of the recording's end, or has had its time.
    async fn end_told(&self, recording: &RecordingId) {
        if tokio::time::timeout(JOB_PATIENCE, self.outbox.settled(recording, Key::Ended)).await.is_err() {
            warn!("the job goes out before the server knows of the recording's end");
        }
    }
}
