//! What recorders tell the server over HTTP: checked as the server checks it, kept, and answered as a test wants it, with
//! the very bodies of the real one (PROTOCOL 5); or by a proxy in front of it, which has bodies of its own.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hmac::{Hmac, KeyInit, Mac};
use plugnmeet_recorder::protocol::messages::{CommonResponse, RecorderToPlugNmeet, RecordingTasks};
use prost::Message;
use sha2::Sha256;
use tokio::sync::watch;

use super::Deployment;

/// One notice that was signed rightly.
#[derive(Debug, Clone)]
pub struct Notice {
    pub message: RecorderToPlugNmeet,
    pub at: Instant,
    /// The status it was answered with; `None` if it never was.
    pub answered: Option<u16>,
    /// By plugNmeet itself, with 200 and `OK`.
    taken: bool,
}

impl Notice {
    pub fn task(&self) -> RecordingTasks {
        self.message.task()
    }

    /// The server has it.
    pub fn taken(&self) -> bool {
        self.taken
    }
}

/// A notice that was turned away, and why.
#[derive(Debug, Clone)]
pub struct Refused {
    pub status: u16,
    pub reason: String,
    pub at: Instant,
}

/// How the server takes a rightly signed notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Take,
    /// plugNmeet's own answer of this status: its database is away (500), it knows no such room (404), the key is wrong (401).
    Answer(u16),
    /// plugNmeet's own answer to bytes that it cannot decode: 200, with JSON that says no.
    Undecodable,
    /// Never answers.
    Hang,
    /// The page of a proxy, or of a captive portal (200), in front of plugNmeet, which does not hear of the notice.
    Proxy(u16),
    /// An answer of that proxy that stops in the middle of its body, with the connection open.
    HangInBody(u16),
}

/// A proxy's page, as nginx has it.
pub(super) const PAGE: &str = "<html>\r\n<head><title>plugNmeet</title></head>\r\n<body>\r\n<center><h1>Please stand by</h1></center>\r\n\
                    <hr><center>nginx/1.22.1</center>\r\n</body>\r\n</html>\r\n";

#[derive(Default)]
struct Log {
    notices: Vec<Notice>,
    refused: Vec<Refused>,
    /// For the next notices, before `mood`.
    planned: VecDeque<Mood>,
    mood: Option<Mood>,
    /// Before both, until then.
    outage: Option<(Mood, Instant)>,
    /// By `room_table_id`.
    unknown_rooms: HashSet<i64>,
    /// About a room that cannot exist, and answered with that.
    probes: usize,
}

/// The server's side of `POST /auth/recorder/notify`.
pub struct Notices {
    deployment: Deployment,
    log: Mutex<Log>,
    changed: watch::Sender<u64>,
}

impl Notices {
    pub(super) fn new(deployment: Deployment) -> Arc<Self> {
        Arc::new(Self { deployment, log: Mutex::default(), changed: watch::channel(0).0 })
    }

    /// What was taken for a recording, in order of arrival.
    pub fn of(&self, recording_id: &str) -> Vec<Notice> {
        self.attempts(recording_id).into_iter().filter(Notice::taken).collect()
    }

    /// The tasks of [`Self::of`].
    pub fn tasks_of(&self, recording_id: &str) -> Vec<RecordingTasks> {
        self.of(recording_id).iter().map(Notice::task).collect()
    }

    /// Also what was not taken.
    pub fn attempts(&self, recording_id: &str) -> Vec<Notice> {
        self.all().into_iter().filter(|notice| notice.message.recording_id == recording_id).collect()
    }

    /// Every rightly signed notice of any recording.
    pub fn all(&self) -> Vec<Notice> {
        self.log.lock().unwrap().notices.clone()
    }

    /// The number of [`Self::all`].
    pub fn count(&self) -> usize {
        self.log.lock().unwrap().notices.len()
    }

    /// Rightly signed notices about the room that no database has, which are not among [`Self::all`].
    pub fn probes(&self) -> usize {
        self.log.lock().unwrap().probes
    }

    /// Wrongly signed, wrongly keyed, unreadable.
    pub fn refused(&self) -> Vec<Refused> {
        self.log.lock().unwrap().refused.clone()
    }

    /// The next `count` notices get `mood`, whatever the mood is otherwise.
    pub fn next(&self, count: usize, mood: Mood) {
        self.log.lock().unwrap().planned.extend(std::iter::repeat_n(mood, count));
    }

    /// From now on, until changed again.
    pub fn always(&self, mood: Mood) {
        let mut log = self.log.lock().unwrap();
        log.planned.clear();
        log.outage = None;
        log.mood = Some(mood);
    }

    /// For so long, beginning now; then as before.
    pub fn for_a_while(&self, mood: Mood, lasts: Duration) {
        self.log.lock().unwrap().outage = Some((mood, Instant::now() + lasts));
    }

    /// The server's database has no room with this `room_table_id`, or has it again.
    pub fn know_room(&self, room_table_id: i64, known: bool) {
        let unknown = &mut self.log.lock().unwrap().unknown_rooms;
        if known {
            unknown.remove(&room_table_id)
        } else {
            unknown.insert(room_table_id)
        };
    }

    /// Waits until the notice has been taken; it may have been already.
    pub async fn wait_for(&self, task: RecordingTasks, recording_id: &str, limit: Duration) -> anyhow::Result<Notice> {
        let found =
            self.wait_until(limit, || self.of(recording_id).into_iter().find(|notice| notice.task() == task)).await;
        found.with_context(|| {
            let seen: Vec<_> = self.attempts(recording_id).iter().map(|one| (one.task(), one.answered)).collect();
            format!(
                "no {task:?} of {recording_id} within {limit:?}; there were {seen:?}, and refused: {:?}",
                self.refused()
            )
        })
    }

    /// Waits until `look` finds something; it looks again at every notice.
    pub async fn wait_until<T>(&self, limit: Duration, look: impl Fn() -> Option<T>) -> Option<T> {
        let mut changed = self.changed.subscribe();
        let wait = async {
            loop {
                changed.borrow_and_update();
                if let Some(found) = look() {
                    return Some(found);
                }
                changed.changed().await.ok()?;
            }
        };
        tokio::time::timeout(limit, wait).await.ok().flatten()
    }

    /// Takes in one request and answers it.
    pub(super) async fn receive(&self, headers: &HeaderMap, body: &[u8]) -> Response {
        let message = match self.check(headers, body) {
            Ok(message) => message,
            Err(wrong) => {
                let refused = Refused { status: wrong.status, reason: wrong.reason.clone(), at: Instant::now() };
                self.log.lock().unwrap().refused.push(refused);
                self.changed.send_modify(|version| *version += 1);
                return wrong.answer();
            }
        };
        if message.room_table_id == i64::MAX {
            self.log.lock().unwrap().probes += 1;
            return plain(404);
        }
        let mood = {
            let mut log = self.log.lock().unwrap();
            let outage = log.outage.filter(|(_, until)| Instant::now() < *until).map(|(mood, _)| mood);
            let mood = outage.or_else(|| log.planned.pop_front()).or(log.mood).unwrap_or(Mood::Take);
            let known = !log.unknown_rooms.contains(&message.room_table_id);
            let mood = if mood == Mood::Take && !known { Mood::Answer(404) } else { mood };
            let answered = match mood {
                Mood::Take | Mood::Undecodable => Some(200),
                Mood::Answer(status) | Mood::Proxy(status) => Some(status),
                Mood::Hang | Mood::HangInBody(_) => None,
            };
            log.notices.push(Notice { message, at: Instant::now(), answered, taken: mood == Mood::Take });
            mood
        };
        self.changed.send_modify(|version| *version += 1);
        mood.answer().await
    }

    fn check(&self, headers: &HeaderMap, body: &[u8]) -> Result<RecorderToPlugNmeet, Wrong> {
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let unauthorized = |reason: String| Wrong { status: 401, reason };
        if header("api-key") != self.deployment.api_key {
            return Err(unauthorized(format!("API-KEY is {:?}", header("api-key"))));
        }
        // The server compares text, so upper-case hex would be refused as well.
        if header("hash-signature") != self.signature(body) {
            return Err(unauthorized(format!("HASH-SIGNATURE is {:?}", header("hash-signature"))));
        }
        let bad = |reason: String| Wrong { status: 400, reason };
        if header("content-type") != "application/protobuf" {
            return Err(bad(format!("Content-Type is {:?}", header("content-type"))));
        }
        let message =
            RecorderToPlugNmeet::decode(body).map_err(|error| Wrong { status: 200, reason: error.to_string() })?;
        if message.from != "recorder" {
            return Err(bad(format!("from is {:?}", message.from)));
        }
        Ok(message)
    }

    /// `HASH-SIGNATURE` of a body.
    pub fn signature(&self, body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.deployment.api_secret.as_bytes())
            .expect("HMAC takes a key of any size");
        mac.update(body);
        hex::encode(mac.finalize().into_bytes())
    }
}

/// Why plugNmeet does not even look at a notice.
struct Wrong {
    /// 200 where it cannot be decoded.
    status: u16,
    reason: String,
}

impl Wrong {
    fn answer(self) -> Response {
        match self.status {
            401 => unauthorized("invalid API-KEY or HASH-SIGNATURE"),
            200 => undecodable(&self.reason),
            status => plain(status),
        }
    }
}

impl Mood {
    pub async fn answer(self) -> Response {
        match self {
            Self::Take => plain(200),
            Self::Answer(401) => unauthorized("invalid API-KEY or HASH-SIGNATURE"),
            Self::Answer(status) => plain(status),
            Self::Undecodable => undecodable("proto: cannot parse invalid wire-format data"),
            Self::Hang => std::future::pending().await,
            Self::Proxy(status) => page(status, Body::from(PAGE)),
            Self::HangInBody(status) => {
                let begun = futures::stream::once(async { Ok::<_, std::io::Error>(Bytes::from(&PAGE[..40])) });
                page(status, Body::from_stream(futures::StreamExt::chain(begun, futures::stream::pending())))
            }
        }
    }
}

fn code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).expect("a test names a status")
}

/// The name of the status as text, as the server's web framework answers: `OK`, `Not Found`, `Internal Server Error`.
fn plain(status: u16) -> Response {
    let code = code(status);
    let text = code.canonical_reason().unwrap_or_default();
    (code, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

fn unauthorized(why: &str) -> Response {
    let body = CommonResponse { msg: why.to_owned(), ..CommonResponse::default() }.encode_to_vec();
    (StatusCode::UNAUTHORIZED, [(header::CONTENT_TYPE, "application/protobuf")], body).into_response()
}

fn undecodable(why: &str) -> Response {
    let body = serde_json::json!({ "status": false, "msg": why }).to_string();
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn page(status: u16, body: Body) -> Response {
    (code(status), [(header::CONTENT_TYPE, "text/html")], body).into_response()
}
