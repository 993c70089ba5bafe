//! Broadcasts to a real RTMP server, beside a recording of the same room.

use std::time::Duration;

use plugnmeet_recorder::protocol::messages::RecordingTasks;

use crate::measure::{self, picture, sound, sync};
use crate::recorder::{Recorder, SOON, Setup, command_lines, turn};
use crate::standin::meeting::area;
use crate::standin::rtmp::RtmpReceiver;
use crate::standin::{Deployment, Meeting, Standin};

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_reaches_an_rtmp_server_and_its_end_is_known() {
    let _turn = turn().await;
    let standin = Standin::start(Deployment::default()).await.unwrap();
    let recorder = Recorder::start(
        &standin,
        "node_01",
        &Setup { recorder: "  post_mp4_convert: false\n".into(), ..Setup::default() },
    )
    .await;
    let room = standin.meeting(Meeting { webcams: 1, ..Meeting::default() });

    // Beside a recording of the same room: each is a task of its own.
    let mut far_end = RtmpReceiver::start(standin.dir(), "first").await.unwrap();
    let reply = standin.fleet.start_rtmp(&room, "live-1", "node_01", &far_end.url()).await.unwrap();
    assert!(reply.response.unwrap().status);
    standin
        .notices
        .wait_for(RecordingTasks::StartRtmp, "live-1", SOON)
        .await
        .unwrap_or_else(|e| panic!("{e:#}\n{}", recorder.log()));
    let reply = standin.fleet.start_recording(&room, "file-1", "node_01").await.unwrap();
    assert!(reply.response.unwrap().status);
    standin.notices.wait_for(RecordingTasks::StartRecording, "file-1", SOON).await.unwrap();
    assert_eq!(standin.fleet.announcement("node_01").await.unwrap().unwrap().current_progress, Some(2));
    let lines = command_lines();
    let ours: Vec<&str> = lines.lines().filter(|line| line.contains("pipe:0")).collect();
    assert!(
        !ours.is_empty() && ours.iter().all(|line| !line.contains(far_end.key())),
        "the stream key is on a command line"
    );
    room.wait_for_sound(2, SOON).await.unwrap();
    tokio::time::sleep(Duration::from_secs(6)).await;

    // STOP_RTMP ends the broadcast and leaves the recording alone.
    let reply = standin.fleet.stop(RecordingTasks::StopRtmp, &room, "live-1").await.unwrap();
    assert!(reply.response.unwrap().status);
    let ended = standin.notices.wait_for(RecordingTasks::EndRtmp, "live-1", SOON).await.unwrap().message;
    assert_eq!((ended.status, ended.msg.as_str()), (true, "success"));
    far_end.wait_until_over(SOON).await.unwrap();
    assert_eq!(standin.notices.tasks_of("live-1"), [RecordingTasks::StartRtmp, RecordingTasks::EndRtmp]);

    let info = measure::probe(far_end.file()).unwrap();
    let video = info.video().unwrap();
    assert_eq!((video.codec.as_str(), video.width, video.height), ("h264", 1920, 1080));
    assert_eq!(info.audio().unwrap().codec, "aac");
    assert!(info.duration > 5.0, "{info:?}");
    // A constant frame rate: as many frames as 30 a second make.
    #[expect(clippy::cast_precision_loss, reason = "a few hundred frames")]
    let rate = video.packets as f64 / info.duration;
    assert!((28.0..=31.0).contains(&rate), "{rate} frames a second");
    let sync = sync::pair(
        &sound::beeps(far_end.file(), 1000.0).unwrap(),
        &picture::flashes(far_end.file(), area::FLASH).unwrap(),
        5,
    );
    assert!(sync.offsets.len() >= 4, "{sync}");

    // The far end goes away: the broadcast ends with the cause, the recording does not.
    let far_end = RtmpReceiver::start(standin.dir(), "second").await.unwrap();
    let key = far_end.key().to_owned();
    let reply = standin.fleet.start_rtmp(&room, "live-2", "node_01", &far_end.url()).await.unwrap();
    assert!(reply.response.unwrap().status);
    standin.notices.wait_for(RecordingTasks::StartRtmp, "live-2", SOON).await.unwrap();
    far_end.wait_for_bytes(10_000, SOON).await.unwrap();
    far_end.kill().unwrap();
    let ended = standin.notices.wait_for(RecordingTasks::EndRtmp, "live-2", SOON).await.unwrap().message;
    assert!(!ended.status && ended.msg.starts_with("ffmpeg"), "{}", ended.msg);
    assert!(!ended.msg.contains(&key), "{}", ended.msg);

    let reply = standin.fleet.stop(RecordingTasks::Stop, &room, "").await.unwrap();
    assert!(reply.response.unwrap().status);
    let ended = standin.notices.wait_for(RecordingTasks::EndRecording, "file-1", SOON).await.unwrap().message;
    assert!(ended.status, "{}", ended.msg);
    standin.notices.wait_for(RecordingTasks::RecordingTranscodingFinished, "file-1", SOON).await.unwrap();
    recorder.stop(&[&room.token, &key]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_that_nobody_takes_ends_with_the_cause() {
    let _turn = turn().await;
    let standin = Standin::start(Deployment::default()).await.unwrap();
    let recorder = Recorder::start(&standin, "node_01", &Setup::default()).await;
    let room = standin.meeting(Meeting { webcams: 0, ..Meeting::default() });
    let url = "rtmp://127.0.0.1:9/live/nobody-takes-this";
    let reply = standin.fleet.start_rtmp(&room, "live-3", "node_01", url).await.unwrap();
    assert!(reply.response.unwrap().status);
    let ended = standin.notices.wait_for(RecordingTasks::EndRtmp, "live-3", SOON).await.unwrap().message;
    assert!(!ended.status && ended.msg.contains("refused"), "{}", ended.msg);
    assert!(!ended.msg.contains("nobody-takes-this"), "{}", ended.msg);
    recorder.stop(&["nobody-takes-this"]);
}
