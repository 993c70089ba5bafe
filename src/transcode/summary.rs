//! The summary that the recording node has written beside its raw file, as the transcoding node uses it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::protocol::job::RawFileName;
use crate::storage::main_path::MainPath;
use crate::storage::placement;
use crate::telemetry::redact;

/// The summary's path, if it exists. The raw file's directory must be known to be in `main_path`.
#[must_use]
pub fn path(raw: &Path) -> Option<PathBuf> {
    let name = RawFileName::parse(raw.file_name()?.to_str()?).ok()?.summary()?;
    let path = raw.with_file_name(name);
    // A symbolic link could lead anywhere.
    std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file()).then_some(path)
}

/// When the recording of a raw file ended: as its summary says, else when the file was last written.
#[must_use]
pub fn ended_at(raw: &Path) -> Option<SystemTime> {
    let told = || humantime::parse_rfc3339(read(raw)?["ended_at"].as_str()?).ok();
    told().or_else(|| std::fs::metadata(raw).ok()?.modified().ok())
}

/// How many frames the recorder has sent to the encoders of a raw file.
#[must_use]
pub fn frames(raw: &Path) -> Option<u64> {
    read(raw)?["frames_sent"].as_u64()
}

fn read(raw: &Path) -> Option<serde_json::Value> {
    serde_json::from_slice(&std::fs::read(path(raw)?).ok()?).ok()
}

/// Notes in the summary that the MP4 was only remuxed, and why. A summary that is no JSON object is left unchanged.
///
/// # Errors
/// Where the summary cannot be read or written.
pub fn mark_remuxed(store: &MainPath, path: &Path, why: &str) -> io::Result<()> {
    let mut summary: serde_json::Value = serde_json::from_slice(&std::fs::read(path)?)?;
    if let Some(summary) = summary.as_object_mut() {
        summary.insert("remuxed_because".to_owned(), redact::scrub(why).into());
        placement::write_blocking(store, path, &serde_json::to_vec_pretty(summary)?)?;
    }
    Ok(())
}
