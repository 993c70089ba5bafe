//! Notices to the server (PROTOCOL 5): signed, retried with backoff, in order per recording.
//!
//! A recording has a queue while it has notices outstanding, and one task that works it off from the front; a notice that
//! the server does not take holds up the later ones of its recording, and of no other.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span, debug, error, info, warn};

use crate::backoff::{Backoff, Reminder};
use crate::config::ServerConfig;
use crate::protocol::ids::{RecorderId, RecordingId};
use crate::protocol::notice::Notice;

pub use super::post::NotifierError;
use super::post::{Answer, Post};

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// While the program ends, so that a server that comes back within the grace still gets them.
const LONGEST_WAIT_AT_END: Duration = Duration::from_secs(1);
/// A recording has four notices, a broadcast two; more than this is a fault of ours.
const MOST_OF_A_RECORDING: usize = 64;

/// How a notice ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// The server took it.
    Taken,
    /// The server will never take it, or the program ended first; why.
    GivenUp(String),
}

/// Tells the server; clones share the queues.
#[derive(Clone, Debug)]
pub struct Notifier {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    post: Post,
    recorder: RecorderId,
    queues: Mutex<HashMap<RecordingId, VecDeque<Waiting>>>,
    tasks: TaskTracker,
    /// The program ends: hurry.
    ending: CancellationToken,
    /// The grace is over: give up.
    ended: CancellationToken,
}

/// A notice in its queue. The one at work stays out of it.
#[derive(Debug)]
struct Waiting {
    notice: Notice,
    /// Of whoever queued it: the lines about the notice belong to its recording.
    span: Span,
    told: oneshot::Sender<Delivered>,
}

impl Notifier {
    /// # Errors
    /// Where the server's address or key cannot be used, or TLS cannot be set up on this host.
    pub fn new(server: &ServerConfig, recorder: &RecorderId) -> Result<Self, NotifierError> {
        Ok(Self {
            shared: Arc::new(Shared {
                post: Post::new(server)?,
                recorder: recorder.clone(),
                queues: Mutex::default(),
                tasks: TaskTracker::new(),
                ending: CancellationToken::new(),
                ended: CancellationToken::new(),
            }),
        })
    }

    /// Queues a notice behind the earlier ones of its recording, at once; within the runtime. The receiver resolves when it
    /// is delivered or given up; it may be dropped.
    pub fn tell(&self, notice: Notice) -> oneshot::Receiver<Delivered> {
        let (told, receiver) = oneshot::channel();
        let recording = notice.info.recording_id.clone();
        let waiting = Waiting { notice, span: Span::current(), told };
        let mut queues = self.shared.queues();
        if let Some(queue) = queues.get_mut(&recording) {
            if queue.len() >= MOST_OF_A_RECORDING {
                self.shared.give_up(waiting, "too many notices of this recording are waiting already".to_owned());
            } else {
                queue.push_back(waiting);
            }
        } else {
            queues.insert(recording.clone(), VecDeque::from([waiting]));
            self.shared.tasks.spawn(work_off(Arc::clone(&self.shared), recording));
        }
        receiver
    }

    /// Tries for `grace` longer to deliver what is queued; then gives up what is left, naming each notice in the log.
    pub async fn shutdown(&self, grace: Duration) {
        self.shared.ending.cancel();
        self.shared.tasks.close();
        if tokio::time::timeout(grace, self.shared.tasks.wait()).await.is_err() {
            self.shared.ended.cancel();
            self.shared.tasks.wait().await;
        }
    }
}

impl Shared {
    fn queues(&self) -> MutexGuard<'_, HashMap<RecordingId, VecDeque<Waiting>>> {
        // A queue is whole at every point where a panic could be.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next notice; where there is none, the queue is taken down in the same breath.
    fn next(&self, recording: &RecordingId) -> Option<Waiting> {
        let mut queues = self.queues();
        let next = queues.get_mut(recording).and_then(VecDeque::pop_front);
        if next.is_none() {
            queues.remove(recording);
        }
        next
    }

    /// The notice is lost to the server: its last trace is this line.
    fn give_up(&self, waiting: Waiting, why: String) {
        let Waiting { notice, span, told } = waiting;
        let _in_span = span.entered();
        error!(
            recording_id = %notice.info.recording_id,
            room_id = %notice.info.room_id,
            notice = ?notice.event.task(),
            msg = notice.to_message(&self.recorder).msg,
            %why,
            "the notice could not be delivered and is given up"
        );
        drop(told.send(Delivered::GivenUp(why)));
    }

    /// Tries until the server has taken the notice or never will, or the program has ended.
    async fn deliver(&self, notice: &Notice) -> Delivered {
        let info = &notice.info;
        let (recording_id, room_id, kind) = (&info.recording_id, &info.room_id, notice.event.task());
        let body = Bytes::from(notice.to_message(&self.recorder).encode_to_vec());
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut reminder = Reminder::default();
        let mut hurried = false;
        let mut last = "the server did not answer in time".to_owned();
        loop {
            let answer = tokio::select! {
                biased;
                () = self.ended.cancelled() => break,
                answer = self.post.send(body.clone()) => answer,
            };
            match answer {
                Answer::Taken => {
                    if reminder.over() {
                        info!(%recording_id, %room_id, notice = ?kind, "the server has taken the notice at last");
                    } else {
                        debug!(%recording_id, %room_id, notice = ?kind, "the server has taken the notice");
                    }
                    return Delivered::Taken;
                }
                Answer::Final(why) => return Delivered::GivenUp(why),
                Answer::Again(why) => {
                    if reminder.due(Instant::now()) {
                        warn!(%recording_id, %room_id, notice = ?kind, %why, "the server has not taken the notice; trying on");
                    }
                    last = why;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.wait()) => {}
                () = self.ending.cancelled(), if !hurried => {
                    hurried = true;
                    backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT_AT_END);
                }
                () = self.ended.cancelled() => break,
            }
        }
        Delivered::GivenUp(format!("the program ended first; last failure: {last}"))
    }
}

async fn work_off(shared: Arc<Shared>, recording: RecordingId) {
    while let Some(waiting) = shared.next(&recording) {
        match shared.deliver(&waiting.notice).instrument(waiting.span.clone()).await {
            // Whoever queued it need not listen.
            Delivered::Taken => drop(waiting.told.send(Delivered::Taken)),
            Delivered::GivenUp(why) => shared.give_up(waiting, why),
        }
    }
}
