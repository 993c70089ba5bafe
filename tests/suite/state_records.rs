//! Records of `state_dir` that outlive what they are about, or cannot be read for a moment.

use std::path::Path;
use std::time::Duration;

use plugnmeet_recorder::protocol::messages::RecordingTasks;
use plugnmeet_recorder::unix_time::unix_ms;
use rustix::io::Errno;
use serde_json::{Value, json};

use crate::recorder::{Recorder, SOON, Setup};
use crate::standin::faulty_fs::{Abilities, Fault, FaultyFs, Requests};
use crate::standin::{Deployment, Standin};
use crate::transcode::names;

const ENDED: RecordingTasks = RecordingTasks::EndRecording;

fn write(path: &Path, value: &Value) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, value.to_string()).unwrap();
}

/// A recording whose raw file is in its place, and which is not handed over.
fn stored(state: &Path, id: &str) {
    let golden = std::fs::read_to_string("tests/golden/state/recordings/rec-stored.json").unwrap();
    let mut record: Value = serde_json::from_str(&golden).unwrap();
    (record["recording_id"], record["stop"], record["hooked"]) = (json!(id), json!({"reason": null}), json!(null));
    write(&state.join(format!("recordings/{id}.json")), &record);
}

/// The server was told of the recording's end so long ago.
fn told(state: &Path, id: &str, ago: Duration) {
    let at = unix_ms() - u64::try_from(ago.as_millis()).unwrap();
    let letter = json!({"key": "ended", "about": "its end", "state": {"is": "delivered", "at": at}, "added_at": at, "body": "00"});
    write(&state.join(format!("outbox/{id}.json")), &json!({"version": 1, "letters": [letter]}));
}

fn transcoder(state: &Path) -> Setup {
    let recorder = format!("  state_dir: {}\n", state.display());
    Setup { mode: Some("transcoderOnly"), recorder, ..Setup::default() }
}

const DAYS: Duration = Duration::from_secs(3 * 24 * 3600);

#[tokio::test(flavor = "multi_thread")]
async fn what_was_told_days_ago_is_forgotten_unless_a_recording_still_relies_on_it() {
    let standin = Standin::start(Deployment::default()).await.unwrap();
    let state = standin.dir().join("state");
    // Its hooks were down for days.
    stored(&state, "RM_hooks");
    told(&state, "RM_hooks", DAYS);
    for n in 0..250 {
        told(&state, &format!("RM_old{n}"), DAYS);
    }
    told(&state, "RM_new", Duration::from_secs(60));
    let recorder = Recorder::spawn(&standin, "node_01", &transcoder(&state));
    recorder.wait_until("the old ones are gone", || names(&state.join("outbox")).len() <= 2).await;
    recorder.wait_until("it is handed over", || names(&state.join("recordings")).is_empty()).await;
    assert_eq!(names(&state.join("outbox")), ["RM_hooks.json", "RM_new.json"]);
    recorder.wait_for_log("the job is in the work queue").await;
    assert_eq!(standin.notices.tasks_of("RM_hooks"), [], "it is told twice: {}", recorder.log());
    recorder.stop(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_read_at_the_start_is_gone_on_with_when_it_can() {
    let standin = Standin::start(Deployment::default()).await.unwrap();
    let (backing, state) = (standin.dir().join("backing"), standin.dir().join("state"));
    for id in ["RM_untold", "RM_told"] {
        stored(&backing, id);
    }
    told(&backing, "RM_told", DAYS);
    let disk = FaultyFs::mount(&backing, &state, Abilities::ALL);
    disk.break_down(Requests::ReadsBeyond(0), Fault::Error(Errno::IO.raw_os_error()));
    let recorder = Recorder::spawn(&standin, "node_01", &transcoder(&state));
    recorder.wait_for_log("connected to NATS").await;
    for told in
        ["the messages of a recording cannot be read", "the record of a recording of an earlier run cannot be read"]
    {
        assert!(recorder.log().contains(told), "{told}: {}", recorder.log());
    }
    assert_eq!(names(&backing.join("recordings")), ["RM_told.json", "RM_untold.json"]);
    assert_eq!(names(&backing.join("outbox")), ["RM_told.json"]);
    disk.heal();
    let ended = standin.notices.wait_for(ENDED, "RM_untold", SOON).await;
    assert!(ended.unwrap_or_else(|why| panic!("{why:#}\n{}", recorder.log())).message.status);
    recorder.wait_until("both are handed over", || names(&backing.join("recordings")).is_empty()).await;
    assert_eq!(standin.notices.tasks_of("RM_told"), [], "it is told twice: {}", recorder.log());
    recorder.stop(&[]);
    drop(disk);
}
