//! The data that `hooks test` gives to the scripts: those of a recording of this node, or made up.

use std::fs;
use std::path::{Path, PathBuf};

use crate::admin::error::AdminError;
use crate::config::{Config, HookStage};
use crate::protocol::ids::{RecorderId, RecordingId, RoomId, RoomSid};
use crate::protocol::job::{Job, RawFileName, Work};
use crate::protocol::request::{Kind, RecordingInfo};
use crate::recording::journal;
use crate::scripts::hooks::payload::HookPayload;
use crate::storage::files;
use crate::storage::journal::Record as _;
use crate::transcode::{journal as jobs, plan};

/// How far below `main_path` files are searched: `<sub_path>/<room_id>`, and some levels for a deeper `sub_path`.
const MAX_DEPTH: usize = 6;

/// The scripts' data, and a description of their source.
pub struct SamplePayload {
    pub payload: HookPayload,
    pub origin: String,
}

/// # Errors
/// Where this node knows no such recording.
pub fn find(config: &Config, stage: HookStage, id: Option<&RecordingId>) -> Result<SamplePayload, AdminError> {
    let main_path = files::absolute(&config.recorder.main_path);
    let Some(id) = id else { return made_up(config, stage, &main_path) };
    let found = of_job(config, stage, id).or_else(|| of_record(config, stage, id, &main_path));
    found
        .or_else(|| of_files(config, stage, id, &main_path))
        .ok_or_else(|| AdminError::NoRecording { id: id.clone(), main_path })
}

fn made_up(config: &Config, stage: HookStage, main_path: &Path) -> Result<SamplePayload, AdminError> {
    let invalid = |error: crate::protocol::ids::InvalidName| AdminError::Start(error.to_string());
    let info = RecordingInfo {
        room_table_id: 1,
        room_id: RoomId::parse("sample-room").map_err(invalid)?,
        room_sid: RoomSid::parse("RM_sample").map_err(invalid)?,
        recording_id: RecordingId::parse("RM_sample-1").map_err(invalid)?,
    };
    let dir = main_path.join(&config.recorder.sub_path).join(info.room_id.as_str());
    let payload = payload(stage, &info, &config.recorder.id, &dir, None);
    Ok(SamplePayload { payload, origin: "made up: there is no such recording, and no such file".to_owned() })
}

fn of_job(config: &Config, stage: HookStage, id: &RecordingId) -> Option<SamplePayload> {
    let path = files::absolute(&config.recorder.state_dir).join(jobs::DIR).join(format!("{id}.json"));
    let bytes = jobs::JobRecord::read(&path).ok()?.payload().ok()?;
    let job = Job::decode(&bytes).ok()?;
    let payload = match (&job.work, stage) {
        (Work::PostRecording { dir, file_name, .. }, HookStage::PostTranscoding) => {
            payload(stage, &job.info, &job.recorder_id, dir, None).with_source(&dir.join(file_name.as_str()))
        }
        (Work::PostRecording { dir, file_name, .. }, _) => {
            payload(stage, &job.info, &job.recorder_id, dir, Some(file_name.as_str()))
        }
        (Work::Merge { .. }, _) => HookPayload::of_job(&job),
    };
    Some(SamplePayload { payload, origin: format!("the job {}", path.display()) })
}

fn of_record(config: &Config, stage: HookStage, id: &RecordingId, main_path: &Path) -> Option<SamplePayload> {
    let dir = journal::dir_of(Kind::Recording);
    let path = files::absolute(&config.recorder.state_dir).join(dir).join(format!("{id}.json"));
    let info = journal::RecordingRecord::read(&path).ok()?.info().ok()?;
    let dir = main_path.join(&config.recorder.sub_path).join(info.room_id.as_str());
    let payload = payload(stage, &info, &config.recorder.id, &dir, None);
    Some(SamplePayload { payload, origin: format!("the recording's record {}", path.display()) })
}

/// From the recording's files alone: the room is their directory, and the other ids are unknown.
fn of_files(config: &Config, stage: HookStage, id: &RecordingId, main_path: &Path) -> Option<SamplePayload> {
    let raw = [format!("{id}_raw.mkv"), format!("{id}_raw.mp4")];
    let mp4 = [plan::mp4_name(id)];
    let names = if stage == HookStage::PostTranscoding { [&mp4[..], &raw].concat() } else { [&raw[..], &mp4].concat() };
    // This node's own directory first.
    let roots = [main_path.join(&config.recorder.sub_path), main_path.to_owned()];
    let (dir, name) = roots.iter().find_map(|root| look_for(root, &names, MAX_DEPTH))?;
    let room = dir.file_name().and_then(|name| RoomId::parse(&name.to_string_lossy()).ok());
    let info = RecordingInfo {
        room_table_id: 0,
        room_id: room.or_else(|| RoomId::parse("unknown").ok())?,
        room_sid: RoomSid::parse("").ok()?,
        recording_id: id.clone(),
    };
    let is_mp4 = mp4.contains(&name);
    let file_name = Some(name.as_str()).filter(|_| is_mp4 == (stage == HookStage::PostTranscoding));
    let payload = payload(stage, &info, &config.recorder.id, &dir, file_name);
    let origin = format!("the file {}; the ids of its room are not known", dir.join(&name).display());
    Some(SamplePayload { payload, origin })
}

/// The first of `names` that exists below `dir`, with its directory. No symbolic link is followed.
fn look_for(dir: &Path, names: &[String], depth: usize) -> Option<(PathBuf, String)> {
    if let Some(name) = names.iter().find(|name| dir.join(name.as_str()).is_file()) {
        return Some((dir.to_owned(), name.clone()));
    }
    let depth = depth.checked_sub(1)?;
    let dirs = fs::read_dir(dir).ok()?.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    dirs.map(|entry| entry.path()).find_map(|dir| look_for(&dir, names, depth))
}

/// `file_name`: `None` for the stage's usual file.
fn payload(
    stage: HookStage,
    info: &RecordingInfo,
    recorder: &RecorderId,
    dir: &Path,
    file_name: Option<&str>,
) -> HookPayload {
    let own = match stage {
        HookStage::PostTranscoding => plan::mp4_name(&info.recording_id),
        _ => RawFileName::of(&info.recording_id).map(|name| name.as_str().to_owned()).unwrap_or_default(),
    };
    let name = file_name.unwrap_or(&own);
    let bytes = fs::metadata(dir.join(name)).ok().map(|file| file.len());
    HookPayload::single(info, recorder, dir, name, bytes)
}
