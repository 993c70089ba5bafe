//! The state directory of an earlier version loads for ever: `tests/golden/state` was written by the version of November
//! 2026, and a later version must go on where that one stopped. One of a newer version is refused.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use plugnmeet_recorder::delivery::message::{MessageKey, MessageState, RecordingMessages};
use plugnmeet_recorder::delivery::outbox::Outbox;
use plugnmeet_recorder::delivery::retry_request::{self, RetryRequest};
use plugnmeet_recorder::protocol::access::RoomAccess;
use plugnmeet_recorder::protocol::ids::RecordingId;
use plugnmeet_recorder::protocol::request::Kind;
use plugnmeet_recorder::recording::journal::RecordingRecord;
use plugnmeet_recorder::recording::journal::{RecordingEntry, RecordingJournal, RecordingStage};
use plugnmeet_recorder::storage::journal::Record as _;
use plugnmeet_recorder::storage::state_version;
use plugnmeet_recorder::transcode::journal::{JobJournal, JobRecord, JobState};
use serde_json::Value;

use crate::recorder::{Recorder, SOON, Setup};
use crate::standin::{Deployment, Standin};

/// A copy of it, as what cannot be read would be put aside.
fn state_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/state"), dir.path());
    dir
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(path, to).unwrap();
        }
    }
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Whether all that `old` says is in `new`, which may say more.
fn says_at_least(new: &Value, old: &Value) -> bool {
    match (new, old) {
        (Value::Object(new), Value::Object(old)) => {
            old.iter().all(|(key, value)| new.get(key).is_some_and(|new| says_at_least(new, value)))
        }
        (Value::Array(new), Value::Array(old)) => {
            new.len() == old.len() && new.iter().zip(old).all(|(new, old)| says_at_least(new, old))
        }
        (new, old) => new == old,
    }
}

#[tokio::test]
async fn recordings_and_broadcasts_of_an_earlier_version_are_gone_on_with() {
    let dir = state_dir();
    let journal = RecordingJournal::new(dir.path());
    let recordings = journal.unfinished(Kind::Recording).unwrap().entries;
    let ids: Vec<_> = recordings.iter().map(|entry| entry.record().info().unwrap().recording_id.to_string()).collect();
    assert_eq!(ids, ["rec-taken-on", "rec-two-parts", "rec-stored", "rec-failed"]);
    let records: Vec<_> = recordings.iter().map(RecordingEntry::record).collect();
    assert!(matches!(records[0].start().unwrap().access, RoomAccess::Claims(_)) && records[0].parts.is_empty());
    let [first, second] = &records[1].parts[..] else { panic!("{:?}", records[1]) };
    let ended = first.ended.as_ref().unwrap();
    assert_eq!((ended.cause.as_deref(), &second.ended), (Some("Chrome ended (signal 9)"), &None));
    let report = ended.report;
    assert_eq!((report.frames_sent, report.bytes, report.duration.as_millis()), (812, 1_234_567, 61_234));
    assert_eq!((report.sound.peak_dbfs, report.corrections.gaps_ms, report.call_offset.seconds), (Some(-3.5), 40, 30));
    assert!(matches!(records[2].start().unwrap().access, RoomAccess::Token(_)), "an opaque token is kept as it is");
    assert_eq!((records[2].stage, records[2].hooked.as_ref().unwrap().failures), (RecordingStage::Stored, 2));
    assert_eq!(records[2].parts[0].meeting_until().unwrap().as_secs(), 60);
    assert_eq!((records[3].stage, records[3].found.len()), (RecordingStage::Failed, 2));
    assert_eq!(journal.unfinished(Kind::Broadcast).unwrap().entries.len(), 1);
    // What is written back has all that was read.
    for entry in &recordings {
        let path = dir.path().join("recordings").join(format!("{}.json", entry.record().info().unwrap().recording_id));
        let old = json(&path);
        entry.update(|_| {}).await;
        assert!(says_at_least(&json(&path), &old), "{}\n{old}", json(&path));
    }
}

#[tokio::test]
async fn a_record_without_the_fields_that_came_later_is_read() {
    let dir = state_dir();
    let path = dir.path().join("recordings/rec-two-parts.json");
    let mut record = json(&path);
    let done = &mut record["parts"][0]["ended"]["done"];
    for (of, key) in
        [("picture", "black_share"), ("sound", "mean_dbfs"), ("corrections", "offsets"), ("call_offset", "seconds")]
    {
        done[of].as_object_mut().unwrap().remove(key).unwrap();
    }
    done.as_object_mut().unwrap().remove("meeting_until").unwrap();
    fs::write(&path, record.to_string()).unwrap();
    let left = RecordingJournal::new(dir.path()).unfinished(Kind::Recording).unwrap().entries;
    let record = left.iter().map(RecordingEntry::record).find(|record| record.parts.len() == 2).unwrap();
    let report = record.parts[0].ended.as_ref().unwrap().report;
    assert_eq!((report.frames_sent, report.corrections.gaps, report.corrections.offsets), (812, 1, 0));
}

#[tokio::test]
async fn jobs_of_an_earlier_version_are_taken_up() {
    let dir = state_dir();
    let jobs = JobJournal::new(dir.path()).all();
    let states: Vec<_> = jobs.iter().map(|job| (job.recording_id.as_str(), job.state)).collect();
    let at = 1_764_176_900_000;
    assert_eq!(
        states,
        [
            ("job-working", JobState::Working),
            ("job-handed-back", JobState::HandedBack { until: 9_764_176_900_000 }),
            ("job-given-up", JobState::GivenUp { at }),
            ("job-remuxed", JobState::Remuxed { at }),
            ("job-retry", JobState::Retry),
        ]
    );
    for job in &jobs {
        assert_eq!((job.delivered, job.max_deliver, job.steps.scripts, job.steps.claimed), (2, 3, 1, true));
        assert!(!job.payload().unwrap().is_empty() && job.steps.fetched.is_some() && job.steps.remuxed.is_some());
    }
    assert_eq!(jobs[0].progress.map(|progress| progress.percent.to_string()).as_deref(), Some("42.5"));
}

#[tokio::test]
async fn the_outbox_of_an_earlier_version_is_delivered() {
    let dir = state_dir();
    let outbox = Outbox::open(dir.path()).unwrap();
    let id = |id: &str| RecordingId::parse(id).unwrap();
    let state = |key| outbox.state(&id("rec-told"), key).unwrap();
    assert!(matches!(state(MessageKey::Started), MessageState::Delivered { at: 1_764_176_700_000 }));
    assert!(matches!(state(MessageKey::Ended), MessageState::Refused { why, .. } if why == "404: no such room"));
    assert!(matches!(state(MessageKey::Finished), MessageState::Dropped { .. }));
    let open: Vec<_> =
        outbox.undelivered(&id("rec-told")).iter().map(|message| (message.key, message.body.clone())).collect();
    let expected = [(MessageKey::Ended, 2), (MessageKey::Job, 3), (MessageKey::Proceeded, 4)];
    assert_eq!(open, expected.map(|(key, n)| (key, vec![n, 0, 255])));
    assert_eq!(outbox.undelivered(&id("broadcast-told")).len(), 2);
    let mut requests = retry_request::all(dir.path()).unwrap();
    requests.sort_by_key(|(id, _)| id.to_string());
    let dropped = RetryRequest::Drop { messages: vec![MessageKey::Ended, MessageKey::Job] };
    assert_eq!(requests, [(id("broadcast-told"), RetryRequest::Retry), (id("rec-told"), dropped)]);
    let aside = fs::read_dir(dir.path().join("outbox"))
        .unwrap()
        .flatten()
        .any(|entry| entry.path().extension().is_some_and(|extension| extension == "unreadable"));
    assert!(!aside);
}

/// Every file and directory below: its path, content, mode, and when it was changed and written.
fn everything(dir: &Path) -> Vec<(PathBuf, Vec<u8>, u32, [i64; 4])> {
    let mut found = vec![dir.to_owned()];
    let mut next = 0;
    while let Some(path) = found.get(next).cloned() {
        found.extend(fs::read_dir(path).into_iter().flatten().map(|entry| entry.unwrap().path()));
        next += 1;
    }
    found.sort();
    let of = |path: PathBuf| {
        let meta = fs::symlink_metadata(&path).unwrap();
        let times = [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()];
        let content = fs::read(&path).unwrap_or_default();
        (path, content, meta.mode(), times)
    };
    found.into_iter().map(of).collect()
}

/// What an operator's command ends with and says.
fn command(node: &Recorder, asked: &[&str]) -> (Option<i32>, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_plugnmeet-recorder"));
    let output = program.arg("--config").arg(node.config_path()).args(asked).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_dir_of_a_newer_version_is_refused_and_left_as_it_is() {
    let standin = Standin::start(Deployment::default()).await.unwrap();
    let dir = state_dir();
    let newer = r#"{"format":2,"readable_since":"0.7.0","written_by":"0.7.2","of a newer version":true}"#;
    fs::write(dir.path().join("version.json"), newer).unwrap();
    let before = everything(dir.path());
    let main_path = standin.dir().join("not made");
    let setup = Setup {
        recorder: format!("  state_dir: {}\n", dir.path().display()),
        main_path: Some(main_path.clone()),
        ..Setup::default()
    };
    let mut node = Recorder::spawn(&standin, "node_01", &setup);
    // 2: the service manager does not try it again.
    assert_eq!(node.wait_for_end().await.code(), Some(2), "{}", node.log());
    let log = node.log();
    for said in ["was written by version 0.7.2", "Install version 0.7.0 or newer", "set recorder.state_dir to another"]
    {
        assert!(log.contains(said), "{said}:\n{log}");
    }
    for asked in [&["jobs", "retry", "job-given-up"][..], &["recordings", "list"], &["check", "--quick"]] {
        let (code, said) = command(&node, asked);
        assert_eq!((code, said.contains("Install version 0.7.0")), (Some(1), true), "{asked:?}: {said}");
    }
    assert_eq!(everything(dir.path()), before);
    assert!(!main_path.exists(), "other directories are not made either");
    assert_eq!(standin.notices.tasks_of("rec-told"), []);

    // What an earlier version left, which wrote no version, is taken up.
    for path in before.iter().map(|(path, ..)| path).filter(|path| path.is_file()) {
        if !path.ends_with("job-given-up.json") {
            fs::remove_file(path).unwrap();
        }
    }
    node.restart();
    standin.fleet.wait_selectable("node_01", SOON).await.unwrap();
    let (code, jobs) = command(&node, &["jobs", "list", "--json"]);
    assert!(code == Some(0) && jobs.contains("job-given-up"), "{jobs}");
    let version = json(&dir.path().join("version.json"));
    assert_eq!(
        (version["format"].as_u64(), version["written_by"].as_str()),
        (Some(1), Some(env!("CARGO_PKG_VERSION")))
    );
    node.stop(&[]);
}

/// An older version puts aside what it cannot read: it must refuse the whole directory instead.
#[test]
fn a_record_of_a_new_version_raises_the_format_of_the_state_dir() {
    let records = [RecordingRecord::VERSION, RecordingMessages::VERSION, JobRecord::VERSION];
    assert_eq!((state_version::FORMAT, records), (1, [1, 1, 1]), "with a new version of a record comes a new format");
}
