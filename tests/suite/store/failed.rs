//! What cannot be transcoded goes into the store of `storage.fail`, with what is known of it, and stays here as well.

use plugnmeet_recorder::config::StorageConfig;
use plugnmeet_recorder::config::store_url::StoreUrl;
use plugnmeet_recorder::protocol::ids::{RecordingId, RoomId};
use plugnmeet_recorder::protocol::messages::RecordingTasks;
use plugnmeet_recorder::store::record::{Report, UploadRecord};
use plugnmeet_recorder::transcode::journal::JobState;
use serde_json::{Value, json};

use super::node::{standin, uploads};
use super::{MIB, Sender, noise, pictures};
use crate::admin::put_job;
use crate::recorder::{Recorder, SOON, Setup};
use crate::standin::object_store::{Kind, ObjectStore, SECRET};
use crate::standin::store_line::{Ask, Fault, StoreLine};
use crate::workers::ask;

const FINISHED: RecordingTasks = RecordingTasks::RecordingTranscodingFinished;

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_file_that_cannot_be_transcoded_is_in_the_fail_store_with_reports_also_after_a_kill() {
    let standin = standin().await;
    let store = ObjectStore::start(Kind::Moto).await.unwrap();
    let mut line = StoreLine::to(store.port).await;
    let url = ObjectStore::url(line.port, "failed");
    let setup =
        Setup { mode: Some("transcoderOnly"), sections: format!("storage:\n  fail: \"{url}\"\n"), ..Setup::default() };
    let mut recorder = Recorder::spawn(&standin, "node_01", &setup);
    recorder.wait_until("it has tried the store", || recorder.log().contains("can do what is needed")).await;
    let dir = recorder.main_path.join("node_01/room01");
    std::fs::create_dir_all(&dir).unwrap();
    let raw = noise("RM_1", 20 * MIB);
    std::fs::write(dir.join("RM_1_raw.mkv"), &raw).unwrap();
    std::fs::write(dir.join("RM_1_raw.json"), json!({"recording_id": "RM_1"}).to_string()).unwrap();
    line.fails(Ask::Part, Fault::Pass, 1);
    line.fails(Ask::Part, Fault::HoldAnswer, usize::MAX);
    // Its last delivery.
    put_job(&recorder.state_dir(), "RM_1", &dir, JobState::Retry).await;
    let finished = standin.notices.wait_for(FINISHED, "RM_1", 2 * SOON).await;
    assert!(!finished.unwrap_or_else(|why| panic!("{why:#}\n{}", recorder.log())).message.status);
    line.wait_for_held(1).await;
    assert_eq!(uploads(&recorder), ["RM_1+raw.json"]);
    recorder.kill();
    line.is_well();
    recorder.restart();
    recorder.wait_until("no record is left", || uploads(&recorder).is_empty()).await;
    let home = "failed/node_01/room01/RM_1";
    let names = ["RM_1_raw.mkv", "ffmpeg.txt", "ffprobe.json", "summary.json"];
    assert_eq!(store.keys(), names.map(|name| format!("{home}/{name}")));
    assert_eq!(store.unfinished_uploads(), 0);
    assert!(store.read(&format!("{home}/RM_1_raw.mkv")) == raw);
    let text = |name: &str| String::from_utf8(store.read(&format!("{home}/{name}"))).unwrap();
    assert!(text("ffmpeg.txt").contains("RM_1_raw.mkv"), "{}", text("ffmpeg.txt"));
    let report: Value = serde_json::from_str(&text("ffprobe.json")).unwrap();
    assert!(report["error"]["string"].as_str().unwrap().contains("Invalid data"), "{report}");
    assert_eq!(text("summary.json"), r#"{"recording_id":"RM_1"}"#);
    // The last copy here stays, and the job says where the other one is.
    assert!(std::fs::read(dir.join("RM_1_raw.mkv")).unwrap() == raw);
    let jobs: Value = serde_json::from_str(&ask(&recorder, "jobs list --json")).unwrap();
    let row = &jobs["jobs"][0];
    assert_eq!((&row["id"], &row["state"]), (&json!("RM_1"), &json!("given_up")), "{jobs}");
    assert_eq!(row["fail_store"], json!(format!("s3://recordings/{home}")));
    recorder.stop(&[SECRET]);
}

/// Of a raw file with one report.
async fn add_raw(sender: &Sender, id: &str) -> Vec<u8> {
    let path = sender.mp4(id).with_file_name(format!("{id}_raw.mkv"));
    let raw = noise(id, 17 * MIB);
    std::fs::write(&path, &raw).unwrap();
    let (recording, room) = (RecordingId::parse(id).unwrap(), RoomId::parse("room01").unwrap());
    let home = format!("node_01/room01/{id}");
    let reports = vec![Report { key: format!("{home}/ffmpeg.txt"), text: "why".to_owned() }];
    let store = sender.uploads.storage().fail.as_ref().unwrap().to_string();
    let key = format!("{home}/{id}_raw.mkv");
    sender.uploads.add(UploadRecord::raw(&recording, &room, &path, &key, &store, reports)).await;
    raw
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_keeps_mp4_and_raw_file_of_a_recording_waiting_each_with_its_cause() {
    let store = ObjectStore::start(Kind::Rclone).await.unwrap();
    let line = StoreLine::to(store.port).await;
    let url = |prefix| Some(StoreUrl::parse(&ObjectStore::url(line.port, prefix)).unwrap());
    let storage = StorageConfig { deliver: url("pre"), fail: url("failed"), ..StorageConfig::default() };
    let sender = Sender::start_with(std::sync::Arc::new(tempfile::tempdir().unwrap()), storage, pictures());
    line.fails(Ask::Part, Fault::Answer(507, "InsufficientStorage"), usize::MAX);
    let mp4 = sender.make("rec", 17 * MIB);
    sender.add("rec", None).await;
    let raw = add_raw(&sender, "rec").await;
    let waits = |id: &str| {
        sender.record(id).is_some_and(|record| {
            record.next_try.is_some() && record.last_error.is_some_and(|why| why.contains("InsufficientStorage"))
        })
    };
    sender.wait_until("both say why they wait", || waits("rec") && waits("rec+raw")).await;
    assert_eq!(sender.records(), ["rec+raw.json", "rec.json"]);
    line.is_well();
    sender.wait_until_done().await;
    super::assert_stored(&store, "rec", &mp4);
    assert!(store.read("failed/node_01/room01/rec/rec_raw.mkv") == raw);
    assert_eq!(store.read("failed/node_01/room01/rec/ffmpeg.txt"), b"why");
    assert!(sender.mp4("rec").with_file_name("rec_raw.mkv").exists() && sender.told().is_empty());
    sender.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_file_that_was_transcoded_after_all_is_waited_for_no_more() {
    let store = ObjectStore::start(Kind::Moto).await.unwrap();
    let line = StoreLine::to(store.port).await;
    let fail = Some(StoreUrl::parse(&ObjectStore::url(line.port, "failed")).unwrap());
    let storage = StorageConfig { fail, ..StorageConfig::default() };
    let sender = Sender::start_with(std::sync::Arc::new(tempfile::tempdir().unwrap()), storage, pictures());
    line.fails(Ask::Part, Fault::Pass, 1);
    line.fails(Ask::Part, Fault::Answer(403, "AccessDenied"), usize::MAX);
    add_raw(&sender, "rec").await;
    sender.wait_until("it has failed", || sender.record("rec+raw").is_some_and(|record| record.failures > 0)).await;
    std::fs::remove_file(sender.mp4("rec").with_file_name("rec_raw.mkv")).unwrap();
    sender.wait_until_done().await;
    assert_eq!(store.unfinished_uploads(), 0);
    sender.stop().await;
}
