//! Raw files whose tracks begin late, end early, are missing or cannot be decoded from their start: their MP4s have the
//! same shape. And results that lack what the raw file has.

use std::fs;
use std::path::Path;
use std::time::Duration;

use plugnmeet_recorder::config::Profile;
use plugnmeet_recorder::media::ffprobe::{self, MediaInfo, MediaStream};
use plugnmeet_recorder::protocol::notice::NoticeEvent;
use plugnmeet_recorder::transcode::job::{FilesToRemove, JobOutcome};

use super::{Node, REFERENCE_OPTIONS, ffmpeg, job_for, remove};
use crate::logs::Logs;

const ENCODER: &str = "-c:v libx264 -preset ultrafast -bf 0 -g 40 -c:a pcm_s16le -f matroska";

/// Picture and sound of so many seconds, each from this second on; `None`: there is none.
fn raw_of_shape(path: &Path, picture: Option<(f64, f64)>, sound: Option<(f64, f64)>) {
    let tracks = [("testsrc2=s=64x64:r=10", picture), ("sine=r=8000", sound)];
    let tracks: Vec<_> = tracks.into_iter().filter_map(|(source, at)| Some((source, at?))).collect();
    let inputs = tracks.iter().map(|(source, (at, length))| format!("-itsoffset {at} -f lavfi -i {source}:d={length}"));
    let maps = (0..tracks.len()).map(|n| format!("-map {n}"));
    let line: Vec<String> = inputs.chain(maps).collect();
    ffmpeg(&format!("{} {ENCODER}", line.join(" ")), path);
}

/// When a track plays, in seconds.
fn plays(stream: Option<&MediaStream>) -> Option<(f64, f64)> {
    let times = stream?.times?;
    Some((times.begin.as_secs_f64(), times.end.as_secs_f64()))
}

async fn shape(path: &Path) -> MediaInfo {
    ffprobe::measure(path).await.unwrap()
}

/// A track may end later: the last frame is shown to the end.
fn assert_plays(made: Option<&MediaStream>, begin: f64, end: f64, about: &str) {
    let (made_begin, made_end) = plays(made).unwrap_or_else(|| panic!("{about}: nothing plays"));
    assert!((made_begin - begin).abs() < 0.2 && made_end > end - 0.2, "{about}: {made_begin} {made_end}");
}

#[tokio::test]
async fn a_raw_file_of_any_shape_becomes_an_mp4_of_that_shape() {
    let (logs, whole) = (Logs::capture(), Some((0.0, 8.0)));
    for (about, picture, sound) in [
        ("the picture begins late", Some((3.0, 5.0)), whole),
        ("the sound begins late", whole, Some((3.0, 5.0))),
        ("the picture ends early", Some((0.0, 3.0)), whole),
        ("the sound ends early", whole, Some((0.0, 3.0))),
        ("there is no sound", whole, None),
        ("there is no picture", None, whole),
        ("the picture is in the middle", Some((3.0, 2.0)), whole),
    ] {
        // Remuxing keeps all times: it is tried where something is missing at the start.
        let remuxes = [picture, sound].iter().any(|track| track.is_none_or(|(begin, _)| begin > 0.0));
        for convert in [true, false].into_iter().filter(|convert| *convert || remuxes) {
            let node = Node::new(convert);
            let raw = node.room().join("rec-1_raw.mkv");
            raw_of_shape(&raw, picture, sound);
            assert_eq!(node.run(&job_for(&node.room(), "rec-1_raw.mkv"), 1).await, remove(&raw), "{about}");
            let made = shape(&node.mp4()).await;
            assert_eq!(
                (made.video().is_some(), made.audio().is_some()),
                (picture.is_some(), sound.is_some()),
                "{about}"
            );
            for (track, stream) in [(picture, made.video()), (sound, made.audio())] {
                if let Some((begin, length)) = track {
                    assert_plays(stream, begin, begin + length, about);
                }
            }
            assert!((made.duration.as_secs_f64() - 8.0).abs() < 0.3, "{about}: {made:?}");
            assert_eq!(logs.lines("cannot be decoded everywhere"), [] as [String; 0], "{about}");
            node.assert_told_success();
            if !convert || about != "the picture begins late" && about != "the picture ends early" {
                continue;
            }
            // Handed out again, it is recognised.
            let written = fs::metadata(node.mp4()).unwrap().modified().unwrap();
            assert_eq!(node.run(&job_for(&node.room(), "rec-1_raw.mkv"), 2).await, remove(&raw), "{about}");
            assert_eq!(fs::metadata(node.mp4()).unwrap().modified().unwrap(), written, "{about}");
        }
    }
}

#[tokio::test]
async fn a_picture_without_a_keyframe_at_its_start_is_shown_from_the_first_one_on() {
    for convert in [true, false] {
        let node = Node::new(convert);
        let (raw, plain) = (node.room().join("rec-1_raw.mkv"), node.dir.path().join("plain.mkv"));
        raw_of_shape(&plain, Some((0.0, 10.0)), Some((0.0, 10.0)));
        ffmpeg(
            &format!("-i {} -map 0 -c copy -bsf:v noise=drop=lt(n\\,15) -copyinkf -f matroska", plain.display()),
            &raw,
        );
        assert_eq!(node.run(&job_for(&node.room(), "rec-1_raw.mkv"), 1).await, remove(&raw));
        let made = shape(&node.mp4()).await;
        assert_plays(made.video(), 4.0, 9.9, "picture");
        assert_plays(made.audio(), 0.0, 10.0, "sound");
        node.assert_told_success();
    }
}

#[tokio::test]
async fn a_late_picture_that_then_stands_still_is_shown_to_the_end() {
    let node = Node::new(true);
    let raw = node.room().join("rec-1_raw.mkv");
    ffmpeg(
        &format!("-itsoffset 3 -f lavfi -i color=red:s=64x64:r=1:d=17 -f lavfi -i sine=r=8000:d=20 {ENCODER}"),
        &raw,
    );
    assert_eq!(node.run(&job_for(&node.room(), "rec-1_raw.mkv"), 1).await, remove(&raw));
    assert_plays(shape(&node.mp4()).await.audio(), 0.0, 20.0, "sound");
    node.assert_told_success();
}

#[tokio::test]
async fn a_result_with_a_hole_of_minutes_in_its_sound_is_no_result() {
    // First and last packet are where they belong, and it is as long as the raw file.
    let hole = "-c:v libx264 -preset ultrafast -c:a aac -af aselect='not(between(t,100,270))'";
    let node = Node::with_options(true, hole);
    let raw = node.room().join("rec-1_raw.mkv");
    ffmpeg(&format!("-f lavfi -i testsrc2=s=64x64:r=1:d=600 -f lavfi -i sine=r=8000:d=600 {ENCODER}"), &raw);
    let job = job_for(&node.room(), "rec-1_raw.mkv");
    assert_eq!(node.run(&job, 1).await, JobOutcome::Again(Duration::from_secs(30)));
    assert_eq!(node.told(), []);
    // At last it is delivered with all of its sound, as it was recorded.
    assert!(matches!(node.run(&job, 3).await, JobOutcome::Done(FilesToRemove { raw: None, remuxed: true, .. })));
    let made = shape(&node.mp4()).await;
    let covered = made.audio().unwrap().times.unwrap().covered.as_secs_f64();
    assert!((covered - 600.0).abs() < 0.5, "{covered}");
    let told = node.told();
    let [NoticeEvent::Proceeded { note: Some(said), .. }, NoticeEvent::Finished(Ok(()))] = &told[..] else {
        panic!("{told:?}")
    };
    assert!(said.contains("of sound, its raw file 600"), "{said}");
    node.assert_holds(&["rec-1.mp4", "rec-1_raw.mkv"]);
}

#[tokio::test]
async fn a_recording_whose_picture_is_ruined_is_delivered_with_its_sound_and_its_raw_file_kept() {
    for (convert, options) in [(true, REFERENCE_OPTIONS), (false, "")] {
        let node = Node::with_options(convert, options);
        let (raw, plain) = (node.room().join("rec-1_raw.mkv"), node.dir.path().join("plain.mkv"));
        ffmpeg(
            "-f lavfi -i testsrc2=s=64x64:r=10:d=8 -f lavfi -i sine=r=8000:d=8 -c:v ffv1 -c:a pcm_s16le -f matroska",
            &plain,
        );
        // Its packets are there, but no frame can be decoded.
        ffmpeg(&format!("-i {} -map 0 -c copy -bsf:v noise=amount=3 -f matroska", plain.display()), &raw);
        let job = job_for(&node.room(), "rec-1_raw.mkv");
        assert!(matches!(node.run(&job, 2).await, JobOutcome::Again(_)));
        assert!(matches!(node.run(&job, 3).await, JobOutcome::Done(FilesToRemove { raw: None, remuxed: true, .. })));
        let made = shape(&node.mp4()).await;
        assert_plays(made.audio(), 0.0, 8.0, "sound");
        let told = node.told();
        assert!(
            matches!(&told[..], [NoticeEvent::Proceeded { note: Some(_), .. }, NoticeEvent::Finished(Ok(()))]),
            "{told:?}"
        );
        node.assert_holds(&["rec-1.mp4", "rec-1_raw.mkv"]);
    }
}

#[tokio::test]
async fn a_picture_that_cannot_be_decoded_at_all_does_not_cost_the_raw_file() {
    for convert in [true, false] {
        let node = Node::new(convert);
        let (raw, plain) = (node.room().join("rec-1_raw.mkv"), node.dir.path().join("plain.mkv"));
        ffmpeg(
            "-f lavfi -i testsrc2=s=64x64:r=10:d=8 -f lavfi -i sine=r=8000:d=8 -c:v libx264 -preset ultrafast -bf 0 -g 1000 -c:a pcm_s16le -f matroska",
            &plain,
        );
        ffmpeg(
            &format!("-i {} -map 0 -c copy -bsf:v noise=drop=lt(n\\,1) -copyinkf -f matroska", plain.display()),
            &raw,
        );
        let JobOutcome::Done(FilesToRemove { raw: None, .. }) =
            node.run(&job_for(&node.room(), "rec-1_raw.mkv"), 3).await
        else {
            panic!("{:?}", node.told())
        };
        assert_plays(shape(&node.mp4()).await.audio(), 0.0, 8.0, "sound");
        node.assert_holds(&["rec-1.mp4", "rec-1_raw.mkv"]);
    }
}

#[tokio::test]
async fn a_picture_that_stands_still_at_the_end_is_shown_to_the_end_by_every_profile() {
    for profile in Profile::ALL {
        let node = Node::with_options(true, profile.post_input());
        let raw = node.room().join("rec-1_raw.mkv");
        // As ours: a page that moves, and then a frame a second of one that does not.
        let still = "-vf select='if(lt(t,12),1,not(mod(n,25)))',geq=lum='if(lt(T,12),p(X,Y),99)':cb=128:cr=128";
        let times = "settb=1/1000 -fps_mode passthrough -enc_time_base 1:1000";
        let sources = "-f lavfi -i testsrc2=s=320x180:r=25:d=40 -f lavfi -i sine=d=40:r=48000";
        ffmpeg(&format!("{sources} {still},{times} {ENCODER}"), &raw);
        assert_eq!(node.run(&job_for(&node.room(), "rec-1_raw.mkv"), 1).await, remove(&raw), "{profile:?}");
        let made = shape(&node.mp4()).await;
        assert_plays(made.video(), 0.0, 40.0, &format!("picture, {profile:?}"));
        node.assert_told_success();
    }
}
