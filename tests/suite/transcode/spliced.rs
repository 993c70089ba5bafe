//! Recordings of which only the beginning was encoded as their MP4 shall be: that is copied, and the rest encoded.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use plugnmeet_recorder::capture::encoder::arguments::EncoderSettings;
use plugnmeet_recorder::config::FfmpegOptions;
use plugnmeet_recorder::media::concat::{ConcatTarget, concat};
use plugnmeet_recorder::media::encoded_span::EncodedSpan;
use plugnmeet_recorder::media::ffprobe;
use plugnmeet_recorder::media::final_encoding::FinalEncoding;
use plugnmeet_recorder::transcode::job::JobOutcome;
use tokio_util::sync::CancellationToken;

use super::{Node, REFERENCE_OPTIONS, job_for, remove};
use crate::logs::Logs;
use crate::measure::{Crop, picture, sound};
use crate::one_pass::{packets_of, record_page};

/// The default of `ffmpeg_settings.recording`.
const FAST: &str = "-c:v libx264 -bf 0 -x264-params keyint=120:scenecut=0 -preset ultrafast -crf 23 -c:a copy \
                    -movflags frag_keyframe+empty_moov+default_base_moof -flush_packets 1 -tune zerolatency -y";
/// Where the fast encoder takes over, and the end, in seconds; whole frames of [`RATE`].
const CHANGE: f64 = 4.4;
const END: f64 = 7.28;
const RATE: f64 = 25.0;
/// On the left the brightness counts frames, on the right it flashes with each beep.
const LEFT: Crop = Crop::new(8, 8, 140, 160);
const RIGHT: Crop = Crop::new(168, 8, 140, 160);

/// The last frame that is another one than that before it, and all frames.
const LAST: usize = 174;
const FRAMES: usize = 182;

/// What the left half shows in a frame.
fn brightness(frame: usize) -> f64 {
    f64::from(u32::try_from(frame.min(LAST) % 12).unwrap() * 17 + 24)
}

/// Records the page from one instant to another, in seconds, as a recording node does.
fn record(settings: &EncoderSettings, from: f64, to: f64, file: &Path) {
    let (length, first) = (to - from, from * RATE);
    // Brightness in blocks of ten pixels is quick to make.
    let frame = format!("min(N+{first},{LAST})");
    let flash = format!("if(between(mod({frame}/{RATE},1),0.47,0.67),235,16)");
    let picture = format!(
        "nullsrc=s=32x18:r={RATE}:d={length},format=yuv420p,\
         geq=cb=128:cr=128:lum='if(lt(X,16),24+17*mod({frame},12),{flash})',\
         scale=320:180:flags=neighbor,format=yuv420p"
    );
    let beep = format!(
        "aevalsrc='0.5*sin(2*PI*1000*(t+{from}))*between(mod(t+{from},1),0.48,0.68)':s=48000:d={length}:c=stereo"
    );
    record_page(&["-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", &beep], settings, (320, 180), file);
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn post_recording() -> FfmpegOptions {
    FfmpegOptions { pre_input: Vec::new(), post_input: words(REFERENCE_OPTIONS) }
}

/// The two files of a part that went on with the fast encoder.
fn part(dir: &Path) -> [PathBuf; 2] {
    let files = ["rec-1_raw.part1.mkv", "rec-1_raw.part1.on.mkv"].map(|name| dir.join(name));
    let fast = EncoderSettings::new(&[], &words(FAST));
    let final_encoding = Some(Arc::new(FinalEncoding::read(&post_recording()).unwrap()));
    record(&EncoderSettings { final_encoding, ..fast.clone() }, 0.0, CHANGE, &files[0]);
    record(&fast, CHANGE, END, &files[1]);
    files
}

async fn join(files: &[PathBuf; 2], raw: &Path) {
    let target = ConcatTarget { going_on: &files[1..], ..ConcatTarget::raw(raw) };
    concat(files, target, &CancellationToken::new()).await.unwrap();
}

/// Every frame at its time, with what it shows; flashes beside beeps; and all of it can be decoded.
fn assert_shows_the_page(mp4: &Path, count: usize) {
    let decoded = Command::new("ffmpeg")
        .args(["-v", "error", "-xerror", "-nostdin", "-i"])
        .arg(mp4)
        .args(["-fps_mode", "passthrough", "-f", "null", "-"])
        .output()
        .unwrap();
    assert!(decoded.status.success() && decoded.stderr.is_empty(), "{}", String::from_utf8_lossy(&decoded.stderr));
    let frames = picture::luma(mp4, LEFT).unwrap();
    assert_eq!(frames.len(), count, "{:?}", frames.iter().map(|frame| frame.0).collect::<Vec<_>>());
    for (n, (at, luma)) in frames.iter().enumerate() {
        let expected = f64::from(u32::try_from(n).unwrap()) / RATE;
        assert!((at - expected).abs() < 0.002, "frame {n} at {at} s");
        assert!((luma - brightness(n)).abs() < 4.0, "frame {n} has {luma}, not {}", brightness(n));
    }
    let (beeps, flashes) = (sound::beeps(mp4, 1000.0).unwrap(), picture::flashes(mp4, RIGHT).unwrap());
    assert_eq!((beeps.len(), flashes.len()), (7, 7), "{beeps:?} {flashes:?}");
    for (beep, flash) in beeps.iter().zip(&flashes) {
        assert!((beep - flash).abs() < 0.02, "a beep at {beep} s, its flash at {flash} s");
    }
}

/// The picture at and after an instant, found by seeking there.
fn brightness_at(mp4: &Path, at: f64) -> f64 {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-xerror", "-nostdin", "-ss", &at.to_string(), "-i"])
        .arg(mp4)
        .args(["-an", "-vf", "crop=140:160:8:8,format=gray,scale=1:1:flags=area"])
        .args(["-frames:v", "1", "-f", "rawvideo", "-"])
        .output()
        .unwrap();
    // Full range, where the picture has limited range.
    f64::from(output.stdout[0]) / 255.0 * 219.0 + 16.0
}

#[tokio::test]
async fn only_what_was_recorded_fast_is_encoded_again() {
    let node = Node::with_options(true, REFERENCE_OPTIONS);
    let raw = node.room().join("rec-1_raw.mkv");
    let files = part(node.dir.path());
    join(&files, &raw).await;
    // What a killed attempt has left.
    for name in [".rec-1.mp4.node_02.tail.part", ".rec-1.mp4.node_02.list.part"] {
        fs::write(node.room().join(name), "stale").unwrap();
    }
    let logs = Logs::capture();
    assert_eq!(node.run(&job_for(&node.room(), "rec-1_raw.mkv"), 1).await, remove(&raw));
    node.assert_told_success();
    node.assert_holds(&["rec-1.mp4", "rec-1_raw.mkv"]);
    assert_eq!(logs.lines(" WARN "), Vec::<String>::new());
    assert!(logs.lines("how=\"splice\"").len() == 1 && logs.lines("how=\"convert\"").is_empty());

    let [first, fast, mp4] =
        [(&files[0], "0:0"), (&files[1], "0:0"), (&node.mp4(), "0:v")].map(|(path, track)| packets_of(path, track));
    assert_eq!((first.len(), mp4.len()), (110, 175));
    assert_eq!(mp4[..110], first, "what was encoded while recording");
    assert!(mp4[110..].iter().all(|packet| !fast.contains(packet)));
    // The repetitions at the end are dropped, and the last frame is shown instead of them.
    let shown = ffprobe::measure(&node.mp4()).await.unwrap().video().unwrap().times.unwrap();
    assert!((shown.end.as_secs_f64() - END).abs() < 0.05, "{shown:?}");
    let size = |path: &Path| fs::metadata(path).unwrap().len();
    println!("raw {} bytes, MP4 {}", size(&raw), size(&node.mp4()));
    assert_shows_the_page(&node.mp4(), LAST + 1);
    for frame in [108, 109, 110, 111, 130] {
        let at = f64::from(u32::try_from(frame).unwrap()) / RATE - 0.001;
        let shown = brightness_at(&node.mp4(), at);
        assert!((shown - brightness(frame)).abs() < 5.0, "frame {frame}: {shown}, not {}", brightness(frame));
    }
    // Whoever does not know of it plays the raw file from start to end.
    assert_shows_the_page(&raw, FRAMES);
}

#[tokio::test]
async fn a_beginning_that_cannot_be_gone_on_with_is_encoded_again_too() {
    let node = Node::with_options(true, REFERENCE_OPTIONS);
    let (raw, joined) = (node.room().join("rec-1_raw.mkv"), node.dir.path().join("joined.mkv"));
    join(&part(node.dir.path()), &joined).await;
    let media = ffprobe::measure(&joined).await.unwrap();
    let span = media.video().unwrap().encoded_span.clone().unwrap();
    assert_eq!((span.until, span.packets), (Duration::from_secs_f64(CHANGE), 110));
    // What hooks may do that keep the tag: another time, another encoding.
    let moved = format!("ENCODED_FOR_UNTIL={}", EncodedSpan { until: Duration::from_secs(5), ..span });
    for (change, cause) in [
        (["-c", "copy", "-metadata:s:v", &moved], "it has 175 packets of picture, its beginning and its tail 160"),
        (["-c:v", "libx264", "-preset", "superfast"], "gives the picture other parameters"),
    ] {
        let mut hook = Command::new("ffmpeg");
        hook.args(["-v", "error", "-nostdin", "-y", "-i"]).arg(&joined).args(["-map", "0", "-c:a", "copy", "-bf", "0"]);
        assert!(hook.args(change).args(["-f", "matroska"]).arg(&raw).status().unwrap().success());
        let logs = Logs::capture();
        assert_eq!(node.run(&job_for(&node.room(), "rec-1_raw.mkv"), 1).await, remove(&raw));
        node.assert_told_success();
        let warned = logs.lines("PNR-0536");
        assert!(warned.len() == 1 && warned[0].contains(cause), "{warned:?}");
        assert_eq!(logs.lines("how=\"convert\"").len(), 1);
        node.assert_holds(&["rec-1.mp4", "rec-1_raw.mkv"]);
        assert_shows_the_page(&node.mp4(), LAST + 1);
        fs::remove_file(node.mp4()).unwrap();
    }
}

#[tokio::test]
async fn a_shutdown_in_the_tail_leaves_nothing() {
    let node = Node::with_options(true, REFERENCE_OPTIONS);
    let raw = node.room().join("rec-1_raw.mkv");
    join(&part(node.dir.path()), &raw).await;
    let (cancel, tail) = (node.cancel.clone(), node.room().join(".rec-1.mp4.node_02.tail.part"));
    let stop = async {
        while !tail.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        cancel.cancel();
    };
    let job = job_for(&node.room(), "rec-1_raw.mkv");
    let (outcome, ()) = tokio::join!(node.run(&job, 1), stop);
    assert!(matches!(outcome, JobOutcome::Again(_)), "{outcome:?}");
    node.assert_holds(&["rec-1_raw.mkv"]);
}
