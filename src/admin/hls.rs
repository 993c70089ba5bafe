//! `hls drop`: a recording that does not become HLS.

use crate::admin::error::AdminError;
use crate::admin::state_dir::StateDir;
use crate::hls::record;
use crate::protocol::ids::RecordingId;
use crate::storage::drop_request::{self, HLS};

/// Asks the daemon, now or at its next start, to give up the HLS of a recording.
///
/// # Errors
/// Where there is nothing to give up, or the disk fails.
pub fn forget(state: &StateDir, id: &RecordingId) -> Result<String, AdminError> {
    let path = state.dir.join(record::DIR).join(format!("{id}.json"));
    match path.try_exists() {
        Ok(true) => {}
        Ok(false) => return Err(AdminError::NoHls { id: id.clone(), path }),
        Err(source) => return Err(AdminError::Unreadable { path, source }),
    }
    let path = drop_request::path(&state.dir, HLS, id);
    drop_request::write(&state.dir, HLS, id).map_err(|source| AdminError::HlsDisk { id: id.clone(), path, source })?;
    let when = match &state.daemon {
        Some(holder) => format!("within 5 s, by the recorder ({holder})"),
        None => format!("when the recorder {} is started", state.recorder),
    };
    Ok(format!("the HLS of {id} is given up, {when}; its MP4 stays\n"))
}
