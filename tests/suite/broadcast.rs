//! Broadcasts to a real RTMP server, beside a recording of the same room.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use plugnmeet_recorder::protocol::ids::RtmpUrl;
use plugnmeet_recorder::protocol::messages::RecordingTasks;
use rustix::process::{Pid, Signal, kill_process};

use crate::far_end::{assert_constant, assert_in_step};
use crate::measure;
use crate::recorder::{Recorder, SOON, Setup, command_lines, turn};
use crate::standin::meeting::area;
use crate::standin::nginx_rtmp::{NginxRtmp, last_ms};
use crate::standin::slow_line::SlowLine;
use crate::standin::{Deployment, Meeting, Standin};

/// `rtmp` in the configuration: what a test can wait for.
const SECTIONS: &str = "rtmp:\n  reconnect_for: 4s\n  adaptive: true\n  allowed_hosts: [127.0.0.*]\n";
/// Media of a publication that are waited for, in milliseconds: two groups of pictures, and sound that has begun.
const ENOUGH_MS: u32 = 5500;
/// Chrome shows a flash later than it should on a busy machine.
const IN_STEP_MS: f64 = 100.0;
/// Bytes a second of a far end that is slow: 600 kbit/s, sound included.
const SLOW: u64 = 75_000;
const KEY: &str = "s3cret-stream-key";

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_outlives_its_far_end_its_chrome_and_its_recorder() {
    let _turn = turn().await;
    let standin = Standin::start(Deployment::default()).await.unwrap();
    let setup = Setup { recorder: "  post_mp4_convert: false\n".into(), sections: SECTIONS.into(), ..Setup::default() };
    let mut recorder = Recorder::start(&standin, "node_01", &setup).await;
    let room = standin.meeting(Meeting { webcams: 0, ..Meeting::default() });
    let mut nginx = NginxRtmp::start(standin.dir()).await.unwrap();
    let published = async |n, ms| nginx.wait_for_media(KEY, n, ms, SOON).await;
    let log = |error: anyhow::Error| -> PathBuf { panic!("{error:#}\n{}", recorder.log()) };

    // Beside a recording of the same room: each is a task of its own.
    let url = nginx.url(&format!("{KEY}?token=s3cret-too"));
    let reply = standin.fleet.start_rtmp(&room, "live-1", "node_01", &url).await.unwrap();
    assert!(reply.response.unwrap().status);
    let reply = standin.fleet.start_recording(&room, "file-1", "node_01").await.unwrap();
    assert!(reply.response.unwrap().status);
    for (task, id) in [(RecordingTasks::StartRtmp, "live-1"), (RecordingTasks::StartRecording, "file-1")] {
        standin.notices.wait_for(task, id, SOON).await.unwrap_or_else(|e| panic!("{e:#}\n{}", recorder.log()));
    }
    assert_eq!(standin.fleet.announcement("node_01").await.unwrap().unwrap().current_progress, Some(2));
    let lines = command_lines();
    let ours: Vec<&str> = lines.lines().filter(|line| line.contains("pipe:0")).collect();
    assert!(!ours.is_empty() && ours.iter().all(|line| !line.contains(KEY)), "the stream key is on a command line");
    let first = nginx.wait_until_accepted(KEY, SOON).await.unwrap_or_else(log);

    // The far end drops it. Chrome and the capture go on, and so does the recording.
    let chromes = recorder.children("chromium");
    nginx.drop_publisher(KEY).await.unwrap();
    let second = published(2, ENOUGH_MS).await.unwrap_or_else(log);
    assert_eq!(recorder.children("chromium"), chromes);
    let reply = standin.fleet.stop(RecordingTasks::StopRecording, &room, "file-1").await.unwrap();
    assert!(reply.response.unwrap().status);
    let ended = standin.notices.wait_for(RecordingTasks::EndRecording, "file-1", SOON).await.unwrap().message;
    assert!(ended.status, "{}", ended.msg);
    standin.notices.wait_for(RecordingTasks::RecordingTranscodingFinished, "file-1", SOON).await.unwrap();

    // Chrome dies.
    let [chrome] = recorder.children("chromium")[..] else { panic!("{}", recorder.log()) };
    kill_process(Pid::from_raw(chrome.cast_signed()).unwrap(), Signal::KILL).unwrap();
    let third = published(3, ENOUGH_MS).await.unwrap_or_else(log);
    // The recorder dies. What it needs to go on is for no other user.
    let record = recorder.state_dir().join("broadcasts/live-1.json");
    assert_eq!(record.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    recorder.kill();
    recorder.restart();
    let log = |error: anyhow::Error| -> PathBuf { panic!("{error:#}\n{}", recorder.log()) };
    let fourth = published(4, ENOUGH_MS).await.unwrap_or_else(log);

    let reply = standin.fleet.stop(RecordingTasks::StopRtmp, &room, "live-1").await.unwrap();
    assert!(reply.response.unwrap().status);
    let ended = standin.notices.wait_for(RecordingTasks::EndRtmp, "live-1", SOON).await.unwrap().message;
    assert_eq!((ended.status, ended.msg.as_str()), (true, "success"), "{}", recorder.log());
    assert_eq!(standin.notices.tasks_of("live-1"), [RecordingTasks::StartRtmp, RecordingTasks::EndRtmp]);
    recorder.wait_until("its record is gone", || !record.exists()).await;
    for file in [&first, &second, &third, &fourth] {
        assert_in_step(file, area::FLASH, 2, IN_STEP_MS);
        assert_constant(file);
        let info = measure::probe(file).unwrap();
        let video = info.video().unwrap();
        assert_eq!((video.codec.as_str(), video.width, video.height), ("h264", 1920, 1080));
        assert_eq!(info.audio().unwrap().codec, "aac");
    }

    // The far end takes less than a webcam in motion needs: another ffmpeg takes over, in the same publication.
    let room = standin.meeting(Meeting { webcams: 1, ..Meeting::default() });
    let line = SlowLine::to(RtmpUrl::parse(&nginx.url("s3cret-2")).unwrap().port());
    let url = format!("rtmp://127.0.0.1:{}/live/s3cret-2", line.port);
    let reply = standin.fleet.start_rtmp(&room, "live-2", "node_01", &url).await.unwrap();
    assert!(reply.response.unwrap().status);
    nginx.wait_until_accepted("s3cret-2", SOON).await.unwrap_or_else(log);
    let (chromes, ffmpegs) = (recorder.children("chromium"), recorder.children("ffmpeg"));
    line.takes(SLOW);
    recorder
        .wait_until(
            "another ffmpeg runs alone",
            || matches!(recorder.children("ffmpeg")[..], [one] if !ffmpegs.contains(&one)),
        )
        .await;
    let changed_ms = last_ms(&nginx.received("s3cret-2")[0]).unwrap();
    nginx.wait_for_media("s3cret-2", 1, changed_ms + 3000, SOON).await.unwrap_or_else(log);
    assert_eq!((nginx.received("s3cret-2").len(), recorder.children("chromium")), (1, chromes));

    // The far end goes away for good.
    nginx.kill();
    drop(line);
    let ended = standin.notices.wait_for(RecordingTasks::EndRtmp, "live-2", SOON).await.unwrap().message;
    assert!(!ended.status && ended.msg.starts_with("far end: rtmp://127.0.0.1"), "{}", ended.msg);
    assert!(ended.msg.contains("refused") && ended.msg.contains("given up after 4s"), "{}", ended.msg);
    let summary = std::fs::read(recorder.state_dir().join("summaries/live-2.json")).unwrap();
    let summary: serde_json::Value = serde_json::from_slice(&summary).unwrap();
    let lowest = summary["far_end_lowest_kbit_per_s"].as_u64();
    assert!(lowest.is_some_and(|lowest| (100..600).contains(&lowest)), "{summary}");
    recorder.stop(&[&room.token, KEY, "s3cret-too", "s3cret-2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_that_nobody_takes_ends_with_the_cause() {
    let _turn = turn().await;
    let standin = Standin::start(Deployment::default()).await.unwrap();
    let setup = Setup { sections: SECTIONS.into(), ..Setup::default() };
    let recorder = Recorder::start(&standin, "node_01", &setup).await;
    let room = standin.meeting(Meeting { webcams: 0, ..Meeting::default() });
    let url = "rtmp://user:passw0rd@elsewhere.example/live/nobody-takes-this";
    let refused = standin.fleet.start_rtmp(&room, "live-0", "node_01", url).await.unwrap().response.unwrap();
    assert!(!refused.status && refused.msg.contains("elsewhere.example are not allowed here"), "{}", refused.msg);
    let url = "rtmp://127.0.0.1:9/live/nobody-takes-this";
    let reply = standin.fleet.start_rtmp(&room, "live-3", "node_01", url).await.unwrap();
    assert!(reply.response.unwrap().status);
    let ended = standin.notices.wait_for(RecordingTasks::EndRtmp, "live-3", SOON).await.unwrap().message;
    assert!(!ended.status && ended.msg.contains("refused") && !ended.msg.contains("given up"), "{}", ended.msg);
    assert!(!ended.msg.contains("nobody-takes-this"), "{}", ended.msg);
    recorder.stop(&["nobody-takes-this", "passw0rd"]);
}
