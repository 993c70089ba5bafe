//! Notices that the server refuses.

use std::time::Duration;

use plugnmeet_recorder::delivery::message::{Message, MessageKey, MessageState as LetterState};
use plugnmeet_recorder::delivery::outbox::Outbox;
use plugnmeet_recorder::delivery::queues::DeliveryOutcome;
use plugnmeet_recorder::protocol::ids::RecordingId;
use plugnmeet_recorder::protocol::messages::RecordingTasks;
use plugnmeet_recorder::protocol::notice::NoticeEvent;
use plugnmeet_recorder::unix_time::unix_ms;
use serde_json::Value;

use super::{Clock, Server, courier_with, ended, finished, notice, send, started, there};
use crate::logs::Logs;
use crate::recorder::{Recorder, SOON, Setup};
use crate::standin::notices::Mood;
use crate::standin::{Deployment, Standin};
use crate::survival::raw_file;
use crate::workers::ask;

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
        let messages = || outbox.messages(&RecordingId::parse("rec-1").unwrap());
        let told = send(&dispatcher, [started(), ended(), finished()]).await;
        let began = tokio::time::Instant::now();
        let mut waits = Vec::new();
        for tries in 1..=10 {
            let request = there("a try", || server.incoming.try_recv().ok()).await;
            assert_eq!(request.task(), RecordingTasks::StartRecording, "{status}: the later ones wait behind it");
            let asked = unix_ms();
            request.answer(status).await;
            let first = there("it is noted", || Some(messages().remove(0)).filter(|it| it.failures == tries)).await;
            assert!(matches!(&first.state, LetterState::Refused { why, .. } if why.contains(cause)), "{first:?}");
            assert!(messages()[1..].iter().all(Message::is_waiting));
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
        assert!(messages().iter().all(|message| matches!(message.state, LetterState::Delivered { .. })));
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
    there("it is delivered", || outbox.undelivered(&id).is_empty().then_some(())).await;
    assert!(matches!(outbox.state(&id, MessageKey::Started), Some(LetterState::Refused { .. })), "kept");
    tokio::time::advance(LONGEST_WAIT_REFUSED).await;
    assert!(server.is_quiet());
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
