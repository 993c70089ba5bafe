//! Raw files of every kind, whole and cut off, and what is no raw file.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use plugnmeet_recorder::media::ffprobe::{self, StreamKind};
use plugnmeet_recorder::protocol::notice::NoticeEvent;
use plugnmeet_recorder::transcode::job::JobOutcome;

use super::{Node, REFERENCE_OPTIONS, assert_mp4, ffmpeg, job_for, raw_like_ours, remove};
use crate::measure;

/// 10 s as a reference recorder leaves them: a constant rate and AAC in fragmented MP4.
fn raw_like_the_reference(path: &Path) {
    ffmpeg(
        "-f lavfi -i testsrc2=s=320x180:r=30:d=10 -f lavfi -i sine=d=10:r=48000 -c:v libx264 -preset ultrafast -bf 0 -g 30 -c:a aac -movflags frag_keyframe+empty_moov+default_base_moof -f mp4",
        path,
    );
}

fn truncate(path: &Path, share: f64) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share"
    )]
    file.set_len((file.metadata().unwrap().len() as f64 * share) as u64).unwrap();
}

#[tokio::test]
async fn raw_files_of_a_reference_recorder_are_taken_even_when_cut_off() {
    for (convert, share) in [(true, 1.0), (true, 0.7), (false, 1.0), (false, 0.7)] {
        let node = Node::new(convert);
        let raw = node.room().join("rec-1_raw.mp4");
        raw_like_the_reference(&raw);
        truncate(&raw, share);
        let there = ffprobe::measure(&raw).await.unwrap().duration.as_secs_f64();
        assert!(there > 5.0 && (share > 0.9 || there < 9.9), "{there}");
        assert_eq!(node.run(&job_for(&node.room(), "rec-1_raw.mp4"), 1).await, remove(&raw));
        assert_mp4(&node.mp4(), there);
        node.assert_told_success();
        // Handed out again, it is recognised, cut within a packet or not, and not made once more.
        let made = fs::metadata(node.mp4()).unwrap().modified().unwrap();
        assert_eq!(node.run(&job_for(&node.room(), "rec-1_raw.mp4"), 2).await, remove(&raw));
        assert_eq!(fs::metadata(node.mp4()).unwrap().modified().unwrap(), made);
        assert!(!measure::boxes(&node.mp4()).contains(&"moof".to_owned()));
        node.assert_told_success();
    }
}

#[tokio::test]
async fn raw_files_of_every_kind_that_a_fleet_makes_become_mp4s() {
    let source = "-f lavfi -i testsrc2=s=320x180:r=30:d=4 -f lavfi -i sine=d=4:r=48000 -ac 2";
    // QuickTime's kind is read like that in a fragmented MP4, which an ffmpeg of 6 and later writes.
    let pcm = "-c:v libx264 -preset ultrafast -c:a pcm_s16le -movflags frag_keyframe+empty_moov -f mov";
    for (name, options) in [
        ("rec-1_raw.mp4", pcm),
        ("rec-1_raw.mkv", "-c:v ffv1 -c:a pcm_s16le -f matroska"),
        ("rec-1_raw.mkv", "-c:v ffv1 -c:a flac -f matroska"),
    ] {
        for convert in [true, false] {
            let node = Node::new(convert);
            let raw = node.room().join(name);
            ffmpeg(&format!("{source} {options}"), &raw);
            assert_eq!(node.run(&job_for(&node.room(), name), 1).await, remove(&raw), "{options}");
            assert_mp4(&node.mp4(), 4.0);
            node.assert_told_success();
        }
    }
}

/// A raw file of a reference recorder on a host with ffmpeg 9.0.2, made by its options from `smptebars` and `sine`.
#[tokio::test]
async fn pcm_in_a_fragmented_mp4_of_a_newer_ffmpeg_is_taken() {
    for convert in [true, false] {
        let node = Node::new(convert);
        let raw = node.room().join("rec-1_raw.mp4");
        fs::copy("tests/golden/fragmented_pcm.mp4", &raw).unwrap();
        assert_eq!(node.run(&job_for(&node.room(), "rec-1_raw.mp4"), 1).await, remove(&raw));
        assert_mp4(&node.mp4(), 4.0);
        assert!(measure::sound::loudness(&node.mp4()).unwrap() > 0.03);
        node.assert_told_success();
    }
}

#[tokio::test]
async fn a_reference_transcoder_can_take_our_raw_files() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, mp4) = (dir.path().join("rec-1_raw.mkv"), dir.path().join("rec-1.mp4"));
    raw_like_ours(&raw);
    // Its whole command line: the operator's options around the input.
    ffmpeg(&format!("-loglevel error -i {} {REFERENCE_OPTIONS}", raw.display()), &mp4);
    assert_mp4(&mp4, 10.0);
}

#[tokio::test]
async fn a_matroska_file_that_was_cut_off_is_measured_by_what_is_there() {
    for convert in [true, false] {
        let node = Node::new(convert);
        let raw = node.room().join("rec-1_raw.mkv");
        raw_like_ours(&raw);
        truncate(&raw, 0.7);
        // The header still tells of all of it.
        assert!((ffprobe::probe(&raw).await.unwrap().duration.as_secs_f64() - 10.0).abs() < 0.1);
        let there = ffprobe::measure(&raw).await.unwrap().duration.as_secs_f64();
        assert!(there > 5.0 && there < 9.0, "{there}");
        assert_eq!(node.run(&job_for(&node.room(), "rec-1_raw.mkv"), 1).await, remove(&raw));
        assert_mp4(&node.mp4(), there);
    }
}

#[tokio::test]
async fn the_duration_of_a_killed_writers_file_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let killed = dir.path().join("killed.mkv");
    let mut writer = Command::new("ffmpeg")
        .args("-v error -nostdin -re -f lavfi -i testsrc2=s=320x180:r=25 -re -f lavfi -i sine=r=48000 -c:v libx264 -preset ultrafast -g 25 -c:a pcm_s16le -flush_packets 1 -f matroska".split(' '))
        .arg(&killed)
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(4));
    writer.kill().unwrap();
    writer.wait().unwrap();
    let media = ffprobe::verify_raw(&killed).await.unwrap();
    let seconds = media.duration.as_secs_f64();
    assert!((2.0..5.0).contains(&seconds), "{seconds}");
    assert_eq!(media.video().map(|video| (video.width, video.height)), Some((320, 180)));
    assert_eq!(media.audio().map(|audio| (audio.kind, audio.codec.as_str())), Some((StreamKind::Audio, "pcm_s16le")));
}

#[tokio::test]
async fn a_raw_file_is_verified_before_anyone_is_told_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    fs::write(file("empty.mkv"), "").unwrap();
    fs::write(file("garbage.mkv"), b"\x1a\x45\xdf\xa3 no matroska at all".repeat(100)).unwrap();
    ffmpeg("-f lavfi -i sine=d=1 -c:a pcm_s16le -f matroska", &file("-i mute:picture.mkv"));
    ffmpeg("-f lavfi -i testsrc2=s=64x64:d=1 -c:v libx264 -f matroska", &file("silent.mkv"));
    fs::write(file("text.srt"), "1\n00:00:00,000 --> 00:00:01,000\nhello\n").unwrap();
    ffmpeg(&format!("-i {} -f matroska", file("text.srt").display()), &file("text.mkv"));
    let refused = async |name: &str| ffprobe::verify_raw(&file(name)).await.unwrap_err().to_string();
    assert!(refused("empty.mkv").await.contains("empty.mkv"));
    assert!(refused("garbage.mkv").await.contains("cannot be read as media"));
    assert!(refused("missing.mkv").await.contains("No such file"));
    assert!(refused("text.mkv").await.contains("no picture and no sound"));
    // A recording of sound alone, or of a picture alone, is one.
    for name in ["-i mute:picture.mkv", "silent.mkv"] {
        assert_eq!(ffprobe::verify_raw(&file(name)).await.unwrap().streams.len(), 1);
    }
}

#[tokio::test]
async fn no_file_makes_ffmpeg_open_another() {
    let node = Node::new(true);
    raw_like_ours(&node.room().join("other.mkv"));
    let raw = node.room().join("rec-1_raw.mkv");
    for list in ["#EXTM3U\n#EXTINF:10,\nother.mkv\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile other.mkv\n"] {
        fs::write(&raw, list).unwrap();
        assert_eq!(node.run(&job_for(&node.room(), "rec-1_raw.mkv"), 3).await, JobOutcome::GivenUp);
        let [NoticeEvent::Finished(Err(_))] = node.told()[..] else { panic!() };
    }
    node.assert_holds(&["other.mkv", "rec-1_raw.mkv"]);
}

#[tokio::test]
async fn names_with_spaces_quotes_and_colons_are_only_names() {
    let mut node = Node::new(false);
    node.settings.main_path = node.dir.path().join("-main: it's \"1\"");
    let room = node.settings.main_path.join("a b/room01");
    fs::create_dir_all(&room).unwrap();
    let name = "concat:it's %d a 'raw' — file|\"x\".mkv";
    raw_like_ours(&room.join(name));
    // As a node names it that sees main_path elsewhere.
    let verdict = node.run(&job_for(Path::new("/mnt/a b/room01/"), name), 1).await;
    assert_eq!(verdict, remove(&room.join(name)));
    assert_mp4(&room.join("rec-1.mp4"), 10.0);
    assert_eq!(measure::boxes(&room.join("rec-1.mp4")), measure::ROOM_WAS_LEFT);
    let told = node.told();
    let NoticeEvent::Proceeded { file_path, .. } = &told[0] else { panic!() };
    assert_eq!(file_path, "a b/room01/rec-1.mp4");
}

#[tokio::test]
async fn nothing_outside_main_path_is_read() {
    let node = Node::new(true);
    let secret = node.dir.path().join("secret");
    fs::create_dir(&secret).unwrap();
    raw_like_ours(&secret.join("rec-1_raw.mkv"));
    std::os::unix::fs::symlink(&secret, node.settings.main_path.join("link")).unwrap();
    for dir in [secret.clone(), node.settings.main_path.join("link")] {
        assert_eq!(node.run(&job_for(&dir, "rec-1_raw.mkv"), 3).await, JobOutcome::GivenUp);
        let [NoticeEvent::Finished(Err(cause))] = &node.told()[..] else { panic!() };
        assert!(cause.contains("symbolic link") || cause.contains("no such directory"), "{cause}");
    }
    assert_eq!(fs::read_dir(&secret).unwrap().count(), 1);
}
