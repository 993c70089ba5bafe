//! The HLS of a recording in a real Chromium, played by hls.js: it seeks, and plays to the end; while it is recorded it comes
//! late, and goes back to the beginning.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path as Segment, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::{get, post};
use plugnmeet_recorder::capture::browser::chrome_arguments;
use plugnmeet_recorder::config::VideoRate;
use plugnmeet_recorder::process::child::{self, ChildSpec};
use rustix::process::Signal;
use serde::Deserialize;
use tokio::sync::oneshot;

use super::live::{self, Published};
use super::packages::{config, package};
use super::{SECONDS, mp4};
use crate::recorder::{SOON, alone};

const PAGE: &str = r#"<!doctype html><video muted width=640></video><script src="/hls.min.js"></script><script>
const video = document.querySelector("video");
const next = (what) => new Promise((resolve) => video.addEventListener(what, resolve, { once: true }));
const run = async () => {
  const seen = { seeks: [], errors: [], levels: 0, height: 0 };
  const hls = new Hls({ startLevel: 1, maxBufferLength: 3, maxMaxBufferLength: 3, backBufferLength: 0, startFragPrefetch: false });
  hls.on(Hls.Events.ERROR, (_, data) => seen.errors.push(`${data.details} ${data.fatal}`));
  const there = next("loadeddata");
  hls.loadSource("/hls/master.m3u8");
  hls.attachMedia(video);
  await there;
  seen.levels = hls.levels.length;
  seen.height = video.videoHeight;
  seen.duration = video.duration;
  for (const share of [0.25, 0.5, 0.75]) {
    const sought = next("seeked");
    video.currentTime = video.duration * share;
    await sought;
    seen.seeks.push([video.duration * share, video.currentTime, video.readyState]);
  }
  const back = next("seeked");
  video.currentTime = 0.1;
  await back;
  const ended = next("ended");
  await video.play();
  await ended;
  seen.ended_at = video.currentTime;
  const quality = video.getVideoPlaybackQuality();
  seen.corrupted = quality.corruptedVideoFrames;
  return seen;
};
run().catch((error) => ({ failed: String(error) })).then((seen) =>
  fetch("/report", { method: "POST", body: JSON.stringify(seen) }));
</script>"#;

#[derive(Debug, Deserialize)]
struct Seen {
    levels: usize,
    duration: f64,
    /// Where it was sent, where it is, what it has there.
    seeks: Vec<(f64, f64, u32)>,
    errors: Vec<String>,
    /// Of the picture.
    height: u32,
    ended_at: f64,
    corrupted: u32,
}

struct Site {
    dir: PathBuf,
    report: Mutex<Option<oneshot::Sender<String>>>,
    signal: Mutex<Option<oneshot::Sender<()>>>,
}

async fn file(State(site): State<Arc<Site>>, Segment(name): Segment<String>, headers: HeaderMap) -> Response {
    let Ok(bytes) = std::fs::read(site.dir.join(&name)) else { return StatusCode::NOT_FOUND.into_response() };
    let bytes = Bytes::from(bytes);
    let asked = headers.get(header::RANGE).and_then(|range| range.to_str().ok()?.strip_prefix("bytes="));
    let range = asked.and_then(|range| {
        let (first, last) = range.split_once('-')?;
        Some((first.parse::<usize>().ok()?, last.parse::<usize>().ok()?.min(bytes.len() - 1)))
    });
    let Some((first, last)) = range else { return bytes.into_response() };
    let content = format!("bytes {first}-{last}/{}", bytes.len());
    let part = bytes.slice(first..=last);
    let head = [(header::CONTENT_RANGE, content)];
    (StatusCode::PARTIAL_CONTENT, head, part).into_response()
}

async fn script() -> Bytes {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/hls.min.js");
    std::fs::read(path).expect("tools/install-deps fetches hls.js").into()
}

async fn report(State(site): State<Arc<Site>>, body: String) {
    if let Some(report) = site.report.lock().unwrap().take() {
        let _ = report.send(body);
    }
}

async fn signal_given(State(site): State<Arc<Site>>) {
    if let Some(signal) = site.signal.lock().unwrap().take() {
        let _ = signal.send(());
    }
}

/// What the page saw of the HLS in this directory. `on_signal`: done when the page asks for it.
async fn watch<T: serde::de::DeserializeOwned>(
    dir: PathBuf,
    page: &'static str,
    on_signal: impl Future<Output = ()>,
) -> T {
    let (tell, told) = oneshot::channel();
    let (signal, signalled) = oneshot::channel();
    let site = Arc::new(Site { dir, report: Mutex::new(Some(tell)), signal: Mutex::new(Some(signal)) });
    let router = Router::new()
        .route("/", get(async move || Html(page)))
        .route("/hls.min.js", get(script))
        .route("/hls/{name}", get(file))
        .route("/report", post(report))
        .route("/signal", post(signal_given));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, router.with_state(site)).await });
    let profile = tempfile::tempdir().unwrap();
    let mut directory = OsString::from("--user-data-dir=");
    directory.push(profile.path());
    // Its pages are our own.
    let flags = ["--headless=new", "--no-sandbox", "--no-first-run", "--disable-gpu", "--disable-breakpad"];
    let chrome = ChildSpec::new("chromium", chrome_arguments::find_chrome(None).unwrap())
        .args(flags)
        .args(["--mute-audio", "--disable-dev-shm-usage", "--autoplay-policy=no-user-gesture-required"])
        .args([directory, url.into()])
        .env("TMPDIR", profile.path());
    let mut chrome = child::spawn(&chrome).await.unwrap();
    let signalled = async {
        if signalled.await.is_ok() {
            on_signal.await;
        }
        std::future::pending::<()>().await;
    };
    let told = tokio::select! {
        told = tokio::time::timeout(3 * SOON, told) => told,
        () = signalled => unreachable!(),
    };
    chrome.stop(Signal::TERM, SOON).await;
    server.abort();
    let told = told.unwrap_or_else(|_| panic!("no report: {}", chrome.tail().last_lines(5))).unwrap();
    serde_json::from_str(&told).unwrap_or_else(|_| panic!("{told}"))
}

#[tokio::test]
async fn hls_js_seeks_and_plays_to_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rec.mp4");
    mp4(&file, "expr:gte(t,n_forced*4)", true);
    let rates = [(360, Some(VideoRate::BitRate(2_000_000))), (180, Some(VideoRate::BitRate(60_000)))];
    let hls = package(&file, &config(&rates)).await;
    let _turn = alone().await;
    let seen: Seen = watch(hls, PAGE, async {}).await;
    assert_eq!((seen.levels, seen.corrupted), (2, 0), "{seen:?}");
    assert!(!seen.errors.iter().any(|error| error.ends_with("true")), "{seen:?}");
    assert!((seen.duration - SECONDS).abs() < 0.1 && (seen.ended_at - SECONDS).abs() < 0.2, "{seen:?}");
    for (wanted, there, ready) in &seen.seeks {
        assert!((wanted - there).abs() < 0.2 && *ready >= 2, "{seen:?}");
    }
    assert_eq!((seen.seeks.len(), seen.height), (3, 360), "{seen:?}");
}

/// Comes late, near the end of what is there; goes back to the beginning; asks for the rest, and plays on to its end.
const LATE_PAGE: &str = r#"<!doctype html><video muted width=640></video><script src="/hls.min.js"></script><script>
const video = document.querySelector("video");
const next = (what) => new Promise((resolve) => video.addEventListener(what, resolve, { once: true }));
const run = async () => {
  const seen = { errors: [] };
  const hls = new Hls({ liveSyncDuration: 3 });
  hls.on(Hls.Events.ERROR, (_, data) => seen.errors.push(`${data.details} ${data.fatal}`));
  const there = next("loadeddata");
  hls.loadSource("/hls/master.m3u8");
  hls.attachMedia(video);
  await there;
  seen.is_live = hls.levels[hls.currentLevel < 0 ? 0 : hls.currentLevel].details.live;
  seen.joined_at = Math.max(video.currentTime, hls.liveSyncPosition);
  const back = next("seeked");
  video.currentTime = 0;
  await back;
  seen.back_at = video.currentTime;
  await fetch("/signal", { method: "POST" });
  const ended = next("ended");
  video.playbackRate = 4;
  await video.play();
  await ended;
  seen.ended_at = video.currentTime;
  seen.corrupted = video.getVideoPlaybackQuality().corruptedVideoFrames;
  return seen;
};
run().catch((error) => ({ failed: String(error) })).then((seen) =>
  fetch("/report", { method: "POST", body: JSON.stringify(seen) }));
</script>"#;

#[derive(Debug, Deserialize)]
struct SeenLate {
    errors: Vec<String>,
    is_live: bool,
    joined_at: f64,
    back_at: f64,
    ended_at: f64,
    corrupted: u32,
}

#[tokio::test(flavor = "multi_thread")]
async fn hls_js_comes_late_to_a_recording_that_runs_goes_back_to_its_beginning_and_plays_to_its_end() {
    let mut published = Published::start(live::live_config(&[(360, None), (180, None)]), 3 * SOON);
    let (first, second) = (published.file("raw.part1.mkv"), published.file("raw.part2.mkv"));
    live::part(&first, 22);
    live::part(&second, 5);
    let whole = std::fs::read(&first).unwrap();
    let cut = whole.len() * 15 / 16;
    std::fs::write(&first, &whole[..cut]).unwrap();
    published.live.part_opened(1, first.clone(), published.file("none"));
    published.wait_for("180p.m3u8", 4).await;
    let _turn = alone().await;
    let (dir, goes_on) = (published.dir.clone(), published.file("none"));
    let rest = async {
        std::fs::write(&first, &whole).unwrap();
        published.live.part_opened(2, second, goes_on);
        std::mem::replace(&mut published.live, live::idle()).finish().await;
    };
    let seen: SeenLate = watch(dir, LATE_PAGE, rest).await;
    assert!(seen.is_live && seen.joined_at > 3.0 && seen.back_at < 0.2, "{seen:?}");
    assert!((seen.ended_at - 27.0).abs() < 0.5 && seen.corrupted == 0, "{seen:?}");
    assert!(!seen.errors.iter().any(|error| error.ends_with("true")), "{seen:?}");
}
