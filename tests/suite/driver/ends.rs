//! What is told of a recording that has ended, and what is kept of it.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use plugnmeet_recorder::capture::audio::av_sync::SyncCorrections;
use plugnmeet_recorder::capture::browser::call_sync::CallOffset;
use plugnmeet_recorder::capture::capture_report::{CaptureReport, FarEndStats};
use plugnmeet_recorder::capture::quality::{AudioStats, VideoStats};
use plugnmeet_recorder::protocol::messages::RecordingTasks;
use plugnmeet_recorder::protocol::public_text::without_directories;
use plugnmeet_recorder::protocol::request::Kind;
use plugnmeet_recorder::recording::journal::{RecordingRecord, RecordingStage};
use plugnmeet_recorder::storage::journal::Record as _;
use serde_json::{Value, json};

use super::{LIMIT, Leaves, Node, media};
use crate::logs::Logs;

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_or_unreadable_raw_file_is_told_with_its_cause_and_makes_no_job() {
    let node = Node::new().await;
    // Too much for the beginning of a file whose writer was killed at once.
    let garbage = b"this is no Matroska ".repeat(10_000);
    for (id, bytes, breaks, wanted, kept) in [
        ("none", None, None, "there is no raw file", false),
        ("empty", Some(&b""[..]), None, "the raw file is empty", false),
        ("garbage", Some(&garbage[..]), None, "the raw file is unusable", true),
        (
            "broke",
            Some(&b""[..]),
            Some("ffmpeg: No space left on device"),
            "ffmpeg: No space left on device; the raw file is empty",
            false,
        ),
    ] {
        let leaves = Leaves { bytes: bytes.map(<[u8]>::to_vec), breaks, ..Leaves::default() };
        let (raw, ended) = node.run(Kind::Recording, id, leaves).await;
        assert!(!ended.status && ended.msg.starts_with(wanted), "{id}: {}", ended.msg);
        assert_eq!(raw.existing().is_some(), kept, "{id}");
        assert!(!raw.summary().unwrap().exists(), "{id}: there is no raw file for it to be beside");
        let summary: Value = serde_json::from_str(&node.kept(id)).unwrap();
        // The summary is for the operator, and has whole paths.
        let cause = without_directories(summary["cause"].as_str().unwrap());
        assert_eq!((&summary["outcome"], cause), (&"failed".into(), ended.msg), "{id}");
    }
    assert!(node.standin.fleet.published_jobs().is_empty());
    assert_eq!(*node.slots.running().borrow(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_summary_is_kept_of_everything_and_lies_beside_a_raw_file() {
    let node = Node::new().await;
    let summary = CaptureReport {
        duration: Duration::from_micros(3_500_400),
        frames_sent: 90,
        frames_dropped: 2,
        frames_late: 3,
        picture: VideoStats { longest_freeze: Duration::from_millis(1234), black_share: 0.25 },
        sound: AudioStats {
            silence_share: 1.0 / 3.0,
            longest_silence: Duration::from_millis(700),
            peak_dbfs: Some(-6.0206),
            mean_dbfs: None,
        },
        corrections: SyncCorrections { gaps: 1, gaps_ms: 700, offsets: 3, put_in_ms: 1, left_out_ms: 2 },
        call_offset: CallOffset { seconds: 3, mean_ms: 67.89, max_ms: 73.0 },
        far_end: FarEndStats { pictures_left_out: 4, losses: 1, lowest_bit_rate: Some(500) },
        parts: 1,
        bytes: 123_456,
        meeting_until: None,
    };
    let media = node.standin.dir().join("media.mkv");
    let made = std::process::Command::new("ffmpeg")
        .args("-v error -f lavfi -i testsrc2=s=64x64:r=5:d=1 -f lavfi -i sine=d=1 -c:a pcm_s16le".split(' '))
        .arg(&media)
        .status();
    assert!(made.unwrap().success());
    // What is a month old goes.
    let summaries = node.standin.dir().join("state/summaries");
    std::fs::create_dir_all(&summaries).unwrap();
    let old = std::fs::File::create(summaries.join("old.json")).unwrap();
    old.set_modified(SystemTime::now() - Duration::from_secs(31 * 24 * 3600)).unwrap();

    let bytes = Some(std::fs::read(&media).unwrap());
    let (raw, ended) = node.run(Kind::Recording, "file", Leaves { bytes, summary, ..Leaves::default() }).await;
    assert!(ended.status, "{}", ended.msg);
    assert!(raw.dir.join("file_raw.mkv").exists());
    assert_eq!(std::fs::read_to_string(raw.dir.join("file_raw.json")).unwrap(), node.kept("file"));
    assert!(!summaries.join("old.json").exists());
    let mut found: Value = serde_json::from_str(&node.kept("file")).unwrap();
    let [began, over] = ["started_at", "ended_at"].map(|key| {
        let at = found.as_object_mut().unwrap().remove(key).unwrap();
        humantime::parse_rfc3339(at.as_str().unwrap()).unwrap()
    });
    assert!(began <= over && over <= SystemTime::now() && over.elapsed().unwrap() < 2 * LIMIT);
    let expected = json!({
        "recording_id": "file", "room_table_id": 7, "room_id": "room01", "room_sid": "", "recorder_id": "node_01",
        "kind": "recording", "outcome": "success", "cause": null, "ended_by": null,
        "duration_s": 1.0, "parts": 1, "gaps": [], "bytes": 123_456,
        "frames_sent": 90, "frames_dropped": 2, "frames_late": 3, "longest_freeze_s": 1.234, "black_share": 0.25,
        "silence_share": 0.3333, "longest_silence_s": 0.7, "peak_dbfs": -6.02, "mean_dbfs": null,
        "sound_gaps": 1, "sound_gaps_ms": 700,
        "offset_corrections": 3, "offset_put_in_ms": 1, "offset_left_out_ms": 2,
        "call_offset_mean_ms": 67.9, "call_offset_max_ms": 73.0,
        "far_end_pictures_left_out": 4, "far_end_losses": 1, "far_end_lowest_kbit_per_s": 500,
    });
    assert_eq!(found, expected);

    let files = || std::fs::read_dir(&raw.dir).unwrap().count();
    let before = files();
    let leaves = Leaves { breaks: Some("far end: closed the connection"), summary, ..Leaves::default() };
    node.run(Kind::Broadcast, "live", leaves).await;
    let found: Value = serde_json::from_str(&node.kept("live")).unwrap();
    assert_eq!((&found["kind"], &found["cause"]), (&"broadcast".into(), &"far end: closed the connection".into()));
    assert_eq!((&found["duration_s"], &found["frames_sent"]), (&3.5.into(), &90.into()));
    assert_eq!(files(), before, "a broadcast leaves nothing beside the recordings");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_dir_that_cannot_be_written_costs_no_recording() {
    let node = Node::new().await;
    let state = node.standin.dir().join("state");
    std::fs::remove_dir_all(&state).unwrap();
    std::fs::write(state, "in the way").unwrap();
    // The program is to end: nobody waits until the disk takes it.
    node.context.dispatcher.hurry();
    let (_, ended) = node.run(Kind::Broadcast, "live", Leaves::default()).await;
    assert!(ended.status, "{}", ended.msg);
}

/// What a rig leaves, and the directory of the outbox, where a file is in the way.
fn with_outbox_in_the_way(node: &Node) -> (Leaves, PathBuf) {
    let whole = node.standin.dir().join("whole.mkv");
    media(&whole);
    let outbox = node.standin.dir().join("state/outbox");
    std::fs::remove_dir_all(&outbox).unwrap();
    std::fs::write(&outbox, "in the way").unwrap();
    (Leaves { bytes: Some(std::fs::read(&whole).unwrap()), ..Leaves::default() }, outbox)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_is_not_on_disk_keeps_its_record_for_the_next_start() {
    let node = Node::new().await;
    let (leaves, _) = with_outbox_in_the_way(&node);
    // The program is to end: nobody waits until the disk takes it.
    node.context.dispatcher.hurry();
    node.context.handoff.drain.cancel();
    // It is told from memory all the same.
    let (raw, ended) = node.run(Kind::Recording, "file", leaves).await;
    assert!(ended.status && raw.dir.join("file_raw.mkv").exists(), "{}", ended.msg);
    let record = RecordingRecord::read(&node.standin.dir().join("state/recordings/file.json")).unwrap();
    assert_eq!(record.stage, RecordingStage::Stored);
}

#[tokio::test]
async fn a_job_follows_when_the_disk_takes_the_end_at_last() {
    let logs = Logs::capture();
    let node = Node::new().await;
    let (leaves, outbox) = with_outbox_in_the_way(&node);
    // Otherwise each try would wait for minutes.
    node.context.dispatcher.hurry();
    let begun = node.begin(Kind::Recording, "file", leaves, None).await;
    node.standin.notices.wait_for(RecordingTasks::StartRecording, "file", LIMIT).await.unwrap();
    begun.stop.send(None).await.unwrap();
    node.standin.notices.wait_for(RecordingTasks::EndRecording, "file", LIMIT).await.unwrap();
    let mut running = begun.running;
    let tried_again = async {
        while logs.lines("told, but not on disk: its job waits for that").is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        tried_again = tokio::time::timeout(LIMIT, tried_again) => tried_again.unwrap(),
        ended = &mut running => panic!("the driver ends without a job: {ended:?}"),
    }
    assert!(node.standin.fleet.published_jobs().is_empty());
    std::fs::remove_file(&outbox).unwrap();
    std::fs::create_dir(&outbox).unwrap();
    tokio::time::timeout(LIMIT, running).await.unwrap().unwrap();
    assert!(!node.standin.dir().join("state/recordings/file.json").exists(), "the record of a job that waits");
    node.standin.fleet.wait_for_job("file", LIMIT).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_of_which_only_the_sound_or_only_the_picture_was_captured_is_delivered() {
    let node = Node::new().await;
    for (id, source) in [("sound", "sine=d=2 -c:a pcm_s16le"), ("picture", "testsrc2=s=64x64:r=5:d=2 -c:v libx264")] {
        let part = node.standin.dir().join(format!("{id}.mkv"));
        let line = format!("-v error -f lavfi -i {source}");
        let made = std::process::Command::new("ffmpeg").args(line.split(' ')).arg(&part).status();
        assert!(made.unwrap().success());
        let bytes = Some(std::fs::read(&part).unwrap());
        let (raw, ended) = node.run(Kind::Recording, id, Leaves { bytes, ..Leaves::default() }).await;
        assert!(ended.status, "{id}: {}", ended.msg);
        let stored = raw.dir.join(raw.name.as_str());
        assert!(stored.exists() && raw.existing().is_none(), "{id}");
    }
}
