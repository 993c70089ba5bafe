//! What one run leaves in the outbox, and the next one tells.

use std::time::{Duration, Instant};

use plugnmeet_recorder::delivery::dispatcher::Delivery;
use plugnmeet_recorder::delivery::message::{MessageKey, MessageState as LetterState};
use plugnmeet_recorder::delivery::outbox::Outbox;
use plugnmeet_recorder::delivery::queues::DeliveryOutcome;
use plugnmeet_recorder::protocol::ids::{RecorderId, RecordingId};
use plugnmeet_recorder::protocol::job::{Job, RawFileName, Work};
use plugnmeet_recorder::protocol::messages::RecordingTasks;
use plugnmeet_recorder::protocol::notice::NoticeEvent;
use plugnmeet_recorder::unix_time::unix_ms;
use prost::Message as _;
use serde_json::json;

use super::{LONG, Server, courier_with, dispatcher, ended, finished, notice, send, started};
use crate::logs::Logs;
use crate::nats_server::free_port;

#[tokio::test]
async fn what_an_earlier_version_has_given_up_is_told_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("outbox")).unwrap();
    // As version 0.1 wrote it: PROCEEDED was given up, FINISHED was taken; of the second, the start was given up.
    let message = |key: &str, state: serde_json::Value, event: NoticeEvent, id: &str| {
        json!({ "key": key, "about": "x", "state": state, "added_at": unix_ms() - 50 * 3_600_000, "failures": 3,
            "last_error": null, "next_try": null, "body": hex::encode(notice(id, event).to_message().encode_to_vec()) })
    };
    let refused = json!({ "is": "refused", "at": unix_ms() - 49 * 3_600_000, "why": "(404)" });
    let delivered = json!({ "is": "delivered", "at": unix_ms() - 48 * 3_600_000 });
    let proceeded = NoticeEvent::Proceeded { file_path: "x.mp4".into(), file_size: 1, variant: 0, note: None };
    for (id, messages) in [
        (
            "rec-1",
            vec![
                message("proceeded", refused.clone(), proceeded, "rec-1"),
                message("finished", delivered.clone(), finished(), "rec-1"),
            ],
        ),
        ("rec-2", vec![message("started", refused, started(), "rec-2"), message("ended", delivered, ended(), "rec-2")]),
    ] {
        let file = json!({ "version": 1, "letters": messages });
        std::fs::write(dir.path().join(format!("outbox/{id}.json")), file.to_string()).unwrap();
    }
    let mut server = Server::start().await;
    let outbox = Outbox::open(dir.path()).unwrap();
    outbox.remove_old(|_| false).await.unwrap();
    let dispatcher = courier_with(&server.host(), outbox.clone());
    dispatcher.resume_outbox().await;
    let request = server.next().await;
    assert_eq!((request.task(), request.message().file_path), (RecordingTasks::RecordingProceeded, "x.mp4".into()));
    request.answer(200).await;
    dispatcher.shutdown(LONG).await;
    assert!(server.is_quiet(), "a start after its end is not told");
    let id = |id: &str| RecordingId::parse(id).unwrap();
    assert!(matches!(outbox.state(&id("rec-1"), MessageKey::Proceeded), Some(LetterState::Delivered { .. })));
    assert!(matches!(outbox.state(&id("rec-2"), MessageKey::Started), Some(LetterState::Refused { .. })), "kept");
    outbox.remove_old(|_| false).await.unwrap();
    assert_eq!(outbox.messages(&id("rec-2")).len(), 2);
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
async fn a_job_that_waits_for_the_notice_of_the_end_says_so_at_the_end_and_blames_no_other() {
    let logs = Logs::capture();
    let (_nats_server, nats) = crate::fleet::queue().await;
    // Nobody takes the notice.
    let dispatcher = dispatcher(&format!("http://127.0.0.1:{}", free_port()));
    dispatcher.connect(nats);
    let info = notice("rec-1", ended()).info;
    let work =
        Work::PostRecording { dir: "/srv".into(), file_name: RawFileName::of(&info.recording_id).unwrap(), variant: 0 };
    let job = Job { info, recorder_id: RecorderId::parse("node_01").unwrap(), work };
    let told = dispatcher.send(notice("rec-1", ended())).await;
    let published = dispatcher.send(Delivery::Job(job)).await;
    dispatcher.shutdown(Duration::from_millis(300)).await;
    assert!(matches!(told.await, Ok(DeliveryOutcome::Interrupted(_))));
    let Ok(DeliveryOutcome::Interrupted(why)) = published.await else { panic!("it is in the queue") };
    assert_eq!(why, "it follows the notice of the recording's end, which the server has not answered yet");
    let lines = logs.lines("for the next start");
    assert!(lines.len() == 2 && !lines.concat().contains("NATS"), "{lines:?}");
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
        assert!(matches!(told.await, Ok(DeliveryOutcome::Interrupted(_))));
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
    dispatcher.resume_outbox().await;
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
    dispatcher.resume_outbox().await;
    assert_eq!(dispatcher.send(notice("rec-1", ended())).await.await, Ok(DeliveryOutcome::Taken));
    assert!(server.is_quiet());
}
