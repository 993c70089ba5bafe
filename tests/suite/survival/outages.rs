//! NATS or the server away, and a clock that is set.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use plugnmeet_recorder::capture::browser::chrome_arguments;
use plugnmeet_recorder::protocol::messages::RecordingTasks;

use super::{delivered, length, node, play, quick, standin};
use crate::measure;
use crate::recorder::{Recorder, SOON, Setup, turn};
use crate::recording::{ENDED, record, stop, wait_for};
use crate::standin::Meeting;
use crate::standin::notices::Mood;

#[tokio::test(flavor = "multi_thread")]
async fn nats_may_be_away_for_the_second_half_of_a_recording() {
    let turn = turn().await;
    let (standin, recorder) = node().await;
    let room = standin.meeting(Meeting { webcams: 0, ..Meeting::default() });
    record(&standin, &recorder, &room, "rec").await;
    play(2.0).await;
    standin.stop_nats().unwrap();
    play(3.0).await;
    // Nobody can ask for the end; the meeting itself ends.
    room.end("Room ended", "The host has closed the room.");
    let (ok, msg) = wait_for(&standin, &recorder, ENDED, "rec").await;
    drop(turn);
    assert!(ok, "{msg}");
    recorder.wait_for_log("the job is not in the work queue yet").await;
    standin.start_nats().await.unwrap();
    let (mp4, _) = delivered(&standin, &recorder, &room, "rec").await;
    assert!(length(&mp4) > 4.0, "{}", length(&mp4));
    assert_eq!(standin.fleet.published_jobs().len(), 1);
    recorder.stop(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_fails_or_hangs_hears_everything_in_order_from_whichever_run() {
    let turn = turn().await;
    let (standin, mut recorder) = node().await;
    let room = standin.meeting(Meeting { webcams: 0, ..Meeting::default() });
    standin.notices.always(Mood::Answer(500));
    let reply = standin.fleet.start_recording(&room, "rec", "node_01").await.unwrap();
    assert!(reply.response.unwrap().status);
    recorder.wait_for_started(1).await;
    play(2.0).await;
    // The room ends: of a recording whose start it was not told, the server asks for nothing else.
    let reply = standin.fleet.stop(RecordingTasks::Stop, &room, "rec").await.unwrap();
    assert!(reply.response.unwrap().status);
    recorder.wait_for_log("raw file in place").await;
    drop(turn);
    recorder.wait_for_log("the server has not taken the notice").await;
    standin.notices.always(Mood::Hang);
    recorder.kill();
    recorder.restart();
    recorder.wait_for_log("an earlier run has left something to be told").await;
    standin.notices.always(Mood::Take);
    delivered(&standin, &recorder, &room, "rec").await;
    recorder.stop(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_back_or_forward_by_an_hour_changes_no_recording() {
    let turn = turn().await;
    let standin = standin().await;
    let clock = standin.dir().join("clock");
    std::fs::write(&clock, "+0").unwrap();
    // Chrome does not start with the library that fakes the clock; it has no use for the wall clock either.
    let chrome = chrome_arguments::find_chrome(None).unwrap();
    let script = standin.dir().join("chrome.sh");
    std::fs::write(&script, format!("#!/bin/sh\nunset LD_PRELOAD\nexec '{}' \"$@\"\n", chrome.display())).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let sections = format!("chrome_settings:\n  custom_chrome_path: {}\n", script.display());
    let setup = Setup { clock: Some(clock.clone()), sections, ..quick() };
    let recorder = Recorder::start(&standin, "node_01", &setup).await;
    let room = standin.meeting(Meeting { webcams: 1, ..Meeting::default() });
    record(&standin, &recorder, &room, "rec").await;
    play(3.0).await;
    let ping = async || standin.fleet.announcement("node_01").await.unwrap().unwrap().last_ping.unwrap();
    let now = || i128::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    for (offset, hours) in [("+3600", 1), ("-3600", -1), ("+0", 0)] {
        std::fs::write(&clock, offset).unwrap();
        // The next ping is by the new clock.
        let end = Instant::now() + SOON;
        while (i128::from(ping().await) - now() - hours * 3_600_000).abs() > 20_000 {
            assert!(Instant::now() < end, "{} {}\n{}", ping().await, now(), recorder.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        play(1.5).await;
    }
    let played = 3.0 + 3.0 * 1.5;
    stop(&standin, &room, "rec").await;
    assert!(wait_for(&standin, &recorder, ENDED, "rec").await.0);
    drop(turn);
    let (mp4, summary) = delivered(&standin, &recorder, &room, "rec").await;
    // No jump in the film: it lasts as long as it was, and sound and picture have stayed together.
    let lasted = length(&mp4);
    println!("{lasted:.1} s; {summary}");
    assert!(lasted >= played - 1.0 && lasted < played + 60.0, "{lasted}");
    assert_eq!((&summary["parts"], &summary["sound_gaps"]), (&1.into(), &0.into()), "{summary}");
    let frames: Vec<f64> =
        measure::packets(&mp4).unwrap().iter().filter(|packet| packet.is_video).map(|packet| packet.at).collect();
    assert!(frames.windows(2).all(|pair| (pair[1] - pair[0]).abs() < 3.0), "{frames:?}");
    // A token of the right time again: the connection is made anew without a refusal.
    standin.restart_nats().await.unwrap();
    standin.fleet.wait_selectable("node_01", SOON).await.unwrap();
    recorder.stop(&[&room.token]);
}
