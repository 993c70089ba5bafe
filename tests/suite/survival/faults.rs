//! Parts of a capture that break, and the next part of the recording.

use rustix::process::{Pid, Signal, kill_process};

use super::{LOST_LIMIT, delivered, length, play, quick, standin};
use crate::dice::Dice;
use crate::recorder::{Recorder, Setup, turn};
use crate::recording::{ENDED, record, stop, wait_for};
use crate::standin::{Meeting, Room};

/// Breaks the capture of the one recording that runs.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill(&'static str),
    Stop(&'static str),
    CrashPage,
    CloseWindow,
    ExhaustPage,
}

impl Fault {
    fn strike(self, recorder: &Recorder, room: &Room) {
        match self {
            Self::Kill(name) => send(recorder, name, Signal::KILL),
            Self::Stop(name) => send(recorder, name, Signal::STOP),
            Self::CrashPage => recorder.crash_page(),
            Self::CloseWindow => recorder.close_window(),
            Self::ExhaustPage => room.exhaust_memory(),
        }
    }

    /// What the cause names.
    fn cause(self) -> &'static [&'static str] {
        match self {
            Self::Kill("ffmpeg") => &["ffmpeg"],
            // Whichever is noticed first.
            Self::Kill("Xvfb") => &["Xvfb", "Chrome", "page", "display"],
            Self::Kill("pulseaudio") => &["PulseAudio", "sound"],
            Self::ExhaustPage => &["it ran out of memory"],
            _ => &["Chrome", "page"],
        }
    }
}

pub fn send(recorder: &Recorder, name: &str, signal: Signal) {
    let names: &[&str] = if name == "chrome" { &["chromium", "chrome"] } else { &[name] };
    let pid = names.iter().find_map(|name| recorder.children(name).first().copied());
    let pid = pid.unwrap_or_else(|| panic!("no {name} runs:\n{}", recorder.log()));
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_that_breaks_goes_on_as_the_next_part() {
    let (mut dice, seed) = Dice::new();
    let standin = standin().await;
    let sections = "chrome_settings:\n  flags:\n    - --js-flags=--max-old-space-size=64\n".to_owned();
    let recorder = Recorder::start(&standin, "node_01", &Setup { sections, ..quick() }).await;
    let mut started = 0;
    // Several recordings: one that breaks again and again is joined later and later.
    for (n, faults) in [
        [Fault::Kill("chrome"), Fault::CrashPage],
        [Fault::ExhaustPage, Fault::Stop("chrome")],
        [Fault::Kill("ffmpeg"), Fault::Kill("Xvfb")],
        [Fault::Kill("pulseaudio"), Fault::CloseWindow],
    ]
    .into_iter()
    .enumerate()
    {
        let (turn, id) = (turn().await, format!("rec-{n}"));
        let room = standin.meeting(Meeting { webcams: 1, ..Meeting::default() });
        record(&standin, &recorder, &room, &id).await;
        started += 1;
        recorder.wait_for_started(started).await;
        let mut played = 0.0;
        for fault in faults {
            let next = 1.5 + dice.seconds(1.5);
            play(next).await;
            played += next;
            fault.strike(&recorder, &room);
            started += 1;
            recorder.wait_for_started(started).await;
        }
        play(1.5).await;
        played += 1.5;
        stop(&standin, &room, &id).await;
        let (ok, msg) = wait_for(&standin, &recorder, ENDED, &id).await;
        drop(turn);
        assert!(ok, "seed {seed}: {msg}");
        let (mp4, summary) = delivered(&standin, &recorder, &room, &id).await;
        println!("seed {seed}: {:.1} s of {played:.1} s; {summary}", length(&mp4));
        assert!(length(&mp4) >= played - LOST_LIMIT, "seed {seed}: {} of {played}", length(&mp4));
        assert_eq!(summary["parts"], faults.len() + 1, "seed {seed}: {summary}");
        let gaps = summary["gaps"].as_array().unwrap();
        assert_eq!(gaps.len(), faults.len(), "seed {seed}: {summary}");
        for (gap, fault) in gaps.iter().zip(faults) {
            let cause = gap["cause"].as_str().unwrap();
            assert!(fault.cause().iter().any(|word| cause.contains(word)), "seed {seed}: {fault:?}: {cause}");
            // Of the meeting. On a machine that does nothing else it is 3 to 8 s.
            assert!(gap["length_s"].as_f64().unwrap() < 30.0, "seed {seed}: {fault:?}: {gap}");
        }
    }
    recorder.stop(&[]);
}
