//! Raw files go into the store of `storage.raw`, and their jobs name them there: with a transcoder on another machine, as far
//! as directories go.

use std::sync::Arc;
use std::time::Duration;

use plugnmeet_recorder::config::store_url::StoreUrl;
use plugnmeet_recorder::fleet::availability::Availability;
use plugnmeet_recorder::protocol::messages::{RecordingTasks, transcoding_task};
use plugnmeet_recorder::protocol::request::Kind;
use plugnmeet_recorder::recording::journal::{RecordingRecord, RecordingStage};
use plugnmeet_recorder::recording::requests::RequestService;
use plugnmeet_recorder::storage::disk_space::DiskStatus;
use plugnmeet_recorder::storage::journal::Record as _;
use plugnmeet_recorder::store::connect::StoreTimes;
use plugnmeet_recorder::store::raw_store::RawStore;
use tokio_util::sync::CancellationToken;

use super::{LIMIT, Leaves, Node, Paper, PaperRig, media};
use crate::measure;
use crate::recorder::{Recorder, SOON, Setup};
use crate::standin::object_store::{Kind as StoreKind, ObjectStore, SECRET};
use crate::standin::store_line::{Ask, Fault, StoreLine};
use crate::transcode::names;

const STARTED: RecordingTasks = RecordingTasks::StartRecording;
const ENDED: RecordingTasks = RecordingTasks::EndRecording;
const PROCEEDED: RecordingTasks = RecordingTasks::RecordingProceeded;
const FINISHED: RecordingTasks = RecordingTasks::RecordingTranscodingFinished;
const TIMES: StoreTimes =
    StoreTimes { stall: Duration::from_secs(1), answer: Duration::from_secs(10), slowest: 1 << 20 };

/// A node with `storage.raw`, and a recording of a second and a half.
async fn node(url: &str) -> (Node, Leaves) {
    let mut node = Node::new().await;
    node.context.handoff.raw_store = Some(raw_store(&node, url));
    let whole = node.standin.dir().join("whole.mkv");
    media(&whole);
    (node, Leaves { bytes: Some(std::fs::read(whole).unwrap()), ..Leaves::default() })
}

fn raw_store(node: &Node, url: &str) -> RawStore {
    RawStore::new(StoreUrl::parse(url).unwrap(), &node.standin.dir().join("state"), TIMES)
}

impl Node {
    /// What the job says of where its raw file is.
    async fn job_names(&self, id: &str) -> (String, String) {
        let task = self.standin.fleet.wait_for_job(id, LIMIT).await.unwrap();
        let Some(transcoding_task::Work::PostRecording(work)) = task.work else { panic!() };
        (work.file_path, work.file_name)
    }

    /// Nothing of it is left on the node that recorded.
    fn assert_handed_over(&self) {
        for dir in ["temporary", "state/recordings", "state/raw-uploads", "main/node_01/room01"] {
            let left: Vec<_> = names(&self.standin.dir().join(dir));
            assert_eq!(left, [] as [String; 0], "{dir}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_shared_directory_a_recording_becomes_an_mp4_in_the_store_and_is_told_of_once() {
    let store = ObjectStore::start(StoreKind::Moto).await.unwrap();
    let (node, leaves) = node(&ObjectStore::url(store.port, "raw")).await;
    let (raw, deliver) = (ObjectStore::url(store.port, "raw"), ObjectStore::url(store.port, "mp4"));
    let setup = Setup {
        mode: Some("transcoderOnly"),
        sections: format!("storage:\n  raw: \"{raw}\"\n  deliver: \"{deliver}\"\n  keep_local: false\n"),
        ..Setup::default()
    };
    let transcoder = Recorder::spawn(&node.standin, "node_02", &setup);
    let (_, ended) = node.run(Kind::Recording, "file", leaves).await;
    assert!(ended.status, "{}", ended.msg);
    node.assert_handed_over();
    assert_eq!(node.job_names("file").await, ("s3://recordings/raw/node_01/room01/".into(), "file_raw.mkv".into()));
    let finished = node.standin.notices.wait_for(FINISHED, "file", 2 * SOON).await;
    let finished = finished.unwrap_or_else(|why| panic!("{why:#}\n{}", transcoder.log())).message;
    assert!(finished.status && finished.recorder_id == "node_01", "{}", finished.msg);
    assert_eq!(node.standin.notices.tasks_of("file"), [STARTED, ENDED, PROCEEDED, FINISHED]);
    let told = node.standin.notices.wait_for(PROCEEDED, "file", SOON).await.unwrap().message;
    assert_eq!(told.file_path, "s3://recordings/mp4/node_01/room01/file.mp4");
    // The raw file, its summary and the claim are gone; the summary went with the MP4.
    let expected = ["mp4/node_01/room01/file.json", "mp4/node_01/room01/file.mp4"];
    transcoder.wait_until("the raw file is gone", || store.keys_but_pictures() == expected).await;
    let mp4 = node.standin.dir().join("fetched.mp4");
    std::fs::write(&mp4, store.read(expected[1])).unwrap();
    let made = measure::probe(&mp4).unwrap();
    assert!((made.duration - 1.5).abs() < 0.2 && measure::decode(&mp4).unwrap().is_empty(), "{made:?}");
    transcoder
        .wait_until("nothing is left here", || {
            names(&transcoder.main_path.join("node_01/room01")).is_empty()
                && names(&transcoder.state_dir().join("jobs")).is_empty()
        })
        .await;
    assert_eq!(names(&transcoder.temporary_dir.join(".fetched/node_02")), [] as [String; 0]);
    transcoder.stop(&[SECRET]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_file_waits_for_its_store_listed_and_goes_when_it_is_back_and_after_a_restart() {
    let store = ObjectStore::start(StoreKind::Rclone).await.unwrap();
    let line = StoreLine::to(store.port).await;
    let (node, leaves) = node(&ObjectStore::url(line.port, "raw")).await;
    let place = node.standin.dir().join("main/node_01/room01/file_raw.mkv");
    let record = node.standin.dir().join("state/recordings/file.json");
    let storing = || RecordingRecord::read(&record).ok().and_then(|record| record.storing);
    line.fails(Ask::Put, Fault::Answer(403, "AccessDenied"), usize::MAX);
    let failed_twice = async {
        while storing().is_none_or(|storing| storing.failures < 2) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(storing().unwrap().last_error.contains("AccessDenied"), "{:?}", storing());
        assert!(node.standin.fleet.published_jobs().is_empty() && place.exists());
        // The program ends meanwhile.
        node.context.handoff.drain.cancel();
    };
    let ((raw, ended), ()) = tokio::join!(node.run(Kind::Recording, "file", leaves.clone()), failed_twice);
    assert!(ended.status && place.exists() && names(&node.standin.dir().join("state/raw-uploads")) == ["file.json"]);
    assert_eq!(RecordingRecord::read(&record).unwrap().stage, RecordingStage::Stored);
    line.is_well();
    let mut context = node.context.clone();
    context.handoff.drain = CancellationToken::new();
    context.handoff.raw_store = Some(raw_store(&node, &ObjectStore::url(line.port, "raw")));
    let rigs = Arc::new(Paper { raw, leaves: leaves.clone() });
    let room = tokio::sync::watch::channel(DiskStatus::default()).1;
    let (slots, journal) = (node.slots.clone(), node.journal.clone());
    let mut next = RequestService::<PaperRig>::new(context, slots, rigs, journal, Availability::default(), room);
    next.recover(true).unwrap();
    tokio::time::timeout(LIMIT, next.finish()).await.unwrap();
    assert_eq!(node.job_names("file").await, ("s3://recordings/raw/node_01/room01/".into(), "file_raw.mkv".into()));
    assert!(store.read("raw/node_01/room01/file_raw.mkv") == *leaves.bytes.as_ref().unwrap());
    let summary: serde_json::Value = serde_json::from_slice(&store.read("raw/node_01/room01/file_raw.json")).unwrap();
    assert_eq!(summary["recording_id"], "file");
    assert_eq!(node.standin.notices.tasks_of("file"), [STARTED, ENDED]);
    node.assert_handed_over();
}
