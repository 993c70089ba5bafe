//! What comes out of transcoding, as a viewer meets it: in the `<video>` of a real Chromium, which seeks, shows and ends.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path as Segment, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use plugnmeet_recorder::capture::browser::chrome_arguments;
use plugnmeet_recorder::config::{FfmpegOptions, Profile};
use plugnmeet_recorder::media::ffmpeg_arguments::FfmpegArguments;
use plugnmeet_recorder::media::progress::FfmpegProgress;
use plugnmeet_recorder::media::{ffmpeg, ffprobe, verification};
use plugnmeet_recorder::process::child::{self, ChildSpec};
use rustix::process::Signal;
use serde::Deserialize;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::measure;
use crate::recorder::{SOON, alone};

/// Seconds of the recording: its sound lasts so long, its last frame comes before that, as ours do. Not in whole
/// milliseconds: 497,781 samples at 48 kHz.
const SECONDS: f64 = 10.370_437_5;
/// Of a time in the raw file: Matroska counts in milliseconds.
const MILLISECOND: f64 = 0.001;
/// What a header of 48,000 ticks a second can say.
const TICKS: f64 = 0.000_05;
/// Frames a second of the source of which the recording has some.
const SOURCE_RATE: f64 = 25.0;

/// As this program records: one frame a second for 6 s, then 25 for 3 s, then one; PCM. Each frame shows its number in
/// the source as nine white or black bars, the lowest bit on the left; the tenth bar is always white.
fn record(raw: &Path) {
    let bar = |k: u32, when: &str| format!("drawbox=x={}:y=0:w=32:h=180:c=white:t=fill{when}", 32 * k);
    let bits: Vec<String> = (0..9).map(|k| bar(k, &format!(":enable='mod(floor(n/{}),2)'", 1 << k))).collect();
    let picture = format!(
        "color=black:s=320x180:r=25:d=10.04,{},{},format=yuv420p,\
         select='if(between(t,6,9),1,not(mod(n,25)))',settb=1/1000",
        bits.join(","),
        bar(9, ""),
    );
    let sound = format!("sine=f=440:r=48000,atrim=end_sample={}", (SECONDS * 48_000.0).round());
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", &sound])
        .args(
            "-fps_mode passthrough -enc_time_base 1:1000 -c:v libx264 -preset ultrafast -crf 18 -bf 0 -g 120"
                .split(' '),
        )
        .args("-c:a pcm_s16le -ac 2 -f matroska".split(' '))
        .arg(raw)
        .status()
        .unwrap();
    assert!(status.success());
}

/// The frame of the source that is to be seen at `at` seconds.
fn shown_at(at: f64) -> f64 {
    if (6.0..9.0).contains(&at) { (at * SOURCE_RATE).floor() } else { at.floor() * SOURCE_RATE }
}

/// What the page tells of one video.
#[derive(Debug, Deserialize)]
struct Seen {
    name: String,
    duration: f64,
    /// Where it was sent, where it says it is, what its picture says.
    seeks: Vec<(f64, f64, f64)>,
    /// While it played: the frame's time in the file, what its picture says.
    frames: Vec<(f64, f64)>,
    /// When it fired `ended`.
    ended_at: f64,
}

/// What is served, and to whom the page's report goes.
struct Site {
    files: Vec<(String, Bytes)>,
    report: Mutex<Option<oneshot::Sender<String>>>,
}

const PAGE: &str = r#"<!doctype html><video muted></video><canvas width=320 height=180></canvas><script>
const video = document.querySelector("video"), canvas = document.querySelector("canvas");
const pen = canvas.getContext("2d", { willReadFrequently: true });
const next = (what) => new Promise((resolve, reject) => {
  video.addEventListener(what, resolve, { once: true });
  video.addEventListener("error", () => reject(new Error(`${video.src}: ${video.error.message}`)), { once: true });
});
const code = () => {
  pen.fillStyle = "gray";
  pen.fillRect(0, 0, 320, 180);
  pen.drawImage(video, 0, 0, 320, 180);
  const bits = [...Array(10).keys()].map((k) => pen.getImageData(32 * k + 16, 90, 1, 1).data[0]);
  if (bits[9] < 200 || bits.some((bit) => bit > 55 && bit < 200)) throw new Error(`no picture: ${bits}`);
  return bits.slice(0, 9).reduce((sum, bit, k) => sum + (bit > 127 ? 1 << k : 0), 0);
};
const watch = async (name) => {
  let there = next("loadeddata");
  video.src = name;
  await there;
  const seen = { name, duration: video.duration, seeks: [], frames: [] };
  for (const share of [0.25, 0.75, 0.5]) {
    there = next("seeked");
    video.currentTime = video.duration * share;
    await there;
    seen.seeks.push([video.duration * share, video.currentTime, code()]);
  }
  there = next("seeked");
  video.currentTime = 8.5;
  await there;
  let failed, over = false;
  const frame = (_, { mediaTime }) => {
    if (over) return;
    try { seen.frames.push([mediaTime, code()]); } catch (error) { failed = error; }
    video.requestVideoFrameCallback(frame);
  };
  video.requestVideoFrameCallback(frame);
  there = next("ended");
  await video.play();
  await there;
  over = true;
  if (failed) throw failed;
  seen.ended_at = video.currentTime;
  return seen;
};
(async () => {
  let report;
  try {
    report = [];
    for (const name of NAMES) report.push(await watch(name));
  } catch (error) {
    report = String(error);
  }
  await fetch("/report", { method: "POST", body: JSON.stringify(report) });
})();
</script>"#;

async fn page(State(site): State<Arc<Site>>) -> Html<String> {
    let names: Vec<_> = site.files.iter().map(|(name, _)| format!("/files/{name}")).collect();
    Html(PAGE.replace("NAMES", &serde_json::to_string(&names).unwrap()))
}

/// The part of a file that is asked for (RFC 9110, 14): without that, Chromium does not seek.
async fn file(State(site): State<Arc<Site>>, Segment(name): Segment<String>, headers: HeaderMap) -> Response {
    let Some((_, bytes)) = site.files.iter().find(|(other, _)| *other == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let asked = headers.get(header::RANGE).and_then(|range| range.to_str().ok()?.strip_prefix("bytes="));
    let range = asked.and_then(|range| {
        let (first, last) = range.split_once('-')?;
        let last = last.parse().unwrap_or(usize::MAX).min(bytes.len() - 1);
        first.parse().ok().filter(|first| *first <= last).map(|first| (first, last))
    });
    let kind = (header::CONTENT_TYPE, "video/mp4".to_owned());
    let Some((first, last)) = range else {
        return ([kind, (header::ACCEPT_RANGES, "bytes".to_owned())], bytes.clone()).into_response();
    };
    let content = (header::CONTENT_RANGE, format!("bytes {first}-{last}/{}", bytes.len()));
    (StatusCode::PARTIAL_CONTENT, [kind, content], bytes.slice(first..=last)).into_response()
}

async fn report(State(site): State<Arc<Site>>, body: String) {
    if let Some(report) = site.report.lock().unwrap().take() {
        let _ = report.send(body);
    }
}

/// Shows each file to a Chromium of its own, which has ended when this returns.
async fn watch(files: Vec<(String, Bytes)>) -> Vec<Seen> {
    let (tell, told) = oneshot::channel();
    let site = Arc::new(Site { files, report: Mutex::new(Some(tell)) });
    let router = Router::new().route("/", get(page)).route("/files/{name}", get(file)).route("/report", post(report));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, router.with_state(site)).await });
    let profile = tempfile::tempdir().unwrap();
    let mut directory = std::ffi::OsString::from("--user-data-dir=");
    directory.push(profile.path());
    // Its pages are our own.
    let flags = ["--headless=new", "--no-sandbox", "--no-first-run", "--disable-gpu", "--disable-breakpad"];
    let chrome = ChildSpec::new("chromium", chrome_arguments::find_chrome(None).unwrap())
        .args(flags)
        .args(["--mute-audio", "--disable-dev-shm-usage", "--disable-background-networking"])
        .args([directory, url.into()])
        .env("TMPDIR", profile.path());
    let mut chrome = child::spawn(&chrome).await.unwrap();
    let told = tokio::time::timeout(2 * SOON, told).await;
    chrome.stop(Signal::TERM, SOON).await;
    server.abort();
    let told = told.unwrap_or_else(|_| panic!("no report: {}", chrome.tail().last_lines(5))).unwrap();
    serde_json::from_str(&told).unwrap_or_else(|_| panic!("{told}"))
}

#[tokio::test]
async fn what_is_made_plays_seeks_and_ends_in_chromium_at_the_right_times_with_every_profile() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("raw.mkv");
    record(&raw);
    let before = ffprobe::measure(&raw).await.unwrap();
    let profiles = std::iter::once(None).chain(Profile::ALL.map(Some));
    let name = |profile: Option<Profile>| profile.map_or("default", Profile::as_str).to_owned();
    let mut all: Vec<_> = profiles
        .map(|profile| (name(profile), FfmpegArguments::convert(&FfmpegOptions::post_recording(profile), &before)))
        .collect();
    all.push(("remux".to_owned(), FfmpegArguments::remux(&before)));
    let (mut files, mut durations) = (Vec::new(), Vec::new());
    for (name, arguments) in all {
        let mp4 = dir.path().join(format!("{name}.mp4"));
        let task = ffmpeg::FfmpegTask {
            pre_input: &arguments.pre_input,
            post_input: &arguments.post_input,
            input: &raw,
            total: Duration::ZERO,
            output: &mp4,
            nice: 0,
        };
        ffmpeg::run(task, &watch::channel(FfmpegProgress::default()).0, &CancellationToken::new()).await.unwrap();
        let made = ffprobe::measure(&mp4).await.unwrap();
        verification::compare(&made, &arguments.expected(&before)).unwrap();
        let told = measure::probe(&mp4).unwrap().duration;
        // Filters take the times of their input for true, and these are rounded.
        let filtered = arguments.post_input.contains(&"-af".to_owned());
        let tolerance = if filtered { MILLISECOND } else { TICKS };
        assert!((told - SECONDS).abs() < tolerance, "{name}: ffprobe tells {told} s");
        durations.push(told);
        files.push((name, Bytes::from(std::fs::read(&mp4).unwrap())));
    }
    let _turn = alone().await;
    let wanted = files.len();
    let seen = watch(files).await;
    assert_eq!(seen.len(), wanted);
    for (Seen { name, duration, seeks, frames, ended_at }, told) in seen.into_iter().zip(durations) {
        assert!((duration - told).abs() < TICKS, "{name}: {duration} s, ffprobe tells {told} s");
        assert_eq!(seeks.len(), 3, "{name}");
        for (wanted, there, code) in seeks {
            assert!((there - wanted).abs() < TICKS, "{name}: sent to {wanted}, is at {there}");
            let right = shown_at(there);
            assert!((code - right).abs() < 0.5, "{name}: at {there} s frame {code} instead of {right}");
        }
        // How many of them a busy machine shows is not promised; which ones, and when, is.
        assert!(frames.len() >= 3, "{name}: {frames:?}");
        for pair in frames.windows(2) {
            assert!(pair[1].0 > pair[0].0, "{name}: {frames:?}");
        }
        for (at, code) in &frames {
            assert!((at - code / SOURCE_RATE).abs() < MILLISECOND, "{name}: frame {code} at {at} s");
        }
        assert!((frames[frames.len() - 1].1 - 250.0).abs() < 0.5, "{name}: the last one is shown: {frames:?}");
        assert!((ended_at - duration).abs() < TICKS, "{name}: ended at {ended_at} s");
    }
}
