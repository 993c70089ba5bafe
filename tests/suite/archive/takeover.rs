//! Whole nodes, of which one is destroyed, cut off, or stands still for too long.

use plugnmeet_recorder::archive::part_upload::PartUpload;
use plugnmeet_recorder::storage::growing_file::Growth;
use rustix::process::Signal;

use super::pieces::{archive, file, raw, recording};

use crate::recorder::{Recorder, SOON, Setup, turn};
use crate::recording::{ENDED, FINISHED, record, standin, stop, wait_for};
use crate::standin::Meeting;
use crate::standin::object_store::{Kind, ObjectStore, SECRET};
use crate::standin::store_line::{Ask, Fault, StoreLine};
use crate::survival::{PROCEEDED, STARTED, delivered, length, play, quick};
use crate::transcode::names;
use crate::workers::ask;

/// Of a recording that is read by the clock of another node, in seconds.
const LOST_LIMIT: f64 = 10.0;

fn archiving(store: &ObjectStore, mode: &'static str, main_path: &std::path::Path) -> Setup {
    archiving_to(&format!("archive: \"{}\"", ObjectStore::url(store.port, "live")), mode, main_path)
}

fn archiving_to(archive: &str, mode: &'static str, main_path: &std::path::Path) -> Setup {
    let storage = format!("storage:\n  takeover_after: 15s\n  {archive}\n");
    Setup { mode: Some(mode), main_path: Some(main_path.to_owned()), sections: storage, ..quick() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_whose_host_is_destroyed_goes_on_at_another_node_and_becomes_one_mp4() {
    let turn = turn().await;
    let (standin, store) = (standin().await, ObjectStore::start(Kind::Moto).await.unwrap());
    let main_path = standin.dir().join("share");
    // The archive of the room is that of a rule.
    let (other, ruled) = (ObjectStore::url(store.port, "other"), ObjectStore::url(store.port, "live"));
    let storage = format!("archive: \"{other}\"\n  rules: [{{room: \"room-*\", archive: \"{ruled}\"}}]");
    let setup = |mode| archiving_to(&storage, mode, &main_path);
    let mut first = Recorder::start(&standin, "node_01", &setup("recorderOnly")).await;
    let room = standin.meeting(Meeting { webcams: 1, ..Meeting::default() });
    record(&standin, &first, &room, "rec").await;
    let second = Recorder::start(&standin, "node_02", &setup("both")).await;
    play(12.0).await;
    let keys = store.keys();
    let of_room = |of: &str| keys.iter().filter(|key| key.starts_with(of) && key.contains(&room.id)).count();
    assert!(of_room("live/") > 2 && of_room("other/") == 0, "{keys:?}");
    first.kill();
    let killed = tokio::time::Instant::now();
    second.wait_for_log("taken over from the archive").await;
    room.wait_for_join(2, SOON).await.unwrap_or_else(|why| panic!("{why:#}\n{}", second.log()));
    second.wait_for_started(1).await;
    let away = killed.elapsed();
    play(5.0).await;
    stop(&standin, &room, "rec").await;
    let (ok, msg) = wait_for(&standin, &second, ENDED, "rec").await;
    drop(turn);
    assert!(ok, "{msg}");
    let (mp4, summary) = delivered(&standin, &second, &room, "rec").await;
    let lasted = length(&mp4);
    println!("12 s, away for {away:.1?}, 5 s: became {lasted:.1} s; {summary}");
    assert!((17.0 - LOST_LIMIT..40.0).contains(&lasted), "{lasted}");
    assert_eq!(summary["parts"], 2, "{summary}");
    let [gap] = &summary["gaps"].as_array().unwrap()[..] else { panic!("{summary}") };
    let (at, length) = (gap["at_s"].as_f64().unwrap(), gap["length_s"].as_f64().unwrap());
    assert!(at >= 12.0 - LOST_LIMIT && length > 10.0, "{summary}");
    assert_eq!(standin.notices.tasks_of("rec").iter().filter(|task| **task == STARTED).count(), 1);
    second
        .wait_until("nothing of it is in the archive", || store.keys().iter().all(|key| key.contains(".ended")))
        .await;
    second.stop(&[SECRET]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_whose_meeting_is_over_when_its_node_is_gone_ends_with_the_cause() {
    let turn = turn().await;
    let (standin, store) = (standin().await, ObjectStore::start(Kind::Moto).await.unwrap());
    let main_path = standin.dir().join("share");
    let mut first = Recorder::start(&standin, "node_01", &archiving(&store, "recorderOnly", &main_path)).await;
    let room = standin.meeting(Meeting { webcams: 1, ..Meeting::default() });
    record(&standin, &first, &room, "rec").await;
    // Two others, which see it gone at the same instant: each waits before it asks whether the recording is over.
    let mut line = StoreLine::to(store.port).await;
    let storage = format!("archive: \"{}\"", ObjectStore::url(line.port, "live"));
    let second = Recorder::start(&standin, "node_02", &archiving_to(&storage, "both", &main_path)).await;
    let third = Recorder::start(&standin, "node_03", &archiving_to(&storage, "both", &main_path)).await;
    play(12.0).await;
    let asked = line.seen(Ask::Head).len();
    line.fails(Ask::Head, Fault::Wait, usize::MAX);
    first.kill();
    room.end("Room ended", "The host has closed the room.");
    drop(turn);
    line.wait_for(Ask::Head, asked + 2).await;
    line.is_well();
    let (ok, msg) = wait_for(&standin, &second, ENDED, "rec").await;
    assert_eq!((ok, msg.as_str()), (false, "its recorder node_01 is gone"), "{}", second.log());
    let ended = standin.notices.of("rec").into_iter().find(|notice| notice.task() == ENDED).unwrap();
    let taker = if ended.message.recorder_id == second.id { &second } else { &third };
    let (mp4, summary) = delivered(&standin, taker, &room, "rec").await;
    assert!(length(&mp4) >= 12.0 - LOST_LIMIT, "{} {summary}", length(&mp4));
    assert_eq!(room.presence().joins, 1);

    // The first one comes back: the recording is not its any more, and was told.
    first.restart();
    first.wait_for_log("another node has taken this recording over while this one was away").await;
    first.wait_until("it has forgotten it", || names(&first.state_dir().join("recordings")).is_empty()).await;
    let ended = standin.notices.tasks_of("rec").into_iter().filter(|task| *task == ENDED).count();
    let made = standin.notices.tasks_of("rec").into_iter().filter(|task| *task == PROCEEDED).count();
    assert_eq!((ended, made), (1, 1), "{}", first.log());
    let took = [&second, &third].map(|node| node.log().matches("it is taken over from the archive").count());
    assert_eq!(took.iter().sum::<usize>(), 1, "{took:?}");
    first.stop(&[SECRET]);
    second.stop(&[SECRET]);
    third.stop(&[SECRET]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stood_still_leaves_its_recording_to_the_one_that_has_it_now() {
    let turn = turn().await;
    let (standin, store) = (standin().await, ObjectStore::start(Kind::Moto).await.unwrap());
    let main_path = standin.dir().join("share");
    let first = Recorder::start(&standin, "node_01", &archiving(&store, "recorderOnly", &main_path)).await;
    let room = standin.meeting(Meeting { webcams: 1, ..Meeting::default() });
    record(&standin, &first, &room, "rec").await;
    let second = Recorder::start(&standin, "node_02", &archiving(&store, "both", &main_path)).await;
    play(8.0).await;
    first.signal(Signal::STOP);
    second.wait_for_log("taken over from the archive").await;
    // Its page is in the meeting for as long as it does not know.
    first.signal(Signal::CONT);
    first.wait_for_log("another node has taken this recording over").await;
    first.wait_until("it has forgotten it", || names(&first.state_dir().join("recordings")).is_empty()).await;
    second.wait_for_started(1).await;
    play(4.0).await;
    stop(&standin, &room, "rec").await;
    let (ok, msg) = wait_for(&standin, &second, ENDED, "rec").await;
    drop(turn);
    assert!(ok, "{msg}\n{}", second.log());
    let (mp4, summary) = delivered(&standin, &second, &room, "rec").await;
    // With what the first one recorded until it knew, and handed in after it had lost the recording.
    println!("{:.1} s: {summary}", length(&mp4));
    assert!(length(&mp4) >= 8.0 + 15.0 + 4.0 - LOST_LIMIT, "{} {summary}", length(&mp4));
    let ended = standin.notices.tasks_of("rec").into_iter().filter(|task| *task == ENDED).count();
    assert_eq!(ended, 1, "{}", first.log());
    first.stop(&[SECRET]);
    second.stop(&[SECRET]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_archive_has_of_a_recording_becomes_an_mp4_by_hand_where_no_lease_can_be_taken() {
    // rclone's server replaces an object that must not be there.
    let (standin, store) = (standin().await, ObjectStore::start(Kind::Rclone).await.unwrap());
    let dir = tempfile::tempdir().unwrap();
    let gone = archive(&ObjectStore::url(store.port, "live"), "node_01");
    gone.begin(&recording()).await.unwrap();
    PartUpload::start(&gone, file(&gone, &raw(dir.path())), Growth::Complete).finish().await;
    let main_path = standin.dir().join("share");
    let node = Recorder::start(&standin, "node_02", &archiving(&store, "both", &main_path)).await;
    node.wait_for_log("PNR-1435").await;
    let asked = ask(&node, "recordings rebuild s3://recordings/live/room01/RM_1");
    assert!(asked.contains("the MP4 of room01/RM_1 is made from the archive"), "{asked}");
    let (ok, msg) = wait_for(&standin, &node, ENDED, "RM_1").await;
    assert_eq!((ok, msg.as_str()), (false, "it was put together from the archive by an operator"), "{}", node.log());
    wait_for(&standin, &node, FINISHED, "RM_1").await;
    let mp4 = main_path.join("node_02/room01/RM_1.mp4");
    assert!((length(&mp4) - 20.0).abs() < 0.3, "{}", length(&mp4));
    let orders = node.state_dir().join("rebuild-requests");
    node.wait_until("the order is carried out", || names(&orders).is_empty()).await;
    node.stop(&[SECRET]);
}
