//! Specifies the rig and the raw file of a recording.

use std::path::{Path, PathBuf};

use crate::capture::rig::Rig;
use crate::protocol::ids::{AccessToken, InvalidName};
use crate::protocol::request::{RecordingInfo, Start};
use crate::recording::raw_file::RawFile;

/// Specifies rigs; tests have another one.
pub trait RigFactory<R: Rig>: Send + Sync + 'static {
    /// The rig of one part. `token`: valid now. `part`: the file that a recording writes; `None` for a broadcast.
    fn rig(&self, start: &Start, token: &AccessToken, part: Option<&Path>) -> R::Spec;
    /// Why this node may not do it; `None`: it may.
    fn refusal(&self, start: &Start) -> Option<String> {
        let _ = start;
        None
    }
    /// Where a failing rig saves a screenshot of its page.
    fn screenshot(&self, start: &Start) -> Option<PathBuf>;
    /// # Errors
    /// Where the ids are no valid file name.
    fn raw_file(&self, info: &RecordingInfo) -> Result<RawFile, InvalidName>;
}
