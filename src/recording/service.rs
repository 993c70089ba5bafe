//! Answers the server's requests (PROTOCOL 3). Nothing slow is on this path: a start is taken on or refused, answered,
//! and only then begun.

use std::collections::HashMap;
use std::sync::Arc;

use prost::Message as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::driver::{self, Surroundings, Task};
use super::raw_file::RawFile;
use crate::capture::rig::Rig;
use crate::fleet::permits::Permits;
use crate::nats::{RequestMessage, Requests};
use crate::protocol::ids::InvalidName;
use crate::protocol::messages::{CommonResponse, StatusCode};
use crate::protocol::request::{self, Kind, Request, Start};
use crate::telemetry::redact;

/// Why the program's own end ends a recording.
const SHUT_DOWN: &str = "the recorder was shut down";
/// Why a start ends whose answer never reached the server.
const UNANSWERED: &str = "the server could not be told that the recording was taken on";

/// How a rig and a raw file are made for a start.
pub trait Plan<R: Rig>: Send + Sync + 'static {
    fn rig(&self, start: &Start, raw: Option<&RawFile>) -> R::Spec;
    /// # Errors
    /// Where the ids make no file name.
    fn raw_file(&self, start: &Start) -> Result<RawFile, InvalidName>;
}

/// Takes requests until it is cancelled, and sees every recording to its end.
pub struct Service<R: Rig> {
    surroundings: Surroundings,
    permits: Permits,
    plan: Arc<dyn Plan<R>>,
    tasks: TaskTracker,
    /// Those that run, by room and kind, and how to stop them.
    running: HashMap<(i64, Kind), mpsc::Sender<Option<String>>>,
}

impl<R: Rig> Service<R> {
    pub fn new(surroundings: Surroundings, permits: Permits, plan: Arc<dyn Plan<R>>) -> Self {
        Self { surroundings, permits, plan, tasks: TaskTracker::new(), running: HashMap::new() }
    }

    /// Returns when, after `cancel`, the last recording has ended.
    pub async fn run(mut self, mut requests: Requests, cancel: CancellationToken) {
        loop {
            let message = tokio::select! {
                () = cancel.cancelled() => break,
                message = requests.next() => message,
            };
            let Some(message) = message else {
                tracing::error!("no more requests come in: the NATS client has ended; restart the recorder");
                break;
            };
            self.answer(&message).await;
        }
        self.permits.drain();
        for stop in self.running.values() {
            // A closed or full channel belongs to one that is ending already.
            let _ = stop.try_send(Some(SHUT_DOWN.to_owned()));
        }
        self.tasks.close();
        if !self.tasks.is_empty() {
            tracing::info!(
                recordings = self.tasks.len(),
                "shutting down: waiting for recordings to be closed properly"
            );
        }
        self.tasks.wait().await;
    }

    async fn answer(&mut self, message: &RequestMessage) {
        let mut begun = None;
        let response = match request::read(message.payload(), &self.surroundings.recorder) {
            Ok(Some(request)) => {
                if let Request::Start(start) = &request {
                    begun = Some((start.info.room_table_id, start.kind()));
                }
                self.decide(request)
            }
            Ok(None) => None,
            Err(error) => {
                let bytes = message.payload().len();
                tracing::warn!(%error, bytes, "a message on the channel is no request; ignored");
                None
            }
        };
        let Some(response) = response else { return };
        if let Err(error) = message.reply(response.encode_to_vec().into()).await {
            tracing::warn!(%error, "a request could not be answered");
            // The server has told its user that it failed: what was begun for it would be recorded for nobody.
            let stop = begun.filter(|_| response.status).and_then(|task| self.running.get(&task));
            if let Some(stop) = stop {
                let _ = stop.try_send(Some(UNANSWERED.to_owned()));
            }
        }
    }

    /// What to answer, if this node is the one to answer; what was taken on has begun.
    fn decide(&mut self, request: Request) -> Option<CommonResponse> {
        self.running.retain(|_, stop| !stop.is_closed());
        match request {
            Request::Start(start) => Some(self.start(&start)),
            Request::Stop { room_table_id, kinds } => self.stop(room_table_id, kinds),
            Request::Invalid(reason) => {
                tracing::warn!(%reason, "a start request was refused");
                Some(request::refused(StatusCode::InvalidParameters, reason.to_string()))
            }
        }
    }

    fn start(&mut self, start: &Start) -> CommonResponse {
        let (kind, info) = (start.kind(), &start.info);
        // Registered before the first line that could hold them.
        let secrets = secrets(start);
        let span = tracing::info_span!(
            "recording",
            recording_id = %info.recording_id,
            room_id = %info.room_id,
            task = kind.as_str()
        );
        let _in_span = span.enter();
        let refuse = |code, reason: String| {
            tracing::warn!(reason, "refused");
            request::refused(code, reason)
        };
        let permit = match self.permits.admit(info.room_table_id, kind, info.recording_id.clone()) {
            Ok(permit) => permit,
            Err(refusal) => return refuse(refusal.status_code(), refusal.to_string()),
        };
        let raw = match kind {
            Kind::Recording => match self.plan.raw_file(start) {
                // ffmpeg would overwrite it: one that is being stored, or was kept because it could not be.
                Ok(raw) if raw.growing.exists() => {
                    let path = raw.growing.display();
                    tracing::error!(%path, "the raw file of an earlier recording with this id is still there; move it away");
                    return refuse(StatusCode::Conflict, "a raw file of this recording is still there".to_owned());
                }
                Ok(raw) => Some(raw),
                Err(error) => return refuse(StatusCode::InvalidParameters, error.to_string()),
            },
            Kind::Broadcast => None,
        };
        let (stop, stops) = mpsc::channel(4);
        self.running.insert((info.room_table_id, kind), stop);
        tracing::info!(room_table_id = info.room_table_id, "taken on");
        let rig = self.plan.rig(start, raw.as_ref());
        let task = Task::<R> { kind, info: info.clone(), rig, raw, permit, stops };
        let run = driver::run(task, self.surroundings.clone());
        let run = async move {
            run.await;
            drop(secrets);
        };
        self.tasks.spawn(run.instrument(span.clone()));
        request::accepted()
    }

    fn stop(&self, room_table_id: i64, kinds: &[Kind]) -> Option<CommonResponse> {
        let mut held = false;
        for kind in kinds {
            let Some(stop) = self.running.get(&(room_table_id, *kind)) else { continue };
            // A recording whose rig is closed has given its place back: it is over for the server.
            if self.permits.holds(room_table_id, *kind).is_none() {
                continue;
            }
            held = true;
            // Full: it was told several times already.
            let _ = stop.try_send(None);
        }
        held.then(request::accepted)
    }
}

/// Keeps what came with a start out of the log for as long as it lasts.
fn secrets(start: &Start) -> Vec<redact::Registration> {
    // The token alone, and with the parameters that may follow it.
    let token = start.access_token.expose();
    let bare = token.split('&').next().unwrap_or(token);
    let mut secrets = vec![redact::register(token), redact::register(bare)];
    if let request::Output::Rtmp(url) = &start.output {
        // The key alone, and with the parameters that may follow it.
        let key = url.key().unwrap_or_default();
        let bare = key.split(['?', '#']).next().unwrap_or_default();
        secrets.extend([redact::register(&key), redact::register(bare)]);
    }
    secrets
}
