//! Notices, against a real HTTP server.

mod notices;
mod outages;
mod refusals;
mod restarts;

use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use plugnmeet_recorder::delivery::dispatcher::Dispatcher;
use plugnmeet_recorder::delivery::outbox::Outbox;
use plugnmeet_recorder::delivery::queues::DeliveryOutcome;
use plugnmeet_recorder::protocol::ids::{RecorderId, RecordingId, RoomId, RoomSid};
use plugnmeet_recorder::protocol::messages::{RecorderToPlugNmeet, RecordingTasks};
use plugnmeet_recorder::protocol::notice::{Notice, NoticeEvent};
use plugnmeet_recorder::protocol::request::{Kind, RecordingInfo};
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::nats_server::server_config;
use crate::standin::notices::Mood;

const LONG: Duration = Duration::from_secs(20);

/// A plugNmeet server whose answers the test gives, request by request.
struct Server {
    port: u16,
    incoming: mpsc::Receiver<Incoming>,
}

struct Incoming {
    path: String,
    headers: HeaderMap,
    body: Bytes,
    answer: oneshot::Sender<Response>,
}

impl Server {
    async fn start() -> Self {
        Self::start_at(0).await
    }

    async fn start_at(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, incoming) = mpsc::channel(16);
        let app = Router::new().fallback(handle).with_state(sender);
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { port, incoming }
    }

    fn host(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    async fn next(&mut self) -> Incoming {
        timeout(LONG, self.incoming.recv()).await.expect("no request comes").unwrap()
    }

    fn is_quiet(&mut self) -> bool {
        self.incoming.try_recv().is_err()
    }
}

async fn handle(State(sender): State<mpsc::Sender<Incoming>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let (answer, answered) = oneshot::channel();
    let path = parts.uri.path().to_owned();
    sender.send(Incoming { path, headers: parts.headers, body, answer }).await.unwrap();
    answered.await.unwrap_or_else(|_| StatusCode::BAD_GATEWAY.into_response())
}

impl Incoming {
    fn message(&self) -> RecorderToPlugNmeet {
        RecorderToPlugNmeet::decode(self.body.clone()).unwrap()
    }

    fn task(&self) -> RecordingTasks {
        self.message().task()
    }

    /// As plugNmeet itself answers with this status.
    async fn answer(self, status: u16) {
        let mood = if status == 200 { Mood::Take } else { Mood::Answer(status) };
        self.answer_as(mood).await;
    }

    async fn answer_as(self, mood: Mood) {
        self.answer.send(mood.answer().await).ok();
    }
}

fn dispatcher(host: &str) -> Dispatcher {
    courier_with(host, Outbox::in_memory())
}

fn courier_with(host: &str, outbox: Outbox) -> Dispatcher {
    Dispatcher::new(&server_config(host), outbox).unwrap()
}

/// The clock of a test's runtime, which moves only when the test says so, and at once.
struct Clock {
    _held: std::sync::mpsc::Sender<()>,
}

impl Clock {
    fn hold() -> Self {
        // By itself a paused clock jumps to the next timer whenever there is nothing to do, also where an answer is on its way;
        // but not while there is blocking work.
        let (held, release) = std::sync::mpsc::channel();
        tokio::task::spawn_blocking(move || release.recv().ok());
        tokio::time::pause();
        Self { _held: held }
    }
}

/// Lets the others go on until there is something. By the machine's clock: the test's own may be held.
async fn there<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LONG;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "never: {what}");
        tokio::task::yield_now().await;
    }
}

/// All of one recording.
async fn send<const N: usize>(
    dispatcher: &Dispatcher,
    events: [NoticeEvent; N],
) -> Vec<oneshot::Receiver<DeliveryOutcome>> {
    let mut told = Vec::new();
    for event in events {
        told.push(dispatcher.send(notice("rec-1", event)).await);
    }
    told
}

fn notice(recording: &str, event: NoticeEvent) -> Notice {
    let info = RecordingInfo {
        room_table_id: 5,
        room_id: RoomId::parse("room01").unwrap(),
        room_sid: RoomSid::parse("RM_1").unwrap(),
        recording_id: RecordingId::parse(recording).unwrap(),
    };
    Notice { info, recorder_id: RecorderId::parse("node_01").unwrap(), event }
}

fn started() -> NoticeEvent {
    NoticeEvent::Started(Kind::Recording)
}

fn ended() -> NoticeEvent {
    NoticeEvent::Ended(Kind::Recording, Err("the page has crashed".to_owned()))
}

fn finished() -> NoticeEvent {
    NoticeEvent::Finished(Ok(()))
}
