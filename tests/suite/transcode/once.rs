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

/// 12 s as this program records them once.
fn raw_encoded_once(path: &Path) {
    let final_encoding = FinalEncoding::read(&FfmpegOptions::post_recording(None)).ok().map(Arc::new);
    let settings = EncoderSettings { final_encoding, ..EncoderSettings::new(&[], &[]) };
    let page = ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=12", "-f", "lavfi", "-i", "sine=d=12:r=48000"];
    record_page(&page, &settings, (320, 180), path);
}

/// The best MP4: all of it, decodable everywhere, as a browser plays it.
fn assert_plays(mp4: &Path, case: &str) {
    assert_eq!(measure::decode(mp4).unwrap(), [] as [String; 0], "{case}");
    let info = assert_mp4(mp4, 12.0);
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
    raw_encoded_once(&whole);
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
        let ways: Vec<_> =
            log.lines().filter_map(|line| line.split_once("transcoding how=\"")?.1.split('"').next()).collect();
        let expected = if why.is_some() { vec!["finish", how] } else { vec![how] };
        assert_eq!(ways, expected, "{change}: {log}");
        let told = log.lines().find(|line| line.contains("PNR-0536"));
        assert_eq!(told.map(|line| why.is_some_and(|why| line.contains(why))), why.map(|_| true), "{change}: {told:?}");
        assert_plays(&node.mp4(), change);
        node.assert_told_success();
    }
}
