//! What was recorded, to be looked at: `GET /page/finished/{id}/summary`, and `video`, the MP4 or the part of it that is
//! asked for.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Path as Segment, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use rustix::fs::OFlags;
use tokio::sync::OwnedSemaphorePermit;

use crate::admin::http::connections::Caller;
use crate::admin::http::page::finished;
use crate::admin::http::page::range::{self, Wanted};
use crate::admin::http::page::state::{LONGEST, Page};
use crate::admin::http::refusal::Refusal;
use crate::admin::list::scrub;
use crate::codes;
use crate::protocol::ids::RecordingId;
use crate::storage::files;

/// How long the disk may take to open the file, and to read one piece.
const LIMIT: Duration = Duration::from_secs(10);
/// Bytes of a piece: read while the one before is sent.
const PIECE: u64 = 256 << 10;

/// An opened video.
struct Video {
    file: File,
    len: u64,
    /// Changes with the file.
    tag: String,
}

fn open(path: &Path) -> io::Result<Option<Video>> {
    // No link leads elsewhere, and no pipe makes this wait.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let about = file.metadata()?;
    if !about.is_file() {
        return Ok(None);
    }
    let tag = format!("\"{:x}-{:x}-{:x}\"", about.len(), about.mtime(), about.mtime_nsec());
    Ok(Some(Video { file, len: about.len(), tag }))
}

pub(super) async fn summary(State(page): State<Page>, Segment(id): Segment<String>) -> Response {
    let id = match RecordingId::parse(&id) {
        Ok(id) => id,
        Err(error) => {
            return Refusal::new(StatusCode::BAD_REQUEST, codes::BAD_REQUEST, error.to_string()).into_response();
        }
    };
    let dirs = page.node.dirs.clone();
    match files::on_disk_within(LIMIT, move || finished::read(&dirs, &id)).await {
        Ok(Some(mut summary)) => {
            scrub(&mut summary);
            axum::Json(summary).into_response()
        }
        Ok(None) => Refusal::new(StatusCode::NOT_FOUND, codes::NOTHING_THERE, "this node keeps no summary of it")
            .into_response(),
        Err(error) => {
            let why = format!("the summary cannot be read: {error}");
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, codes::NOT_READABLE_NOW, why).into_response()
        }
    }
}

pub(super) async fn video(
    State(page): State<Page>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Segment(id): Segment<String>,
    headers: HeaderMap,
) -> Response {
    let id = match RecordingId::parse(&id) {
        Ok(id) => id,
        Err(error) => {
            return Refusal::new(StatusCode::BAD_REQUEST, codes::BAD_REQUEST, error.to_string()).into_response();
        }
    };
    let Ok(permit) = Arc::clone(&page.videos).try_acquire_owned() else {
        return Refusal::new(StatusCode::SERVICE_UNAVAILABLE, codes::TOO_MANY_VIEWERS, "too many videos play already")
            .into_response();
    };
    let dirs = page.node.dirs.clone();
    let find = move || match finished::find_video(&dirs, &id)? {
        Some(path) => open(&path),
        None => Ok(None),
    };
    match files::on_disk_within(LIMIT, find).await {
        Ok(Some(video)) => {
            caller.may_stay(LONGEST);
            answer(video, &headers, permit)
        }
        Ok(None) => Refusal::new(StatusCode::NOT_FOUND, codes::NOTHING_THERE, "there is no MP4 of it on this node")
            .into_response(),
        Err(error) => Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            codes::NOT_READABLE_NOW,
            format!("the MP4 cannot be read: {error}"),
        )
        .into_response(),
    }
}

fn answer(video: Video, headers: &HeaderMap, permit: OwnedSemaphorePermit) -> Response {
    let Video { file, len, tag } = video;
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    // A part of another file is of no use to who has a part of this one (RFC 9110, 13.1.5).
    let same = text(header::IF_RANGE).is_none_or(|given| given == tag);
    let (status, first, count) = match range::wanted(text(header::RANGE).filter(|_| same), len) {
        Wanted::All => (StatusCode::OK, 0, len),
        Wanted::Part { first, last } => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
        Wanted::Nothing => (StatusCode::RANGE_NOT_SATISFIABLE, 0, 0),
    };
    let body = if count == 0 { Body::empty() } else { Body::from_stream(pieces(file, first, count, permit)) };
    let mut response = (status, body).into_response();
    let mut put = |name, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    };
    put(header::CONTENT_TYPE, "video/mp4".to_owned());
    put(header::ACCEPT_RANGES, "bytes".to_owned());
    put(header::CONTENT_LENGTH, count.to_string());
    put(header::ETAG, tag);
    match status {
        StatusCode::PARTIAL_CONTENT => put(header::CONTENT_RANGE, format!("bytes {first}-{}/{len}", first + count - 1)),
        StatusCode::RANGE_NOT_SATISFIABLE => put(header::CONTENT_RANGE, format!("bytes */{len}")),
        _ => {}
    }
    response
}

/// `count` bytes from `first` on.
fn pieces(
    file: File,
    first: u64,
    count: u64,
    permit: OwnedSemaphorePermit,
) -> impl futures::Stream<Item = io::Result<Bytes>> + Send {
    let begin = (file, first, count, permit);
    futures::stream::try_unfold(begin, |(mut file, at, rest, permit)| async move {
        if rest == 0 {
            return Ok(None);
        }
        let read = move || {
            let mut piece = Vec::new();
            file.seek(SeekFrom::Start(at))?;
            file.by_ref().take(rest.min(PIECE)).read_to_end(&mut piece)?;
            Ok((file, piece))
        };
        let (file, piece) = files::on_disk_within(LIMIT, read).await?;
        if piece.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let read = piece.len() as u64;
        Ok(Some((Bytes::from(piece), (file, at + read, rest - read, permit))))
    })
}
