//! What a part of a recording is known to hold: asked of a disk that may be away.

use std::io;
use std::path::Path;

use crate::media::ffprobe::{self, ProbeError};
use crate::storage::detached;

/// An unreadable part smaller than this (bytes) was killed before it held any media: only a header, or a part of the
/// first frame.
const EMPTY_PART_LIMIT: u64 = 64 << 10;

/// What a part is known to hold.
pub(super) enum PartContent {
    Media,
    Nothing,
    Unreadable,
}

/// # Errors
/// Where nobody knows: the disk or this host has failed, which says nothing about the part.
pub(super) async fn content(part: &Path, size: u64) -> io::Result<PartContent> {
    match ffprobe::verify_raw(part).await {
        Ok(_) => return Ok(PartContent::Media),
        Err(ProbeError::Empty(_)) => return Ok(PartContent::Nothing),
        Err(error) if error.is_temporary() => return Err(io::Error::other(error)),
        Err(_) => {}
    }
    readable(part).await?;
    Ok(if size < EMPTY_PART_LIMIT { PartContent::Nothing } else { PartContent::Unreadable })
}

/// The size of a file that may be on a lost share.
pub(super) async fn size(path: &Path) -> io::Result<u64> {
    let path = path.to_owned();
    detached::run("size", move || Ok(std::fs::metadata(path)?.len())).await
}

/// Reads a file to its end: ffprobe takes a disk's error for the end of the file.
pub(super) async fn readable(path: &Path) -> io::Result<()> {
    let path = path.to_owned();
    detached::run("readable", move || io::copy(&mut std::fs::File::open(path)?, &mut io::sink()).map(drop)).await
}
