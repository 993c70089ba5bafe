//! The summary that the recording node has written beside its raw file, as the transcoding node uses it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::protocol::job::RawFileName;
use crate::scripts::hooks::store_answer;
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

/// The longest summary that is passed on, in bytes.
const LONGEST: u64 = 1 << 20;

/// The summary of a raw file, to be passed on as it is; `None`: there is none, or one that is too long.
///
/// # Errors
/// Where it cannot be read.
pub fn text(raw: &Path) -> io::Result<Option<String>> {
    let Some(path) = path(raw) else { return Ok(None) };
    if std::fs::metadata(&path)?.len() > LONGEST {
        return Ok(None);
    }
    std::fs::read_to_string(path).map(Some)
}

/// The store that the `post_recording` hooks have answered, in the text of a summary.
#[must_use]
pub fn hook_store(summary: &str) -> Option<String> {
    let summary: serde_json::Value = serde_json::from_str(summary).ok()?;
    summary[store_answer::SUMMARY_FIELD].as_str().map(str::to_owned)
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
