//! How a rig and a raw file are made for a start.

use std::path::{Path, PathBuf};

use crate::capture::rig::Rig;
use crate::protocol::ids::{AccessToken, InvalidName};
use crate::protocol::request::{RecordingInfo, Start};
use crate::recording::raw_file::RawFile;

/// The seam between a recording and its capture.
pub trait RigFactory<R: Rig>: Send + Sync + 'static {
    /// `token`: lets the page in, now. `part`: the file that is written, of a recording.
    fn rig(&self, start: &Start, token: &AccessToken, part: Option<&Path>) -> R::Spec;
    /// Where a rig that fails keeps a picture of its page.
    fn screenshot(&self, start: &Start) -> Option<PathBuf>;
    /// # Errors
    /// Where the ids make no file name.
    fn raw_file(&self, info: &RecordingInfo) -> Result<RawFile, InvalidName>;
}
