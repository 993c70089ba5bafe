//! Notices, against a real HTTP server.

use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use plugnmeet_recorder::delivery::dispatcher::Dispatcher;
use plugnmeet_recorder::delivery::message::{Message, MessageKey, MessageState as LetterState};
use plugnmeet_recorder::delivery::outbox::Outbox;
use plugnmeet_recorder::delivery::queues::DeliveryOutcome;
use plugnmeet_recorder::protocol::ids::{RecorderId, RecordingId, RoomId, RoomSid};
use plugnmeet_recorder::protocol::messages::{RecorderToPlugNmeet, RecordingTasks};
use plugnmeet_recorder::protocol::notice::{Notice, NoticeEvent};
use plugnmeet_recorder::protocol::request::{Kind, RecordingInfo};
use plugnmeet_recorder::protocol::signature::hash_signature;
use plugnmeet_recorder::unix_time::unix_ms;
use prost::Message as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::logs::Logs;
use crate::nats_server::{API_SECRET, free_port, server_config};
use crate::recorder::{Recorder, SOON, Setup};
use crate::standin::notices::Mood;
use crate::standin::{Deployment, Standin};
use crate::survival::raw_file;
use crate::workers::ask;

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

#[tokio::test]
async fn a_notice_is_signed_and_says_what_happened() {
    let mut server = Server::start().await;
    let dispatcher = dispatcher(&server.host());
    let told = dispatcher.send(notice("rec-1", ended())).await;
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
    request.answer(200).await;
    assert_eq!(told.await, Ok(DeliveryOutcome::Taken));
    assert!(server.is_quiet(), "once");
}

#[tokio::test]
async fn order_is_kept_through_failures_and_recordings_are_independent() {
    let logs = Logs::capture();
    let mut server = Server::start().await;
    let dispatcher = dispatcher(&server.host());
    let one = send(&dispatcher, [started(), ended(), finished()]).await;

    for status in [500, 503, 302] {
        let request = server.next().await;
        assert_eq!(request.task(), RecordingTasks::StartRecording, "the first one is in the way until it is taken");
        request.answer(status).await;
    }
    let stuck = server.next().await;
    assert_eq!(stuck.task(), RecordingTasks::StartRecording);
    // It is still unanswered, yet another recording's notice passes.
    let other = dispatcher.clone().send(notice("rec-2", started())).await;
    let request = server.next().await;
    assert_eq!(request.message().recording_id, "rec-2");
    request.answer(200).await;
    assert_eq!(other.await, Ok(DeliveryOutcome::Taken));

    stuck.answer(200).await;
    for task in [RecordingTasks::EndRecording, RecordingTasks::RecordingTranscodingFinished] {
        let request = server.next().await;
        assert_eq!(request.task(), task);
        request.answer(200).await;
    }
    for told in one {
        assert_eq!(told.await, Ok(DeliveryOutcome::Taken));
    }
    assert_eq!(logs.lines("trying on").len(), 1, "not at every try");
    assert_eq!(logs.lines("taken the notice at last").len(), 1);
    let log = logs.text();
    for secret in [API_SECRET, "keyOfTheApi"] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
}

/// By what a refused notice is put off at first, and at most.
const FIRST_WAIT_REFUSED: Duration = Duration::from_secs(60);
const LONGEST_WAIT_REFUSED: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn what_plugnmeet_refuses_is_kept_and_told_in_order_once_it_takes_it() {
    let _clock = Clock::hold();
    for (status, cause) in [(404, "no such room"), (401, "api_secret")] {
        let logs = Logs::capture();
        let mut server = Server::start().await;
        let outbox = Outbox::in_memory();
        let dispatcher = courier_with(&server.host(), outbox.clone());
        let letters = || outbox.letters(&RecordingId::parse("rec-1").unwrap());
        let told = send(&dispatcher, [started(), ended(), finished()]).await;
        let began = tokio::time::Instant::now();
        let mut waits = Vec::new();
        for tries in 1..=10 {
            let request = there("a try", || server.incoming.try_recv().ok()).await;
            assert_eq!(request.task(), RecordingTasks::StartRecording, "{status}: the later ones wait behind it");
            let asked = unix_ms();
            request.answer(status).await;
            let first = there("it is noted", || Some(letters().remove(0)).filter(|it| it.failures == tries)).await;
            assert!(matches!(&first.state, LetterState::Refused { why, .. } if why.contains(cause)), "{first:?}");
            assert!(letters()[1..].iter().all(Message::is_waiting));
            let wait = Duration::from_millis(first.next_try.unwrap().saturating_sub(asked));
            waits.push(wait);
            assert!(server.is_quiet(), "not before its time");
            tokio::time::advance(wait + Duration::from_millis(5)).await;
        }
        assert!(
            waits[0] <= FIRST_WAIT_REFUSED + Duration::from_secs(2) && waits[0] > FIRST_WAIT_REFUSED / 2,
            "{waits:?}"
        );
        let last = waits.last().copied().unwrap();
        assert!(last <= LONGEST_WAIT_REFUSED + Duration::from_secs(2) && last > LONGEST_WAIT_REFUSED / 2, "{waits:?}");
        println!("{status}: 10 tries in {:.0} s", began.elapsed().as_secs_f64());
        // Another recording does not wait for it.
        let other = dispatcher.send(notice("rec-2", started())).await;
        let mut requests = Vec::new();
        for _ in 0..2 {
            requests.push(there("a notice", || server.incoming.try_recv().ok()).await);
        }
        requests.sort_by_key(|request| request.message().recording_id);
        for request in requests {
            request.answer(200).await;
        }
        assert_eq!(other.await, Ok(DeliveryOutcome::Taken));
        for task in [RecordingTasks::EndRecording, RecordingTasks::RecordingTranscodingFinished] {
            let request = there("a notice", || server.incoming.try_recv().ok()).await;
            assert_eq!(request.task(), task);
            request.answer(200).await;
        }
        let [first, second, third]: [_; 3] = told.try_into().unwrap();
        assert!(matches!(first.await, Ok(DeliveryOutcome::Refused(why)) if why.contains(cause)));
        assert_eq!((second.await, third.await), (Ok(DeliveryOutcome::Taken), Ok(DeliveryOutcome::Taken)));
        assert!(letters().iter().all(|letter| matches!(letter.state, LetterState::Delivered { .. })));
        assert_eq!(logs.lines("`outbox retry ID` tries at once").len(), 1);
        assert_eq!(logs.lines("still refuses the notice").len(), 9);
        assert!(logs.lines("ERROR").iter().all(|line| line.contains("rec-1")));
    }
}

#[tokio::test]
async fn a_key_that_the_server_takes_again_wakes_what_it_was_refused_for() {
    let _clock = Clock::hold();
    let mut server = Server::start().await;
    let outbox = Outbox::in_memory();
    let dispatcher = courier_with(&server.host(), outbox.clone());
    let first = dispatcher.send(notice("rec-1", started())).await;
    there("a try", || server.incoming.try_recv().ok()).await.answer(401).await;
    assert!(matches!(first.await, Ok(DeliveryOutcome::Refused(_))));
    // No time goes by: what is taken of another recording says that the key is right.
    let other = dispatcher.send(notice("rec-2", started())).await;
    there("the other", || server.incoming.try_recv().ok()).await.answer(200).await;
    assert_eq!(other.await, Ok(DeliveryOutcome::Taken));
    let again = there("the first again", || server.incoming.try_recv().ok()).await;
    assert_eq!(again.message().recording_id, "rec-1");
    again.answer(200).await;
    there("it is delivered", || outbox.open_recordings().is_empty().then_some(())).await;
}

#[tokio::test]
async fn one_notice_that_cannot_be_read_does_not_hold_up_the_others_and_never_comes_after_its_end() {
    let _clock = Clock::hold();
    let mut server = Server::start().await;
    let outbox = Outbox::in_memory();
    let dispatcher = courier_with(&server.host(), outbox.clone());
    let proceeded = NoticeEvent::Proceeded { file_path: "x.mp4".into(), file_size: 1, variant: 0, note: None };
    let first = send(&dispatcher, [started()]).await.remove(0);
    let next = async |server: &mut Server| there("a notice", || server.incoming.try_recv().ok()).await;
    next(&mut server).await.answer_as(Mood::Undecodable).await;
    assert!(matches!(first.await, Ok(DeliveryOutcome::Refused(_))));
    // What comes later does not wait for the next try of it.
    send(&dispatcher, [ended(), proceeded, finished()]).await;
    for (task, mood) in [
        (RecordingTasks::EndRecording, Mood::Take),
        (RecordingTasks::RecordingProceeded, Mood::Undecodable),
        (RecordingTasks::RecordingTranscodingFinished, Mood::Take),
    ] {
        let request = next(&mut server).await;
        assert_eq!(request.task(), task);
        request.answer_as(mood).await;
    }
    let id = RecordingId::parse("rec-1").unwrap();
    there("the last is delivered", || (outbox.state(&id, MessageKey::Finished)? != LetterState::Waiting).then_some(()))
        .await;
    tokio::time::advance(FIRST_WAIT_REFUSED + Duration::from_millis(5)).await;
    // The MP4 is not lost; but a start after the end would be.
    let request = next(&mut server).await;
    assert_eq!(request.task(), RecordingTasks::RecordingProceeded);
    request.answer(200).await;
    there("it is delivered", || outbox.to_tell(&id).is_empty().then_some(())).await;
    assert!(matches!(outbox.state(&id, MessageKey::Started), Some(LetterState::Refused { .. })), "kept");
    tokio::time::advance(LONGEST_WAIT_REFUSED).await;
    assert!(server.is_quiet());
}

#[tokio::test]
async fn what_a_stranger_says_loses_nothing_whatever_its_status() {
    let _clock = Clock::hold();
    let mut server = Server::start().await;
    let outbox = Outbox::in_memory();
    let dispatcher = courier_with(&server.host(), outbox.clone());
    let told = send(&dispatcher, [started(), ended(), finished()]).await;
    let first = || outbox.letters(&RecordingId::parse("rec-1").unwrap()).remove(0);
    let moods = [
        Mood::Proxy(404),
        Mood::Proxy(200),
        Mood::Proxy(401),
        Mood::Proxy(502),
        Mood::HangInBody(200),
        Mood::HangInBody(404),
        Mood::Proxy(404),
    ];
    for (tries, mood) in (1..).zip(moods) {
        let request = there("a try", || server.incoming.try_recv().ok()).await;
        assert_eq!(request.task(), RecordingTasks::StartRecording);
        let asked = unix_ms();
        request.answer_as(mood).await;
        if let Mood::HangInBody(_) = mood {
            // Its head has come and its body never ends: the whole request has one deadline.
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
            tokio::time::advance(Duration::from_secs(11)).await;
        }
        let failed = there("it is noted", || Some(first()).filter(|it| it.failures == tries)).await;
        assert!(failed.is_waiting(), "{mood:?}: {failed:?}");
        let wait = Duration::from_millis(failed.next_try.unwrap().saturating_sub(asked));
        assert!(wait <= Duration::from_secs(31), "{mood:?}: soon again, not in {wait:?}");
        tokio::time::advance(wait + Duration::from_millis(5)).await;
    }
    for _ in 0..3 {
        there("a notice", || server.incoming.try_recv().ok()).await.answer(200).await;
    }
    for told in told {
        assert_eq!(told.await, Ok(DeliveryOutcome::Taken));
    }
    assert!(server.is_quiet(), "once");
}

#[tokio::test]
async fn what_an_earlier_version_has_given_up_is_told_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("outbox")).unwrap();
    // As version 0.1 wrote it: PROCEEDED was given up, FINISHED was taken; of the second, the start was given up.
    let letter = |key: &str, state: serde_json::Value, event: NoticeEvent, id: &str| {
        json!({ "key": key, "about": "x", "state": state, "added_at": unix_ms() - 50 * 3_600_000, "failures": 3,
            "last_error": null, "next_try": null, "body": hex::encode(notice(id, event).to_message().encode_to_vec()) })
    };
    let refused = json!({ "is": "refused", "at": unix_ms() - 49 * 3_600_000, "why": "(404)" });
    let delivered = json!({ "is": "delivered", "at": unix_ms() - 48 * 3_600_000 });
    let proceeded = NoticeEvent::Proceeded { file_path: "x.mp4".into(), file_size: 1, variant: 0, note: None };
    for (id, letters) in [
        (
            "rec-1",
            vec![
                letter("proceeded", refused.clone(), proceeded, "rec-1"),
                letter("finished", delivered.clone(), finished(), "rec-1"),
            ],
        ),
        ("rec-2", vec![letter("started", refused, started(), "rec-2"), letter("ended", delivered, ended(), "rec-2")]),
    ] {
        let file = json!({ "version": 1, "letters": letters });
        std::fs::write(dir.path().join(format!("outbox/{id}.json")), file.to_string()).unwrap();
    }
    let mut server = Server::start().await;
    let outbox = Outbox::open(dir.path()).unwrap();
    outbox.sweep().await;
    let dispatcher = courier_with(&server.host(), outbox.clone());
    dispatcher.take_up().await;
    let request = server.next().await;
    assert_eq!((request.task(), request.message().file_path), (RecordingTasks::RecordingProceeded, "x.mp4".into()));
    request.answer(200).await;
    dispatcher.shutdown(LONG).await;
    assert!(server.is_quiet(), "a start after its end is not told");
    let id = |id: &str| RecordingId::parse(id).unwrap();
    assert!(matches!(outbox.state(&id("rec-1"), MessageKey::Proceeded), Some(LetterState::Delivered { .. })));
    assert!(matches!(outbox.state(&id("rec-2"), MessageKey::Started), Some(LetterState::Refused { .. })), "kept");
    outbox.sweep().await;
    assert_eq!(outbox.letters(&id("rec-2")).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_answers_404_while_its_backend_restarts_costs_no_mp4_and_an_operator_decides_of_the_rest() {
    let standin = Standin::start(Deployment::default()).await.unwrap();
    let setup =
        Setup { mode: Some("transcoderOnly"), recorder: "  post_mp4_convert: false\n".to_owned(), ..Setup::default() };
    let mut recorder = Recorder::spawn(&standin, "node_02", &setup);
    let dir = recorder.main_path.join("node_01/room01");
    standin.notices.for_a_while(Mood::Proxy(404), Duration::from_secs(4));
    standin.fleet.publish_job(raw_file(&dir, "RM_1", "320x180", 1).1).await.unwrap();
    let tasks = [RecordingTasks::RecordingProceeded, RecordingTasks::RecordingTranscodingFinished];
    let finished = standin.notices.wait_for(tasks[1], "RM_1", SOON).await;
    let finished = finished.unwrap_or_else(|why| panic!("{why:#}\n{}", recorder.log()));
    assert_eq!(finished.message.recorder_id, "node_01", "the node that recorded, not the one that tells");
    assert_eq!(standin.notices.tasks_of("RM_1"), tasks);
    assert!(standin.notices.attempts("RM_1").iter().any(|one| one.answered == Some(404)));

    // Now plugNmeet itself says no, for a recording whose room it does not know (any more).
    standin.notices.know_room(7, false);
    for id in ["RM_2", "RM_3"] {
        standin.fleet.publish_job(raw_file(&dir, id, "320x180", 1).1).await.unwrap();
    }
    let states = |recorder: &Recorder, all: &str, id: &str| -> Vec<String> {
        let list: Value = serde_json::from_str(&ask(recorder, &format!("outbox list --json{all}"))).unwrap();
        let rows = list["outbox"].as_array().unwrap().iter().filter(|row| row["id"] == id);
        rows.map(|row| row["state"].as_str().unwrap().to_owned()).collect()
    };
    for id in ["RM_2", "RM_3"] {
        recorder
            .wait_until("it is refused, and the next one waits", || states(&recorder, "", id) == ["refused", "waiting"])
            .await;
    }
    let table = ask(&recorder, "outbox list");
    assert!(table.contains("plugNmeet knows no such room (404)") && table.contains("  in "), "{table}");
    assert!(ask(&recorder, "outbox drop RM_3").starts_with("proceeded, finished of RM_3"));
    recorder.wait_until("it is dropped", || states(&recorder, "", "RM_3").is_empty()).await;
    assert_eq!(states(&recorder, " --all", "RM_3"), ["dropped", "dropped"]);
    standin.notices.know_room(7, true);
    assert!(ask(&recorder, "outbox retry RM_2").starts_with("proceeded, finished of RM_2: tried at once"));
    standin.notices.wait_for(tasks[1], "RM_2", SOON).await.unwrap();
    assert_eq!(standin.notices.tasks_of("RM_2"), tasks);

    // Without a daemon: a drop is done at once, and each start tries what is left.
    standin.notices.always(Mood::Answer(401));
    for id in ["RM_4", "RM_5"] {
        standin.fleet.publish_job(raw_file(&dir, id, "320x180", 1).1).await.unwrap();
        recorder.wait_until("it is refused", || states(&recorder, "", id) == ["refused", "waiting"]).await;
    }
    recorder.kill();
    assert!(ask(&recorder, "outbox retry RM_4").contains("when the recorder node_02 is started"));
    assert_eq!(ask(&recorder, "outbox drop RM_5 proceeded"), "proceeded of RM_5: not told any more\n");
    assert_eq!(states(&recorder, "", "RM_5"), ["waiting"]);
    standin.notices.always(Mood::Take);
    recorder.restart();
    for id in ["RM_4", "RM_5"] {
        standin.notices.wait_for(tasks[1], id, SOON).await.unwrap();
    }
    assert_eq!(standin.notices.tasks_of("RM_4"), tasks);
    assert_eq!(standin.notices.tasks_of("RM_5"), tasks[1..]);
    assert!(standin.notices.of("RM_3").is_empty());
    recorder.stop(&[]);
}

#[tokio::test]
async fn a_server_that_is_down_at_first_gets_it_later() {
    let port = free_port();
    let dispatcher = dispatcher(&format!("http://127.0.0.1:{port}"));
    let logs = Logs::capture();
    let told = dispatcher.send(notice("rec-1", started())).await;
    while logs.lines("onnection refused").is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut server = Server::start_at(port).await;
    server.next().await.answer(200).await;
    assert_eq!(told.await, Ok(DeliveryOutcome::Taken));
}

#[tokio::test]
async fn a_server_that_hangs_is_asked_again() {
    let mut server = Server::start().await;
    let dispatcher = dispatcher(&server.host());
    let told = dispatcher.send(notice("rec-1", started())).await;
    let hanging = server.next().await;
    let asked = Instant::now();
    let again = server.next().await;
    assert!(asked.elapsed() > Duration::from_secs(8), "{:?}", asked.elapsed());
    again.answer(200).await;
    assert_eq!(told.await, Ok(DeliveryOutcome::Taken));
    hanging.answer(200).await;
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
        let dispatcher = courier_with(&format!("http://127.0.0.1:{port}"), outbox.clone());
        let first = || outbox.letters(&RecordingId::parse("rec-1").unwrap()).remove(0);
        let began = tokio::time::Instant::now();
        let told = send(&dispatcher, [started(), ended(), finished()]).await;
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
                    (Some(request), _) => request.answer(500).await,
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
            request.answer(200).await;
        }
        for told in told {
            assert_eq!(told.await, Ok(DeliveryOutcome::Taken), "{away:?}");
        }
        assert_eq!(logs.lines("taken the notice at last").len(), 1, "{away:?}");
        assert!(server.is_quiet(), "{away:?}: once");
    }
}

#[tokio::test]
async fn key_and_signature_never_go_to_another_host() {
    let (mut server, mut other) = (Server::start().await, Server::start().await);
    let dispatcher = dispatcher(&server.host());
    let told = dispatcher.send(notice("rec-1", started())).await;
    let redirect = |to: String| (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to)]).into_response();
    server.next().await.answer.send(redirect(format!("{}/x", other.host()))).ok();
    // Within the host it is followed, whole.
    server.next().await.answer.send(redirect("/moved".to_owned())).ok();
    let request = server.next().await;
    assert_eq!(request.path, "/moved");
    assert_eq!(request.headers["hash-signature"], hash_signature(API_SECRET, &request.body));
    request.answer(200).await;
    assert_eq!(told.await, Ok(DeliveryOutcome::Taken));
    assert!(other.is_quiet());
}

#[tokio::test]
async fn what_is_queued_at_the_end_has_its_grace() {
    let mut server = Server::start().await;
    let dispatcher = dispatcher(&server.host());
    let told = send(&dispatcher, [started(), ended()]).await;
    // Three failures: the next try would be 2 s away.
    for _ in 0..3 {
        server.next().await.answer(500).await;
    }
    let answering = async {
        for _ in 0..2 {
            server.next().await.answer(200).await;
        }
    };
    let begun = Instant::now();
    tokio::join!(dispatcher.shutdown(LONG), answering);
    assert!(begun.elapsed() < Duration::from_secs(1), "the end is not waited for: {:?}", begun.elapsed());
    for told in told {
        assert_eq!(told.await, Ok(DeliveryOutcome::Taken));
    }
}

#[tokio::test]
async fn what_is_left_after_the_grace_is_named_and_told_by_the_next_run() {
    let logs = Logs::capture();
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let host = format!("http://127.0.0.1:{port}");
    let dispatcher = courier_with(&host, Outbox::open(dir.path()).unwrap());
    let mut told = send(&dispatcher, [started(), ended()]).await;
    told.push(dispatcher.send(notice("rec-2", finished())).await);
    let begun = Instant::now();
    dispatcher.shutdown(Duration::from_millis(700)).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    for told in told {
        assert!(matches!(told.await, Ok(DeliveryOutcome::Left(_))));
    }
    let lines = logs.lines("for the next start");
    assert_eq!(lines.len(), 3);
    for (recording, what) in
        [("rec-1", "StartRecording"), ("rec-1", "the page has crashed"), ("rec-2", "RecordingTranscodingFinished")]
    {
        assert!(lines.iter().any(|line| line.contains(recording) && line.contains(what)), "{what}: {lines:?}");
    }
    drop(dispatcher);

    let mut server = Server::start_at(port).await;
    let dispatcher = courier_with(&host, Outbox::open(dir.path()).unwrap());
    dispatcher.take_up().await;
    let mut tasks = Vec::new();
    for _ in 0..3 {
        let request = server.next().await;
        tasks.push((request.message().recording_id, request.task()));
        request.answer(200).await;
    }
    // Recordings are independent of each other; in each, the order is kept.
    tasks.sort_by(|a, b| a.0.cmp(&b.0));
    let one = |task| ("rec-1".to_owned(), task);
    let two = ("rec-2".to_owned(), RecordingTasks::RecordingTranscodingFinished);
    assert_eq!(tasks, [one(RecordingTasks::StartRecording), one(RecordingTasks::EndRecording), two]);
    dispatcher.shutdown(LONG).await;

    // What was told once is not told again, by whichever run.
    let dispatcher = courier_with(&host, Outbox::open(dir.path()).unwrap());
    dispatcher.take_up().await;
    assert_eq!(dispatcher.send(notice("rec-1", ended())).await.await, Ok(DeliveryOutcome::Taken));
    assert!(server.is_quiet());
}
