//! Raw files that were encoded as their MP4 while they were recorded, and were damaged or changed since: the best MP4 there
//! is, with the reason in the log.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use plugnmeet_recorder::capture::encoder::arguments::{EncoderSettings, EncoderTarget, arguments};
use plugnmeet_recorder::config::FfmpegOptions;
use plugnmeet_recorder::media::final_encoding::FinalEncoding;

use super::*;
use crate::logs::Logs;

/// 12 s as this program records them once.
fn raw_encoded_once(path: &Path) {
    let final_encoding = FinalEncoding::read(&FfmpegOptions::post_recording(None)).ok().map(Arc::new);
    let settings = EncoderSettings { final_encoding, ..EncoderSettings::new(&[], &[]) };
    let mut page = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=12", "-f", "lavfi", "-i"])
        .args(["sine=d=12:r=48000", "-c:v", "rawvideo", "-pix_fmt", "yuv420p", "-c:a", "pcm_s16le", "-ac", "2"])
        .args(["-f", "matroska", "-"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let recorded = Command::new("ffmpeg")
        .args(["-v", "error"])
        .args(arguments(&settings, (320, 180), &EncoderTarget::File(path.to_owned()), None))
        .stdin(page.stdout.take().unwrap())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(page.wait().unwrap().success() && recorded.success());
}

/// Makes another raw file of it by ffmpeg.
fn remade(path: &Path, options: &str) {
    let whole = path.with_extension("whole");
    std::fs::rename(path, &whole).unwrap();
    ffmpeg(&format!("-i {} -map 0 -c copy {options} -f matroska", whole.display()), path);
    std::fs::remove_file(&whole).unwrap();
}

fn overwritten(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8192].fill(0x55);
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn probe_it() {
    let (dir, logs) = (tempfile::tempdir().unwrap(), Logs::capture());
    let whole = dir.path().join("whole.mkv");
    raw_encoded_once(&whole);
    let cases: [(&str, &dyn Fn(&Path)); 6] = [
        ("good", &|_| ()),
        ("overwritten", &overwritten),
        ("no sound from 3 to 9 s", &|path| remade(path, "-bsf:a:1 noise=drop=between(pts*tb\\,3\\,9)")),
        ("no picture from 3 to 9 s", &|path| remade(path, "-bsf:v noise=drop=between(pts*tb\\,3\\,9)")),
        ("other pixels", &|path| remade(path, "-c:v libx264 -pix_fmt yuv444p -preset ultrafast")),
        ("noise", &|path| remade(path, "-bsf:v noise=amount=200")),
    ];
    for (name, change) in cases {
        let node = Node::with_options(true, &FfmpegOptions::post_recording(None).post_input.join(" "));
        let raw = node.room().join("rec-1_raw.mkv");
        std::fs::copy(&whole, &raw).unwrap();
        change(&raw);
        let job = job_for(&node.room(), "rec-1_raw.mkv");
        let before = logs.text().len();
        let outcome = node.run(&job, 1).await;
        println!("=== {name}: {outcome:?}");
        for line in logs.text()[before..].lines().filter(|line| line.contains("WARN") || line.contains("transcoding") || line.contains("ERROR")) {
            println!("   {}", &line[..line.len().min(420)]);
        }
        if node.mp4().exists() {
            println!("   {:?}", measure::probe(&node.mp4()).map(|info| info.duration));
            println!("   decode {:?}", measure::decode(&node.mp4()).map(|lines| lines.len()));
            println!("   raw decode {:?}", measure::decode(&raw).map(|lines| lines.len()));
        }
    }
}
