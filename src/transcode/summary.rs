//! The summary that the recording node has put beside its raw file, as the transcoding node finds it.

use std::io;
use std::path::{Path, PathBuf};

use crate::protocol::job::RawFileName;
use crate::storage::files;
use crate::telemetry::redact;

/// Where it is; the raw file's directory is known to lie in `main_path`.
#[must_use]
pub fn path(raw: &Path) -> Option<PathBuf> {
    let name = RawFileName::parse(raw.file_name()?.to_str()?).ok()?.summary()?;
    let path = raw.with_file_name(name);
    // A link could lead anywhere.
    std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file()).then_some(path)
}

/// Adds to it that the MP4 is the recording as it was, and why. One that is no JSON object is left alone.
///
/// # Errors
/// Where it cannot be read or written.
pub fn mark_remuxed(path: &Path, why: &str) -> io::Result<()> {
    let mut summary: serde_json::Value = serde_json::from_slice(&std::fs::read(path)?)?;
    if let Some(summary) = summary.as_object_mut() {
        summary.insert("remuxed_because".to_owned(), redact::scrub(why).into());
        files::write(path, &serde_json::to_vec_pretty(summary)?)?;
    }
    Ok(())
}
