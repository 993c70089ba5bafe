//! Calls on the meeting page: the guest in a Chrome of its own, how it and the page find each other, and the other files
//! that `call.js` plays.

use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use anyhow::{Context, ensure};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use plugnmeet_recorder::capture::browser::chrome_arguments;
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use tokio::sync::watch;

use super::child::Child;
use super::meeting::Content;
use super::{Room, Standin};

/// What Chrome and its first connection may take on a busy machine.
const JOIN_LIMIT: Duration = Duration::from_secs(30);
/// What it may take to end in good order.
const END_LIMIT: Duration = Duration::from_secs(3);

/// A participant: flashes and beeps once a second, at one instant, until it is dropped.
pub struct Guest {
    chrome: Child,
    /// Dropped after Chrome has ended.
    _profile: TempDir,
}

impl Guest {
    /// Starts it; it waits for the room's page when this returns. `content`: the call that the page shows.
    pub async fn join(standin: &Standin, room: &Room, content: Content) -> anyhow::Result<Self> {
        let profile = tempfile::Builder::new().prefix("pnm-guest-").tempdir()?;
        let program = chrome_arguments::find_chrome(None).context("no Chrome found")?;
        let program = program.to_str().context("the path is no text")?;
        let call = format!("call={}&content={}", room.id, content.name());
        let chrome = Child::spawn("the guest's Chrome", program, |command| {
            command
                .args(["--headless=new", "--disable-gpu", "--no-first-run", "--no-sandbox"])
                .args(["--disable-background-networking", "--disable-component-update"])
                .arg("--autoplay-policy=no-user-gesture-required")
                // Nobody resolves names of mDNS here.
                .arg("--disable-features=WebRtcHideLocalIpsWithMdns")
                .arg(format!("--user-data-dir={}", profile.path().display()))
                .arg(format!("{}/standin/guest?{call}", standin.host()))
                .env("HOME", profile.path())
                .env("TMPDIR", profile.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
        })?;
        let guest = Self { chrome, _profile: profile };
        let offer = format!("{}/standin/signal?call={}&name=offer", standin.host(), room.id);
        plugnmeet_recorder::tls::provide_crypto();
        let client = reqwest::Client::builder().timeout(JOIN_LIMIT).build()?;
        client.get(offer).send().await.context("the guest does not call")?.error_for_status()?;
        Ok(guest)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let group = Pid::from_raw(self.chrome.id().cast_signed());
        // It takes its helpers with it where it ends in good order; else they are of its group.
        let _ = self.chrome.stop(END_LIMIT);
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// What the two ends of a call have said, by call and name.
type Signals = Arc<Mutex<HashMap<(String, String), watch::Sender<Option<String>>>>>;

/// The call's side of the deployment.
pub fn routes() -> Router {
    Router::new()
        .route("/standin/signal", get(hear).post(say))
        .route("/standin/guest", get(|| async { Html(include_str!("guest.html")) }))
        .route("/standin/call.js", get(script))
        .route("/standin/clip.webm", get(clip))
        .with_state(Signals::default())
}

fn said(signals: &Signals, query: &HashMap<String, String>) -> watch::Sender<Option<String>> {
    let part = |key| query.get(key).cloned().unwrap_or_default();
    signals.lock().unwrap().entry((part("call"), part("name"))).or_default().clone()
}

async fn say(State(signals): State<Signals>, Query(query): Query<HashMap<String, String>>, body: String) -> StatusCode {
    said(&signals, &query).send_replace(Some(body));
    StatusCode::NO_CONTENT
}

/// Answers when the other end has said it.
async fn hear(
    State(signals): State<Signals>,
    Query(query): Query<HashMap<String, String>>,
) -> Result<String, StatusCode> {
    let mut heard = said(&signals, &query).subscribe();
    let heard = tokio::time::timeout(JOIN_LIMIT, heard.wait_for(Option::is_some)).await;
    heard.ok().and_then(Result::ok).and_then(|said| said.clone()).ok_or(StatusCode::REQUEST_TIMEOUT)
}

async fn script() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/javascript")], include_str!("call.js"))
}

async fn clip() -> Response {
    match tokio::task::spawn_blocking(made_clip).await {
        Ok(Ok(bytes)) => ([(header::CONTENT_TYPE, "video/webm")], bytes).into_response(),
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}")).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Forty seconds of black and silence, and from 0.9 s on each second 0.13 s of white and 0.1 s of a tone, at one instant.
fn made_clip() -> anyhow::Result<Bytes> {
    static MADE: OnceLock<Bytes> = OnceLock::new();
    if let Some(made) = MADE.get() {
        return Ok(made.clone());
    }
    let file = tempfile::Builder::new().prefix("pnm-clip-").suffix(".webm").tempfile()?;
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-y", "-f", "lavfi", "-i", "color=black:size=320x180:rate=30:duration=40"])
        .args(["-f", "lavfi", "-i"])
        .arg("aevalsrc='if(lt(mod(t,1),0.1)*gte(t,0.9),0.5*sin(2*PI*1700*t),0)':d=40:s=48000")
        // Half a millisecond ahead: the times of its frames are rounded.
        .args(["-vf", "drawbox=c=white:t=fill:enable='lt(mod(t+0.0005,1),0.13)*gte(t,0.9)'"])
        .args(["-pix_fmt", "yuv420p", "-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "300k"])
        .args(["-c:a", "libopus", "-f", "webm"])
        .arg(file.path())
        .output()
        .context("cannot run ffmpeg")?;
    ensure!(output.status.success(), "ffmpeg made no clip: {}", String::from_utf8_lossy(&output.stderr));
    let made = Bytes::from(std::fs::read(file.path())?);
    Ok(MADE.get_or_init(|| made).clone())
}
