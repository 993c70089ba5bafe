//! What a recording keeps when ffmpeg stands still or is killed, when the file is cut, and when it goes on for long.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use plugnmeet_recorder::capture::encoder::arguments::EncoderSettings;
use plugnmeet_recorder::capture::rig::RigSpec;
use plugnmeet_recorder::config::FfmpegOptions;
use plugnmeet_recorder::media::final_encoding::FinalEncoding;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::dice::Dice;
use crate::measure::cost::resident;
use crate::measure::sync::{self, Sync};
use crate::measure::{self, picture, sound};
use crate::recorder::{Recorder, SOON, Setup, alone};
use crate::recording::{ENDED, record, standin, stop, wait_for};
use crate::rig::{self, go_on};
use crate::standin::meeting::area;
use crate::standin::{Meeting, Room, Standin};

const MIB: u64 = 1 << 20;
/// Beep against flash on average, in milliseconds either way…
const MEAN_LIMIT: f64 = 20.0;
/// …nearly each of them against that average…
const SPREAD_LIMIT: f64 = 40.0;
/// …and how it may change, in milliseconds a minute. PulseAudio's null sink alone would make 6 of it; the clock lets the
/// first 4 ms be, which is 2 over two minutes. An hour, where that does not count, is `make bench-sync`'s.
const DRIFT_LIMIT: f64 = 3.0;
/// What an end that nobody prepared may cost, in seconds.
const LOST_LIMIT: f64 = 4.0;

/// Recordings are encoded fast while they run. (Otherwise another encoder takes over: see `one_pass`.)
const TWICE: &str = "ffmpeg_settings:\n  one_pass: false\n";

/// A recorder that keeps its raw files, and a room that it records as `rec`.
async fn recording(meeting: Meeting, sections: &str) -> (Standin, Recorder, Room, Started) {
    let standin = standin().await;
    let setup = Setup { mode: Some("recorderOnly"), sections: sections.to_owned(), ..Setup::default() };
    let recorder = Recorder::start(&standin, "node_01", &setup).await;
    let room = standin.meeting(meeting);
    let memory = resident(recorder.pid());
    record(&standin, &recorder, &room, "rec").await;
    room.wait_for_sound(1, SOON).await.unwrap();
    (standin, recorder, room, Started { memory })
}

/// What was so before the recording began.
struct Started {
    memory: u64,
}

/// Ends the recording: its raw file and its summary.
async fn ended(standin: &Standin, recorder: &Recorder, room: &Room) -> (PathBuf, Value) {
    stop(standin, room, "rec").await;
    assert_eq!(wait_for(standin, recorder, ENDED, "rec").await, (true, "success".into()));
    // The job is the last thing that is done; the summary is there before it.
    standin.fleet.wait_for_job("rec", SOON).await.unwrap();
    let raw = recorder.main_path.join(format!("node_01/{}/rec_raw.mkv", room.id));
    let summary = std::fs::read_to_string(raw.with_extension("json")).unwrap();
    (raw, serde_json::from_str(&summary).unwrap())
}

/// Beeps against flashes; every beep of the film must be there, once.
pub fn in_step(raw: &Path) -> Sync {
    let mut beeps = sound::beeps(raw, 1000.0).unwrap();
    // On a machine that is overloaded Chrome's player stumbles, by tens of milliseconds each time, and where that is within
    // a beep it sets in twice. So they are counted by the seconds between them, of which none may be missing.
    beeps.dedup_by(|later, earlier| *later - *earlier < 0.3);
    let duration = measure::probe(raw).unwrap().duration;
    let seconds = beeps.windows(2).map(|pair| pair[1] - pair[0]);
    // One that is missing would make it two; a page that is held up plays it late.
    assert!(seconds.clone().all(|second| (0.3..1.9).contains(&second)), "beeps at {beeps:?}");
    assert!(duration - beeps.last().unwrap() < 1.5, "{duration} s: beeps at {beeps:?}");
    println!(
        "seconds between beeps: {:?} ms at the most",
        seconds.map(|second| (second * 1000.0).round()).fold(0.0, f64::max)
    );
    sync::pair(&beeps, &picture::flashes(raw, area::FLASH).unwrap(), beeps.len())
}

/// A process that stands still, until it is told to go on or this is dropped.
struct Stopped(Pid);

impl Stopped {
    fn new(pid: u32) -> Self {
        let pid = Pid::from_raw(pid.cast_signed()).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // It may have been killed meanwhile.
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// The longest time without a frame, in seconds of the film.
fn longest_gap(raw: &Path) -> Range<f64> {
    let mut frames: Vec<f64> =
        measure::packets(raw).unwrap().iter().filter(|packet| packet.is_video).map(|packet| packet.at).collect();
    frames.sort_unstable_by(f64::total_cmp);
    let gap = frames.windows(2).max_by(|a, b| (a[1] - a[0]).total_cmp(&(b[1] - b[0]))).unwrap();
    gap[0]..gap[1]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ffmpeg_that_stands_still_costs_frames_but_no_sound_no_step_and_no_memory() {
    let turn = alone().await;
    let (standin, recorder, room, _) = recording(Meeting { webcams: 1, ..Meeting::default() }, TWICE).await;
    go_on(10.0).await;
    let ffmpeg = recorder.children("ffmpeg");
    assert_eq!(ffmpeg.len(), 1, "{ffmpeg:?}");
    let before = resident(recorder.pid());
    let stopped = Stopped::new(ffmpeg[0]);
    go_on(2.0).await;
    let grown = resident(recorder.pid()).saturating_sub(before);
    drop(stopped);
    go_on(10.0).await;
    let (raw, summary) = ended(&standin, &recorder, &room).await;
    drop(turn);

    let stall = longest_gap(&raw);
    let sync = in_step(&raw).without_page(&room.flashes());
    // A beep at the edge of the stall may have lost its flash, or see it when the picture comes back.
    let parts = [sync.within(0.0..stall.start - 0.2), sync.within(stall.end + 0.2..f64::INFINITY)];
    println!("stall {stall:?}, {} KiB more; before it {}; after it {}", grown / 1024, parts[0], parts[1]);
    println!("{summary}");
    assert!((1.5..3.0).contains(&(stall.end - stall.start)), "{stall:?}");
    assert!(parts.iter().all(|part| part.offsets.len() >= 5 && part.spread() <= SPREAD_LIMIT), "{parts:?}");
    assert!(parts.iter().all(|part| part.worst().abs() <= MEAN_LIMIT + SPREAD_LIMIT), "{parts:?}");
    // Ten flashes each: their mean alone may differ by half of a frame's time, or more.
    assert!((parts[0].late() - parts[1].late()).abs() < 20.0, "{parts:?}");
    assert!(summary["frames_dropped"].as_u64().unwrap() > 0, "{summary}");
    assert_eq!(summary["sound_gaps"], 0, "{summary}");
    assert!(grown <= 40 * MIB, "{grown} bytes");
    let log = recorder.stop(&[]);
    let lines: Vec<_> = log.lines().filter(|line| line.contains("frames are being lost")).collect();
    assert!(!lines.is_empty() && lines.iter().all(|line| line.contains("recording_id=")), "{lines:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_and_picture_are_in_step_for_two_minutes_in_bounded_memory() {
    let turn = alone().await;
    let (standin, recorder, room, started) = recording(Meeting::default(), "").await;
    go_on(120.0).await;
    let grown = resident(recorder.pid()).saturating_sub(started.memory);
    let (raw, summary) = ended(&standin, &recorder, &room).await;
    drop(turn);

    let sync = in_step(&raw);
    let own = sync.without_page(&room.flashes());
    println!(
        "{sync}; without the page's share {own}, spread {:.1} ms; {} KiB more\n{summary}",
        own.spread(),
        grown / 1024
    );
    assert_eq!(summary["sound_gaps"], 0, "{summary}");
    // A page that is held up on a busy machine leaves flashes out, rather than show them late.
    assert!(own.offsets.len() * 2 >= sync.beeps, "{own}");
    assert!(own.mean().abs() <= MEAN_LIMIT, "{own}: {:.1?}", own.offsets);
    assert!(own.within_of_mean(SPREAD_LIMIT) >= 0.95, "{own}: {:.1?}", own.offsets);
    assert!(own.spread() <= 2.0 * SPREAD_LIMIT, "{own}: {:.1?}", own.offsets);
    let drift = own.steady_drift();
    assert!(drift.abs() < DRIFT_LIMIT, "{drift:+.1} ms a minute; {own}: {:.1?}", own.offsets);
    assert!(grown <= 60 * MIB, "{grown} bytes");
    recorder.stop(&[]);
}

/// The file opens, all of it can be decoded, and both its streams reach to `LOST_LIMIT` before `end` (seconds from
/// its beginning).
fn assert_kept(raw: &Path, end: f64, seed: u64) {
    let info = measure::probe(raw).unwrap_or_else(|why| panic!("seed {seed}: {why:#}"));
    assert_eq!((info.video().unwrap().codec.as_str(), info.audio().unwrap().codec.as_str()), ("h264", "pcm_s16le"));
    let said = measure::decode(raw).unwrap_or_else(|why| panic!("seed {seed}: {why:#}"));
    assert_eq!(said, [] as [String; 0], "seed {seed}: {}", raw.display());
    let packets = measure::packets(raw).unwrap();
    let last = |is_video: bool| {
        packets.iter().filter(|packet| packet.is_video == is_video).map(|packet| packet.at).fold(0.0, f64::max)
    };
    println!("{end:.2} s were recorded; picture up to {:.2} s, sound up to {:.2} s", last(true), last(false));
    assert!(last(true) >= end - LOST_LIMIT && last(false) >= end - LOST_LIMIT, "seed {seed}: {end} {packets:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_file_whose_ffmpeg_was_killed_is_whole_but_for_its_last_seconds() {
    let standin = standin().await;
    let (mut dice, seed) = Dice::new();
    let once = FinalEncoding::read(&FfmpegOptions::post_recording(None)).ok().map(Arc::new);
    let moving = Meeting { webcams: 2, ..Meeting::default() };
    // An encoder that looks ahead holds back the most where the picture stands still.
    let still = Meeting { webcams: 0, slide_every: None, flash: false, ..Meeting::default() };
    for (meeting, final_encoding) in [(moving.clone(), None), (moving, once.clone()), (still, once)] {
        let wait = Duration::from_millis(4_500 + dice.roll(4_000));
        let mut recorded_for = 0.0;
        let prepare = |spec: RigSpec| RigSpec { encoder: EncoderSettings { final_encoding, ..spec.encoder }, ..spec };
        let recorded = rig::record_as(&standin, meeting, prepare, alone().await, async |live| {
            tokio::time::sleep(wait).await;
            recorded_for = live.opened.elapsed().as_secs_f64();
            let cause = live.kill_ffmpeg().await;
            assert!(cause.contains("signal 9"), "seed {seed}: {cause}");
        })
        .await;
        assert!(recorded.outcome.is_err(), "seed {seed}");
        assert_kept(&recorded.raw, recorded_for, seed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_file_is_readable_at_every_moment_of_its_growth_and_cut_at_any_byte() {
    let standin = standin().await;
    let (mut dice, seed) = Dice::new();
    let mut copies = Vec::new();
    let recorded = rig::record(&standin, Meeting { webcams: 2, ..Meeting::default() }, async |live| {
        go_on(4.5).await;
        for n in 0..3 {
            tokio::time::sleep(Duration::from_millis(dice.roll(1_500))).await;
            let copy = standin.dir().join(format!("copy{n}.mkv"));
            let end = live.opened.elapsed().as_secs_f64();
            std::fs::copy(&live.raw, &copy).unwrap();
            copies.push((copy, end));
        }
    })
    .await;
    recorded.outcome.unwrap();
    for (copy, end) in &copies {
        assert_kept(copy, *end, seed);
    }

    let whole = measure::packets(&recorded.raw).unwrap();
    let bytes = std::fs::read(&recorded.raw).unwrap();
    let (first, len) = (whole[0].pos + 1, bytes.len() as u64);
    for _ in 0..4 {
        // Somewhere behind the first picture, which is the largest.
        let cut = first + whole[0].size + dice.roll(len - first - whole[0].size);
        let path = standin.dir().join("cut.mkv");
        std::fs::write(&path, &bytes[..usize::try_from(cut).unwrap()]).unwrap();
        let said = measure::decode(&path).unwrap();
        assert_eq!(said, [] as [String; 0], "seed {seed}: cut at byte {cut} of {len}");
        // A block's head is 16 bytes at the most.
        let before: Vec<_> = whole.iter().filter(|packet| packet.pos + packet.size + 16 <= cut).copied().collect();
        let found = measure::packets(&path).unwrap();
        println!("cut at byte {cut} of {len}: {} packets, at least {}", found.len(), before.len());
        assert!(
            found.len() >= before.len() && found[..before.len()] == before,
            "seed {seed}: cut at byte {cut} of {len}"
        );
    }
}
