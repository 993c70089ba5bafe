//! What an MP4 holds, and how its making is watched.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use plugnmeet_recorder::config::FfmpegOptions;
use plugnmeet_recorder::media::ffmpeg::{self, FfmpegTask};
use plugnmeet_recorder::media::ffmpeg_arguments::FfmpegArguments;
use plugnmeet_recorder::media::ffprobe;
use plugnmeet_recorder::media::progress::FfmpegProgress;
use plugnmeet_recorder::transcode::job::JobOutcome;
use tokio_util::sync::CancellationToken;

use super::{FRAMES, Node, assert_mp4, job_for, raw_like_ours, remove};
use crate::logs::Logs;
use crate::measure;

fn assert_plays_at_once(path: &Path) {
    let boxes = measure::boxes(path);
    let at = |name: &str| boxes.iter().position(|found| found == name);
    assert!(at("moov").unwrap() < at("mdat").unwrap(), "{boxes:?}");
}

/// Times of the frames in seconds, in order.
fn frame_times(path: &Path) -> Vec<f64> {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v", "-show_entries", "packet=pts_time", "-of", "csv=p=0"])
        .arg(path)
        .output()
        .unwrap();
    let mut times: Vec<f64> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| line.trim_end_matches(',').parse().unwrap())
        .collect();
    times.sort_by(f64::total_cmp);
    times
}

#[tokio::test]
async fn a_raw_file_becomes_an_mp4_with_the_frames_own_times() {
    let node = Node::new(true);
    let raw = node.room().join("rec-1_raw.mkv");
    raw_like_ours(&raw);
    let times = frame_times(&raw);
    assert_eq!(node.run(&job_for(&node.room(), "rec-1_raw.mkv"), 1).await, remove(&raw));
    let made = assert_mp4(&node.mp4(), 10.0);
    assert_eq!(made.video().unwrap().packets, FRAMES);
    for (made, raw) in frame_times(&node.mp4()).iter().zip(times) {
        assert!((made - raw).abs() < 0.002, "{made} {raw}");
    }
    assert_plays_at_once(&node.mp4());
    node.assert_told_success();
    node.assert_holds(&["rec-1.mp4", "rec-1_raw.mkv"]);
}

#[tokio::test]
async fn an_operator_who_sets_the_frame_rate_gets_it() {
    let node = Node::with_options(true, "-c:v libx264 -preset ultrafast -r 10 -c:a aac");
    let raw = node.room().join("rec-1_raw.mkv");
    raw_like_ours(&raw);
    assert_eq!(node.run(&job_for(&node.room(), "rec-1_raw.mkv"), 1).await, remove(&raw));
    let frames = assert_mp4(&node.mp4(), 10.0).video().unwrap().packets;
    assert!((99..=102).contains(&frames), "{frames}");
}

/// When each frame is shown and when it is decoded, in seconds.
fn shown_and_decoded(path: &Path) -> Vec<(f64, f64)> {
    let show = ["-v", "error", "-select_streams", "v", "-show_entries", "packet=pts_time,dts_time", "-of", "csv=p=0"];
    let output = std::process::Command::new("ffprobe").args(show).arg(path).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let times = text.lines().map(|line| line.trim_end_matches(',').split_once(',').unwrap());
    times.map(|(shown, decoded)| (shown.parse().unwrap(), decoded.parse().unwrap())).collect()
}

#[tokio::test]
async fn a_remux_of_a_meeting_that_hardly_moves_decodes_its_frames_when_they_are_due() {
    let logs = Logs::capture();
    // One frame a second; then also such a one whose second frame is there at once, which took ffmpeg in most.
    let still = "not(mod(n,30))+gt(t,10)*lt(t,13)";
    let late = "lt(n,2)+gt(t,3)*not(mod(n,20))";
    let reference = "-bf 0 -x264-params keyint=120:scenecut=0 -preset ultrafast -crf 23 -tune zerolatency";
    // Frames that may lie between a frame's decoding and its showing.
    for (frames, encoder, reordered) in
        [(still, reference, 0), (late, reference, 0), (still, "-preset medium", 2), (late, "-preset medium", 2)]
    {
        let node = Node::new(false);
        let raw = node.room().join("rec-1_raw.mkv");
        let made = std::process::Command::new("ffmpeg")
            .args(
                "-v error -nostdin -f lavfi -i testsrc2=size=320x180:rate=30:duration=20 -f lavfi -i sine=duration=20"
                    .split(' '),
            )
            .args(["-vf", &format!("select='{frames}'"), "-force_key_frames", "expr:gte(t,n_forced*4)"])
            .args("-fps_mode vfr -enc_time_base:v 1:1000 -c:v libx264".split(' '))
            .args(encoder.split(' '))
            .args("-c:a pcm_s16le -f matroska -cluster_time_limit 1000 -flush_packets 1 -y".split(' '))
            .arg(&raw)
            .status();
        assert!(made.unwrap().success());
        let shown = |path: &Path| {
            let mut shown = frame_times(path);
            shown.sort_by(f64::total_cmp);
            shown
        };
        let recorded = shown(&raw);
        assert!(matches!(node.run(&job_for(&node.room(), "rec-1_raw.mkv"), 1).await, JobOutcome::Done(_)));
        let times = shown_and_decoded(&node.mp4());
        assert_eq!(times.len(), recorded.len());
        for (at, (shown, decoded)) in times.iter().enumerate() {
            assert!(decoded <= shown, "{frames} {encoder}: {times:?}");
            assert!(at == 0 || times[at - 1].1 < *decoded, "{frames} {encoder}: {times:?}");
            // It is decoded no earlier than the frames that it may follow are shown.
            let due = at.checked_sub(reordered).map(|at| recorded[at]);
            assert!(due.is_none_or(|due| decoded + 0.001 >= due), "{frames} {encoder}: {at} {times:?}");
        }
        let mut shown: Vec<f64> = times.iter().map(|(shown, _)| *shown).collect();
        shown.sort_by(f64::total_cmp);
        assert!(shown.iter().zip(&recorded).all(|(now, then)| (now - then).abs() < 0.002), "{shown:?} {recorded:?}");
    }
    for said in ["Invalid DTS", "Non-monotonous", "non monotonically", "Could not find codec parameters"] {
        assert!(!logs.text().contains(said), "{}", logs.text());
    }
    // What is said on every run is no news.
    assert_eq!(logs.lines("Guessed Channel Layout").iter().filter(|line| !line.contains("DEBUG")).count(), 0);
}

#[tokio::test]
async fn a_remux_keeps_every_frame_and_plays_at_once() {
    let node = Node::new(false);
    let raw = node.room().join("rec-1_raw.mkv");
    raw_like_ours(&raw);
    assert_eq!(node.run(&job_for(&node.room(), "rec-1_raw.mkv"), 1).await, remove(&raw));
    assert_eq!(assert_mp4(&node.mp4(), 10.0).video().unwrap().packets, FRAMES);
    assert_plays_at_once(&node.mp4());
    node.assert_told_success();
}

#[tokio::test]
async fn it_is_told_how_far_ffmpeg_is() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, part) = (dir.path().join("raw.mkv"), dir.path().join("part"));
    raw_like_ours(&raw);
    let (progress, mut report) = tokio::sync::watch::channel(FfmpegProgress::default());
    let arguments = FfmpegArguments::convert(&FfmpegOptions::default(), &ffprobe::measure(&raw).await.unwrap());
    let total = Duration::from_secs(10);
    let task = FfmpegTask {
        pre_input: &arguments.pre_input,
        post_input: &arguments.post_input,
        input: &raw,
        total,
        output: &part,
        nice: 5,
    };
    let never = CancellationToken::new();
    let (ran, seen) = tokio::join!(ffmpeg::run(task, &progress, &never), async {
        report.changed().await.unwrap();
        *report.borrow()
    });
    assert!(ran.unwrap().cpu.is_some() && seen.total == total);
    let last = *progress.borrow();
    assert!(last.percent() > 95.0 && last.speed.is_some(), "{last:?}");
}
