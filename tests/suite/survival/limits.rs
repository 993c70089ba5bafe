//! Disks that are full, and recordings that go on for too long.

use std::path::Path;

use super::{FINISHED, PROCEEDED, delivered, files, length, play, standin};
use crate::recorder::{Recorder, SOON, Setup, turn};
use crate::recording::{ENDED, record, wait_for};
use crate::standin::Meeting;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_room_on_its_disk_takes_nothing_on_and_says_why() {
    let standin = standin().await;
    let setup = Setup { recorder: "  min_free_space: 900000GiB\n".into(), ..Setup::default() };
    let recorder = Recorder::spawn(&standin, "node_01", &setup);
    let announced = ["has joined the fleet", "is announced to the fleet"];
    let is_announced = || announced.iter().any(|line| recorder.log().contains(line));
    recorder.wait_until("it is announced", is_announced).await;
    recorder.wait_for_log("recorder.min_free_space").await;
    recorder.wait_until_gone_from_choice(&standin).await;
    let room = standin.meeting(Meeting::default());
    let refused = standin.fleet.start_recording(&room, "rec", "node_01").await.unwrap().response.unwrap();
    assert!(
        !refused.status && refused.msg.contains("disk is nearly full") && !refused.msg.contains('/'),
        "{}",
        refused.msg
    );
    assert_eq!(standin.notices.all().len(), 0);
    recorder.stop(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn runaways_are_ended_with_their_cause() {
    let standin = standin().await;
    for (line, meeting, cause) in [
        ("max_duration: 3s", Meeting { webcams: 1, ..Meeting::default() }, "recorder.max_duration (3 s)"),
        (
            "end_when_idle: 3s",
            Meeting { webcams: 0, slide_every: None, beep_hz: None, flash: false, ..Meeting::default() },
            "recorder.end_when_idle (3 s)",
        ),
    ] {
        let turn = turn().await;
        let setup = Setup { recorder: format!("  post_mp4_convert: false\n  {line}\n"), ..Setup::default() };
        let recorder = Recorder::start(&standin, "node_01", &setup).await;
        let room = standin.meeting(meeting);
        let id = line.split(':').next().unwrap();
        record(&standin, &recorder, &room, id).await;
        let (ok, msg) = wait_for(&standin, &recorder, ENDED, id).await;
        drop(turn);
        assert!(!ok && msg.contains(cause), "{msg}");
        let (mp4, _) = delivered(&standin, &recorder, &room, id).await;
        assert!(length(&mp4) >= 2.5, "{}", length(&mp4));
        recorder.stop(&[&room.token]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_ends_a_recording_with_all_that_was_captured() {
    let standin = standin().await;
    // With a reserve the recording is closed before the last byte; without one ffmpeg meets the end of the disk.
    for (reserve, ballast, causes) in
        [("300MiB", 400, &["recorder.temporary_dir"][..]), ("0", 2_000, &["No space left"])]
    {
        let turn = turn().await;
        let state = standin.dir().join(format!("state-{reserve}"));
        let lines =
            format!("  post_mp4_convert: false\n  min_free_space: {reserve}\n  state_dir: {}\n", state.display());
        let setup = Setup { recorder: lines, small_disk: Some(600), ..Setup::default() };
        let recorder = Recorder::start(&standin, "node_01", &setup).await;
        let room = standin.meeting(Meeting { webcams: 2, ..Meeting::default() });
        let id = format!("rec-{reserve}");
        record(&standin, &recorder, &room, &id).await;
        play(4.0).await;
        let full = recorder.inside(&recorder.temporary_dir).join("ballast");
        fill(&full, ballast);
        let (ok, msg) = wait_for(&standin, &recorder, ENDED, &id).await;
        drop(turn);
        assert!(!ok && causes.iter().any(|cause| msg.contains(cause)), "{msg}");
        wait_for(&standin, &recorder, FINISHED, &id).await;
        let proceeded = standin.notices.of(&id).into_iter().find(|notice| notice.task() == PROCEEDED).unwrap();
        let mp4 = recorder.main_path.join(&proceeded.message.file_path);
        println!("{id}: {:.1} s; {msg}", length(&mp4));
        assert!(length(&mp4) >= 4.0 - 1.5, "{} s", length(&mp4));
        if reserve != "0" {
            recorder.wait_until_gone_from_choice(&standin).await;
            std::fs::remove_file(&full).unwrap();
            standin.fleet.wait_selectable("node_01", SOON).await.unwrap();
        }
        assert!(files(&state.join("recordings")).is_empty());
        recorder.stop(&[&room.token]);
    }
}

/// Writes a file of so many MiB, or as much of it as there is room for.
fn fill(path: &Path, mib: u32) {
    let mut file = std::fs::File::create(path).unwrap();
    let chunk = vec![7; 1 << 20];
    for _ in 0..mib {
        if std::io::Write::write_all(&mut file, &chunk).is_err() {
            break;
        }
    }
}
