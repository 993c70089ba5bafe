//! The hooks between a recording and its job.

use std::sync::Arc;
use std::time::Duration;

use plugnmeet_recorder::fleet::availability::Availability;
use plugnmeet_recorder::protocol::messages;
use plugnmeet_recorder::protocol::request::Kind;
use plugnmeet_recorder::recording::journal::{RecordingRecord, RecordingStage};
use plugnmeet_recorder::recording::requests::RequestService;
use plugnmeet_recorder::storage::disk_space::DiskStatus;
use plugnmeet_recorder::storage::journal::Record as _;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{LIMIT, Leaves, Node, Paper, PaperRig, media};
use crate::hooks;

#[tokio::test(flavor = "multi_thread")]
async fn post_recording_hooks_that_fail_keep_the_raw_file_and_are_tried_until_they_say_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (asked, open) = (dir.path().join("asked"), dir.path().join("open"));
    // Fails until it is let through.
    let text = format!(
        "read -r line; echo \"$line\" >>'{}'; [ -e '{}' ] || {{ echo 'the store is closed' >&2; exit 4; }}\n\
         echo '{{\"output_path\": \"s3://bucket/room01\", \"file_name\": \"kept.mkv\", \
         \"store\": \"s3://KEY:very-secret@eu/bucket\"}}'",
        asked.display(),
        open.display()
    );
    let hook = hooks::script(dir.path(), "store.sh", &text);
    let node = Node::with_hooks(&hooks::config(vec![hooks::step(&hook, true)], 1, hooks::LIMIT)).await;
    let whole = node.standin.dir().join("whole.mkv");
    media(&whole);
    let leaves = Leaves { bytes: Some(std::fs::read(&whole).unwrap()), ..Leaves::default() };
    let record = node.standin.dir().join("state/recordings/file.json");
    let hooked = || RecordingRecord::read(&record).ok().and_then(|record| record.hooked);
    let failed_twice = async {
        while hooked().is_none_or(|hooked| hooked.failures < 2) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // The end is told, the job is not published, and the record says why.
        assert!(node.standin.fleet.published_jobs().is_empty());
        let hooked = hooked().unwrap();
        assert!(
            hooked.last_error.contains("store.sh") && hooked.last_error.contains("the store is closed"),
            "{hooked:?}"
        );
        std::fs::write(&open, "").unwrap();
    };
    let ((raw, ended), ()) = tokio::join!(node.run(Kind::Recording, "file", leaves), failed_twice);
    assert!(ended.status, "{}", ended.msg);
    let task = node.standin.fleet.wait_for_job("file", LIMIT).await.unwrap();
    let Some(messages::transcoding_task::Work::PostRecording(work)) = task.work else { panic!() };
    assert_eq!((work.file_path.as_str(), work.file_name.as_str()), ("s3://bucket/room01/", "kept.mkv"));
    assert!(raw.dir.join("file_raw.mkv").exists(), "what becomes of it is the hook's to say");
    // The node that transcodes finds there which store the hook has chosen; never a key.
    let summary: Value = serde_json::from_slice(&std::fs::read(raw.dir.join("file_raw.json")).unwrap()).unwrap();
    assert_eq!((&summary["store"], &summary["recording_id"]), (&json!("s3://bucket"), &json!("file")));
    assert!(!record.exists());
    let asked: Value = serde_json::from_str(std::fs::read_to_string(asked).unwrap().lines().last().unwrap()).unwrap();
    assert_eq!((&asked["input_path"], &asked["file_name"]), (&json!(raw.dir), &"file_raw.mkv".into()));
    assert_eq!((&asked["task"], &asked["recorder_id"]), (&"single".into(), &"node_01".into()));
    node.context.handoff.hooks.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_that_a_shutdown_interrupts_run_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let (begun, open) = (dir.path().join("begun"), dir.path().join("open"));
    let text = format!("touch '{}'; [ -e '{}' ] || sleep 1000; echo '{{}}'", begun.display(), open.display());
    let hook = hooks::script(dir.path(), "slow.sh", &text);
    let node = Node::with_hooks(&hooks::config(vec![hooks::step(&hook, true)], 1, hooks::LIMIT)).await;
    let whole = node.standin.dir().join("whole.mkv");
    media(&whole);
    let leaves = Leaves { bytes: Some(std::fs::read(&whole).unwrap()), ..Leaves::default() };
    let end = node.context.handoff.end.clone();
    let interrupt = async {
        while !begun.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        end.cancel();
    };
    let ((raw, ended), ()) = tokio::join!(node.run(Kind::Recording, "file", leaves.clone()), interrupt);
    assert!(ended.status && node.standin.fleet.published_jobs().is_empty());
    let record = node.standin.dir().join("state/recordings/file.json");
    assert_eq!(RecordingRecord::read(&record).unwrap().stage, RecordingStage::Stored);

    std::fs::write(&open, "").unwrap();
    let (_room, room) = tokio::sync::watch::channel(DiskStatus::default());
    let mut context = node.context.clone();
    context.handoff.end = CancellationToken::new();
    let rigs = Arc::new(Paper { raw, leaves });
    let mut service = RequestService::<PaperRig>::new(
        context,
        node.slots.clone(),
        rigs,
        node.journal.clone(),
        Availability::default(),
        room,
    );
    service.recover(true).unwrap();
    service.finish().await;
    node.standin.fleet.wait_for_job("file", LIMIT).await.unwrap();
    assert!(!record.exists());
    node.context.handoff.hooks.shutdown().await;
}
