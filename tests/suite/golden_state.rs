//! The state directory of an earlier version loads for ever: `tests/golden/state` was written by the version of November
//! 2026, and a later version must go on where that one stopped.

use std::fs;
use std::path::Path;

use plugnmeet_recorder::delivery::message::{MessageKey, MessageState};
use plugnmeet_recorder::delivery::outbox::Outbox;
use plugnmeet_recorder::delivery::retry_request::{self, RetryRequest};
use plugnmeet_recorder::protocol::access::RoomAccess;
use plugnmeet_recorder::protocol::ids::RecordingId;
use plugnmeet_recorder::protocol::request::Kind;
use plugnmeet_recorder::recording::journal::{RecordingEntry, RecordingJournal, RecordingStage};
use plugnmeet_recorder::transcode::journal::{JobJournal, JobState};
use serde_json::Value;

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
