//! The end of a recording is told when its capture has ended; its file follows when `main_path` takes it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use plugnmeet_recorder::fleet::availability::Availability;
use plugnmeet_recorder::protocol::ids::{RecordingId, RoomId};
use plugnmeet_recorder::protocol::messages::RecordingTasks;
use plugnmeet_recorder::protocol::request::Kind;
use plugnmeet_recorder::recording::journal::{RecordingRecord, RecordingStage};
use plugnmeet_recorder::recording::raw_file::RawFile;
use plugnmeet_recorder::recording::requests::RequestService;
use plugnmeet_recorder::storage::disk_space::DiskStatus;
use plugnmeet_recorder::storage::journal::Record as _;
use plugnmeet_recorder::storage::main_path::{self, MainPath, StoreAbilities};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::{Begun, LIMIT, Leaves, Node, Paper, PaperRig, media};
use crate::mounts::Mount;
use crate::standin::faulty_fs::{Abilities, Fault, FaultyFs, Requests};
use crate::transcode::names;

const STARTED: RecordingTasks = RecordingTasks::StartRecording;
const ENDED: RecordingTasks = RecordingTasks::EndRecording;

/// A node, and a recording of a second and a half.
async fn node() -> (Node, Leaves) {
    let node = Node::new().await;
    let whole = node.standin.dir().join("whole.mkv");
    media(&whole);
    let leaves = Leaves { bytes: Some(std::fs::read(whole).unwrap()), ..Leaves::default() };
    (node, leaves)
}

impl Node {
    fn main(&self) -> PathBuf {
        self.standin.dir().join("main")
    }

    fn record(&self, id: &str) -> RecordingRecord {
        RecordingRecord::read(&self.standin.dir().join(format!("state/recordings/{id}.json"))).unwrap()
    }

    /// Begins one that `trouble` meets before it is stopped; returns once its end is told.
    async fn run_into(&self, id: &str, leaves: &Leaves, store: Option<&MainPath>, trouble: impl FnOnce()) -> Begun {
        let slot = self.slots.admit(7, Kind::Recording, RecordingId::parse(id).unwrap()).unwrap();
        let running = self.begin_in(store, Kind::Recording, id, leaves.clone(), Some(slot)).await;
        self.standin.notices.wait_for(STARTED, id, LIMIT).await.unwrap();
        trouble();
        running.stop.send(None).await.unwrap();
        let told = self.standin.notices.wait_for(ENDED, id, LIMIT).await.unwrap().message;
        assert!(told.status, "{id}: it ended as it was asked to: {}", told.msg);
        assert_eq!(*self.slots.running().borrow(), 0, "{id}: its slot is free");
        running
    }

    /// Waits until so many tries have failed, and returns why.
    async fn failures(&self, id: &str, failures: u32) -> String {
        let failed = async {
            loop {
                if let Some(storing) = self.record(id).storing.filter(|storing| storing.failures >= failures) {
                    return storing.last_error;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LIMIT, failed).await.unwrap_or_else(|_| panic!("{:?}", self.record(id)))
    }

    /// The recording is handed over, and told of once.
    async fn assert_delivered(&self, id: &str, bytes: &[u8], main: &Path) {
        self.standin.fleet.wait_for_job(id, LIMIT).await.unwrap();
        assert!(std::fs::read(main.join(format!("node_01/room01/{id}_raw.mkv"))).unwrap() == bytes, "{id}");
        assert_eq!(self.standin.notices.tasks_of(id), [STARTED, ENDED], "{id}");
        let jobs = self.standin.fleet.published_jobs();
        assert_eq!(jobs.iter().filter(|job| job.message_id.as_deref() == Some(id)).count(), 1, "{id}");
    }

    fn assert_nothing_left(&self) {
        for dir in ["temporary", "state/recordings"] {
            assert_eq!(names(&self.standin.dir().join(dir)), [] as [String; 0], "{dir}");
        }
    }

    /// The next start of the program, which goes on until all is stored.
    fn next_start(&self, raw: &Begun, leaves: &Leaves) -> RequestService<PaperRig> {
        let room = tokio::sync::watch::channel(DiskStatus::default()).1;
        let mut context = self.context.clone();
        context.handoff.drain = CancellationToken::new();
        let rigs = Arc::new(Paper { raw: raw.raw.clone(), leaves: leaves.clone() });
        let journal = self.journal.clone();
        RequestService::new(context, self.slots.clone(), rigs, journal, Availability::default(), room)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_that_fails_at_the_end_of_a_recording_costs_it_only_time() {
    let (node, leaves) = node().await;
    let backing = node.standin.dir().join("backing");
    let share = FaultyFs::mount(&backing, &node.main(), Abilities::ALL);
    for (id, error) in [
        ("estale", Errno::STALE),
        ("eio", Errno::IO),
        ("enospc", Errno::NOSPC),
        ("erofs", Errno::ROFS),
        ("eacces", Errno::ACCESS),
        ("etimedout", Errno::TIMEDOUT),
    ] {
        let fail = || share.break_down(Requests::Changes, Fault::Error(error.raw_os_error()));
        let running = node.run_into(id, &leaves, None, fail).await;
        let why = node.failures(id, 2).await;
        assert!(why.contains(&format!("os error {}", error.raw_os_error())), "{id}: {why}");
        assert!(node.standin.fleet.published_jobs().iter().all(|job| job.message_id.as_deref() != Some(id)), "{id}");
        share.heal();
        node.assert_delivered(id, leaves.bytes.as_ref().unwrap(), &backing).await;
        tokio::time::timeout(LIMIT, running.running).await.unwrap().unwrap();
        node.assert_nothing_left();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_cannot_be_removed_now_are_removed_when_their_disk_is_well_again() {
    let (node, leaves) = node().await;
    let backing = node.standin.dir().join("backing");
    let disk = FaultyFs::mount(&backing, &node.standin.dir().join("temporary"), Abilities::ALL);
    let fail = || disk.break_down(Requests::Removals, Fault::Error(Errno::IO.raw_os_error()));
    let running = node.run_into("left", &leaves, None, fail).await;
    // It costs the recording nothing.
    node.assert_delivered("left", leaves.bytes.as_ref().unwrap(), &node.main()).await;
    tokio::time::timeout(LIMIT, disk.wait_until_failed(2)).await.expect("a second try");
    assert_eq!((names(&backing).len(), node.record("left").stage), (1, RecordingStage::Stored));
    disk.heal();
    tokio::time::timeout(LIMIT, running.running).await.unwrap().unwrap();
    assert_eq!(names(&backing), [] as [String; 0]);
    node.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_that_cannot_be_stored_is_stored_by_a_later_start() {
    let (node, leaves) = node().await;
    let backing = node.standin.dir().join("backing");
    std::fs::create_dir(&backing).unwrap();
    let mount = Mount::bind(&backing, &node.main());
    let running = node.run_into("file", &leaves, None, || mount.read_only(true)).await;
    assert!(node.failures("file", 1).await.contains("Read-only file system"));
    // The program ends: the tries are left to the next start.
    node.context.handoff.drain.cancel();
    let mut running = running;
    tokio::time::timeout(LIMIT, &mut running.running).await.unwrap().unwrap();
    let record = node.record("file");
    assert!(record.stage == RecordingStage::Parts && record.end_told, "{record:?}");
    // Meanwhile the outbox has forgotten what it has delivered.
    std::fs::remove_file(node.standin.dir().join("state/outbox/file.json")).unwrap();

    let mut service = node.next_start(&running, &leaves);
    service.recover(true).unwrap();
    node.failures("file", record.storing.unwrap().failures + 1).await;
    mount.read_only(false);
    tokio::time::timeout(LIMIT, service.finish()).await.unwrap();
    node.assert_delivered("file", leaves.bytes.as_ref().unwrap(), &backing).await;
    node.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_that_hangs_holds_up_only_what_is_stored_there() {
    let (node, leaves) = node().await;
    let backing = node.standin.dir().join("backing");
    let share = FaultyFs::mount(&backing, &node.main(), Abilities::ALL);
    let hang = || share.break_down(Requests::All, Fault::Hang);
    let running = node.run_into("hangs", &leaves, None, hang).await;
    share.wait_until_hanging(1).await;
    // Another recording of the same node begins and ends.
    let other = node.run_into("other", &leaves, None, || {}).await;
    share.heal();
    for (id, running) in [("hangs", running), ("other", other)] {
        node.assert_delivered(id, leaves.bytes.as_ref().unwrap(), &backing).await;
        tokio::time::timeout(LIMIT, running.running).await.unwrap().unwrap();
    }
    node.assert_nothing_left();

    // A drain does not wait for such a share; the next start goes on.
    let store = MainPath::new(&node.main(), &node.standin.dir().join("state"));
    main_path::first_look(&store).await;
    let cancel = CancellationToken::new();
    let watch = tokio::spawn(main_path::watch(store.clone(), cancel.clone()));
    let running = node.run_into("drained", &leaves, Some(&store), hang).await;
    share.wait_until_hanging(1).await;
    node.context.handoff.drain.cancel();
    tokio::time::timeout(LIMIT, running.running).await.expect("a drain waits for no share that hangs").unwrap();
    assert!(store.status().fault.unwrap().contains("does not answer"));
    assert!(node.record("drained").storing.unwrap().last_error.contains("does not answer"));
    cancel.cancel();
    share.heal();
    watch.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_into_the_bare_mount_point_of_a_share_that_is_gone() {
    let (node, leaves) = node().await;
    let backing = node.standin.dir().join("backing");
    std::fs::create_dir(&backing).unwrap();
    let state = node.standin.dir().join("state");
    let mut mount = Some(Mount::bind(&backing, &node.main()));
    let store = MainPath::new(&node.main(), &state);
    main_path::first_look(&store).await;
    assert_eq!(store.status().fault, None);
    let running = node.run_into("file", &leaves, Some(&store), || drop(mount.take())).await;
    let why = node.failures("file", 1).await;
    assert!(why.contains("is not the file system that it was") && why.contains("main_path.json"), "{why}");
    assert_eq!(names(&node.main()), [] as [String; 0], "the bare mount point");

    // Nor after a restart.
    let restarted = MainPath::new(&node.main(), &state);
    main_path::first_look(&restarted).await;
    assert!(restarted.status().fault.unwrap().contains("is not the file system"));
    assert_eq!(names(&node.main()), [] as [String; 0], "the bare mount point");

    // It is mounted again: another mount of the same files.
    mount = Some(Mount::bind(&backing, &node.main()));
    node.assert_delivered("file", leaves.bytes.as_ref().unwrap(), &backing).await;
    tokio::time::timeout(LIMIT, running.running).await.unwrap().unwrap();
    node.assert_nothing_left();
    assert_eq!(names(&backing), [".plugnmeet-recorder", "node_01"]);
    assert_eq!(names(&backing.join("node_01/room01")), ["file_raw.json", "file_raw.mkv"]);

    // Another disk there is refused until the operator accepts it.
    drop(mount.take());
    main_path::first_look(&store).await;
    assert!(store.status().fault.is_some());
    std::fs::remove_file(state.join("main_path.json")).unwrap();
    main_path::first_look(&store).await;
    assert_eq!(store.status().fault, None);
    assert_eq!(names(&node.main()), [".plugnmeet-recorder"]);
    assert!(state.join("main_path.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_takes_writes_only_in_order_gets_the_raw_file() {
    let (node, leaves) = node().await;
    let backing = node.standin.dir().join("backing");
    let share = FaultyFs::mount(&backing, &node.main(), Abilities::NONE);
    let store = MainPath::new(&node.main(), &node.standin.dir().join("state"));
    main_path::first_look(&store).await;
    assert_eq!(store.status().fault, None);
    assert_eq!(store.abilities(), StoreAbilities { rewrite: false, rename: false, fsync: false });
    assert_eq!(names(&backing), [".plugnmeet-recorder"], "nothing is left of the trial");
    let bytes = leaves.bytes.as_ref().unwrap();
    let room = backing.join("node_01/room01");
    for id in ["file", "again"] {
        let fail = || share.break_down(Requests::Writes, Fault::Error(Errno::IO.raw_os_error()));
        let running = node.run_into(id, &leaves, Some(&store), fail).await;
        node.failures(id, 1).await;
        if id == "again" {
            // What a crash in the middle of the copy leaves.
            std::fs::write(room.join("again_raw.mkv"), &bytes[..bytes.len() / 2]).unwrap();
        }
        share.heal();
        node.assert_delivered(id, bytes, &backing).await;
        tokio::time::timeout(LIMIT, running.running).await.unwrap().unwrap();
    }
    node.assert_nothing_left();
    assert_eq!(names(&room), ["again_raw.json", "again_raw.mkv", "file_raw.json", "file_raw.mkv"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_cannot_be_read_now_is_not_taken_for_one_that_was_not_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let (backing, temporary) = (dir.path().join("backing"), dir.path().join("temporary"));
    for dir in [&backing, &temporary] {
        std::fs::create_dir(dir).unwrap();
    }
    let (recording, room) = (RecordingId::parse("one").unwrap(), RoomId::parse("room01").unwrap());
    let raw = RawFile::new(&temporary, &dir.path().join("main"), Path::new("node_01"), &recording, &room).unwrap();
    let part = raw.part_name(1);
    media(&backing.join(&part));
    let disk = FaultyFs::mount(&backing, &temporary, Abilities::ALL);
    disk.break_down(Requests::ReadsBeyond(0), Fault::Error(Errno::IO.raw_os_error()));
    for delivered in [false, true] {
        let error = raw.remove_parts(std::slice::from_ref(&part), delivered).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::IO.raw_os_error()), "{error}");
    }
    disk.heal();
    assert!(raw.remove_parts(std::slice::from_ref(&part), false).await.unwrap(), "it was not delivered, and is kept");
    assert!(!raw.remove_parts(&[part], true).await.unwrap());
    assert_eq!(names(&backing), [] as [String; 0]);
    drop(disk);
}
