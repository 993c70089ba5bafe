//! Notices, against a real HTTP server.

use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use plugnmeet_recorder::delivery::courier::{Courier, Delivered};
use plugnmeet_recorder::delivery::outbox::Outbox;
use plugnmeet_recorder::protocol::ids::{RecorderId, RecordingId, RoomId, RoomSid};
use plugnmeet_recorder::protocol::messages::{RecorderToPlugNmeet, RecordingTasks};
use plugnmeet_recorder::protocol::notice::{Event, Notice};
use plugnmeet_recorder::protocol::request::{Kind, RecordingInfo};
use plugnmeet_recorder::protocol::signature::hash_signature;
use plugnmeet_recorder::wall_clock::unix_ms;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::logs::Logs;
use crate::nats_server::{API_SECRET, free_port, server_config};

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

    fn answer(self, status: u16) {
        self.answer.send(StatusCode::from_u16(status).unwrap().into_response()).ok();
    }
}

fn courier(host: &str) -> Courier {
    courier_with(host, Outbox::in_memory())
}

fn courier_with(host: &str, outbox: Outbox) -> Courier {
    Courier::new(&server_config(host), &RecorderId::parse("node_01").unwrap(), outbox).unwrap()
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
async fn send<const N: usize>(courier: &Courier, events: [Event; N]) -> Vec<oneshot::Receiver<Delivered>> {
    let mut told = Vec::new();
    for event in events {
        told.push(courier.send(notice("rec-1", event)).await);
    }
    told
}

fn notice(recording: &str, event: Event) -> Notice {
    let info = RecordingInfo {
        room_table_id: 5,
        room_id: RoomId::parse("room01").unwrap(),
        room_sid: RoomSid::parse("RM_1").unwrap(),
        recording_id: RecordingId::parse(recording).unwrap(),
    };
    Notice { info, event }
}

fn started() -> Event {
    Event::Started(Kind::Recording)
}

fn ended() -> Event {
    Event::Ended(Kind::Recording, Err("the page has crashed".to_owned()))
}

fn finished() -> Event {
    Event::Finished(Ok(()))
}

#[tokio::test]
async fn a_notice_is_signed_and_says_what_happened() {
    let mut server = Server::start().await;
    let courier = courier(&server.host());
    let told = courier.send(notice("rec-1", ended())).await;
    let request = server.next().await;
    assert_eq!(request.path, "/auth/recorder/notify");
    assert_eq!(request.headers["api-key"], "keyOfTheApi");
    assert_eq!(request.headers["hash-signature"], hash_signature(API_SECRET, &request.body));
    assert_eq!(request.headers["content-type"], "application/protobuf");
    let message = request.message();
    assert_eq!((message.from.as_str(), message.recorder_id.as_str()), ("recorder", "node_01"));
    assert_eq!(
        (message.task(), message.status, message.msg.as_str()),
        (RecordingTasks::EndRecording, false, "the page has crashed")
    );
    request.answer(200);
    assert_eq!(told.await, Ok(Delivered::Taken));
    assert!(server.is_quiet(), "once");
}

#[tokio::test]
async fn order_is_kept_through_failures_and_recordings_are_independent() {
    let logs = Logs::capture();
    let mut server = Server::start().await;
    let courier = courier(&server.host());
    let one = send(&courier, [started(), ended(), finished()]).await;

    for status in [500, 503, 302] {
        let request = server.next().await;
        assert_eq!(request.task(), RecordingTasks::StartRecording, "the first one is in the way until it is taken");
        request.answer(status);
    }
    let stuck = server.next().await;
    assert_eq!(stuck.task(), RecordingTasks::StartRecording);
    // It is still unanswered, yet another recording's notice passes.
    let other = courier.clone().send(notice("rec-2", started())).await;
    let request = server.next().await;
    assert_eq!(request.message().recording_id, "rec-2");
    request.answer(200);
    assert_eq!(other.await, Ok(Delivered::Taken));

    stuck.answer(200);
    for task in [RecordingTasks::EndRecording, RecordingTasks::RecordingTranscodingFinished] {
        let request = server.next().await;
        assert_eq!(request.task(), task);
        request.answer(200);
    }
    for told in one {
        assert_eq!(told.await, Ok(Delivered::Taken));
    }
    assert_eq!(logs.lines("trying on").len(), 1, "not at every try");
    assert_eq!(logs.lines("taken the notice at last").len(), 1);
    let log = logs.text();
    for secret in [API_SECRET, "keyOfTheApi"] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
}

#[tokio::test]
async fn unknown_room_and_wrong_key_are_final_and_hold_nothing_up() {
    let logs = Logs::capture();
    let mut server = Server::start().await;
    let courier = courier(&server.host());
    let told = send(&courier, [started(), ended(), finished()]).await;
    for status in [404, 401, 200] {
        server.next().await.answer(status);
    }
    let [first, second, third]: [_; 3] = told.try_into().unwrap();
    assert!(matches!(first.await, Ok(Delivered::Refused(why)) if why.contains("404")));
    assert!(matches!(second.await, Ok(Delivered::Refused(why)) if why.contains("api_secret")));
    assert_eq!(third.await, Ok(Delivered::Taken));
    assert!(server.is_quiet());
    let lines = logs.lines("given up");
    assert_eq!(lines.len(), 2);
    assert!(lines.iter().all(|line| line.contains("ERROR") && line.contains("rec-1")), "{lines:?}");
}

#[tokio::test]
async fn a_server_that_is_down_at_first_gets_it_later() {
    let port = free_port();
    let courier = courier(&format!("http://127.0.0.1:{port}"));
    let logs = Logs::capture();
    let told = courier.send(notice("rec-1", started())).await;
    while logs.lines("onnection refused").is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut server = Server::start_at(port).await;
    server.next().await.answer(200);
    assert_eq!(told.await, Ok(Delivered::Taken));
}

#[tokio::test]
async fn a_server_that_hangs_is_asked_again() {
    let mut server = Server::start().await;
    let courier = courier(&server.host());
    let told = courier.send(notice("rec-1", started())).await;
    let hanging = server.next().await;
    let asked = Instant::now();
    let again = server.next().await;
    assert!(asked.elapsed() > Duration::from_secs(8), "{:?}", asked.elapsed());
    again.answer(200);
    assert_eq!(told.await, Ok(Delivered::Taken));
    hanging.answer(200);
}

/// How a server is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Away {
    Refuses,
    Fails,
    Hangs,
}

#[tokio::test]
async fn a_server_that_is_away_for_ten_minutes_is_tried_now_and_then_and_hears_everything_in_order() {
    const OUTAGE: Duration = Duration::from_secs(600);
    /// As in `delivery/`: between two tries, and for one.
    const LONGEST_WAIT: Duration = Duration::from_secs(30);
    const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
    /// Clocks count in whole milliseconds.
    const ROUNDING: Duration = Duration::from_millis(5);
    let _clock = Clock::hold();
    for away in [Away::Refuses, Away::Fails, Away::Hangs] {
        let logs = Logs::capture();
        let port = free_port();
        let mut server = if away == Away::Refuses { None } else { Some(Server::start_at(port).await) };
        let outbox = Outbox::in_memory();
        let courier = courier_with(&format!("http://127.0.0.1:{port}"), outbox.clone());
        let first = || outbox.letters(&RecordingId::parse("rec-1").unwrap()).remove(0);
        let began = tokio::time::Instant::now();
        let told = send(&courier, [started(), ended(), finished()]).await;
        let (mut tries, mut unanswered) = (0, Vec::new());
        while began.elapsed() < OUTAGE {
            let asked = unix_ms();
            tries += 1;
            let failed = loop {
                let next =
                    there("a try", || match server.as_mut().and_then(|server| server.incoming.try_recv().ok()) {
                        None if first().failures == tries => Some(None),
                        request => request.map(Some),
                    });
                match (next.await, away) {
                    (None, _) => break first(),
                    (Some(request), Away::Hangs) => {
                        unanswered.push(request);
                        tokio::time::advance(REQUEST_DEADLINE + ROUNDING).await;
                    }
                    (Some(request), _) => request.answer(500),
                }
            };
            let wait = Duration::from_millis(failed.next_try.unwrap().saturating_sub(asked));
            // Never further: where the next try would be later than it may be, it does not come.
            tokio::time::advance(wait.min(LONGEST_WAIT) + ROUNDING).await;
        }
        let gone_by = began.elapsed();
        println!("{away:?}: {tries} tries in {:.0} s", gone_by.as_secs_f64());
        // 0.5 + 1 + 2 + 4 + 8 + 16 s and then 30 s each, all shorter by up to a quarter.
        assert!((15..=34).contains(&tries), "{away:?}: {tries}");
        let lines = logs.lines("trying on").len();
        assert!((3..=6).contains(&lines), "{away:?}: {lines} lines:\n{}", logs.lines("trying on").join("\n"));
        drop(unanswered);
        let mut server = match server {
            Some(server) => server,
            None => Server::start_at(port).await,
        };
        for task in
            [RecordingTasks::StartRecording, RecordingTasks::EndRecording, RecordingTasks::RecordingTranscodingFinished]
        {
            let request = there("a notice", || server.incoming.try_recv().ok()).await;
            assert_eq!(request.task(), task, "{away:?}");
            request.answer(200);
        }
        for told in told {
            assert_eq!(told.await, Ok(Delivered::Taken), "{away:?}");
        }
        assert_eq!(logs.lines("taken the notice at last").len(), 1, "{away:?}");
        assert!(server.is_quiet(), "{away:?}: once");
    }
}

#[tokio::test]
async fn key_and_signature_never_go_to_another_host() {
    let (mut server, mut other) = (Server::start().await, Server::start().await);
    let courier = courier(&server.host());
    let told = courier.send(notice("rec-1", started())).await;
    let redirect = |to: String| (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to)]).into_response();
    server.next().await.answer.send(redirect(format!("{}/x", other.host()))).ok();
    // Within the host it is followed, whole.
    server.next().await.answer.send(redirect("/moved".to_owned())).ok();
    let request = server.next().await;
    assert_eq!(request.path, "/moved");
    assert_eq!(request.headers["hash-signature"], hash_signature(API_SECRET, &request.body));
    request.answer(200);
    assert_eq!(told.await, Ok(Delivered::Taken));
    assert!(other.is_quiet());
}

#[tokio::test]
async fn what_is_queued_at_the_end_has_its_grace() {
    let mut server = Server::start().await;
    let courier = courier(&server.host());
    let told = send(&courier, [started(), ended()]).await;
    // Three failures: the next try would be 2 s away.
    for _ in 0..3 {
        server.next().await.answer(500);
    }
    let answering = async {
        for _ in 0..2 {
            server.next().await.answer(200);
        }
    };
    let begun = Instant::now();
    tokio::join!(courier.shutdown(LONG), answering);
    assert!(begun.elapsed() < Duration::from_secs(1), "the end is not waited for: {:?}", begun.elapsed());
    for told in told {
        assert_eq!(told.await, Ok(Delivered::Taken));
    }
}

#[tokio::test]
async fn what_is_left_after_the_grace_is_named_and_told_by_the_next_run() {
    let logs = Logs::capture();
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let host = format!("http://127.0.0.1:{port}");
    let courier = courier_with(&host, Outbox::open(dir.path()).unwrap());
    let mut told = send(&courier, [started(), ended()]).await;
    told.push(courier.send(notice("rec-2", finished())).await);
    let begun = Instant::now();
    courier.shutdown(Duration::from_millis(700)).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    for told in told {
        assert!(matches!(told.await, Ok(Delivered::Left(_))));
    }
    let lines = logs.lines("for the next start");
    assert_eq!(lines.len(), 3);
    for (recording, what) in
        [("rec-1", "StartRecording"), ("rec-1", "the page has crashed"), ("rec-2", "RecordingTranscodingFinished")]
    {
        assert!(lines.iter().any(|line| line.contains(recording) && line.contains(what)), "{what}: {lines:?}");
    }
    drop(courier);

    let mut server = Server::start_at(port).await;
    let courier = courier_with(&host, Outbox::open(dir.path()).unwrap());
    courier.take_up();
    let mut tasks = Vec::new();
    for _ in 0..3 {
        let request = server.next().await;
        tasks.push((request.message().recording_id, request.task()));
        request.answer(200);
    }
    // Recordings are independent of each other; in each, the order is kept.
    tasks.sort_by(|a, b| a.0.cmp(&b.0));
    let one = |task| ("rec-1".to_owned(), task);
    let two = ("rec-2".to_owned(), RecordingTasks::RecordingTranscodingFinished);
    assert_eq!(tasks, [one(RecordingTasks::StartRecording), one(RecordingTasks::EndRecording), two]);
    courier.shutdown(LONG).await;

    // What was told once is not told again, by whichever run.
    let courier = courier_with(&host, Outbox::open(dir.path()).unwrap());
    courier.take_up();
    assert_eq!(courier.send(notice("rec-1", ended())).await.await, Ok(Delivered::Taken));
    assert!(server.is_quiet());
}
