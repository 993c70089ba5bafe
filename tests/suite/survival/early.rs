//! The MP4 that is written while a recording runs.

use super::*;
use crate::endurance::in_step;
use crate::recorder::{SOON, alone};
use crate::recording::{record, stop};
use crate::standin::Meeting;

#[tokio::test(flavor = "multi_thread")]
async fn an_mp4_that_is_written_while_its_recording_runs_is_only_checked_at_its_end_and_a_kill_leaves_nothing_of_it() {
    let standin = standin().await;
    // A few seconds.
    let sections = "ffmpeg_settings:\n  early_mp4_from_mb: 1\n".to_owned();
    let mut recorder = Recorder::start(&standin, "node_01", &Setup { sections, ..Setup::default() }).await;
    for (id, killed) in [("whole", false), ("killed", true)] {
        let turn = alone().await;
        let room = standin.meeting(Meeting { webcams: 1, ..Meeting::default() });
        record(&standin, &recorder, &room, id).await;
        let early = recorder.main_path.join(format!("node_01/{}/.{id}_raw.mkv.early.mp4", room.id));
        recorder.wait_until("the MP4 is begun", || std::fs::metadata(&early).is_ok_and(|file| file.len() > 0)).await;
        play(2.0).await;
        if killed {
            recorder.kill();
            recorder.restart();
            room.wait_for_join(2, SOON).await.unwrap();
            recorder.wait_for_started(2).await;
            play(2.0).await;
        }
        let before = recorder.log().len();
        stop(&standin, &room, id).await;
        drop(turn);
        let (mp4, summary) = delivered(&standin, &recorder, &room, id).await;
        let log = recorder.log().split_off(before);
        assert_eq!(log.contains("checking the MP4 that was written while the meeting ran"), !killed, "{log}");
        assert_eq!((&summary["parts"], &summary["outcome"]), (&if killed { 2 } else { 1 }.into(), &"success".into()));
        println!("{id}: {:.1} s", length(&mp4));
        assert!(length(&mp4) > 4.0, "{id}");
        if !killed {
            let sync = in_step(&mp4);
            assert!(sync.beeps >= 4, "{sync}");
        }
    }
    recorder.stop(&[]);
}
