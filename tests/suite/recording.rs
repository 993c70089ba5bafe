//! Recordings from end to end: real Chrome, Xvfb, PulseAudio, ffmpeg and nats-server, the real binary, the stand-in.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use plugnmeet_recorder::protocol::messages::RecordingTasks;
use rustix::process::Signal;
use serde_json::Value;

use crate::measure::{self, picture, sound, sync};
use crate::nats_server::free_port;
use crate::recorder::{Recorder, SOON, Setup, alone, command_lines, turn};
use crate::signals;
use crate::standin::meeting::area;
use crate::standin::{Deployment, Meeting, Room, Standin};

const STARTED: RecordingTasks = RecordingTasks::StartRecording;
pub const ENDED: RecordingTasks = RecordingTasks::EndRecording;
const PROCEEDED: RecordingTasks = RecordingTasks::RecordingProceeded;
pub const FINISHED: RecordingTasks = RecordingTasks::RecordingTranscodingFinished;

pub async fn standin() -> Standin {
    Standin::start(Deployment::default()).await.unwrap()
}

/// Has `recorder` record the room; media flows when this returns.
pub async fn record(standin: &Standin, recorder: &Recorder, room: &Room, recording_id: &str) {
    let reply = standin.fleet.start_recording(room, recording_id, &recorder.id).await.unwrap();
    let response = reply.response.unwrap_or_else(|| panic!("no answer:\n{}", recorder.log()));
    assert!(response.status, "{}", response.msg);
    // The answer says that the work was taken, not that Chrome has joined.
    assert_eq!(room.presence().joins, 0);
    wait_for(standin, recorder, STARTED, recording_id).await;
}

pub async fn stop(standin: &Standin, room: &Room, recording_id: &str) {
    let reply = standin.fleet.stop(RecordingTasks::StopRecording, room, recording_id).await.unwrap();
    assert!(reply.response.unwrap().status);
}

/// Waits for a notice and returns its `(status, msg)`.
pub async fn wait_for(
    standin: &Standin,
    recorder: &Recorder,
    task: RecordingTasks,
    recording_id: &str,
) -> (bool, String) {
    match standin.notices.wait_for(task, recording_id, SOON).await {
        Ok(notice) => (notice.message.status, notice.message.msg),
        Err(error) => panic!("{error:#}\n{}", recorder.log()),
    }
}

/// Where the MP4 is, by what the server was told.
pub fn mp4(standin: &Standin, recorder: &Recorder, recording_id: &str) -> PathBuf {
    let proceeded = standin.notices.of(recording_id).into_iter().find(|notice| notice.task() == PROCEEDED).unwrap();
    recorder.main_path.join(proceeded.message.file_path)
}

pub fn close_to(found: [u8; 3], wanted: [u8; 3], tolerance: u8) -> bool {
    found.iter().zip(wanted).all(|(a, b)| a.abs_diff(b) <= tolerance)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_meeting_becomes_an_mp4_that_the_server_knows_of() {
    let turn = alone().await;
    let standin = standin().await;
    let script = standin.dir().join("keep argument.sh");
    std::fs::write(
        &script,
        "#!/bin/sh\nprintf '%s' \"$1\" > \"$0.json\"\ncp \"$PNM_SUMMARY\" \"$0.summary\"\necho kept\n",
    )
    .unwrap();
    make_executable(&script);
    let port = free_port();
    let setup = Setup {
        recorder: format!("  post_processing_scripts:\n    - \"{}\"\n", script.display()),
        sections: signals::admin(port, ""),
        ..Setup::default()
    };
    let recorder = Recorder::start(&standin, "node_01", &setup).await;
    let room = standin.meeting(Meeting { webcams: 2, ..Meeting::default() });
    let id = "RM_first-1700133937567";

    record(&standin, &recorder, &room, id).await;
    let began = Instant::now();
    assert_eq!(standin.fleet.announcement("node_01").await.unwrap().unwrap().current_progress, Some(1));
    // Straight to the recorder: the server would remove its page from the room first (see `rejoin`).
    let again = room.request(STARTED, id, "node_01");
    let again = standin.fleet.request(&again).await.unwrap().response.unwrap();
    assert_eq!((again.status, again.msg.as_str()), (false, "this request in progress"));
    assert!(!command_lines().contains(&room.token), "the access token is on a command line");
    room.wait_for_sound(1, SOON).await.unwrap();
    tokio::time::sleep(Duration::from_secs(12)).await;
    signals::while_recording(port).await;
    stop(&standin, &room, id).await;
    let lasted = began.elapsed().as_secs_f64();

    assert_eq!(wait_for(&standin, &recorder, ENDED, id).await, (true, "success".into()));
    drop(turn);
    assert_eq!(wait_for(&standin, &recorder, FINISHED, id).await, (true, "success".into()));
    assert_eq!(standin.notices.tasks_of(id), [STARTED, ENDED, PROCEEDED, FINISHED]);
    room.wait_until_left(SOON).await.unwrap();
    signals::after_recording(port, &recorder).await;

    let mp4 = mp4(&standin, &recorder, id);
    assert_eq!(mp4, recorder.main_path.join(format!("node_01/{}/{id}.mp4", room.id)));
    let info = measure::probe(&mp4).unwrap();
    let video = info.video().unwrap();
    assert_eq!((video.codec.as_str(), video.width, video.height), ("h264", 1920, 1080));
    assert_eq!(video.color_space.as_deref(), Some("bt709"));
    assert_eq!(info.audio().unwrap().codec, "aac");
    assert!((info.duration - lasted).abs() < 1.0, "{} s of {lasted} s", info.duration);

    let proceeded = standin.notices.of(id).into_iter().find(|notice| notice.task() == PROCEEDED).unwrap().message;
    assert_eq!(proceeded.recording_variant, Some(0));
    #[expect(clippy::cast_precision_loss, reason = "MB with two decimals")]
    let megabytes = info.size as f64 / 1e6;
    assert!((f64::from(proceeded.file_size) - megabytes).abs() < 0.006, "{} {megabytes}", proceeded.file_size);

    // The picture: the room's own colour, slides that change, webcams that move, nothing of the join dialog.
    let colour = picture::mean_colour(&mp4, 0.05, area::ROOM_COLOUR.inner(8)).unwrap();
    assert!(close_to(colour, Meeting::default().colour, 6), "{colour:?}");
    let slides = Meeting::default().slides;
    let seen: std::collections::BTreeSet<usize> = (1..10)
        .filter_map(|second| {
            let colour = picture::mean_colour(&mp4, f64::from(second), area::SLIDE_COLOUR.inner(8)).unwrap();
            slides.iter().position(|slide| close_to(colour, *slide, 8))
        })
        .collect();
    assert!(seen.len() >= 4, "{seen:?}");
    for webcam in 0..2 {
        let movement = picture::movement(&mp4, area::webcam(webcam)).unwrap();
        assert!(movement > 2.0, "webcam {webcam} stands still: {movement}");
    }

    // Sound and picture, each second.
    let beeps = sound::beeps(&mp4, 1000.0).unwrap();
    let flashes = picture::flashes(&mp4, area::FLASH).unwrap();
    let sync = sync::pair(&beeps, &flashes, 12);
    assert!(sync.found() >= 0.95, "{sync}");
    let own = sync.without_page(&room.flashes());
    assert!(own.offsets.len() >= 8 && own.worst().abs() <= 80.0, "{own}: {:?}; {sync}", own.offsets);

    // The job, the script's argument, and what is left.
    let job = standin.fleet.wait_for_job(id, SOON).await.unwrap();
    assert_eq!(job.recorder_id, "node_01");
    // The job is acknowledged beside the last notice, and its raw file goes then.
    let dir = mp4.parent().unwrap();
    let left = || std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    recorder.wait_until("only the MP4 is left", || left() == [mp4.clone()]).await;
    assert_eq!(standin.fleet.queue().await.unwrap().messages, 0);
    let argument = std::fs::read_to_string(format!("{}.json", script.display())).unwrap();
    let argument: Value = serde_json::from_str(&argument).unwrap();
    assert_eq!(argument["recording_id"], id);
    assert_eq!(argument["room_table_id"], room.table_id);
    assert_eq!(argument["room_id"], room.id.as_str());
    assert_eq!(argument["room_sid"], room.sid.as_str());
    assert_eq!(argument["file_name"], format!("{id}.mp4"));
    assert_eq!(argument["file_path"], mp4.to_str().unwrap());
    assert_eq!(argument["recorder_id"], "node_01");
    assert_summary(&recorder, &format!("{}.summary", script.display()), id, lasted);

    assert_eq!(standin.violations(), [] as [String; 0]);
    let log = recorder.stop(&[&room.token, &standin.deployment.api_secret]);
    for line in log.lines().filter(|line| line.contains("script") && line.contains("kept")) {
        assert!(line.contains(id) && line.contains(&room.id) && line.contains("task="), "{line}");
    }
    assert_eq!(standin.fleet.keys().await.unwrap(), [] as [String; 0], "purged on a clean shutdown");
    assert_eq!(standin.violations(), [] as [String; 0]);
}

/// What is kept of the recording, and was handed to the script, is what was there to be seen and heard.
fn assert_summary(recorder: &Recorder, handed: &str, id: &str, lasted: f64) {
    use std::os::unix::fs::PermissionsExt as _;
    let state = recorder.state_dir();
    assert_eq!(std::fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
    let kept = std::fs::read_to_string(state.join(format!("summaries/{id}.json"))).unwrap();
    assert_eq!(std::fs::read_to_string(handed).unwrap(), kept);
    let summary: Value = serde_json::from_str(&kept).unwrap();
    assert_eq!((&summary["recording_id"], &summary["outcome"]), (&id.into(), &"success".into()), "{kept}");
    let number = |key: &str| summary[key].as_f64().unwrap_or_else(|| panic!("{key}: {kept}"));
    assert!((number("duration_s") - lasted).abs() < 1.0, "{lasted}: {kept}");
    assert!(number("frames_sent") > 5.0 * lasted && number("bytes") > 100_000.0, "{kept}");
    // Webcams move and a slide a second: the picture never stands still for long and is never black.
    assert!(number("longest_freeze_s") < 3.0 && number("black_share") < 0.05, "{kept}");
    // A tenth of a second of a sine at half of full scale, each second, and nothing between.
    assert!((0.8..0.98).contains(&number("silence_share")), "{kept}");
    assert!((0.7..lasted / 2.0).contains(&number("longest_silence_s")), "{kept}");
    assert!((number("peak_dbfs") + 6.02).abs() < 0.5, "{kept}");
    assert!((-26.0..-15.0).contains(&number("mean_dbfs")), "{kept}");
}

/// The lines of one recording that say this.
fn lines_of(log: &str, id: &str, text: &str) -> usize {
    let of = format!("recording_id={id} ");
    log.lines().filter(|line| line.contains(&of) && line.contains(text)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_recordings_at_once_do_not_hear_or_see_each_other() {
    let turn = alone().await;
    let standin = standin().await;
    let setup = Setup {
        recorder: "  max_limit: 2\n  post_mp4_convert: false\n  silence_warning: 2s\n".into(),
        ..Setup::default()
    };
    let recorder = Recorder::start(&standin, "node_01", &setup).await;
    let meetings = [("low", [200, 60, 40], 800.0), ("high", [40, 160, 90], 1900.0)].map(|(id, colour, hz)| {
        let meeting = Meeting { colour, beep_hz: Some(hz), webcams: 0, ..Meeting::default() };
        (id, colour, hz, standin.meeting(meeting))
    });
    for (id, _, _, room) in &meetings {
        record(&standin, &recorder, room, id).await;
    }
    let third = standin.meeting(Meeting::default());
    let refused = standin.fleet.start_recording(&third, "third", "node_01").await.unwrap().response.unwrap();
    assert!(!refused.status && refused.msg.contains("2 of 2"), "{}", refused.msg);
    for (_, _, _, room) in &meetings {
        room.wait_for_sound(1, SOON).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(5)).await;

    // One falls silent, though its page goes on playing. (Both may have been, before their first beep.)
    let (warning, back) = ("silent although the page plays sound", "there is sound again");
    let before = recorder.log();
    let wait_for_line = async |text: &str| {
        let end = Instant::now() + SOON;
        while lines_of(&recorder.log(), "low", text) == lines_of(&before, "low", text) {
            assert!(Instant::now() < end, "{text}:\n{}", recorder.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    meetings[0].3.mute(true);
    wait_for_line(warning).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    meetings[0].3.mute(false);
    wait_for_line(back).await;
    let log = recorder.log();
    assert_eq!(lines_of(&log, "low", warning), lines_of(&before, "low", warning) + 1, "once for a silence:\n{log}");
    assert_eq!(lines_of(&log, "high", warning), lines_of(&before, "high", warning), "{log}");

    for (id, _, _, room) in &meetings {
        stop(&standin, room, id).await;
        wait_for(&standin, &recorder, ENDED, id).await;
    }
    drop(turn);
    for (id, colour, hz, _) in &meetings {
        wait_for(&standin, &recorder, FINISHED, id).await;
        let mp4 = mp4(&standin, &recorder, id);
        let seen = picture::mean_colour(&mp4, 1.0, area::ROOM_COLOUR.inner(8)).unwrap();
        assert!(close_to(seen, *colour, 6), "{id}: {seen:?}");
        assert!(sound::beeps(&mp4, *hz).unwrap().len() >= 4, "{id}");
        let other = if *hz < 1000.0 { 1900.0 } else { 800.0 };
        assert_eq!(sound::beeps(&mp4, other).unwrap(), [] as [f64; 0], "{id} hears the other meeting");
    }
    recorder.stop(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_ends_it_in_the_error_pages_own_words_and_a_picture_is_kept() {
    let _turn = turn().await;
    let standin = standin().await;
    let recorder = Recorder::start(&standin, "node_01", &Setup::default()).await;
    let room = standin.meeting(Meeting::default());
    room.end("Access denied", "This link has expired.");
    let reply = standin.fleet.start_recording(&room, "refused", "node_01").await.unwrap();
    assert!(reply.response.unwrap().status);
    let (status, msg) = wait_for(&standin, &recorder, ENDED, "refused").await;
    assert_eq!((status, msg.as_str()), (false, "Access denied: This link has expired."));
    assert_eq!(standin.notices.tasks_of("refused"), [ENDED], "it never started");
    let screenshot = recorder.log_dir().join("refused-recording.png");
    let png =
        png::Decoder::new(std::io::BufReader::new(std::fs::File::open(&screenshot).unwrap())).read_info().unwrap();
    assert_eq!((png.info().width, png.info().height), (1920, 1080));
    recorder.stop(&[&room.token]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_never_gets_ready_is_given_up_with_what_it_lacks() {
    let turn = turn().await;
    let standin = standin().await;
    let recorder = Recorder::start(&standin, "node_01", &Setup::default()).await;
    let room = standin.meeting(Meeting { ready_after: None, ..Meeting::default() });
    let reply = standin.fleet.start_recording(&room, "never", "node_01").await.unwrap();
    assert!(reply.response.unwrap().status);
    recorder.wait_for_log("opening the meeting page").await;
    // A page that does nothing keeps no other from being recorded.
    drop(turn);
    // It is tried for a while; whoever stops it is told why nothing was recorded.
    recorder.wait_for_log("the meeting cannot be joined yet; trying again").await;
    assert!(standin.fleet.stop(RecordingTasks::Stop, &room, "never").await.unwrap().response.unwrap().status);
    let (status, msg) = wait_for(&standin, &recorder, ENDED, "never").await;
    assert!(!status && msg.contains("not ready after 30 s") && msg.contains("stayed disabled"), "{msg}");
    assert!(recorder.log_dir().join("never-recording.png").exists());
    recorder.stop(&[&room.token]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_before_the_meeting_is_reached_ends_it_without_a_file() {
    let _turn = turn().await;
    let standin = standin().await;
    let recorder = Recorder::start(&standin, "node_01", &Setup::default()).await;
    let room = standin.meeting(Meeting { ready_after: None, ..Meeting::default() });
    let reply = standin.fleet.start_recording(&room, "early", "node_01").await.unwrap();
    assert!(reply.response.unwrap().status);
    recorder.wait_for_log("opening the meeting page").await;
    // Of one that it was not told of, the server stops all there is of the room.
    let reply = standin.fleet.stop(RecordingTasks::Stop, &room, "early").await.unwrap();
    assert!(reply.response.unwrap().status);
    assert_eq!(wait_for(&standin, &recorder, ENDED, "early").await, (true, "success".into()));
    assert_eq!(standin.notices.tasks_of("early"), [ENDED]);
    // Its place is free again, and nobody holds the task any more.
    let silent = standin.fleet.stop(RecordingTasks::Stop, &room, "early").await.unwrap();
    assert!(silent.response.is_none());
    recorder.stop(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_closes_a_running_recording_properly() {
    let _turn = turn().await;
    let standin = standin().await;
    // A page that plays nothing may be silent for longer than this.
    let setup = Setup { mode: Some("recorderOnly"), recorder: "  silence_warning: 1s\n".into(), ..Setup::default() };
    let recorder = Recorder::start(&standin, "node_01", &setup).await;
    let room = standin.meeting(Meeting { webcams: 0, beep_hz: None, ..Meeting::default() });
    record(&standin, &recorder, &room, "cut").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let main_path = recorder.main_path.clone();
    // Kept beyond the recorder's own directory.
    let kept = standin.dir().join("kept");
    recorder.signal(Signal::INT);
    let (status, msg) = wait_for(&standin, &recorder, ENDED, "cut").await;
    assert_eq!((status, msg.as_str()), (false, "the recorder was shut down"));
    standin.fleet.wait_for_job("cut", SOON).await.unwrap();
    std::fs::rename(&main_path, &kept).unwrap();
    let log = recorder.stop(&[]);
    assert!(log.contains("silence_share=1") && !log.contains("silent although"), "{log}");
    let raw = kept.join(format!("node_01/{}/cut_raw.mkv", room.id));
    let info = measure::probe(&raw).unwrap();
    assert!(info.duration > 1.5 && info.video().is_ok() && info.audio().is_ok(), "{info:?}");
    assert_eq!(standin.fleet.queue().await.unwrap().messages, 1, "the job waits for a transcoder");
}

fn make_executable(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}
