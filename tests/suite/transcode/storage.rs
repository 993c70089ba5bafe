//! Jobs whose `main_path` fails, is away, or cannot do what a disk can.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use plugnmeet_recorder::storage::main_path::{self, MainPath, StoreAbilities};
use plugnmeet_recorder::transcode::claim;
use plugnmeet_recorder::transcode::job::{FilesToRemove, JobOutcome};
use plugnmeet_recorder::transcode::job_files::remove_until_gone;
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::{FRAMES, Node, assert_mp4, job_for, names, raw_like_ours, remove};
use crate::mounts::Mount;
use crate::standin::faulty_fs::{Abilities, Fault, FaultyFs, Requests};

const WAITS: JobOutcome = JobOutcome::Waiting(Duration::from_secs(300));

/// A node whose `main_path` can fail, with a raw file in it.
fn on_a_failing_disk() -> (Node, FaultyFs, PathBuf) {
    let node = Node::new(true);
    let share = FaultyFs::mount(&node.dir.path().join("backing"), &node.settings.main_path, Abilities::ALL);
    fs::create_dir_all(node.room()).unwrap();
    let raw = node.room().join("rec-1_raw.mkv");
    raw_like_ours(&raw);
    (node, share, raw)
}

#[tokio::test]
async fn a_job_whose_disk_fails_at_its_last_delivery_is_kept_until_the_disk_is_well() {
    let (node, share, raw) = on_a_failing_disk();
    let job = job_for(&node.room(), "rec-1_raw.mkv");
    for (requests, error) in [
        (Requests::Changes, Errno::NOSPC),
        (Requests::Changes, Errno::ROFS),
        (Requests::Changes, Errno::IO),
        // The input cannot be read either.
        (Requests::All, Errno::STALE),
        (Requests::All, Errno::IO),
    ] {
        share.break_down(requests, Fault::Error(error.raw_os_error()));
        assert_eq!(node.run(&job, 3).await, WAITS, "{error}");
        assert_eq!(node.told(), [], "{error}: it is not over");
    }
    share.heal();
    assert_eq!(node.run(&job, 3).await, remove(&raw));
    assert_eq!(assert_mp4(&node.mp4(), 10.0).video().unwrap().packets, FRAMES);
    node.assert_told_success();
    node.assert_holds(&["rec-1.mp4", "rec-1_raw.mkv"]);
}

#[tokio::test]
async fn the_files_of_a_job_that_is_done_are_removed_when_the_disk_is_well_again() {
    let mut node = Node::new(true);
    let (backing, main) = (node.dir.path().join("backing"), node.settings.main_path.clone());
    let share = FaultyFs::mount(&backing, &main, Abilities::ALL);
    fs::create_dir(&node.settings.state_dir).unwrap();
    node.settings.store = MainPath::new(&main, &node.settings.state_dir);
    // A thread of its own looks, for which a stopped clock would not wait.
    main_path::first_look(&node.settings.store).await;
    tokio::time::pause();
    fs::create_dir_all(node.room()).unwrap();
    let there = ["rec-1.claim", "rec-1_raw.json", "rec-1_raw.mkv"];
    for name in there {
        fs::write(node.room().join(name), "x").unwrap();
    }
    let (raw, claim) = (Some(node.room().join("rec-1_raw.mkv")), Some(node.room().join("rec-1.claim")));
    let files = FilesToRemove { raw, claim, remuxed: false, object: None };
    let attempt = |store: &MainPath| {
        let (files, store, end) = (files.clone(), store.clone(), CancellationToken::new());
        // The clock is stopped: this is many attempts, the last of which the end of the program meets.
        async move {
            let removal = remove_until_gone(&files, &store, None, &end);
            tokio::select! {
                gone = removal => gone,
                () = tokio::time::sleep(Duration::from_secs(3600)) => false,
            }
        }
    };
    for error in [Errno::IO, Errno::NOSPC, Errno::ROFS] {
        share.break_down(Requests::Changes, Fault::Error(error.raw_os_error()));
        assert!(!attempt(&node.settings.store).await, "{error}");
        assert_eq!(names(&node.room()), there, "{error}");
        share.heal();
    }
    // Of a share that is gone nothing is there to be removed: that shows nothing.
    drop(share);
    assert!(!attempt(&node.settings.store).await);
    let _share = FaultyFs::mount(&backing, &main, Abilities::ALL);
    assert!(attempt(&node.settings.store).await);
    node.assert_holds(&[]);
}

#[tokio::test]
async fn a_job_waits_for_a_share_that_is_gone_and_nothing_is_written_into_its_mount_point() {
    let mut node = Node::new(false);
    let (backing, main) = (node.dir.path().join("backing"), node.settings.main_path.clone());
    fs::create_dir(&backing).unwrap();
    // The mount point is not empty: a transcoder finds the raw file there, by the same name.
    raw_like_ours(&node.room().join("rec-1_raw.mkv"));
    let bare = names(&node.room());
    let mount = Mount::bind(&backing, &main);
    fs::create_dir(&node.settings.state_dir).unwrap();
    node.settings.store = MainPath::new(&main, &node.settings.state_dir);
    main_path::first_look(&node.settings.store).await;
    fs::create_dir_all(node.room()).unwrap();
    let raw = node.room().join("rec-1_raw.mkv");
    raw_like_ours(&raw);
    drop(mount);
    let job = job_for(&node.room(), "rec-1_raw.mkv");
    assert_eq!(node.run(&job, 3).await, WAITS);
    assert_eq!((node.told(), names(&node.room())), (vec![], bare));
    let _mount = Mount::bind(&backing, &main);
    assert_eq!(node.run(&job, 3).await, remove(&raw));
    node.assert_told_success();
}

#[tokio::test]
async fn an_mp4_is_on_its_disk_before_it_is_told_of_and_a_store_that_cannot_sync_gets_one_too() {
    let (node, share, raw) = on_a_failing_disk();
    let job = job_for(&node.room(), "rec-1_raw.mkv");
    share.break_down(Requests::Fsync, Fault::Error(Errno::IO.raw_os_error()));
    assert_eq!(node.run(&job, 3).await, WAITS);
    node.assert_holds(&["rec-1_raw.mkv"]);
    share.break_down(Requests::Fsync, Fault::Hang);
    let heal = async {
        share.wait_until_hanging(1).await;
        assert_eq!(node.told(), [], "it is not on its disk");
        share.heal();
    };
    let (outcome, ()) = tokio::join!(node.run(&job, 3), heal);
    assert_eq!(outcome, remove(&raw));
    node.assert_told_success();
    drop(share);

    let mut node = Node::new(true);
    let backing = node.dir.path().join("backing");
    let _share = FaultyFs::mount(&backing, &node.settings.main_path, Abilities { fsync: false, ..Abilities::ALL });
    let abilities = main_path::try_out(&node.settings.main_path).unwrap();
    assert_eq!(abilities, StoreAbilities { fsync: false, ..StoreAbilities::ALL });
    node.settings.store = MainPath::unwatched(&node.settings.main_path, abilities);
    fs::create_dir_all(node.room()).unwrap();
    let raw = node.room().join("rec-1_raw.mkv");
    raw_like_ours(&raw);
    assert_eq!(node.run(&job_for(&node.room(), "rec-1_raw.mkv"), 1).await, remove(&raw));
    node.assert_told_success();
}

#[tokio::test]
async fn a_store_that_takes_writes_only_in_order_gets_an_mp4_that_can_be_streamed() {
    let mut node = Node::new(true);
    let backing = node.dir.path().join("backing");
    let _share = FaultyFs::mount(&backing, &node.settings.main_path, Abilities::NONE);
    fs::create_dir_all(&node.settings.temporary_dir).unwrap();
    let abilities = main_path::try_out(&node.settings.main_path).unwrap();
    assert_eq!(abilities, StoreAbilities { rewrite: false, rename: false, fsync: false });
    node.settings.store = MainPath::unwatched(&node.settings.main_path, abilities);
    let room = backing.join("node_01/room01");
    fs::create_dir_all(&room).unwrap();
    raw_like_ours(&room.join("rec-1_raw.mkv"));
    let raw = node.room().join("rec-1_raw.mkv");
    let job = job_for(&node.room(), "rec-1_raw.mkv");
    for interrupted in [false, true] {
        if interrupted {
            // What a crash in the middle of the copy leaves.
            let mp4 = fs::read(room.join("rec-1.mp4")).unwrap();
            fs::write(room.join("rec-1.mp4"), &mp4[..mp4.len() / 2]).unwrap();
        }
        assert_eq!(node.run(&job, 1).await, remove(&raw));
        assert_eq!(assert_mp4(&node.mp4(), 10.0).video().unwrap().packets, FRAMES);
        assert_eq!(crate::measure::boxes(&node.mp4())[..2], ["ftyp", "moov"]);
        node.assert_told_success();
        node.assert_holds(&["rec-1.mp4", "rec-1_raw.mkv"]);
        assert_eq!(names(&node.settings.temporary_dir), [] as [String; 0]);
    }

    // Another node that died has left its claim.
    let path = room.join(".rec-1.mp4.claim");
    fs::write(&path, "node_09").unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    fs::File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
    assert_eq!(node.run(&job, 1).await, remove(&raw));
    node.assert_told_success();
    assert!(!claim::path(&node.mp4()).exists());
}
