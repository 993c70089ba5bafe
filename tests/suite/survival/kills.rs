//! The recorder is killed at any instant, or told to end.

use rustix::process::Signal;

use super::{
    FINISHED, LOST_LIMIT, PROCEEDED, STARTED, delivered, files, length, node, play, quick, raw_file, reboot, standin,
};
use crate::dice::Dice;
use crate::measure;
use crate::recorder::{Recorder, SOON, Setup, turn};
use crate::recording::{ENDED, record, stop, wait_for};
use crate::standin::Meeting;

#[tokio::test(flavor = "multi_thread")]
async fn a_recorder_that_is_killed_again_and_again_joins_again_and_makes_one_mp4_of_all_parts() {
    let turn = turn().await;
    let (mut dice, seed) = Dice::new();
    let (standin, mut recorder) = node().await;
    let room = standin.meeting(Meeting { webcams: 1, ..Meeting::default() });
    record(&standin, &recorder, &room, "rec").await;
    let mut played = Vec::new();
    for kill in 1..=2 {
        played.push(3.0 + dice.seconds(5.0));
        play(played[kill - 1]).await;
        recorder.kill();
        recorder.restart();
        room.wait_for_join(1 + kill, SOON).await.unwrap();
        recorder.wait_for_started(1 + kill).await;
    }
    played.push(2.0 + dice.seconds(3.0));
    play(played[2]).await;
    stop(&standin, &room, "rec").await;
    let (ok, msg) = wait_for(&standin, &recorder, ENDED, "rec").await;
    drop(turn);
    assert!(ok, "seed {seed}: {msg}");
    let (mp4, summary) = delivered(&standin, &recorder, &room, "rec").await;
    let lasted = length(&mp4);
    println!("seed {seed}: {played:.1?} s became {lasted:.1} s; {summary}");
    assert!(lasted >= played.iter().sum::<f64>() - 2.0 * LOST_LIMIT, "seed {seed}: {lasted}");
    assert_eq!(summary["parts"], 3, "seed {seed}: {summary}");
    let gaps = summary["gaps"].as_array().unwrap();
    assert_eq!(gaps.len(), 2, "seed {seed}: {summary}");
    let mut at = 0.0;
    for (gap, part) in gaps.iter().zip(&played) {
        let (began, length) = (gap["at_s"].as_f64().unwrap(), gap["length_s"].as_f64().unwrap());
        assert!((began - at - part).abs() < LOST_LIMIT, "seed {seed}: {gap} {played:?}");
        assert!(length > 0.3 && gap["cause"].as_str().unwrap().contains("recorder itself"), "seed {seed}: {gap}");
        at = began;
    }
    recorder.stop(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_whose_meeting_ends_while_its_recorder_is_dead_is_delivered_with_the_cause() {
    let (mut dice, seed) = Dice::new();
    let (standin, mut recorder) = node().await;
    for rebooted in [false, true] {
        let (turn, id) = (turn().await, format!("rec-{rebooted}"));
        let room = standin.meeting(Meeting { webcams: 0, ..Meeting::default() });
        record(&standin, &recorder, &room, &id).await;
        let first = 3.0 + dice.seconds(3.0);
        play(first).await;
        recorder.kill();
        if rebooted {
            reboot(&recorder);
        }
        room.end("Room ended", "The host has closed the room.");
        recorder.restart();
        let (ok, msg) = wait_for(&standin, &recorder, ENDED, &id).await;
        drop(turn);
        let missing = "the recorder itself ended (killed, or the host went down); \
                       the meeting had ended before it could be joined again";
        assert_eq!((ok, msg.as_str()), (false, missing), "seed {seed}");
        let (mp4, summary) = delivered(&standin, &recorder, &room, &id).await;
        assert!(length(&mp4) >= first - LOST_LIMIT, "seed {seed}: {} of {first}", length(&mp4));
        assert_eq!((&summary["parts"], &summary["cause"]), (&1.into(), &msg.into()), "seed {seed}: {summary}");
        // Nobody could give an account of its only part.
        let counted = ["frames_sent", "bytes"].map(|what| summary[what].as_u64().unwrap());
        assert!(counted.iter().all(|count| *count > 0), "seed {seed}: {summary}");
    }
    recorder.stop(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn from_stop_to_the_mp4_a_kill_at_any_instant_changes_nothing() {
    let (mut dice, seed) = Dice::new();
    let (standin, mut recorder) = node().await;
    for round in 0..5 {
        let (turn, id) = (turn().await, format!("rec-{round}"));
        let room = standin.meeting(Meeting { webcams: 0, ..Meeting::default() });
        record(&standin, &recorder, &room, &id).await;
        play(3.0).await;
        stop(&standin, &room, &id).await;
        // Stopping, storing, handing over, transcoding and telling take some 1.5 s together.
        let instant = dice.seconds(1.6);
        play(instant).await;
        recorder.kill();
        recorder.restart();
        drop(turn);
        let (mp4, summary) = delivered(&standin, &recorder, &room, &id).await;
        println!("seed {seed}: killed {instant:.2} s after STOP: {:.1} s", length(&mp4));
        assert!(length(&mp4) >= 1.0, "seed {seed}: {} s", length(&mp4));
        assert_eq!((&summary["parts"], &summary["outcome"]), (&1.into(), &"success".into()), "seed {seed}: {summary}");
        assert_eq!(room.presence().joins, 1, "seed {seed}: a recording that was stopped is not joined again");
    }
    assert_eq!(standin.fleet.queue().await.unwrap().messages, 0);
    recorder.stop(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_lets_recordings_go_on_and_a_second_signal_ends_them_properly() {
    let _turn = turn().await;
    let standin = standin().await;
    let setup = Setup { mode: Some("recorderOnly"), ..quick() };
    let mut recorder = Recorder::start(&standin, "node_01", &setup).await;
    let room = standin.meeting(Meeting { webcams: 0, ..Meeting::default() });
    record(&standin, &recorder, &room, "one").await;
    recorder.signal(Signal::TERM);
    recorder.wait_for_log("draining: running recordings go on").await;
    // Out of the server's choice at once, but still there.
    recorder.wait_until_gone_from_choice(&standin).await;
    let other = standin.meeting(Meeting::default());
    let refused = standin.fleet.start_recording(&other, "two", "node_01").await.unwrap().response.unwrap();
    assert!(!refused.status && refused.msg.contains("shutting down"), "{}", refused.msg);
    play(2.0).await;
    assert_eq!(standin.notices.tasks_of("one"), [STARTED]);
    // Its STOP is still heard; then nothing keeps the node.
    stop(&standin, &room, "one").await;
    assert!(wait_for(&standin, &recorder, ENDED, "one").await.0);
    assert!(recorder.wait_for_end().await.success());
    standin.fleet.wait_for_job("one", SOON).await.unwrap();

    recorder.restart();
    recorder.wait_until("it is back", || recorder.log().matches("has joined the fleet").count() == 2).await;
    record(&standin, &recorder, &other, "three").await;
    play(2.0).await;
    recorder.signal(Signal::TERM);
    recorder.wait_until("the drain", || recorder.log().matches("draining: running recordings").count() == 2).await;
    recorder.signal(Signal::TERM);
    let ended = wait_for(&standin, &recorder, ENDED, "three").await;
    assert_eq!(ended, (false, "the recorder was shut down".into()));
    assert!(recorder.wait_for_end().await.success());
    standin.fleet.wait_for_job("three", SOON).await.unwrap();
    for (room, id) in [(&room, "one"), (&other, "three")] {
        let raw = recorder.main_path.join(format!("node_01/{}/{id}_raw.mkv", room.id));
        assert!(measure::probe(&raw).unwrap().duration > 1.5, "{id}");
        std::fs::remove_file(raw).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transcode_that_is_killed_at_any_instant_is_gone_on_with_and_told_once() {
    let (mut dice, seed) = Dice::new();
    let standin = standin().await;
    // A script that takes its time is one of the steps.
    let script = standin.dir().join("script.sh");
    std::fs::write(&script, "#!/bin/sh\nsleep 0.5\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let lines = format!("  post_processing_scripts:\n    - {}\n", script.display());
    let setup = Setup { mode: Some("transcoderOnly"), recorder: lines, ..Setup::default() };
    let mut recorder = Recorder::spawn(&standin, "node_01", &setup);
    let dir = recorder.main_path.join("node_01/room01");
    for round in 0..5 {
        let id = format!("RM_{round}");
        let (raw, job) = raw_file(&dir, &id, "640x360", 12);
        let taken = recorder.log().matches("job taken").count();
        standin.fleet.publish_job(job).await.unwrap();
        recorder.wait_until("the job is taken", || recorder.log().matches("job taken").count() > taken).await;
        // Transcoding, measuring, the script and the end take some two or three seconds together.
        let instant = dice.seconds(3.0);
        play(instant).await;
        recorder.kill();
        assert!(raw.exists() || dir.join(format!("{id}.mp4")).exists(), "seed {seed}");
        recorder.restart();
        let finished = standin.notices.wait_for(FINISHED, &id, SOON).await;
        let notice = finished.unwrap_or_else(|why| panic!("seed {seed}: {why:#}\n{}", recorder.log())).message;
        assert!(notice.status, "seed {seed}: {}", notice.msg);
        println!("seed {seed}: killed {instant:.2} s after it was taken");
        let jobs = recorder.state_dir().join("jobs");
        recorder.wait_until("the job is over", || files(&jobs).is_empty()).await;
        assert_eq!(files(&dir), [dir.join(format!("{id}.mp4"))], "seed {seed}\n{}", recorder.log());
        let mp4 = dir.join(format!("{id}.mp4"));
        assert!((length(&mp4) - 12.0).abs() < 0.5, "seed {seed}: {}", length(&mp4));
        assert_eq!(standin.notices.tasks_of(&id), [PROCEEDED, FINISHED], "seed {seed}\n{}", recorder.log());
        std::fs::remove_file(mp4).unwrap();
    }
    assert_eq!(standin.fleet.queue().await.unwrap().messages, 0);
    recorder.stop(&[]);
}
