//! Jobs that fail: what is tried again, told and kept.

use std::fs;
use std::time::Duration;

use plugnmeet_recorder::media::{decode_check, ffprobe};
use plugnmeet_recorder::protocol::notice::NoticeEvent;
use plugnmeet_recorder::transcode::job::{FilesToRemove, JobOutcome};

use super::{FRAMES, Node, REFERENCE_OPTIONS, assert_mp4, ffmpeg, job_for, raw_like_ours, remove};

#[tokio::test]
async fn a_missing_raw_file_is_tried_again_and_then_told_with_the_path() {
    let node = Node::new(true);
    let job = job_for(&node.room(), "rec-1_raw.mkv");
    for (delivered, wait) in [(1, 30), (2, 120)] {
        assert_eq!(node.run(&job, delivered).await, JobOutcome::Again(Duration::from_secs(wait)));
        assert_eq!(node.told(), []);
    }
    assert_eq!(node.run(&job, 3).await, JobOutcome::GivenUp);
    let [NoticeEvent::Finished(Err(cause))] = &node.told()[..] else { panic!() };
    assert!(cause.contains("rec-1_raw.mkv") && cause.contains(node.room().to_str().unwrap()), "{cause}");
}

#[tokio::test]
async fn garbage_fails_with_a_cause_and_is_kept() {
    let node = Node::new(true);
    let raw = node.room().join("rec-1_raw.mkv");
    fs::write(&raw, "this is no recording\n".repeat(1000)).unwrap();
    // What this node was writing when it was killed goes, whatever comes of the job now.
    fs::write(node.room().join(".rec-1.mp4.node_02.part"), "half of it").unwrap();
    let job = job_for(&node.room(), "rec-1_raw.mkv");
    assert_eq!(node.run(&job, 1).await, JobOutcome::Again(Duration::from_secs(30)));
    assert_eq!(node.run(&job, 3).await, JobOutcome::GivenUp);
    let [NoticeEvent::Finished(Err(cause))] = &node.told()[..] else { panic!() };
    assert!(cause.contains("Invalid data found"), "{cause}");
    node.assert_holds(&["rec-1_raw.mkv"]);
}

#[tokio::test]
async fn what_cannot_be_encoded_is_at_last_delivered_as_it_was_recorded_and_its_raw_file_kept() {
    for (post_input, words) in [
        ("-c:v no_such_codec", "Unknown encoder 'no_such_codec'"),
        // A result that is not the whole recording is none.
        ("-c:v libx264 -preset ultrafast -c:a aac -t 3", "the result lasts 3"),
    ] {
        let mut node = Node::with_options(true, post_input);
        let raw = node.room().join("rec-1_raw.mkv");
        raw_like_ours(&raw);
        fs::write(node.room().join("rec-1_raw.json"), "{\"duration_s\": 10.0}").unwrap();
        let job = job_for(&node.room(), "rec-1_raw.mkv");
        for (delivered, wait) in [(1, 30), (2, 120)] {
            assert_eq!(node.run(&job, delivered).await, JobOutcome::Again(Duration::from_secs(wait)));
            assert_eq!(node.told(), []);
            node.assert_holds(&["rec-1_raw.json", "rec-1_raw.mkv"]);
        }
        let entry = node.entry(&job, 3).await;
        let remuxed = |verdict| matches!(verdict, JobOutcome::Done(FilesToRemove { raw: None, remuxed: true, .. }));
        assert!(remuxed(node.go_on(&job, &entry).await));
        assert_eq!(assert_mp4(&node.mp4(), 10.0).video().unwrap().packets, FRAMES);
        let told = node.told();
        let [NoticeEvent::Proceeded { note: Some(said), .. }, NoticeEvent::Finished(Ok(()))] = &told[..] else {
            panic!("{told:?}")
        };
        assert!(said.contains("could not be encoded") && said.contains(words), "{said}");
        let summary: serde_json::Value =
            serde_json::from_slice(&fs::read(node.room().join("rec-1_raw.json")).unwrap()).unwrap();
        assert_eq!(summary["duration_s"], 10.0);
        assert!(summary["remuxed_because"].as_str().unwrap().contains(words), "{summary}");
        // Killed before it was acknowledged: the next start still knows that the raw file is the better one.
        assert!(remuxed(node.go_on(&job, &entry).await));
        assert!(matches!(&node.told()[0], NoticeEvent::Proceeded { note: Some(_), .. }));
        // The operator has mended the options and wants it tried again.
        node.settings.ffmpeg.post_input = REFERENCE_OPTIONS.split_whitespace().map(str::to_owned).collect();
        entry.update(|record| (record.steps.anew, record.steps.remuxed) = (true, None)).await;
        assert_eq!(node.go_on(&job, &entry).await, remove(&raw));
        node.assert_told_success();
        node.assert_holds(&["rec-1.mp4", "rec-1_raw.json", "rec-1_raw.mkv"]);
    }
}

#[tokio::test]
async fn what_cannot_even_be_remuxed_is_given_up_with_both_causes() {
    let node = Node::with_options(true, "-c:v no_such_codec");
    let raw = node.room().join("rec-1_raw.mkv");
    raw_like_ours(&raw);
    let entry = node.entry(&job_for(&node.room(), "rec-1_raw.mkv"), 3).await;
    // Where the part should grow there is a directory: no ffmpeg can write there.
    fs::create_dir_all(node.room().join(".rec-1.mp4.node_02.part/in the way")).unwrap();
    assert_eq!(node.go_on(&job_for(&node.room(), "rec-1_raw.mkv"), &entry).await, JobOutcome::GivenUp);
    let told = node.told();
    let [NoticeEvent::Finished(Err(cause))] = &told[..] else { panic!("{told:?}") };
    assert!(cause.contains("Unknown encoder") && cause.contains("nor can it be remuxed"), "{cause}");
    assert_eq!(entry.record().steps.remuxed, None);
    node.assert_holds(&[".rec-1.mp4.node_02.part", "rec-1_raw.mkv"]);
}

#[tokio::test]
async fn a_result_that_cannot_be_decoded_anywhere_is_no_result() {
    let dir = tempfile::tempdir().unwrap();
    let (good, bad) = (dir.path().join("good.mp4"), dir.path().join("bad.mp4"));
    ffmpeg(
        "-f lavfi -i testsrc2=s=320x180:r=25:d=20 -f lavfi -i sine=d=20:r=48000 -c:v libx264 -preset ultrafast -g 25 -c:a aac -movflags faststart -f mp4",
        &good,
    );
    let media = ffprobe::measure(&good).await.unwrap();
    decode_check::check(&good, &media, 0).await.unwrap();
    let elsewhere = dir.path().join("elsewhere.mp4");
    let bytes = fs::read(&good).unwrap();
    for (place, at) in [("start", 0.03), ("middle", 0.5), ("end", 0.93)] {
        let mut broken = bytes.clone();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a share"
        )]
        let from = (bytes.len() as f64 * at) as usize;
        let length = broken.len() / 20;
        broken[from..from + length].iter_mut().for_each(|byte| *byte = byte.wrapping_mul(31).wrapping_add(97));
        fs::write(&bad, broken).unwrap();
        // It still opens, and has all its packets.
        assert_eq!(ffprobe::measure(&bad).await.unwrap().duration, media.duration);
        let error = decode_check::check(&bad, &media, 0).await.unwrap_err().to_string();
        assert!(error.contains(place), "{place}: {error}");
        // Nor for a raw file that is broken too, but at another place; only where both are alike.
        if elsewhere.exists() {
            decode_check::check_result(&bad, &media, &elsewhere, 0).await.unwrap_err();
        }
        decode_check::check_result(&bad, &media, &bad, 0).await.unwrap();
        fs::copy(&bad, &elsewhere).unwrap();
    }

    // Nor does a raw file go for it: it is made again.
    let node = Node::new(false);
    let raw = node.room().join("rec-1_raw.mkv");
    ffmpeg(&format!("-i {} -c copy -f matroska", good.display()), &raw);
    fs::copy(&bad, node.mp4()).unwrap();
    assert_eq!(node.run(&job_for(&node.room(), "rec-1_raw.mkv"), 1).await, remove(&raw));
    decode_check::check(&node.mp4(), &media, 0).await.unwrap();
}
