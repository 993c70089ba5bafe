//! Raw files that come from the store of `storage.raw`, on the node that transcodes: killed at the worst instants, handed the
//! job of another, or one that nobody may do.

use std::path::Path;
use std::time::Duration;

use plugnmeet_recorder::config::store_url::StoreUrl;
use plugnmeet_recorder::protocol::ids::RecorderId;
use plugnmeet_recorder::protocol::job::Job;
use plugnmeet_recorder::protocol::messages::RecordingTasks;
use plugnmeet_recorder::protocol::notice::NoticeEvent;
use plugnmeet_recorder::store::connect::StoreTimes;
use plugnmeet_recorder::store::raw_store::RawStore;
use plugnmeet_recorder::transcode::job::{FilesToRemove, JobOutcome};
use plugnmeet_recorder::transcode::job_files::remove_until_gone;
use plugnmeet_recorder::transcode::raw_claim;
use plugnmeet_recorder::transcode::raw_object::DoneRawObject;

use super::tree;
use crate::recorder::{Recorder, SOON, Setup};
use crate::standin::object_store::{Kind, ObjectStore, SECRET};
use crate::standin::store_line::{Ask, Fault, StoreLine};
use crate::standin::{Deployment, Standin};
use crate::survival::{job_bytes, raw_file};
use crate::transcode::{Node, job_for, names};

const PROCEEDED: RecordingTasks = RecordingTasks::RecordingProceeded;
const FINISHED: RecordingTasks = RecordingTasks::RecordingTranscodingFinished;
const TIMES: StoreTimes =
    StoreTimes { stall: Duration::from_millis(500), answer: Duration::from_secs(10), slowest: 1 << 20 };
const DIR: &str = "s3://recordings/raw/node_01/room01";
const RAW: &str = "raw/node_01/room01/rec-1_raw.mkv";

/// A raw file in the store, as a recording node leaves it there.
fn put_raw(store: &ObjectStore, id: &str) {
    let dir = tempfile::tempdir().unwrap();
    let (raw, _) = raw_file(dir.path(), id, "320x180", 4);
    store.write(&format!("raw/node_01/room01/{id}_raw.mkv"), &std::fs::read(raw).unwrap());
    store.write(&format!("raw/node_01/room01/{id}_raw.json"), format!("{{\"recording_id\": \"{id}\"}}").as_bytes());
}

/// A node with directories of its own, and this store of raw files.
fn node(url: &str, name: &str) -> Node {
    plugnmeet_recorder::tls::provide_crypto();
    let mut node = Node::new(true);
    node.settings.recorder_id = RecorderId::parse(name).unwrap();
    node.settings.raw_store = Some(RawStore::new(StoreUrl::parse(url).unwrap(), &node.settings.state_dir, TIMES));
    std::fs::remove_dir_all(node.settings.main_path.join("node_01")).unwrap();
    node
}

fn job() -> Job {
    job_for(Path::new(DIR), "rec-1_raw.mkv")
}

fn told_of(node: &Node) -> Vec<NoticeEvent> {
    let told = node.told();
    let names = |event: &NoticeEvent| match event {
        NoticeEvent::Proceeded { file_path, .. } => file_path == "node_01/room01/rec-1.mp4",
        event => matches!(event, NoticeEvent::Finished(Ok(()))),
    };
    assert!(told.iter().all(names), "{told:?}");
    told
}

async fn remove(node: &Node, files: &FilesToRemove) {
    let (store, raw_store) = (&node.settings.store, node.settings.raw_store.as_ref());
    let removal = remove_until_gone(files, store, raw_store, &node.cancel);
    assert!(tokio::time::timeout(SOON, removal).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_nodes_with_one_job_and_no_common_directory_one_tells_the_server() {
    for kind in [Kind::Rclone, Kind::Moto] {
        let store = ObjectStore::start(kind).await.unwrap();
        let line = StoreLine::to(store.port).await;
        let url = ObjectStore::url(line.port, "raw");
        put_raw(&store, "rec-1");
        let (first, second) = (node(&url, "node_02"), node(&url, "node_03"));
        // The look for a claim passes, and the raw file is cut.
        line.fails(Ask::Get, Fault::Pass, 1);
        line.fails(Ask::Get, Fault::CutAnswer, 1);
        let JobOutcome::Done(files) = first.run(&job(), 1).await else { panic!("{:?}", first.told()) };
        let object = Some(DoneRawObject { object: format!("{DIR}/rec-1_raw.mkv"), keep: false });
        assert_eq!((&files.raw, &files.object), (&None, &object));
        assert_eq!(told_of(&first).len(), 2);
        assert_eq!(tree(&first.settings.main_path), ["node_01/room01/rec-1.mp4"]);
        assert_eq!(tree(&first.settings.temporary_dir), [] as [String; 0], "what was fetched is gone");
        // It is not acknowledged yet, and the queue hands it to the second one.
        assert!(matches!(second.run(&job(), 2).await, JobOutcome::Again(_)));
        assert_eq!((second.told(), tree(&second.settings.main_path)), (Vec::new(), Vec::<String>::new()));
        // Nor can it be acknowledged: the second one does only that, and removes what is in the store.
        let raw_store = second.settings.raw_store.as_ref().unwrap();
        let (key, now) = (RAW.trim_start_matches("raw/"), 1_800_000_000_000);
        let node_02 = RecorderId::parse("node_02").unwrap();
        raw_claim::mark_reported(raw_store.store().await.unwrap(), key, &node_02, false, now).await.unwrap();
        let JobOutcome::Done(files) = second.run(&job(), 3).await else { panic!("{:?}", second.told()) };
        assert_eq!((second.told(), &files.object), (Vec::new(), &object), "{kind:?}");
        assert_eq!(store.keys().len(), 3, "{:?}", store.keys());
        line.fails(Ask::Delete, Fault::Answer(503, "SlowDown"), 4);
        remove(&second, &files).await;
        assert_eq!(store.keys(), [] as [String; 0], "{kind:?}");
        remove(&first, &files).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_file_that_cannot_be_fetched_now_is_not_given_up_and_one_of_another_store_is_refused() {
    let store = ObjectStore::start(Kind::Rclone).await.unwrap();
    let line = StoreLine::to(store.port).await;
    let mut node = node(&ObjectStore::url(line.port, "raw"), "node_02");
    put_raw(&store, "rec-1");
    for (ask, fault) in [
        (Ask::Head, Fault::Answer(403, "ExpiredToken")),
        (Ask::Head, Fault::Answer(503, "SlowDown")),
        (Ask::Get, Fault::Answer(500, "InternalError")),
        (Ask::Head, Fault::MisstateSize),
    ] {
        line.fails(ask, fault, usize::MAX);
        assert!(matches!(node.run(&job(), 3).await, JobOutcome::Waiting(_)), "{fault:?}: {:?}", node.told());
        line.is_well();
    }
    assert_eq!((node.told(), tree(&node.settings.main_path)), (Vec::new(), Vec::<String>::new()));
    // Neither this machine's files nor other stores, whatever a job says.
    for foreign in ["file:///etc", "s3://other/raw/room01", "s3://recordings/rawest/room01", "s3://recordings/raw/../x"]
    {
        let before = line.seen(Ask::Head).len();
        let job = job_for(Path::new(foreign), "passwd");
        assert!(matches!(node.run(&job, 1).await, JobOutcome::Again(_)), "{foreign}");
        assert_eq!((node.told(), line.seen(Ask::Head).len()), (Vec::new(), before), "{foreign}");
        assert_eq!(tree(&node.settings.temporary_dir), [] as [String; 0], "{foreign}");
    }
    let raw_store = node.settings.raw_store.take();
    assert!(matches!(node.run(&job(), 3).await, JobOutcome::Waiting(_)), "it can be set yet");
    node.settings.raw_store = raw_store;
    assert!(matches!(node.run(&job(), 3).await, JobOutcome::Done(_)));
    assert_eq!(told_of(&node).len(), 2);
    // Gone for good, with no MP4 anywhere: that is told.
    let job = job_for(Path::new(DIR), "gone_raw.mkv");
    std::fs::remove_file(node.settings.main_path.join("node_01/room01/rec-1.mp4")).unwrap();
    assert_eq!(node.run(&job, 3).await, JobOutcome::GivenUp);
    let told = node.told();
    let why =
        matches!(&told[..], [NoticeEvent::Finished(Err(why))] if why.contains("gone_raw.mkv is not in the store"));
    assert!(why, "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_raw_file_stays_in_its_store_until_the_other_one_has_the_mp4_also_over_a_restart() {
    plugnmeet_recorder::tls::provide_crypto();
    let standin = Standin::start(Deployment::default()).await.unwrap();
    let store = ObjectStore::start(Kind::Rclone).await.unwrap();
    let line = StoreLine::to(store.port).await;
    let (raw, deliver) = (ObjectStore::url(store.port, "raw"), ObjectStore::url(line.port, "mp4"));
    let mut recorder = Recorder::spawn(&standin, "node_02", &transcoder(&raw, &deliver));
    let tried = || recorder.log().matches("can do what is needed").count() >= 2;
    recorder.wait_until("it has tried the stores", tried).await;
    put_raw(&store, "RM_1");
    line.fails(Ask::Put, Fault::Answer(503, "SlowDown"), usize::MAX);
    standin.fleet.publish_job(job_bytes(Path::new(DIR), "RM_1")).await.unwrap();
    recorder.wait_for_log("PNR-1401").await;
    let acknowledged = || {
        let record = std::fs::read_to_string(recorder.state_dir().join("jobs/RM_1.json")).unwrap_or_default();
        let record: serde_json::Value = serde_json::from_str(&record).unwrap_or_default();
        record["steps"]["acknowledged"] == true
    };
    recorder.wait_until("the job is acknowledged", acknowledged).await;
    recorder.kill();
    recorder.restart();
    let before = line.seen(Ask::Put).len();
    recorder.wait_until("it tries again", || line.seen(Ask::Put).len() > before).await;
    assert!(store.keys().iter().any(|key| key.ends_with("RM_1_raw.mkv")), "{:?}", store.keys());
    line.is_well();
    let finished = standin.notices.wait_for(FINISHED, "RM_1", 2 * SOON).await;
    assert!(finished.unwrap_or_else(|why| panic!("{why:#}\n{}", recorder.log())).message.status);
    let clean = || store.keys_but_pictures() == ["mp4/node_01/room01/RM_1.json", "mp4/node_01/room01/RM_1.mp4"];
    recorder.wait_until("only the MP4 and its summary are in the store", clean).await;
    recorder.stop(&[SECRET]);
}

/// A transcoder without a directory in common with the recorder.
fn transcoder(raw: &str, deliver: &str) -> Setup {
    Setup {
        mode: Some("transcoderOnly"),
        sections: format!("storage:\n  raw: \"{raw}\"\n  deliver: \"{deliver}\"\n  keep_local: false\n"),
        ..Setup::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transcoder_that_is_killed_while_it_fetches_or_before_the_raw_file_goes_tells_once_and_leaves_nothing() {
    plugnmeet_recorder::tls::provide_crypto();
    let standin = Standin::start(Deployment::default()).await.unwrap();
    let store = ObjectStore::start(Kind::Moto).await.unwrap();
    let mut line = StoreLine::to(store.port).await;
    let (raw, deliver) = (ObjectStore::url(line.port, "raw"), ObjectStore::url(store.port, "mp4"));
    let mut recorder = Recorder::spawn(&standin, "node_02", &transcoder(&raw, &deliver));
    for (round, (ask, fault)) in
        [(Ask::Get, Fault::StallAnswer), (Ask::Delete, Fault::HoldAnswer)].into_iter().enumerate()
    {
        // The node's own trial of both stores must not meet the fault.
        let tried = || recorder.log().matches("can do what is needed").count() >= 2 * (round + 1);
        recorder.wait_until("it has tried the stores", tried).await;
        let id = format!("RM_{round}");
        put_raw(&store, &id);
        // The look for a claim passes: there is none.
        line.fails(ask, Fault::Pass, usize::from(ask == Ask::Get));
        line.fails(ask, fault, usize::MAX);
        let seen = line.seen(ask).len();
        standin.fleet.publish_job(job_bytes(Path::new(DIR), &id)).await.unwrap();
        line.wait_for(ask, seen + 2 - usize::from(ask == Ask::Delete)).await;
        if ask == Ask::Delete {
            line.wait_for_held(1).await;
            // What the server has just taken, and this node has not noted, would be told again.
            let noted = || {
                let outbox = recorder.state_dir().join(format!("outbox/{id}.json"));
                std::fs::read_to_string(outbox).unwrap_or_default().matches("\"delivered\"").count() == 2
            };
            recorder.wait_until("it has noted what the server was told", noted).await;
        }
        recorder.kill();
        line.is_well();
        recorder.restart();
        let finished = standin.notices.wait_for(FINISHED, &id, 2 * SOON).await;
        assert!(finished.unwrap_or_else(|why| panic!("{why:#}\n{}", recorder.log())).message.status);
        let mp4 = format!("mp4/node_01/room01/{id}.mp4");
        let told = standin.notices.wait_for(PROCEEDED, &id, SOON).await.unwrap().message;
        assert_eq!(told.file_path, format!("s3://recordings/{mp4}"));
        let clean = || store.keys_but_pictures().iter().filter(|key| key.contains(&id)).count() == 2;
        recorder.wait_until("only the MP4 and its summary are in the store", clean).await;
        recorder.wait_until("no record is left", || names(&recorder.state_dir().join("jobs")).is_empty()).await;
        assert_eq!(standin.notices.tasks_of(&id), [PROCEEDED, FINISHED], "{}", recorder.log());
        assert!(store.keys().contains(&mp4));
        assert_eq!(names(&recorder.temporary_dir.join(".fetched/node_02")), [] as [String; 0]);
    }
    recorder.stop(&[SECRET]);
}
