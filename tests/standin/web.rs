//! The deployment's HTTP side: the meeting page, its videos, its event stream, and the notices' endpoint.

use std::collections::HashMap;
use std::convert::Infallible;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use anyhow::{Context, ensure};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Query, RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use futures::Stream;
use plugnmeet_recorder::protocol::messages::TokenStatus;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::Deployment;
use super::access::{self, Check};
use super::meeting::{Meeting, Room, Stage};
use super::notices::{Mood, Notices};

const PAGE: &str = include_str!("page.html");
/// Chrome tells only a page that nothing foreign shares a process with when its pictures were shown, better than to 4 ms.
const ISOLATED: [(&str, &str); 2] =
    [("cross-origin-opener-policy", "same-origin"), ("cross-origin-embedder-policy", "require-corp")];
/// Where [`PAGE`] takes its meeting.
const PAGE_SLOT: &str = "/*MEETING*/null";

type Rooms = Arc<Mutex<HashMap<String, Room>>>;
type Parameters = Query<HashMap<String, String>>;

/// The HTTP server, as long as it is not dropped.
pub struct Web {
    deployment: Deployment,
    port: u16,
    rooms: Rooms,
    token_checks: Arc<Mutex<Mood>>,
    outage: watch::Sender<Outage>,
    date: ToldDate,
    task: AbortHandle,
}

/// The header `Date` that is told instead of the true one.
type ToldDate = Arc<Mutex<Option<String>>>;

/// A proxy answers for the server, which is restarting.
#[derive(Clone, Copy, Debug, Default)]
struct Outage {
    /// `None`: the server is there.
    status: Option<StatusCode>,
    /// How many loads of the meeting's page were answered so, in all.
    pages: usize,
}

#[derive(Clone)]
struct Site {
    deployment: Deployment,
    rooms: Rooms,
    notices: Arc<Notices>,
    token_checks: Arc<Mutex<Mood>>,
}

impl Site {
    /// Whose page asks: a page that is in keeps its place beyond its token's time.
    fn visitor(&self, parameters: &Parameters) -> Option<(Room, String)> {
        let rooms = self.rooms.lock().unwrap();
        let (room, user_id, _) = access::holder(&self.deployment, &rooms, parameters.get("access_token")?)?;
        Some((room, user_id))
    }

    fn room(&self, parameters: &Parameters) -> Option<Room> {
        Some(self.visitor(parameters)?.0)
    }

    fn check(&self, token: &str) -> Check {
        access::check(&self.deployment, &self.rooms.lock().unwrap(), token)
    }
}

impl Web {
    pub async fn start(deployment: Deployment, notices: Arc<Notices>) -> anyhow::Result<Self> {
        // Made before the first page asks for it, so that no join has to wait for an encoder.
        tokio::task::spawn_blocking(|| WEBCAM.bytes()).await??;
        let rooms = Rooms::default();
        let token_checks = Arc::new(Mutex::new(Mood::Take));
        let site =
            Site { deployment: deployment.clone(), rooms: rooms.clone(), notices, token_checks: token_checks.clone() };
        let router = Router::new()
            .route("/", get(page))
            .route("/api/verifyToken", post(verify_token))
            .route("/standin/verify", get(verify))
            .route("/standin/events", get(events))
            .route("/standin/joined", post(joined))
            .route("/standin/sounding", post(sounding))
            .route("/standin/flashed", post(flashed))
            .route("/standin/webcam.webm", get(video))
            .route("/standin/film.webm", get(full_screen_video))
            .route("/standin/stalled.webm", get(stalled_video))
            .route("/auth/recorder/notify", post(notify))
            .layer(DefaultBodyLimit::max(1 << 20))
            .with_state(site)
            .merge(super::call::routes());
        let outage = watch::Sender::new(Outage::default());
        let router = router.layer(middleware::from_fn_with_state(outage.clone(), proxy));
        let date = ToldDate::default();
        let router = router.layer(middleware::from_fn_with_state(date.clone(), tell_date));
        let listener =
            TcpListener::bind(deployment.web).await.with_context(|| format!("cannot listen at {}", deployment.web))?;
        let port = listener.local_addr()?.port();
        let task = tokio::spawn(async move { axum::serve(listener, router).await }).abort_handle();
        Ok(Self { deployment, port, rooms, token_checks, outage, date, task })
    }

    pub fn url(&self) -> String {
        // The client takes no other name over plain HTTP.
        format!("http://localhost:{}", self.port)
    }

    /// The header `Date` of all answers from now on.
    pub fn tell_date(&self, date: &str) {
        *self.date.lock().unwrap() = Some(date.to_owned());
    }

    /// How `verifyToken` is answered from now on; what is not the server's own answer is a proxy's.
    pub fn token_checks(&self, mood: Mood) {
        *self.token_checks.lock().unwrap() = mood;
    }

    /// A proxy answers everything with this status; `None`: the server is back.
    pub fn proxy_answers(&self, status: Option<u16>) {
        let status = status.map(|status| StatusCode::from_u16(status).expect("an HTTP status"));
        self.outage.send_modify(|outage| outage.status = status);
    }

    /// Waits until the proxy has answered so many loads of the page.
    pub async fn wait_for_proxied_pages(&self, pages: usize, limit: Duration) -> anyhow::Result<()> {
        let mut outage = self.outage.subscribe();
        let waited = tokio::time::timeout(limit, outage.wait_for(|outage| outage.pages >= pages)).await;
        waited.with_context(|| format!("the page was asked for {} times", self.outage.borrow().pages))??;
        Ok(())
    }

    pub fn open(&self, meeting: Meeting) -> Room {
        if meeting.stage == Stage::Film {
            // Made before the page asks for it; where that fails, the page's request says so.
            let _ = FILM.bytes();
        }
        let room = Room::open(meeting, self.deployment.clone());
        self.rooms.lock().unwrap().insert(room.id.clone(), room.clone());
        room
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn tell_date(State(date): State<ToldDate>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if let Some(date) = &*date.lock().unwrap() {
        response.headers_mut().insert(header::DATE, date.parse().expect("a date is a header"));
    }
    response
}

async fn proxy(State(outage): State<watch::Sender<Outage>>, request: Request, next: Next) -> Response {
    let Some(status) = outage.borrow().status else { return next.run(request).await };
    if request.uri().path() == "/" {
        outage.send_modify(|outage| outage.pages += 1);
    }
    (status, Html(super::notices::PAGE)).into_response()
}

async fn page(State(site): State<Site>, parameters: Parameters, RawQuery(query): RawQuery) -> impl IntoResponse {
    let meeting = match site.visitor(&parameters) {
        Some((room, user_id)) => {
            room.visited(&query.unwrap_or_default());
            room.page(&parameters["access_token"], &user_id)
        }
        None => serde_json::json!({
            "error": { "heading": "Verification Failed!", "text": "The access token is not valid or expired" }
        }),
    };
    (ISOLATED, Html(PAGE.replace(PAGE_SLOT, &meeting.to_string())))
}

/// The server's token check.
async fn verify_token(State(site): State<Site>, headers: HeaderMap) -> Response {
    let mood = *site.token_checks.lock().unwrap();
    match mood {
        Mood::Take => {}
        Mood::Answer(status) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
            return (status, Html("<html><body>somebody else</body></html>")).into_response();
        }
        Mood::Hang => std::future::pending().await,
        other => unreachable!("{other:?} is for notices"),
    }
    let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (status, answer) = match site.check(token) {
        Check::Valid => (200, TokenStatus { status: true, msg: "token is valid".to_owned() }),
        Check::Refused { status, key, .. } => (status, TokenStatus { status: false, msg: key.to_owned() }),
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, "application/protobuf")], answer.encode_to_vec()).into_response()
}

/// The same for the page, which asks before anything else: what its error page says, or null.
async fn verify(State(site): State<Site>, parameters: Parameters) -> String {
    let answer = match site.check(parameters.get("access_token").map_or("", String::as_str)) {
        Check::Valid => serde_json::Value::Null,
        Check::Refused { heading, text, .. } => serde_json::json!({ "heading": heading, "text": text }),
    };
    answer.to_string()
}

async fn joined(State(site): State<Site>, parameters: Parameters) -> StatusCode {
    tell(site.room(&parameters), Room::joined)
}

async fn sounding(State(site): State<Site>, parameters: Parameters) -> StatusCode {
    tell(site.room(&parameters), Room::sounding)
}

async fn flashed(State(site): State<Site>, parameters: Parameters, body: String) -> StatusCode {
    match serde_json::from_str(&body) {
        Ok(flash) => tell(site.room(&parameters), |room| room.flashed(flash)),
        Err(_) => StatusCode::BAD_REQUEST,
    }
}

fn tell(room: Option<Room>, what: impl FnOnce(&Room)) -> StatusCode {
    match room {
        Some(room) => {
            what(&room);
            StatusCode::NO_CONTENT
        }
        None => StatusCode::NOT_FOUND,
    }
}

/// What a test does to the meeting goes to its pages as server-sent events; the connection also shows that a page is open.
async fn events(
    State(site): State<Site>,
    parameters: Parameters,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, StatusCode> {
    let (room, user_id) = site.visitor(&parameters).ok_or(StatusCode::NOT_FOUND)?;
    let start = (room.orders(), room.arrive(&user_id));
    let stream = futures::stream::unfold(start, |(mut orders, seat)| async move {
        loop {
            match orders.recv().await {
                Ok(order) => {
                    return Some((Ok(Event::default().data(order.to_string())), (orders, seat)));
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(2))))
}

async fn notify(State(site): State<Site>, headers: HeaderMap, body: Bytes) -> Response {
    site.notices.receive(&headers, &body).await
}

async fn video(headers: HeaderMap) -> Response {
    served(&WEBCAM, &headers)
}

async fn full_screen_video(headers: HeaderMap) -> Response {
    match tokio::task::spawn_blocking(move || served(&FILM, &headers)).await {
        Ok(response) => response,
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// With byte ranges: Chrome loops a video only if it can seek in it.
fn served(clip: &Clip, headers: &HeaderMap) -> Response {
    let bytes = match clip.bytes() {
        Ok(bytes) => bytes,
        Err(error) => {
            return (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}")).into_response();
        }
    };
    let range = headers.get(header::RANGE).and_then(|range| byte_range(range.to_str().ok()?, bytes.len()));
    let common =
        [(header::CONTENT_TYPE, "video/webm"), (header::ACCEPT_RANGES, "bytes"), (header::CACHE_CONTROL, "no-store")];
    match range {
        Some((from, to)) => {
            let extent = [(header::CONTENT_RANGE, format!("bytes {from}-{to}/{}", bytes.len()))];
            (StatusCode::PARTIAL_CONTENT, common, extent, bytes.slice(from..=to)).into_response()
        }
        None => (common, bytes).into_response(),
    }
}

/// Headers, and then nothing.
async fn stalled_video() -> Response {
    let body = Body::from_stream(futures::stream::pending::<Result<Bytes, Infallible>>());
    ([(header::CONTENT_TYPE, "video/webm")], body).into_response()
}

/// First and last byte of `bytes=FROM-[TO]`.
pub fn byte_range(range: &str, length: usize) -> Option<(usize, usize)> {
    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (from, last) = (from.parse().ok()?, length.checked_sub(1)?);
    let to = if to.is_empty() { last } else { to.parse::<usize>().ok()?.min(last) };
    (from <= to).then_some((from, to))
}

/// A VP8 video that ffmpeg draws; made once per process.
struct Clip {
    /// Pixels, frames a second, seconds.
    source: &'static str,
    /// Moves what the source leaves still.
    filter: &'static str,
    bit_rate: &'static str,
    made: OnceLock<Bytes>,
}

/// What a participant's camera would send, moving everywhere.
static WEBCAM: Clip = Clip {
    source: "testsrc2=size=320x180:rate=25:duration=6",
    filter: "scroll=horizontal=0.004:vertical=0.003",
    bit_rate: "400k",
    made: OnceLock::new(),
};

/// A film that somebody shares, moving everywhere.
static FILM: Clip = Clip {
    source: "testsrc2=size=1920x1080:rate=30:duration=4",
    filter: "scroll=horizontal=0.002:vertical=0.001",
    bit_rate: "4000k",
    made: OnceLock::new(),
};

impl Clip {
    fn bytes(&self) -> anyhow::Result<Bytes> {
        if let Some(made) = self.made.get() {
            return Ok(made.clone());
        }
        // A file, not a pipe: only then does ffmpeg write duration and cues, which looping needs.
        let file = tempfile::Builder::new().prefix("pnm-clip-").suffix(".webm").tempfile()?;
        let output = Command::new("ffmpeg")
            .args(["-v", "error", "-nostdin", "-y", "-f", "lavfi", "-i", self.source, "-vf", self.filter])
            .args(["-pix_fmt", "yuv420p", "-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8"])
            .args(["-b:v", self.bit_rate, "-g", "50", "-f", "webm"])
            .arg(file.path())
            .output()
            .context("cannot run ffmpeg")?;
        ensure!(output.status.success(), "ffmpeg made no video: {}", String::from_utf8_lossy(&output.stderr));
        let made = Bytes::from(std::fs::read(file.path())?);
        Ok(self.made.get_or_init(|| made).clone())
    }
}
