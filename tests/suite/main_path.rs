//! The real program and a share that comes and goes, without any Chrome.

use std::path::PathBuf;
use std::time::Duration;

use plugnmeet_recorder::capture::rig::CaptureReport;
use plugnmeet_recorder::nats::Nats;
use plugnmeet_recorder::protocol::access::RoomAccess;
use plugnmeet_recorder::protocol::ids::{AccessToken, RecorderId, RecordingId, RoomId, RoomSid};
use plugnmeet_recorder::protocol::job::Job;
use plugnmeet_recorder::protocol::messages::RecordingTasks;
use plugnmeet_recorder::protocol::request::{Output, RecordingInfo, Start};
use plugnmeet_recorder::recording::journal::{RecordingJournal, StopRequest};
use plugnmeet_recorder::transcode::journal::{JobJournal, JobRecord, JobState};
use tokio_util::sync::CancellationToken;

use crate::driver::connection;
use crate::mounts::Mount;
use crate::recorder::{Recorder, SOON, Setup};
use crate::standin::{Deployment, Meeting, Standin};
use crate::survival::raw_file;
use crate::transcode::names;
use crate::workers::ask;

const FINISHED: RecordingTasks = RecordingTasks::RecordingTranscodingFinished;

/// A directory, and where it is to be mounted.
fn share(standin: &Standin) -> (PathBuf, PathBuf) {
    let [backing, main] = ["backing", "main"].map(|name| standin.dir().join(name));
    for dir in [&backing, &main] {
        std::fs::create_dir(dir).unwrap();
    }
    (backing, main)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_share_is_gone_takes_no_work_and_goes_on_when_it_is_back() {
    let standin = Standin::start(Deployment::default()).await.unwrap();
    let (backing, main) = share(&standin);
    let mount = Mount::bind(&backing, &main);
    let setup =
        Setup { main_path: Some(main.clone()), recorder: "  post_mp4_convert: false\n".into(), ..Setup::default() };
    let mut recorder = Recorder::start(&standin, "node_01", &setup).await;
    assert_eq!(names(&backing), [".plugnmeet-recorder", "node_01"], "no trial is left");
    let (_, task) = raw_file(&main.join("node_01/room01"), "RM_1", "320x180", 2);
    drop(mount);
    recorder.wait_for_log("is not the file system that it was").await;
    recorder.wait_until_gone_from_choice(&standin).await;
    let closed = "no transcoding jobs are taken until main_path can be used";
    recorder.wait_for_log(closed).await;
    let room = standin.meeting(Meeting::default());
    let answer = standin.fleet.start_recording(&room, "refused", "node_01").await.unwrap().response.unwrap();
    assert!(!answer.status && answer.msg.contains("storage"), "{answer:?}");
    assert!(recorder.log().contains("main_path.json"), "it is said how another disk is accepted");
    standin.fleet.publish_job(task).await.unwrap();

    // A restart finds it gone as well.
    recorder.kill();
    let before = recorder.log().matches("is not the file system").count();
    recorder.restart();
    let again = || recorder.log().matches("is not the file system").count() > before;
    recorder.wait_until("it is noticed again", again).await;
    recorder.wait_until("nor does it take jobs", || recorder.log().matches(closed).count() == 2).await;
    assert_eq!(standin.fleet.queue().await.unwrap().ack_pending, 0, "{}", recorder.log());
    assert_eq!(names(&main), [] as [String; 0], "the bare mount point");

    let mount = Mount::bind(&backing, &main);
    let finished = standin.notices.wait_for(FINISHED, "RM_1", SOON).await;
    assert!(finished.unwrap_or_else(|why| panic!("{why:#}\n{}", recorder.log())).message.status);
    standin.fleet.wait_selectable("node_01", SOON).await.unwrap();
    // The raw file goes, then the claim beside it.
    let dir = main.join("node_01/room01");
    recorder.wait_until("only the MP4 is left", || names(&dir) == ["RM_1.mp4"]).await;
    drop(recorder.stop(&[]));
    drop(mount);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_that_is_not_stored_yet_is_told_of_and_listed_with_its_next_try() {
    let standin = Standin::start(Deployment::default()).await.unwrap();
    let (backing, main) = share(&standin);
    let mount = Mount::bind(&backing, &main);
    let setup =
        Setup { main_path: Some(main.clone()), recorder: "  post_mp4_convert: false\n".into(), ..Setup::default() };
    let mut recorder = Recorder::start(&standin, "node_01", &setup).await;
    recorder.kill();
    // As a run leaves it that was killed just after the capture had ended.
    let info = RecordingInfo {
        room_table_id: 7,
        room_id: RoomId::parse("room01").unwrap(),
        room_sid: RoomSid::default(),
        recording_id: RecordingId::parse("RM_1").unwrap(),
    };
    let access = RoomAccess::Token(AccessToken::parse("token").unwrap());
    let entry = RecordingJournal::new(&recorder.state_dir()).begin(&Start { info, access, output: Output::File }).await;
    entry.add_part(|n| format!("RM_1_raw.part{n}.mkv")).await;
    entry.part_began().await;
    entry.part_ended(None, CaptureReport::default()).await;
    entry.update(|record| record.stop = Some(StopRequest { reason: None })).await;
    let (raw, _) = raw_file(&recorder.temporary_dir, "RM_1", "320x180", 2);
    std::fs::rename(raw, recorder.temporary_dir.join("RM_1_raw.part1.mkv")).unwrap();

    mount.read_only(true);
    recorder.restart();
    let ended = standin.notices.wait_for(RecordingTasks::EndRecording, "RM_1", SOON).await;
    assert!(ended.unwrap_or_else(|why| panic!("{why:#}\n{}", recorder.log())).message.status);
    let listed = || ask(&recorder, "recordings list");
    recorder.wait_until("it is listed", || listed().contains("ended; the raw file is not stored yet, next try")).await;
    assert!(listed().contains("Read-only file system") || listed().contains("read-only"), "{}", listed());
    recorder.wait_for_log("main_path: ").await;
    // One try has failed.
    recorder.wait_for_log("the raw file cannot be stored yet").await;
    mount.read_only(false);
    let finished = standin.notices.wait_for(FINISHED, "RM_1", SOON).await;
    assert!(finished.unwrap_or_else(|why| panic!("{why:#}\n{}", recorder.log())).message.status);
    recorder.wait_until("nothing is left of it", || names(&main.join("node_01/room01")) == ["RM_1.mp4"]).await;
    assert!(listed().starts_with("nothing"), "{}", listed());
    drop(recorder.stop(&[]));
    drop(mount);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_has_waited_here_after_its_last_delivery_is_done_and_leaves_the_queue() {
    let standin = Standin::start(Deployment::default()).await.unwrap();
    let (server, config) = connection(&standin);
    let (never, me) = (CancellationToken::new(), RecorderId::parse("node_02").unwrap());
    let nats = Nats::connect(&config, &server, &me, &never).await.unwrap();
    let (_backing, main) = share(&standin);
    let (_, task) = raw_file(&main.join("node_01/room01"), "RM_1", "320x180", 2);
    standin.fleet.publish_job(task.clone()).await.unwrap();
    let mut jobs = nats.jobs(&never).await.unwrap();
    let mut message = jobs.next(&never).await.unwrap();
    while message.delivered() < jobs.max_deliver().unwrap() {
        message.nak(Duration::ZERO).await.unwrap();
        message = jobs.next(&never).await.unwrap();
    }

    // As a node leaves it that could not reach its share.
    let setup = Setup {
        main_path: Some(main.clone()),
        mode: Some("transcoderOnly"),
        recorder: "  post_mp4_convert: false\n".into(),
        ..Setup::default()
    };
    let mut recorder = Recorder::spawn(&standin, "node_02", &setup);
    recorder.wait_for_log("connected to NATS").await;
    recorder.kill();
    let job = Job::decode(&task).unwrap();
    let mut record = JobRecord::new(&job, &task, message.ack_to().map(str::to_owned), message.delivered());
    record = record.with_state(JobState::Waiting { since: 1, until: u64::MAX }, Some("main_path is away".into()));
    let path = JobJournal::new(&recorder.state_dir()).path("RM_1");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, serde_json::to_vec(&record).unwrap()).unwrap();
    assert!(ask(&recorder, "jobs list").contains("waits, next try"));
    record.state = JobState::Waiting { since: 1, until: 2 };
    std::fs::write(&path, serde_json::to_vec(&record).unwrap()).unwrap();
    recorder.restart();
    let finished = standin.notices.wait_for(FINISHED, "RM_1", SOON).await;
    assert!(finished.unwrap_or_else(|why| panic!("{why:#}\n{}", recorder.log())).message.status);
    recorder.wait_until("its record is removed", || !path.exists()).await;
    assert_eq!(standin.fleet.queue().await.unwrap().messages, 0, "{}", recorder.log());
    recorder.stop(&[]);
}
