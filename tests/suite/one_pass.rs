//! Recordings that are encoded as their MP4 while they run: the MP4 is a copy of what was encoded then; and where that is
//! too much, the recording goes on with the fast encoder, without a gap.

use rustix::process::Signal;
use serde_json::Value;

use crate::endurance::in_step;
use crate::recorder::{Recorder, SOON, Setup, alone};
use crate::recording::{ENDED, FINISHED, mp4, record, standin, stop, wait_for};
use crate::rig::go_on;
use crate::standin::Meeting;
use crate::survival::faults::send;

#[tokio::test(flavor = "multi_thread")]
async fn an_encoder_that_is_too_slow_hands_over_to_the_fast_one_without_a_gap() {
    let turn = alone().await;
    let standin = standin().await;
    let recorder = Recorder::start(&standin, "node_01", &Setup::default()).await;
    let room = standin.meeting(Meeting { webcams: 1, ..Meeting::default() });
    let id = "RM_slow-1700133937567";
    record(&standin, &recorder, &room, id).await;
    room.wait_for_sound(1, SOON).await.unwrap();
    go_on(4.0).await;
    // It stands still for as long as it takes to lose some frames, and comes back.
    send(&recorder, "ffmpeg", Signal::STOP);
    go_on(1.5).await;
    send(&recorder, "ffmpeg", Signal::CONT);
    recorder.wait_for_log("it goes on with the fast encoder").await;
    let next = recorder.temporary_dir.join(format!("{id}_raw.part1.on.mkv"));
    recorder.wait_until("the recording goes on in its next file", || next.exists()).await;
    recorder.wait_until("one encoder is left", || recorder.children("ffmpeg").len() == 1).await;
    go_on(4.0).await;
    stop(&standin, &room, id).await;
    wait_for(&standin, &recorder, ENDED, id).await;
    drop(turn);
    assert_eq!(wait_for(&standin, &recorder, FINISHED, id).await, (true, "success".into()));

    let mp4 = mp4(&standin, &recorder, id);
    let sync = in_step(&mp4);
    let own = sync.without_page(&room.flashes());
    println!("{sync}; {own}: {:.1?}", own.offsets);
    assert!(sync.beeps >= 9 && own.offsets.len() >= 6 && own.worst().abs() <= 80.0, "{own}: {:.1?}", own.offsets);

    let summary = std::fs::read_to_string(recorder.state_dir().join(format!("summaries/{id}.json"))).unwrap();
    let summary: Value = serde_json::from_str(&summary).unwrap();
    // One part, without a gap.
    assert_eq!(
        (&summary["parts"], &summary["gaps"], &summary["sound_gaps"]),
        (&1.into(), &Value::Array(vec![]), &0.into())
    );
    let log = recorder.stop(&[]);
    assert!(log.contains("with the parameters of each part"), "{log}");
    assert!(log.contains("how=\"convert\""), "{log}");
}
