//! What a notice says, how it is signed, and the order of several.

use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use plugnmeet_recorder::delivery::queues::DeliveryOutcome;
use plugnmeet_recorder::protocol::ids::RecordingId;
use plugnmeet_recorder::protocol::messages::RecordingTasks;
use plugnmeet_recorder::protocol::notice::NoticeEvent;
use plugnmeet_recorder::protocol::signature::hash_signature;

use super::{Server, dispatcher, ended, finished, notice, send, started};
use crate::logs::Logs;
use crate::nats_server::API_SECRET;

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
async fn users_are_told_no_path_of_the_host_and_the_operator_is() {
    let mut server = Server::start().await;
    let dispatcher = dispatcher(&server.host());
    let why = "cannot write to /srv/nfs/rec/room01/rec-1_raw.mkv: Read-only file system";
    dispatcher.send(notice("rec-1", NoticeEvent::Finished(Err(why.to_owned())))).await;
    let message = server.next().await.message();
    assert_eq!(message.msg, "cannot write to …/rec-1_raw.mkv: Read-only file system");
    let about = dispatcher.outbox().messages(&RecordingId::parse("rec-1").unwrap())[0].about.clone();
    assert!(about.contains(why), "{about}");
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
