//! Every part of a rig that can break is broken while it records: it is noticed soon, told from the end of the meeting, what was
//! recorded can be read, and nothing stays behind.

use std::time::{Duration, Instant};

use plugnmeet_recorder::capture::browser::error_page::ErrorPageMeaning;
use plugnmeet_recorder::capture::rig::Rig as _;
use plugnmeet_recorder::capture::rig_failure::RigFailure;
use plugnmeet_recorder::config::ChromeFlag;
use plugnmeet_recorder::protocol::ids::{RecordingId, RoomId, RoomSid};
use plugnmeet_recorder::protocol::request::{Kind, RecordingInfo};
use plugnmeet_recorder::recording::signals::RecordingSignals;
use rustix::process::{Pid, Signal, kill_process};

use crate::measure;
use crate::recorder::turn;
use crate::recording::standin;
use crate::rig::{Live, Recorded, command_line, go_on, record_with};
use crate::standin::Meeting;

/// What the notice of a break may take on a machine that is shared; alone it is 5 s at the most.
pub const NOTICE_LIMIT: Duration = Duration::from_secs(15);
/// What the closing of a broken rig may take, likewise.
pub const CLOSE_LIMIT: Duration = Duration::from_secs(15);
/// Longer than a thread of a capture stands still on a machine that is shared, and shorter than the watchdog waits.
const STILL: Duration = Duration::from_secs(5);

/// A part of the rig, by what is on its command line.
#[derive(Clone, Copy, Debug)]
pub enum Part {
    /// Chrome's main process.
    Chrome,
    /// All that paint a page of Chrome.
    Renderers,
    /// What composes the picture of its pages.
    Compositor,
    /// All of Chrome.
    AllOfChrome,
    Xvfb,
    PulseAudio,
    Ffmpeg,
}

impl Part {
    fn pids(self, live: &Live) -> Vec<u32> {
        let is_it = |pid: &u32| {
            // Chrome's further processes put all of theirs into the first word.
            let words = command_line(*pid).join(" ");
            let program = words.split(' ').next().unwrap_or_default();
            let is_chrome = program.contains("chrom");
            match self {
                Self::Chrome => is_chrome && !words.contains(" --type="),
                Self::Renderers => is_chrome && words.contains(" --type=renderer"),
                Self::Compositor => is_chrome && words.contains(" --type=gpu-process"),
                Self::AllOfChrome => is_chrome,
                Self::Xvfb => program.ends_with("Xvfb"),
                Self::PulseAudio => program.ends_with("pulseaudio"),
                Self::Ffmpeg => program.ends_with("ffmpeg"),
            }
        };
        live.processes().into_iter().filter(is_it).collect()
    }
}

/// Records the usual meeting for a while, breaks something, and waits until the rig has noticed.
async fn break_off(name: &str, deed: impl FnOnce(&Live)) -> RigFailure {
    break_off_with(name, Vec::new(), deed).await
}

async fn break_off_with(name: &str, flags: Vec<ChromeFlag>, deed: impl FnOnce(&Live)) -> RigFailure {
    break_off_watched(name, flags, deed).await.0
}

/// With the thread that stood still meanwhile, as `/healthz` asks for it: the watchdog is faster than its 30 s.
async fn break_off_watched(
    name: &str,
    flags: Vec<ChromeFlag>,
    deed: impl FnOnce(&Live),
) -> (RigFailure, Option<String>) {
    let standin = standin().await;
    let signals = RecordingSignals::default();
    let info = RecordingInfo {
        room_table_id: 1,
        room_id: RoomId::parse("room-01").unwrap(),
        room_sid: RoomSid::default(),
        recording_id: RecordingId::parse("RM_1").unwrap(),
    };
    let signal = signals.take(Kind::Recording, &info, true);
    let (mut found, mut noticed, mut still) = (None, None, None);
    let meeting = Meeting { webcams: 1, ..Meeting::default() };
    let recorded = record_with(&standin, meeting, flags, turn().await, async |live: &mut Live| {
        go_on(3.0).await;
        deed(live);
        let began = Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_millis(250));
        let watch = async {
            loop {
                tokio::select! {
                    found = live.rig.broken() => return found,
                    _ = ticks.tick() => live.rig.gauge().iter().for_each(|gauge| signal.look(gauge)),
                }
            }
        };
        found = tokio::time::timeout(NOTICE_LIMIT, watch).await.ok();
        noticed = Some(Instant::now());
        still = signals.still_thread(STILL);
        println!("{name}: noticed after {:.2} s: {found:?}; {still:?}", began.elapsed().as_secs_f64());
    })
    .await;
    let closing = noticed.unwrap().elapsed();
    let Recorded { raw, outcome, .. } = recorded;
    println!("{name}: finished and closed after {:.2} s more: {outcome:?}", closing.as_secs_f64());
    let info = measure::probe(&raw).unwrap_or_else(|why| panic!("{name}: {why:#}"));
    assert!(info.video().is_ok() && info.audio().is_ok() && info.duration > 2.0, "{name}: {info:?}");
    assert!(closing <= CLOSE_LIMIT, "{name}: it took {closing:?}");
    (found.unwrap_or_else(|| panic!("{name}: not noticed within {NOTICE_LIMIT:?}")), still)
}

/// Sends all processes of a part a signal; what is told of it, which the meeting must have outlived.
pub async fn broken_by(signal: Signal, part: Part) -> String {
    broken_and_still_by(signal, part).await.0
}

/// The same, and which thread of the capture stood still.
pub async fn broken_and_still_by(signal: Signal, part: Part) -> (String, Option<String>) {
    let name = format!("signal {} to {part:?}", signal.as_raw());
    let found = break_off_watched(&name, Vec::new(), |live| {
        let pids = part.pids(live);
        assert!(!pids.is_empty(), "{name}");
        for pid in pids {
            kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
        }
    });
    let (found, still) = found.await;
    assert_eq!(found.page, None, "{name}: {found:?}");
    (found.cause, still)
}

pub fn assert_one_of(cause: &str, wanted: &[&str]) {
    assert!(wanted.iter().any(|wanted| cause.contains(wanted)), "{cause:?} is none of {wanted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chrome_that_is_stopped_is_noticed() {
    assert_one_of(&broken_by(Signal::STOP, Part::Chrome).await, &["is stopped"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_stopped_is_noticed() {
    assert_one_of(&broken_by(Signal::STOP, Part::Renderers).await, &["is stopped"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chrome_all_of_which_is_stopped_is_noticed() {
    assert_one_of(&broken_by(Signal::STOP, Part::AllOfChrome).await, &["is stopped"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chrome_that_is_killed_is_noticed() {
    assert_one_of(&broken_by(Signal::KILL, Part::Chrome).await, &["Chrome ended (signal 9)"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_killed_is_noticed() {
    assert_one_of(
        &broken_by(Signal::KILL, Part::Renderers).await,
        &["the meeting page crashed: its process was killed (signal 9)"],
    );
}

/// Megabytes that the scripts of a page may take, instead of four thousand.
const SMALL_HEAP: &str = "--max-old-space-size=64";

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_runs_out_of_memory_is_noticed() {
    let flags = vec![ChromeFlag { name: "js-flags".into(), value: Some(SMALL_HEAP.into()) }];
    let found = break_off_with("out of memory", flags, |live| live.room.exhaust_memory()).await;
    assert_eq!(found.page, None, "{found:?}");
    assert_one_of(&found.cause, &["it ran out of memory (Chrome says: V8 javascript OOM"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_display_that_is_killed_is_noticed() {
    // Chrome ends without its display, and may be the first of which it is known.
    assert_one_of(&broken_by(Signal::KILL, Part::Xvfb).await, &["Xvfb", "display", "Chrome ended"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_server_that_is_killed_is_noticed() {
    assert_one_of(&broken_by(Signal::KILL, Part::PulseAudio).await, &["PulseAudio", "sound"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_error_page_is_the_end_of_the_meeting_and_no_fault() {
    let found = break_off("error page", |live| live.room.end("Session ended", "The room was closed.")).await;
    assert_eq!(
        found,
        RigFailure { cause: "Session ended: The room was closed.".into(), page: Some(ErrorPageMeaning::Unclear) }
    );
}
