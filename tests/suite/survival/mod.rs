//! Nothing is lost, whatever dies: faults at random instants of real recordings, and what is then true of files and notices.
//!
//! `PNM_SEED` repeats a run's instants; each failure names its seed.

mod early;
pub mod faults;
mod kills;
mod limits;
mod outages;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use plugnmeet_recorder::protocol::messages::{
    RecordingTasks, TranscodingTask, TranscodingTaskPostRecording, transcoding_task,
};
use prost::Message as _;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::measure;
use crate::recorder::{Recorder, Setup};
use crate::recording::{ENDED, wait_for};
use crate::standin::{Deployment, Room, Standin};

pub const STARTED: RecordingTasks = RecordingTasks::StartRecording;
pub const PROCEEDED: RecordingTasks = RecordingTasks::RecordingProceeded;
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
    let dir = recorder.main_path.join(&recorder.id).join(&room.id);
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
    (raw, job_bytes(dir, id))
}

/// The job of the raw file `<id>_raw.mkv` in this directory, as another node publishes it.
pub fn job_bytes(dir: &Path, id: &str) -> Vec<u8> {
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
    task.encode_to_vec()
}
