//! A page with hls.js in a Chromium of its own, and the server of both, whose line can be made slow.

use std::convert::Infallible;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path as Segment, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::{get, post};
use plugnmeet_recorder::capture::browser::chrome_arguments;
use plugnmeet_recorder::process::child::{self, ChildSpec};
use rustix::process::Signal;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use crate::recorder::SOON;

/// Between these a page defines `run`, whose result it reports.
const BEFORE: &str = r#"<!doctype html><video muted width=640></video><script src="/hls.min.js"></script><script>
const video = document.querySelector("video");
const next = (what) => new Promise((resolve) => video.addEventListener(what, resolve, { once: true }));
// Bytes a second of each answer; 0: as fast as it goes.
const line = (rate) => fetch("/line", { method: "POST", body: String(rate) });
"#;
const BEHIND: &str = r#"
run().catch((error) => ({ failed: String(error) })).then((seen) =>
  fetch("/report", { method: "POST", body: JSON.stringify(seen) }));
</script>"#;
/// How often a slow line takes bytes.
const PORTION: Duration = Duration::from_millis(50);
const PORTIONS_A_SECOND: usize = 20;

struct Site {
    dir: PathBuf,
    page: String,
    /// Bytes a second of each answer; 0: as fast as it goes.
    rate: AtomicUsize,
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
    let head = [(header::CACHE_CONTROL, "no-store".to_owned())];
    let Some((first, last)) = range else { return (head, body(site, bytes)).into_response() };
    let part = bytes.slice(first..=last);
    let of_part = [
        (header::CONTENT_RANGE, format!("bytes {first}-{last}/{}", bytes.len())),
        (header::CONTENT_LENGTH, part.len().to_string()),
    ];
    (StatusCode::PARTIAL_CONTENT, head, of_part, body(site, part)).into_response()
}

/// As fast as the line is when each portion of it is due.
fn body(site: Arc<Site>, bytes: Bytes) -> Body {
    let portions = futures::stream::unfold((site, bytes), async |(site, mut left)| {
        if left.is_empty() {
            return None;
        }
        let portion = match site.rate.load(Ordering::Relaxed) {
            0 => left.split_off(0),
            rate => {
                tokio::time::sleep(PORTION).await;
                left.split_to((rate / PORTIONS_A_SECOND).min(left.len()))
            }
        };
        Some((Ok::<_, Infallible>(portion), (site, left)))
    });
    Body::from_stream(portions)
}

async fn script() -> Bytes {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/hls.min.js");
    std::fs::read(path).expect("tools/install-deps fetches hls.js").into()
}

async fn page(State(site): State<Arc<Site>>) -> Html<String> {
    Html(site.page.clone())
}

async fn line(State(site): State<Arc<Site>>, rate: String) {
    site.rate.store(rate.parse().unwrap(), Ordering::Relaxed);
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

/// Plays the HLS of this directory as `run` says, the source of a function in JavaScript: what that has returned.
pub async fn play<T: DeserializeOwned>(dir: PathBuf, run: &str) -> T {
    play_beside(dir, run, async {}).await
}

/// The same; `work` is done when the page posts to `/signal`.
pub async fn play_beside<T: DeserializeOwned>(dir: PathBuf, run: &str, work: impl Future<Output = ()>) -> T {
    let (tell, told) = oneshot::channel();
    let (signal, signalled) = oneshot::channel();
    let page_text = format!("{BEFORE}{run}{BEHIND}");
    let (report_to, signal) = (Mutex::new(Some(tell)), Mutex::new(Some(signal)));
    let site = Site { dir, page: page_text, rate: AtomicUsize::new(0), report: report_to, signal };
    let router = Router::new()
        .route("/", get(page))
        .route("/hls.min.js", get(script))
        .route("/hls/{name}", get(file))
        .route("/line", post(line))
        .route("/report", post(report))
        .route("/signal", post(signal_given));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, router.with_state(Arc::new(site))).await });
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
    let work = async {
        if signalled.await.is_ok() {
            work.await;
        }
        std::future::pending::<()>().await;
    };
    let told = tokio::select! {
        told = tokio::time::timeout(3 * SOON, told) => told,
        () = work => unreachable!(),
    };
    chrome.stop(Signal::TERM, SOON).await;
    server.abort();
    let told = told.unwrap_or_else(|_| panic!("no report: {}", chrome.tail().last_lines(5))).unwrap();
    serde_json::from_str(&told).unwrap_or_else(|_| panic!("{told}"))
}
