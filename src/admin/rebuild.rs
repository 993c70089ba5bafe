//! `recordings rebuild`: a recording is put together from the archive by hand.

use crate::admin::error::AdminError;
use crate::admin::state_dir::StateDir;
use crate::archive::names::ArchivedRecording;
use crate::archive::rebuild_request;
use crate::config::Config;

/// Asks the daemon, now or at its next start, to make the MP4 of a recording from what the archive has. `what`: its URL in
/// the archive, or `ROOM_ID/RECORDING_ID`.
///
/// # Errors
/// Where there is no archive, `what` is no recording in it, or the disk fails.
pub fn ask(config: &Config, state: &StateDir, what: &str) -> Result<String, AdminError> {
    let archive = config.storage.archive.as_ref();
    let archive = archive.ok_or_else(|| AdminError::NoStore("storage.archive is not set".to_owned()))?;
    let below = what.strip_prefix(&archive.object("")).unwrap_or(what);
    let recording = ArchivedRecording::of_dir(below.trim_matches('/')).ok_or_else(|| {
        let example = archive.object("ROOM_ID/RECORDING_ID");
        AdminError::NoStore(format!(
            "that is no recording in the archive: {example} or ROOM_ID/RECORDING_ID is expected"
        ))
    })?;
    let path = rebuild_request::path(&state.dir, &recording);
    rebuild_request::write(&state.dir, &recording).map_err(|source| AdminError::UploadDisk {
        id: recording.recording.clone(),
        path,
        source,
    })?;
    let when = match &state.daemon {
        Some(holder) => format!("once the recorder ({holder}) has looked, which it does every 15 s"),
        None => format!("when the recorder {} is started", state.recorder),
    };
    Ok(format!("the MP4 of {} is made from the archive, {when}; `recordings list` shows it\n", recording.dir()))
}
