//! What recorders tell the server over HTTP: checked as the server checks it, kept, and answered as a test wants it (PROTOCOL 5).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::http::{HeaderMap, StatusCode};
use hmac::{Hmac, KeyInit, Mac};
use plugnmeet_recorder::protocol::messages::{RecorderToPlugNmeet, RecordingTasks};
use prost::Message;
use sha2::Sha256;
use tokio::sync::watch;

use super::Deployment;

/// One notice that was signed rightly.
#[derive(Debug, Clone)]
pub struct Notice {
    pub message: RecorderToPlugNmeet,
    pub at: Instant,
    /// What it was answered; `None` if it never was.
    pub answered: Option<u16>,
}

impl Notice {
    pub fn task(&self) -> RecordingTasks {
        self.message.task()
    }

    /// The server has it.
    pub fn taken(&self) -> bool {
        self.answered == Some(200)
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
    Answer(u16),
    /// Never answers.
    Hang,
}

#[derive(Default)]
struct Log {
    notices: Vec<Notice>,
    refused: Vec<Refused>,
    /// For the next notices, before `mood`.
    planned: VecDeque<Mood>,
    mood: Option<Mood>,
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
        log.mood = Some(mood);
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
    pub(super) async fn receive(&self, headers: &HeaderMap, body: &[u8]) -> StatusCode {
        let message = match self.check(headers, body) {
            Ok(message) => message,
            Err((status, reason)) => {
                let refused = Refused { status: status.as_u16(), reason, at: Instant::now() };
                self.log.lock().unwrap().refused.push(refused);
                self.changed.send_modify(|version| *version += 1);
                return status;
            }
        };
        let mood = {
            let mut log = self.log.lock().unwrap();
            let mood = log.planned.pop_front().or(log.mood).unwrap_or(Mood::Take);
            let answered = match mood {
                Mood::Take => Some(200),
                Mood::Answer(status) => Some(status),
                Mood::Hang => None,
            };
            log.notices.push(Notice { message, at: Instant::now(), answered });
            mood
        };
        self.changed.send_modify(|version| *version += 1);
        match mood {
            Mood::Take => StatusCode::OK,
            Mood::Answer(status) => StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            Mood::Hang => std::future::pending().await,
        }
    }

    fn check(&self, headers: &HeaderMap, body: &[u8]) -> Result<RecorderToPlugNmeet, (StatusCode, String)> {
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let unauthorized = |reason: String| (StatusCode::UNAUTHORIZED, reason);
        if header("api-key") != self.deployment.api_key {
            return Err(unauthorized(format!("API-KEY is {:?}", header("api-key"))));
        }
        // The server compares text, so upper-case hex would be refused as well.
        if header("hash-signature") != self.signature(body) {
            return Err(unauthorized(format!("HASH-SIGNATURE is {:?}", header("hash-signature"))));
        }
        let bad = |reason: String| (StatusCode::BAD_REQUEST, reason);
        if header("content-type") != "application/protobuf" {
            return Err(bad(format!("Content-Type is {:?}", header("content-type"))));
        }
        let message = RecorderToPlugNmeet::decode(body).map_err(|error| bad(error.to_string()))?;
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
