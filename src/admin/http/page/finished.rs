//! What was recorded here: the summaries that this node keeps for a month, and whether their MP4s are in `main_path`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::admin::http::node_state::NodeDirs;
use crate::admin::list::scrub;
use crate::protocol::ids::{RecordingId, RoomId};
use crate::recording::summary::SummaryStore;
use crate::storage::files;
use crate::storage::journal::{ReadError, read_json};
use crate::transcode::plan;

/// Recordings that are listed.
const MOST: usize = 40;

/// The latest ones, latest first, and how many there are.
///
/// # Errors
/// Where the summaries cannot be listed.
pub(super) fn list(dirs: &NodeDirs) -> io::Result<Value> {
    let all = files::records(&SummaryStore::new(&dirs.state_dir).dir())?;
    let modified = |path: &PathBuf| path.metadata().and_then(|file| file.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let mut all: Vec<_> = all.into_iter().map(|(id, path)| (modified(&path), id, path)).collect();
    all.sort();
    let count = all.len();
    let rows: Vec<Value> = all.iter().rev().take(MOST).filter_map(|(_, id, path)| row(dirs, id, path)).collect();
    let mut list = json!({"count": count, "rows": rows});
    scrub(&mut list);
    Ok(list)
}

fn row(dirs: &NodeDirs, id: &str, path: &Path) -> Option<Value> {
    let summary: Value = read_json(path).ok()?;
    let video = video_path(dirs, id, &summary).and_then(|path| std::fs::symlink_metadata(path).ok());
    let bytes = video.filter(std::fs::Metadata::is_file).map(|file| file.len());
    let mut row = json!({"id": id, "video_bytes": bytes});
    for field in [
        "room_id",
        "kind",
        "started_at",
        "ended_at",
        "outcome",
        "cause",
        "duration_s",
        "frames_dropped",
        "frames_late",
        "silence_share",
        "black_share",
        "parts",
    ] {
        row[field] = summary[field].clone();
    }
    Some(row)
}

/// Where the MP4 of a summary is: only of ids that may be part of a path.
fn video_path(dirs: &NodeDirs, id: &str, summary: &Value) -> Option<PathBuf> {
    let id = RecordingId::parse(id).ok()?;
    if summary["kind"] != "recording" {
        return None;
    }
    let room = RoomId::parse(summary["room_id"].as_str()?).ok()?;
    let dir = files::absolute(&dirs.main_path.join(&dirs.sub_path)).join(room.as_str());
    Some(dir.join(plan::mp4_name(&id)))
}

/// The summary of a recording or broadcast; `None`: this node keeps none.
///
/// # Errors
/// Where it cannot be read.
pub(super) fn read(dirs: &NodeDirs, id: &RecordingId) -> io::Result<Option<Value>> {
    match read_json(&SummaryStore::new(&dirs.state_dir).path(id)) {
        Ok(summary) => Ok(Some(summary)),
        Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(ReadError::Io(error)) => Err(error),
        Err(error) => Err(io::Error::other(error.to_string())),
    }
}

/// The MP4 of a recording of this node; `None` where this node knows no such recording.
///
/// # Errors
/// Where the summary cannot be read.
pub(super) fn find_video(dirs: &NodeDirs, id: &RecordingId) -> io::Result<Option<PathBuf>> {
    Ok(read(dirs, id)?.and_then(|summary| video_path(dirs, id.as_str(), &summary)))
}
