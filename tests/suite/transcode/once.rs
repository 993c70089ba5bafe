//! Raw files that were encoded as their MP4 while they were recorded, and were damaged or changed since: the best MP4 there
//! is, with the reason in the log.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use plugnmeet_recorder::capture::encoder::arguments::EncoderSettings;
use plugnmeet_recorder::config::FfmpegOptions;
use plugnmeet_recorder::media::final_encoding::FinalEncoding;

use super::*;
use crate::logs::Logs;
use crate::one_pass::record_page;

/// So many seconds as this program records them once.
pub fn raw_encoded_once(path: &Path, seconds: u32, fps: u32) {
    let final_encoding = FinalEncoding::read(&FfmpegOptions::post_recording(None)).ok().map(Arc::new);
    let settings = EncoderSettings { final_encoding, ..EncoderSettings::new(&[], &[]) };
    let (picture, sound) = (format!("testsrc2=s=320x180:r={fps}:d={seconds}"), format!("sine=d={seconds}:r=48000"));
    record_page(&["-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", &sound], &settings, (320, 180), path);
}

/// The best MP4: all of it, decodable everywhere, as a browser plays it.
pub fn assert_plays(mp4: &Path, seconds: f64, case: &str) {
    assert_eq!(measure::decode(mp4).unwrap(), [] as [String; 0], "{case}");
    let info = assert_mp4(mp4, seconds);
    let pixels = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v:0", "-show_entries", "stream=pix_fmt", "-of", "csv=p=0"])
        .arg(mp4)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&pixels.stdout).trim(), "yuv420p", "{case}: {info:?}");
    let samples = measure::sound::samples(mp4).unwrap();
    let silent = samples.chunks(4800).filter(|tenth| tenth.iter().all(|sample| sample.abs() < 0.01)).count();
    assert!(silent <= 1, "{case}: silent for {silent} tenths of a second");
}

#[tokio::test]
async fn what_was_encoded_while_recording_is_copied_only_as_far_as_it_is_good() {
    let (dir, logs) = (tempfile::tempdir().unwrap(), Logs::capture());
    let whole = dir.path().join("whole.mkv");
    raw_encoded_once(&whole, 12, 25);
    // What was done to the raw file, how its MP4 is made at last, and why not by a copy.
    let cases = [
        ("", "finish", None),
        ("-bsf:v noise=amount=200", "convert", Some("the result is no good: it cannot be decoded at its start")),
        (
            "-bsf:a:1 noise=drop=between(pts*tb\\,3\\,9)",
            "convert",
            Some("the result holds 7.0s of sound, its raw file 12.0s"),
        ),
        // By a hook, which has left the tags.
        ("-c:v libx264 -preset ultrafast -pix_fmt yuv444p", "convert", None),
        ("-c:v libx264 -preset ultrafast -bf 3", "finish", None),
    ];
    for (change, how, why) in cases {
        let node = Node::with_options(true, &FfmpegOptions::post_recording(None).post_input.join(" "));
        let raw = node.room().join("rec-1_raw.mkv");
        ffmpeg(&format!("-i {} -map 0 -c copy {change} -f matroska", whole.display()), &raw);
        let before = logs.text().len();
        assert_eq!(node.run(&job_for(&node.room(), "rec-1_raw.mkv"), 1).await, remove(&raw), "{change}");
        let log = logs.text().split_off(before);
        let expected = if why.is_some() { vec!["finish", how] } else { vec![how] };
        assert_eq!(ways(&log), expected, "{change}: {log}");
        let told = log.lines().find(|line| line.contains("PNR-0536"));
        assert_eq!(told.map(|line| why.is_some_and(|why| line.contains(why))), why.map(|_| true), "{change}: {told:?}");
        assert_plays(&node.mp4(), 12.0, change);
        node.assert_told_success();
    }
}

/// How each MP4 is made, as the log tells: `ahead` is a copy that is made while the raw file is measured.
fn ways(log: &str) -> Vec<&str> {
    let way = |line: &'_ str| {
        let made = |text: &str| Some(line.split_once(text)?.1.split('"').next()?.to_owned());
        made("transcoding how=\"")
            .or_else(|| line.contains("while the raw file is measured").then(|| "ahead".to_owned()))
    };
    let found = log.lines().filter_map(way);
    found.map(|way| ["ahead", "finish", "convert"].into_iter().find(|known| *known == way).unwrap()).collect()
}

/// A node on which this raw file lies, with the recorder's count of its frames.
fn node_with(raw: &Path, frames: u64) -> Node {
    let node = Node::with_options(true, &FfmpegOptions::post_recording(None).post_input.join(" "));
    fs::copy(raw, node.room().join("rec-1_raw.mkv")).unwrap();
    fs::write(node.room().join("rec-1_raw.json"), format!("{{\"frames_sent\": {frames}}}")).unwrap();
    node
}

#[tokio::test]
async fn what_was_encoded_while_recording_is_copied_while_it_is_measured_and_taken_only_where_that_asks_for_it() {
    let (dir, logs) = (tempfile::tempdir().unwrap(), Logs::capture());
    let whole = dir.path().join("whole.mkv");
    raw_encoded_once(&whole, 40, 100);
    // An upload that broke off: its header states more than it holds.
    let short = dir.path().join("short.mkv");
    let bytes = fs::read(&whole).unwrap();
    fs::write(&short, &bytes[..bytes.len() / 2]).unwrap();
    let cases = [
        ("as it was counted", &whole, 4000, vec!["ahead"], 38.0..42.0),
        // The index of 4,000 frames does not fit into the room for one.
        ("counted wrongly", &whole, 1, vec!["ahead", "finish"], 38.0..42.0),
        ("counted far too high", &whole, u64::MAX, vec!["ahead"], 38.0..42.0),
        ("cut off", &short, 4000, vec!["ahead", "finish"], 17.0..23.0),
    ];
    for (case, raw, frames, expected, lasts) in cases {
        let node = node_with(raw, frames);
        let before = logs.text().len();
        let outcome = node.run(&job_for(&node.room(), "rec-1_raw.mkv"), 1).await;
        let log = logs.text().split_off(before);
        assert_eq!(ways(&log), expected, "{case}: {log}");
        assert_eq!(outcome, remove(&node.room().join("rec-1_raw.mkv")), "{case}");
        let made = measure::probe(&node.mp4()).unwrap();
        assert!(lasts.contains(&made.duration), "{case}: {made:?}");
        assert_plays(&node.mp4(), made.duration, case);
        node.assert_told_success();
        node.assert_holds(&["rec-1.mp4", "rec-1_raw.json", "rec-1_raw.mkv"]);
        // Its index is in front of its media.
        let mp4 = fs::read(node.mp4()).unwrap();
        let at = |name: &[u8]| mp4.windows(4).position(|word| word == name);
        assert!(at(b"moov").unwrap() < at(b"mdat").unwrap(), "{case}");
    }
}

#[tokio::test]
async fn a_shutdown_while_it_is_copied_and_measured_leaves_only_the_raw_file() {
    let (dir, logs) = (tempfile::tempdir().unwrap(), Logs::capture());
    let raw = dir.path().join("whole.mkv");
    raw_encoded_once(&raw, 12, 25);
    let node = node_with(&raw, 300);
    let stop = async {
        while !logs.text().contains("while the raw file is measured") {
            tokio::task::yield_now().await;
        }
        node.cancel.cancel();
    };
    let job = job_for(&node.room(), "rec-1_raw.mkv");
    let (outcome, ()) = tokio::join!(node.run(&job, 1), stop);
    assert_eq!(outcome, JobOutcome::Again(Duration::from_secs(1)));
    assert_eq!(node.told(), []);
    node.assert_holds(&["rec-1_raw.json", "rec-1_raw.mkv"]);
}
