//! Jobs that come again, and what an attempt before has left.

use std::fs;
use std::time::Duration;

use plugnmeet_recorder::transcode::job::JobOutcome;

use super::{Node, assert_mp4, done, ffmpeg, job_for, raw_like_ours, remove};

#[tokio::test]
async fn a_job_that_comes_again_is_only_announced_again() {
    let node = Node::new(false);
    let raw = node.room().join("rec-1_raw.mkv");
    raw_like_ours(&raw);
    let job = job_for(&node.room(), "rec-1_raw.mkv");
    node.run(&job, 1).await;
    node.assert_told_success();
    let made = fs::metadata(node.mp4()).unwrap().modified().unwrap();
    // Before the raw file was removed, and after.
    assert_eq!(node.run(&job, 2).await, remove(&raw));
    node.assert_told_success();
    fs::remove_file(&raw).unwrap();
    assert_eq!(node.run(&job, 2).await, JobOutcome::Again(Duration::from_secs(120)), "another node may have finished");
    assert_eq!(node.told(), []);
    assert_eq!(node.run(&job, 3).await, done(&raw, None));
    node.assert_told_success();
    assert_eq!(fs::metadata(node.mp4()).unwrap().modified().unwrap(), made);
}

#[tokio::test]
async fn a_half_written_result_of_another_transcoder_is_replaced() {
    let node = Node::new(false);
    let raw = node.room().join("rec-1_raw.mkv");
    raw_like_ours(&raw);
    fs::write(node.mp4(), "half").unwrap();
    // And what a killed worker of this node left.
    fs::write(node.room().join(".rec-1.mp4.node_02.part"), "stale").unwrap();
    assert_eq!(node.run(&job_for(&node.room(), "rec-1_raw.mkv"), 2).await, remove(&raw));
    assert_mp4(&node.mp4(), 10.0);
    node.assert_holds(&["rec-1.mp4", "rec-1_raw.mkv"]);
}

#[tokio::test]
async fn a_shutdown_leaves_no_half_result_and_hands_the_job_back() {
    let node = Node::with_options(true, "-c:v libx264 -preset placebo -c:a aac");
    let raw = node.room().join("rec-1_raw.mkv");
    ffmpeg(
        "-f lavfi -i testsrc2=s=1280x720:r=25:d=30 -f lavfi -i sine=d=30 -c:v libx264 -preset ultrafast -c:a pcm_s16le -f matroska",
        &raw,
    );
    let part = node.room().join(".rec-1.mp4.node_02.part");
    let cancel = node.cancel.clone();
    let stop = async {
        while !part.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        cancel.cancel();
    };
    let job = job_for(&node.room(), "rec-1_raw.mkv");
    let (verdict, ()) = tokio::join!(node.run(&job, 1), stop);
    assert_eq!(verdict, JobOutcome::Again(Duration::from_secs(1)));
    assert_eq!(node.told(), []);
    node.assert_holds(&["rec-1_raw.mkv"]);
}
