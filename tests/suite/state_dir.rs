//! A node whose state directory is on a disk that hangs, and where that directory is by default. Without Chrome.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use plugnmeet_recorder::config::{self, RecorderConfig};
use plugnmeet_recorder::node::state_dir::{self, StateDirectories};
use plugnmeet_recorder::protocol::access::RoomAccess;
use plugnmeet_recorder::protocol::ids::{AccessToken, RecordingId, RoomId, RoomSid, RtmpUrl};
use plugnmeet_recorder::protocol::messages::{RecordingTasks, StatusCode};
use plugnmeet_recorder::protocol::request::{Output, RecordingInfo, Start};
use plugnmeet_recorder::recording::journal::RecordingJournal;
use plugnmeet_recorder::storage::file_system::{self, FileSystemKind};
use plugnmeet_recorder::storage::record_writer::RecordWriter;
use rustix::io::Errno;
use rustix::process::Signal;

use crate::recorder::{Recorder, SOON, Setup};
use crate::standin::faulty_fs::{Abilities, Fault, FaultyFs, Requests};
use crate::standin::{Deployment, Meeting, Standin};

const ID: &str = "node_01";

async fn standin() -> Standin {
    Standin::start(Deployment::default()).await.unwrap()
}

/// A node whose state directory can be made to hang.
struct HangingNode {
    /// The directory behind the state directory.
    backing: PathBuf,
    /// Dropped before the recorder, which cannot even be killed while the kernel waits for this disk.
    disk: FaultyFs,
    recorder: Recorder,
}

impl HangingNode {
    /// Starts it, with a disk that hangs already or not.
    fn spawn(standin: &Standin, hangs: bool) -> Self {
        let (backing, place) = (standin.dir().join("backing"), standin.dir().join("share"));
        let disk = FaultyFs::mount(&backing, &place, Abilities::ALL);
        // Opens no meeting, and does not end by itself.
        let chrome = standin.dir().join("chrome.sh");
        std::fs::write(&chrome, "#!/bin/sh\nexec sleep 1000\n").unwrap();
        std::fs::set_permissions(&chrome, std::fs::Permissions::from_mode(0o755)).unwrap();
        let setup = Setup {
            recorder: format!("  state_dir: {}/state\n", place.display()),
            sections: format!("chrome_settings:\n  custom_chrome_path: {}\n", chrome.display()),
            mode: Some("recorderOnly"),
            ..Setup::default()
        };
        if hangs {
            disk.break_down(Requests::All, Fault::Hang);
        }
        let recorder = Recorder::spawn(standin, ID, &setup);
        Self { backing: backing.join("state"), disk, recorder }
    }

    fn hang(&self) {
        self.disk.break_down(Requests::All, Fault::Hang);
    }

    fn records(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.backing.join("recordings")).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    }
}

fn broadcast(id: &str) -> Start {
    Start {
        info: RecordingInfo {
            room_table_id: 7,
            room_id: RoomId::parse("room01").unwrap(),
            room_sid: RoomSid::default(),
            recording_id: RecordingId::parse(id).unwrap(),
        },
        access: RoomAccess::Token(AccessToken::parse("token").unwrap()),
        output: Output::Rtmp(RtmpUrl::parse("rtmp://localhost/live/key").unwrap()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_dir_that_hangs_delays_no_answer_no_stop_no_notice_and_no_end() {
    let standin = standin().await;
    let mut node = HangingNode::spawn(&standin, false);
    standin.fleet.wait_selectable(ID, SOON).await.unwrap();
    let (one, two) = (standin.meeting(Meeting::default()), standin.meeting(Meeting::default()));
    let answer = async |request| standin.fleet.request(&request).await.unwrap().response.expect("an answer within 3 s");
    let start = |room: &crate::standin::Room, id| room.request(RecordingTasks::StartRecording, id, ID);
    assert!(answer(start(&one, "one")).await.status);

    node.hang();
    let refused = answer(start(&two, "two")).await;
    assert_eq!((refused.status, refused.status_code()), (false, StatusCode::Internal), "{refused:?}");
    assert_eq!(refused.msg, "this recorder cannot write down what it takes on [PNR-0246]");
    node.recorder.wait_until_gone_from_choice(&standin).await;
    assert!(answer(one.request(RecordingTasks::Stop, "one", "")).await.status);
    let ended = standin.notices.wait_for(RecordingTasks::EndRecording, "one", SOON).await;
    let ended = ended.unwrap_or_else(|error| panic!("{error:#}\n{}", node.recorder.log())).message;
    assert!(ended.status, "{}", ended.msg);

    // All of it is written when the disk takes it, and nothing of the recording that was refused.
    node.disk.heal();
    node.recorder.wait_for_log("are written again").await;
    node.recorder.wait_until("the ended recording has no record", || node.records().is_empty()).await;
    assert!(node.backing.join("outbox/one.json").exists());
    standin.fleet.wait_selectable(ID, SOON).await.unwrap();

    node.hang();
    let refused = answer(start(&two, "three")).await;
    assert!(!refused.status, "{refused:?}");
    node.recorder.wait_until_gone_from_choice(&standin).await;
    node.recorder.signal(Signal::TERM);
    node.recorder.wait_for_log("stopped").await;
    // The kernel ends a process only when its disk has answered.
    node.disk.heal();
    let status = node.recorder.wait_for_end().await;
    assert!(status.success(), "{status}\n{}", node.recorder.log());
    node.recorder.restart();
    standin.fleet.wait_selectable(ID, SOON).await.unwrap();
    let log = node.recorder.stop(&[&one.token, &two.token]);
    assert!(log.contains("recorder.state_dir is on a file system that may hang"), "{log}");
    assert!(!log.contains("joining the meeting again"), "{log}");
    assert_eq!(standin.notices.tasks_of("two"), []);
    assert_eq!(standin.notices.tasks_of("three"), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_referred_to_a_node_that_hangs_is_refused_in_time_and_never_taken_on_later() {
    let standin = standin().await;
    let node = HangingNode::spawn(&standin, false);
    standin.fleet.wait_selectable(ID, SOON).await.unwrap();
    // It never has room, so it refers whatever it is asked.
    let setup =
        Setup { recorder: "  min_free_space: 1000TiB\n".into(), mode: Some("recorderOnly"), ..Setup::default() };
    let full = Recorder::spawn(&standin, "node_02", &setup);
    full.wait_for_log("this node takes no new recording for now").await;
    let rooms: [_; 3] = std::array::from_fn(|_| standin.meeting(Meeting::default()));
    let start = async |n: usize, id| {
        let request = rooms[n].request(RecordingTasks::StartRecording, id, "node_02");
        let answer = standin.fleet.request(&request).await.unwrap().response;
        answer.unwrap_or_else(|| panic!("no answer within 3 s:\n{}\n{}", node.recorder.log(), full.log()))
    };

    node.hang();
    assert!(!start(0, "disk").await.status);
    full.wait_for_log("node_01 does not take it on either: this recorder cannot write down").await;
    // It has noticed by that start, so it does not offer itself for the next one.
    node.recorder.wait_for_log("this node takes no new recording for now").await;
    node.disk.heal();
    node.recorder.wait_for_log("are written again").await;
    standin.fleet.wait_selectable(ID, SOON).await.unwrap();

    node.recorder.signal(Signal::STOP);
    let stopped = start(1, "stopped").await;
    node.recorder.signal(Signal::CONT);
    assert!(!stopped.status);
    full.wait_for_log("no other node has room").await;

    // What it was asked meanwhile it has heard before this.
    assert!(start(2, "well").await.status);
    node.recorder.wait_until("one record", || node.records().len() == 1).await;
    assert!(node.records()[0].ends_with("well.json"), "{:?}", node.records());
    for id in ["disk", "stopped"] {
        assert_eq!(standin.notices.tasks_of(id), []);
    }
    let stop = rooms[2].request(RecordingTasks::Stop, "well", "");
    assert!(standin.fleet.request(&stop).await.unwrap().response.is_some_and(|response| response.status));
    node.recorder.stop(&[]);
    full.stop(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_hangs_on_a_disk_ends_when_it_is_told_to() {
    let standin = standin().await;
    let mut node = HangingNode::spawn(&standin, true);
    node.disk.wait_until_hanging(1).await;
    node.recorder.signal(Signal::TERM);
    node.recorder.wait_for_log("a disk that it needs does not answer").await;
    node.disk.heal();
    let status = node.recorder.wait_for_end().await;
    assert_eq!(status.code(), Some(1), "{}", node.recorder.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_written_at_once_share_the_sync_of_their_directory() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("share");
    let disk = FaultyFs::mount(&dir.path().join("backing"), &place, Abilities::ALL);
    let journal = RecordingJournal::new(&place);
    journal.begin(&broadcast("first")).await;
    let before = disk.synced_directories();
    disk.break_down(Requests::Fsync, Fault::Hang);
    let starts: Vec<Start> = (0..100).map(|n| broadcast(&format!("rec-{n}"))).collect();
    let begun = starts.iter().map(|start| journal.begin(start));
    let healed = async {
        disk.wait_until_hanging(1).await;
        disk.heal();
    };
    tokio::join!(futures::future::join_all(begun), healed);
    assert_eq!(std::fs::read_dir(dir.path().join("backing/broadcasts")).unwrap().count(), 101);
    let syncs = disk.synced_directories() - before;
    assert!(syncs <= 3, "{syncs} for 100 records");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_or_full_directory_is_at_fault_until_it_takes_a_file_again() {
    for (requests, error) in [(Requests::Changes, Errno::ROFS), (Requests::Contents, Errno::NOSPC)] {
        let dir = tempfile::tempdir().unwrap();
        let (backing, place) = (dir.path().join("backing"), dir.path().join("share"));
        let disk = FaultyFs::mount(&backing, &place, Abilities::ALL);
        let writer = RecordWriter::new(place.clone(), "records", false);
        let fault = writer.fault();
        disk.break_down(requests, Fault::Error(error.raw_os_error()));
        let path = place.join("refused.json");
        assert!(writer.write(&path, b"{}".to_vec()).within(SOON).await.is_err());
        // What was never written can be removed; but that does not mean that the disk is well.
        let removed = writer.remove(&path).within(SOON).await;
        assert!(removed.is_err() && fault.borrow().is_some(), "{error}: a removal ends the fault: {removed:?}");
        disk.heal();
        writer.remove(&path).settled(SOON).await.unwrap();
        assert_eq!((fault.borrow().clone(), std::fs::read_dir(&backing).unwrap().count()), (None, 0));
        writer.write(&path, b"{}".to_vec()).within(SOON).await.unwrap();
        assert_eq!(std::fs::read(backing.join("refused.json")).unwrap(), b"{}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_of_an_earlier_run_is_taken_up_without_nats() {
    let standin = standin().await;
    let state = standin.dir().join("state");
    RecordingJournal::new(&state).begin(&broadcast("live")).await;
    // The server knows no such room; so it is tried once.
    let recorder = format!("  state_dir: {}\n  rejoin_for: 0s\n", state.display());
    let setup = Setup { nats_url: Some("nats://127.0.0.1:9".into()), recorder, ..Setup::default() };
    let recorder = Recorder::spawn(&standin, ID, &setup);
    let told = standin.notices.wait_for(RecordingTasks::EndRtmp, "live", SOON).await;
    assert!(told.is_ok_and(|told| !told.message.status), "{}", recorder.log());
    recorder.wait_until("its record is gone", || !state.join("broadcasts/live.json").exists()).await;
    assert!(!recorder.log().contains("connected to NATS"));
    recorder.stop(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_finds_the_directory_that_systemd_gave_to_the_service() {
    let standin = standin().await;
    let given = standin.dir().join("given");
    let setup = Setup { state_directory: Some(given.clone()), ..Setup::default() };
    let recorder = Recorder::start(&standin, ID, &setup).await;
    assert!(given.join(ID).join("lock").exists(), "{}", recorder.log());
    let config = recorder.temporary_dir.with_file_name("config.yaml");
    let list = Command::new(env!("CARGO_BIN_EXE_plugnmeet-recorder"))
        .args(["-config", config.to_str().unwrap(), "recordings", "list"])
        .env("STATE_DIRECTORY", &given)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(list.status.success() && said.contains("runs"), "{said} {}", String::from_utf8_lossy(&list.stderr));
    recorder.stop(&[]);
}

fn recorder_config(temporary_dir: &Path) -> RecorderConfig {
    let text = format!(
        "recorder:\n  id: {ID}\n  temporary_dir: {}\n  copy_to_path: {{main_path: /m}}\nplugNmeet_info:\n  host: http://localhost\n  \
         api_key: k\n  api_secret: a-secret-of-this-test\nnats_info:\n  nats_urls: [nats://127.0.0.1:4222]\n",
        temporary_dir.display()
    );
    config::parse(&text, "config.yaml").unwrap_or_else(|problems| panic!("{problems}")).0.recorder
}

#[tokio::test(flavor = "multi_thread")]
async fn records_in_the_default_directory_of_an_earlier_version_are_still_found() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = recorder_config(&dir.path().join("temporary"));
    let former = dir.path().join(format!("temporary/.state-{ID}"));
    let host = StateDirectories { of_service: None, of_host: dir.path().join("var-lib") };
    let service = StateDirectories { of_service: Some(dir.path().join("given").into()), ..host.clone() };
    let choose = |directories: &StateDirectories| state_dir::choose(&recorder, directories, true);
    // Nothing is there: a directory of this host, if its disk lasts.
    let lasts = file_system::kind(dir.path()).unwrap() == FileSystemKind::Local;
    assert_eq!(choose(&host), if lasts { dir.path().join("var-lib").join(ID) } else { former.clone() });
    assert_eq!(choose(&service), dir.path().join("given").join(ID));
    let own = StateDirectories { of_service: Some(dir.path().join("given/node_01:/x").into()), ..host.clone() };
    assert_eq!(choose(&own), dir.path().join("given").join(ID));
    // What a reboot empties is no place.
    let volatile = StateDirectories { of_host: "/dev/shm/nowhere".into(), ..host };
    assert_eq!(choose(&volatile), former);

    let entry = RecordingJournal::new(&former).begin(&broadcast("live")).await;
    assert_eq!(choose(&service), former);
    entry.remove().await;
    assert_eq!(choose(&service), dir.path().join("given").join(ID));
    let set = RecorderConfig { state_dir: "/set".into(), default_state_dir: false, ..recorder.clone() };
    assert_eq!(state_dir::choose(&set, &service, true), Path::new("/set"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "looking creates nothing");
}
