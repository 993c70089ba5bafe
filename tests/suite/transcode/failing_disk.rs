//! A raw file that cannot be read to its end: ffmpeg and ffprobe take a disk's error for the end of the file.

use std::fs;
use std::time::Duration;

use plugnmeet_recorder::media::ffprobe;
use plugnmeet_recorder::protocol::notice::NoticeEvent;
use plugnmeet_recorder::transcode::job::{FilesToRemove, JobOutcome};
use rustix::io::Errno;

use super::{Node, assert_mp4, ffmpeg, job_for, remove};
use crate::standin::faulty_fs::{Abilities, Fault, FaultyFs, Requests};

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_file_that_cannot_be_read_to_its_end_is_never_removed_and_at_last_delivered_as_far_as_it_can_be() {
    let node = Node::new(true);
    let main_path = node.settings.main_path.clone();
    let backing = node.dir.path().join("backing");
    fs::rename(&main_path, &backing).unwrap();
    let raw = backing.join("node_01/room01/rec-1_raw.mkv");
    // Some 5.8 MB of sound.
    ffmpeg(
        "-f lavfi -i testsrc2=s=320x180:r=10:d=30 -f lavfi -i sine=d=30:r=48000 -c:v libx264 -preset ultrafast -bf 0 -g 40 -c:a pcm_s16le -ac 2 -f matroska",
        &raw,
    );
    let half = fs::metadata(&raw).unwrap().len() / 2;
    let disk = FaultyFs::mount(&backing, &main_path, Abilities::ALL);
    disk.break_down(Requests::ReadsBeyond(half), Fault::Error(Errno::IO.raw_os_error()));
    let job = job_for(&node.room(), "rec-1_raw.mkv");
    let entry = node.entry(&job, 1).await;
    assert_eq!(node.go_on(&job, &entry).await, JobOutcome::Again(Duration::from_secs(30)));
    assert_eq!(node.told(), []);
    node.assert_holds(&["rec-1_raw.mkv"]);

    // It is still so at the last delivery.
    let entry = node.entry(&job, 3).await;
    assert!(matches!(node.go_on(&job, &entry).await, JobOutcome::Done(FilesToRemove { raw: None, remuxed: true, .. })));
    let told = node.told();
    let [NoticeEvent::Proceeded { note: Some(said), .. }, NoticeEvent::Finished(Ok(()))] = &told[..] else {
        panic!("{told:?}")
    };
    assert!(said.contains("Input/output error"), "{said}");
    let made = ffprobe::measure(&node.mp4()).await.unwrap().duration.as_secs_f64();
    assert!((10.0..18.0).contains(&made), "{made}");
    node.assert_holds(&["rec-1.mp4", "rec-1_raw.mkv"]);

    // The disk is mended, and the operator wants it tried again.
    disk.heal();
    entry.update(|record| (record.steps.anew, record.steps.remuxed) = (true, None)).await;
    assert_eq!(node.go_on(&job, &entry).await, remove(&node.room().join("rec-1_raw.mkv")));
    assert_mp4(&node.mp4(), 30.0);
    node.assert_told_success();
    drop(disk);
}
