//! Nothing is lost, whatever dies: faults at random instants of real recordings, and what is then true of files and notices.
//!
//! `PNM_SEED` repeats a run's instants; each failure names its seed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use plugnmeet_recorder::protocol::messages::RecordingTasks;
use rustix::process::Signal;
use serde_json::Value;

use crate::dice::Dice;
use crate::measure;
use crate::recorder::{Recorder, SOON, Setup, turn};
use crate::recording::{ENDED, record, standin, stop, wait_for};
use crate::standin::{Meeting, Room, Standin};

const STARTED: RecordingTasks = RecordingTasks::StartRecording;
const PROCEEDED: RecordingTasks = RecordingTasks::RecordingProceeded;
const FINISHED: RecordingTasks = RecordingTasks::RecordingTranscodingFinished;
/// What an end that nobody prepared may cost of a part, in seconds.
const LOST_LIMIT: f64 = 4.0;

/// Remuxes, so that a test waits for no encoder.
fn quick() -> Setup {
    Setup { recorder: "  post_mp4_convert: false\n".to_owned(), ..Setup::default() }
}

async fn node() -> (Standin, Recorder) {
    let standin = standin().await;
    let recorder = Recorder::start(&standin, "node_01", &quick()).await;
    (standin, recorder)
}

/// Plays for a while: what was captured is measured in time.
async fn play(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files
}

/// The one MP4 of a recording whose job is over; nothing else is left of it anywhere.
async fn delivered(standin: &Standin, recorder: &Recorder, room: &Room, id: &str) -> (PathBuf, Value) {
    wait_for(standin, recorder, FINISHED, id).await;
    let context = || format!("{id}\n{}", recorder.log());
    assert_eq!(standin.notices.tasks_of(id), [STARTED, ENDED, PROCEEDED, FINISHED], "{}", context());
    let proceeded = standin.notices.of(id).into_iter().find(|notice| notice.task() == PROCEEDED).unwrap();
    let mp4 = recorder.main_path.join(&proceeded.message.file_path);
    // The raw file goes once the queue has confirmed, which is after the last notice.
    let dir = recorder.main_path.join("node_01").join(&room.id);
    recorder.wait_until("only the MP4 is left", || files(&dir) == [mp4.clone()]).await;
    recorder.wait_until("no part is left", || files(&recorder.temporary_dir) == [recorder.state_dir()]).await;
    recorder.wait_until("no record is left", || files(&recorder.state_dir().join("recordings")).is_empty()).await;
    let said = measure::decode(&mp4).unwrap_or_else(|why| panic!("{why:#}\n{}", context()));
    assert_eq!(said, [] as [String; 0], "{}", context());
    let summary = recorder.state_dir().join(format!("summaries/{id}.json"));
    let summary = serde_json::from_str(&std::fs::read_to_string(summary).unwrap()).unwrap();
    (mp4, summary)
}

fn length(mp4: &Path) -> f64 {
    measure::probe(mp4).unwrap().duration
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorder_that_is_killed_joins_again_and_makes_one_mp4_of_both_parts() {
    let _turn = turn().await;
    let (mut dice, seed) = Dice::new();
    let (standin, mut recorder) = node().await;
    for round in 0..2 {
        let id = format!("rec-{round}");
        let room = standin.meeting(Meeting { webcams: 1, ..Meeting::default() });
        record(&standin, &recorder, &room, &id).await;
        let first = 3.0 + dice.seconds(5.0);
        play(first).await;
        recorder.kill();
        recorder.restart();
        room.wait_for_join(2, SOON).await.unwrap();
        recorder.wait_for_started(2).await;
        let second = 2.0 + dice.seconds(3.0);
        play(second).await;
        stop(&standin, &room, &id).await;
        let (ok, msg) = wait_for(&standin, &recorder, ENDED, &id).await;
        assert!(ok, "seed {seed}: {msg}");
        let (mp4, summary) = delivered(&standin, &recorder, &room, &id).await;
        let lasted = length(&mp4);
        println!("seed {seed}: {first:.1} s + {second:.1} s became {lasted:.1} s; {summary}");
        assert!(lasted >= first + second - LOST_LIMIT, "seed {seed}: {lasted}");
        assert_eq!(summary["parts"], 2, "seed {seed}: {summary}");
        let gaps = summary["gaps"].as_array().unwrap();
        assert_eq!(gaps.len(), 1, "seed {seed}: {summary}");
        let gap = &gaps[0];
        assert!((gap["at_s"].as_f64().unwrap() - first).abs() < LOST_LIMIT, "seed {seed}: {gap} {first}");
        assert!(gap["length_s"].as_f64().unwrap() > 0.3 && gap["cause"].as_str().unwrap().contains("recorder itself"));
        drop(room);
    }
    recorder.stop(&[]);
}
