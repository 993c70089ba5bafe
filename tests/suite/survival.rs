//! Nothing is lost, whatever dies: faults at random instants of real recordings, and what is then true of files and notices.
//!
//! `PNM_SEED` repeats a run's instants; each failure names its seed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use plugnmeet_recorder::capture::browser::chrome;
use plugnmeet_recorder::config::ChromeConfig;
use plugnmeet_recorder::protocol::messages::{
    RecordingTasks, TranscodingTask, TranscodingTaskPostRecording, transcoding_task,
};
use prost::Message as _;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::dice::Dice;
use crate::measure;
use crate::recorder::{Recorder, SOON, Setup, turn};
use crate::recording::{ENDED, record, stop, wait_for};
use crate::standin::notices::Mood;
use crate::standin::{Deployment, Meeting, Room, Standin};

const STARTED: RecordingTasks = RecordingTasks::StartRecording;
const PROCEEDED: RecordingTasks = RecordingTasks::RecordingProceeded;
const FINISHED: RecordingTasks = RecordingTasks::RecordingTranscodingFinished;
/// What an end that nobody prepared may cost of a part, in seconds.
const LOST_LIMIT: f64 = 4.0;

/// Remuxes, so that a test waits for no encoder.
pub fn quick() -> Setup {
    Setup { recorder: "  post_mp4_convert: false\n".to_owned(), ..Setup::default() }
}

/// A job that was on its way to a process that is killed comes again after a while; ten minutes in a real deployment.
const ACK_WAIT: Duration = Duration::from_secs(20);

async fn standin() -> Standin {
    Standin::start(Deployment { ack_wait: ACK_WAIT, ..Deployment::default() }).await.unwrap()
}

async fn node() -> (Standin, Recorder) {
    let standin = standin().await;
    let recorder = Recorder::start(&standin, "node_01", &quick()).await;
    (standin, recorder)
}

/// Plays for a while: what was captured is measured in time.
pub async fn play(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files
}

/// The one MP4 of a recording whose job is over; nothing else is left of it anywhere.
pub async fn delivered(standin: &Standin, recorder: &Recorder, room: &Room, id: &str) -> (PathBuf, Value) {
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

pub fn length(mp4: &Path) -> f64 {
    measure::probe(mp4).unwrap().duration
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorder_that_is_killed_again_and_again_joins_again_and_makes_one_mp4_of_all_parts() {
    let _turn = turn().await;
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
    let _turn = turn().await;
    let (mut dice, seed) = Dice::new();
    let (standin, mut recorder) = node().await;
    for rebooted in [false, true] {
        let id = format!("rec-{rebooted}");
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

/// Makes what a killed recorder has left look as after a new start of the host: nothing of it runs, and its pids and its
/// boot id are of another life.
pub fn reboot(recorder: &Recorder) {
    for dir in files(&recorder.runtime_dir()) {
        let file = dir.join("owner.json");
        let mut owner: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        for process in processes_of(&dir) {
            // Chrome's crash handlers outlive it.
            let _ = kill_process(process, Signal::KILL);
        }
        owner["boot_id"] = "another".into();
        // Pids that are somebody else's now: this very test's.
        owner["pid"] = std::process::id().into();
        owner["display"]["pid"] = std::process::id().into();
        std::fs::write(&file, owner.to_string()).unwrap();
    }
}

fn processes_of(dir: &Path) -> Vec<Pid> {
    let dir = dir.to_str().unwrap().to_owned();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|process| {
            let line = std::fs::read(process.path().join("cmdline")).ok()?;
            String::from_utf8_lossy(&line).contains(&dir).then_some(())?;
            Pid::from_raw(process.file_name().to_str()?.parse().ok()?)
        })
        .collect()
}

/// Breaks the capture of the one recording that runs.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill(&'static str),
    Stop(&'static str),
    CrashPage,
    ClosePage,
    ExhaustPage,
}

impl Fault {
    fn strike(self, recorder: &Recorder, room: &Room) {
        match self {
            Self::Kill(name) => send(recorder, name, Signal::KILL),
            Self::Stop(name) => send(recorder, name, Signal::STOP),
            Self::CrashPage => recorder.crash_page(),
            Self::ClosePage => recorder.close_page(),
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

fn send(recorder: &Recorder, name: &str, signal: Signal) {
    let names: &[&str] = if name == "chrome" { &["chromium", "chrome"] } else { &[name] };
    let pid = names.iter().find_map(|name| recorder.children(name).first().copied());
    let pid = pid.unwrap_or_else(|| panic!("no {name} runs:\n{}", recorder.log()));
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_that_breaks_goes_on_as_the_next_part() {
    let _turn = turn().await;
    let (mut dice, seed) = Dice::new();
    let standin = standin().await;
    let sections = "chrome_settings:\n  flags:\n    - --js-flags=--max-old-space-size=64\n".to_owned();
    let recorder = Recorder::start(&standin, "node_01", &Setup { sections, ..quick() }).await;
    let mut started = 0;
    // Two recordings: one that breaks six times in a row is given up.
    for (n, faults) in [
        [Fault::Kill("chrome"), Fault::CrashPage, Fault::ExhaustPage, Fault::Stop("chrome")],
        [Fault::Kill("ffmpeg"), Fault::Kill("Xvfb"), Fault::Kill("pulseaudio"), Fault::ClosePage],
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("rec-{n}");
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

#[tokio::test(flavor = "multi_thread")]
async fn from_stop_to_the_mp4_a_kill_at_any_instant_changes_nothing() {
    let _turn = turn().await;
    let (mut dice, seed) = Dice::new();
    let (standin, mut recorder) = node().await;
    for round in 0..5 {
        let id = format!("rec-{round}");
        let room = standin.meeting(Meeting { webcams: 0, ..Meeting::default() });
        record(&standin, &recorder, &room, &id).await;
        play(3.0).await;
        stop(&standin, &room, &id).await;
        // Stopping, storing, handing over, transcoding and telling take some 1.5 s together.
        let instant = dice.seconds(1.6);
        play(instant).await;
        recorder.kill();
        recorder.restart();
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
async fn nats_may_be_away_for_the_second_half_of_a_recording() {
    let _turn = turn().await;
    let (standin, recorder) = node().await;
    let room = standin.meeting(Meeting { webcams: 0, ..Meeting::default() });
    record(&standin, &recorder, &room, "rec").await;
    play(2.0).await;
    standin.stop_nats().unwrap();
    play(3.0).await;
    // Nobody can ask for the end; the meeting itself ends.
    room.end("Room ended", "The host has closed the room.");
    let (ok, msg) = wait_for(&standin, &recorder, ENDED, "rec").await;
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
    let _turn = turn().await;
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
    recorder.wait_for_log("the server has not taken the notice").await;
    standin.notices.always(Mood::Hang);
    recorder.kill();
    recorder.restart();
    recorder.wait_for_log("an earlier run has left something to be told").await;
    standin.notices.always(Mood::Take);
    delivered(&standin, &recorder, &room, "rec").await;
    recorder.stop(&[]);
}

/// A raw file as this program makes them, of `seconds`, with pictures of `size`; the job that asks for its MP4.
pub fn raw_file(dir: &Path, id: &str, size: &str, seconds: u32) -> (PathBuf, Vec<u8>) {
    std::fs::create_dir_all(dir).unwrap();
    let raw = dir.join(format!("{id}_raw.mkv"));
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", &format!("testsrc2=s={size}:r=25:d={seconds}")])
        .args(["-f", "lavfi", "-i", &format!("sine=d={seconds}")])
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-c:a", "pcm_s16le"])
        .arg(&raw)
        .status();
    assert!(made.unwrap().success());
    let work = TranscodingTaskPostRecording {
        file_path: format!("{}/", dir.display()),
        file_name: format!("{id}_raw.mkv"),
        recording_variant: 0,
    };
    let task = TranscodingTask {
        recording_id: id.into(),
        room_id: "room01".into(),
        room_sid: "RM_x".into(),
        room_table_id: 7,
        recorder_id: "node_01".into(),
        work: Some(transcoding_task::Work::PostRecording(work)),
    };
    (raw, task.encode_to_vec())
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

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_room_on_its_disk_takes_nothing_on_and_says_why() {
    let standin = standin().await;
    let setup = Setup { recorder: "  min_free_space: 900000GiB\n".into(), ..Setup::default() };
    let recorder = Recorder::spawn(&standin, "node_01", &setup);
    recorder.wait_for_log("has joined the fleet").await;
    recorder.wait_for_log("recorder.min_free_space").await;
    recorder.wait_until_gone_from_choice(&standin).await;
    let room = standin.meeting(Meeting::default());
    let refused = standin.fleet.start_recording(&room, "rec", "node_01").await.unwrap().response.unwrap();
    assert!(
        !refused.status && refused.msg.contains("disk is nearly full") && refused.msg.contains("free"),
        "{}",
        refused.msg
    );
    assert_eq!(standin.notices.all().len(), 0);
    recorder.stop(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn runaways_are_ended_with_their_cause() {
    let _turn = turn().await;
    let standin = standin().await;
    for (line, meeting, cause) in [
        ("max_duration: 3s", Meeting { webcams: 1, ..Meeting::default() }, "recorder.max_duration (3 s)"),
        (
            "end_when_idle: 3s",
            Meeting { webcams: 0, slide_every: None, beep_hz: None, flash: false, ..Meeting::default() },
            "recorder.end_when_idle (3 s)",
        ),
    ] {
        let setup = Setup { recorder: format!("  post_mp4_convert: false\n  {line}\n"), ..Setup::default() };
        let recorder = Recorder::start(&standin, "node_01", &setup).await;
        let room = standin.meeting(meeting);
        let id = line.split(':').next().unwrap();
        record(&standin, &recorder, &room, id).await;
        let (ok, msg) = wait_for(&standin, &recorder, ENDED, id).await;
        assert!(!ok && msg.contains(cause), "{msg}");
        let (mp4, _) = delivered(&standin, &recorder, &room, id).await;
        assert!(length(&mp4) >= 2.5, "{}", length(&mp4));
        recorder.stop(&[&room.token]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_ends_a_recording_with_all_that_was_captured() {
    let _turn = turn().await;
    let standin = standin().await;
    // With a reserve the recording is closed before the last byte; without one ffmpeg meets the end of the disk.
    for (reserve, ballast, causes) in
        [("300MiB", 400, &["recorder.temporary_dir"][..]), ("0", 2_000, &["No space left"])]
    {
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

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_back_or_forward_by_an_hour_changes_no_recording() {
    let _turn = turn().await;
    let standin = standin().await;
    let clock = standin.dir().join("clock");
    std::fs::write(&clock, "+0").unwrap();
    // Chrome does not start with the library that fakes the clock; it has no use for the wall clock either.
    let chrome = chrome::find(&ChromeConfig { path: None, flags: Vec::new() }).unwrap();
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
