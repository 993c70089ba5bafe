//! The page of the stand-in, and what it asks for.

use std::collections::HashMap;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Component, Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use plugnmeet_recorder::protocol::messages::RecordingTasks;
use serde_json::{Value, json};

use crate::standin::web::byte_range;
use crate::standin::{Meeting, Room, Standin};

const PAGE: &str = include_str!("page.html");
/// A browser asks for the rest by itself.
const LARGEST_PART: usize = 8 << 20;

/// A recording that was asked for.
struct Recording {
    id: String,
    recorder: String,
    room: Room,
    over: bool,
}

#[derive(Clone)]
pub struct Site {
    standin: Arc<Standin>,
    /// The recorders' `main_path`.
    files: PathBuf,
    recordings: Arc<Mutex<Vec<Recording>>>,
}

type Answer = Result<Json<Value>, (StatusCode, String)>;

impl Site {
    pub fn new(standin: Arc<Standin>, files: PathBuf) -> Self {
        Self { standin, files, recordings: Arc::default() }
    }

    pub fn router(self) -> Router {
        Router::new()
            .route("/", get(async || Html(PAGE)))
            .route("/recordings", get(list).post(start))
            .route("/recordings/{id}/stop", post(stop))
            .route("/recordings/{id}/end-room", post(end_room))
            .route("/recordings/{id}/file", get(play))
            .layer(middleware::from_fn(from_this_page))
            .with_state(self)
    }

    fn room(&self, id: &str) -> Result<Room, (StatusCode, String)> {
        let recordings = self.recordings.lock().unwrap();
        let found = recordings.iter().find(|recording| recording.id == id);
        found.map(|recording| recording.room.clone()).ok_or((StatusCode::NOT_FOUND, format!("no recording {id}")))
    }

    /// The MP4, once the recorder has told of it; it must be below `main_path`.
    fn mp4(&self, id: &str) -> Option<PathBuf> {
        let notices = self.standin.notices.of(id);
        let told = notices.iter().find(|notice| notice.task() == RecordingTasks::RecordingProceeded)?;
        let path = FilePath::new(told.message.file_path.trim_start_matches('/'));
        path.components().all(|part| matches!(part, Component::Normal(_))).then(|| self.files.join(path))
    }

    /// One recording as the page shows it.
    fn shown(&self, recording: &Recording) -> Value {
        let notices = self.standin.notices.of(&recording.id);
        let failed = notices.iter().find(|notice| !notice.message.status);
        let told = |task| notices.iter().any(|notice| notice.task() == task);
        let state = if let Some(notice) = failed {
            format!("failed: {}", notice.message.msg)
        } else if told(RecordingTasks::RecordingProceeded) {
            "MP4 finished".to_owned()
        } else if told(RecordingTasks::EndRecording) {
            "ended, waiting for the MP4".to_owned()
        } else if told(RecordingTasks::StartRecording) {
            "records".to_owned()
        } else {
            "joining".to_owned()
        };
        let running = failed.is_none() && !told(RecordingTasks::EndRecording);
        json!({
            "id": recording.id, "room": recording.room.id, "recorder": recording.recorder, "state": state,
            "running": running, "open": running && !recording.over,
            "file": self.mp4(&recording.id).is_some_and(|path| path.is_file()),
            "meeting": format!("{}/?access_token={}", self.standin.host(), recording.room.token),
        })
    }
}

/// Another page that the developer has open may not start recordings here.
async fn from_this_page(request: Request, next: Next) -> Response {
    let foreign = |value: &axum::http::HeaderValue| value != "same-origin" && value != "none";
    if request.method() == "POST" && request.headers().get("sec-fetch-site").is_some_and(foreign) {
        return (StatusCode::FORBIDDEN, "only from this page").into_response();
    }
    next.run(request).await
}

async fn list(State(site): State<Site>) -> Answer {
    let announcements = site.standin.fleet.announcements().await.map_err(failed)?;
    let recorders: Vec<&String> = announcements.keys().collect();
    let recordings = site.recordings.lock().unwrap();
    let shown: Vec<Value> = recordings.iter().rev().map(|recording| site.shown(recording)).collect();
    Ok(Json(json!({ "recorders": recorders, "recordings": shown })))
}

/// A meeting with slides, webcams and a beep each second, and a recording of it. `room` names it, where it is not empty.
async fn start(State(site): State<Site>, Query(mut asked): Query<HashMap<String, String>>) -> Answer {
    let chosen = site.standin.fleet.select().await.map_err(failed)?;
    let recorder = chosen.ok_or((StatusCode::CONFLICT, "no recorder takes a recording now".to_owned()))?;
    let room_id = asked.remove("room").filter(|name| !name.is_empty());
    let room = site.standin.meeting(Meeting { room_id, ..Meeting::default() });
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let id = format!("{}-{at}", room.sid);
    let reply = site.standin.fleet.start_recording(&room, &id, &recorder).await.map_err(failed)?;
    let Some(response) = reply.response else {
        return Err((StatusCode::GATEWAY_TIMEOUT, format!("{recorder} does not answer")));
    };
    if !response.status {
        return Err((StatusCode::CONFLICT, format!("{recorder} refuses {}: {}", room.id, response.msg)));
    }
    let mut recordings = site.recordings.lock().unwrap();
    recordings.push(Recording { id: id.clone(), recorder, room, over: false });
    Ok(Json(json!({ "id": id })))
}

async fn stop(State(site): State<Site>, Path(id): Path<String>) -> Answer {
    let room = site.room(&id)?;
    let reply = site.standin.fleet.stop(RecordingTasks::StopRecording, &room, &id).await.map_err(failed)?;
    match reply.response {
        Some(response) if response.status => Ok(Json(json!({ "id": id }))),
        Some(response) => Err((StatusCode::CONFLICT, response.msg)),
        None => Err((StatusCode::GATEWAY_TIMEOUT, "no recorder answers".to_owned())),
    }
}

/// The host ends the session: the recorder sees it on the page, and asks the server.
async fn end_room(State(site): State<Site>, Path(id): Path<String>) -> Answer {
    site.room(&id)?.end_by_host();
    let mut recordings = site.recordings.lock().unwrap();
    recordings.iter_mut().filter(|recording| recording.id == id).for_each(|recording| recording.over = true);
    Ok(Json(json!({ "id": id })))
}

async fn play(State(site): State<Site>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let Some(path) = site.mp4(&id) else { return (StatusCode::NOT_FOUND, "no MP4 yet").into_response() };
    let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok()).unwrap_or("bytes=0-").to_owned();
    match tokio::task::spawn_blocking(move || part(&path, &range)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => (StatusCode::NOT_FOUND, error.to_string()).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// The part of the file that is asked for, or its beginning.
fn part(path: &FilePath, range: &str) -> std::io::Result<Response> {
    let mut file = std::fs::File::open(path)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    let Some((first, last)) = byte_range(range, length) else {
        return Ok(StatusCode::RANGE_NOT_SATISFIABLE.into_response());
    };
    let last = last.min(first + LARGEST_PART - 1);
    let mut bytes = vec![0; last - first + 1];
    file.seek(SeekFrom::Start(first as u64))?;
    file.read_exact(&mut bytes)?;
    let extent = [
        (header::CONTENT_TYPE, "video/mp4".to_owned()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::CONTENT_RANGE, format!("bytes {first}-{last}/{length}")),
    ];
    Ok((StatusCode::PARTIAL_CONTENT, extent, bytes).into_response())
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: anyhow::Error) -> (StatusCode, String) {
    (StatusCode::BAD_GATEWAY, format!("{error:#}"))
}
