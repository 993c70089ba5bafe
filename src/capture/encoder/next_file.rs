//! The file of a recording's next encoder, on a disk that may hang: the callers have threads for it.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// A file smaller than this (bytes) holds a header, and at most the first frame: an attempt to change the encoder has
/// left it. A larger one may be of an earlier recording.
const UNUSED_LIMIT: u64 = 64 << 10;
/// How often the file is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Removes what an earlier attempt has left at `file`: what is there afterwards was written afterwards.
///
/// # Errors
/// Where it holds media, or cannot be looked at or removed.
pub fn remove_unused(file: &Path) -> io::Result<()> {
    let explained = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", file.display()));
    match std::fs::symlink_metadata(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(explained(error)),
        Ok(found) if found.len() >= UNUSED_LIMIT || !found.is_file() => Err(explained(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "something is there already, and may be of another recording; move it away",
        ))),
        Ok(_) => std::fs::remove_file(file).map_err(explained),
    }
}

/// Waits until the file has content. Whether that was within `limit`.
#[must_use]
pub fn has_bytes_within(file: &Path, limit: Duration) -> bool {
    let begun = Instant::now();
    loop {
        if std::fs::metadata(file).is_ok_and(|found| found.len() > 0) {
            return true;
        }
        if begun.elapsed() >= limit {
            return false;
        }
        std::thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_attempt_has_left_is_removed_and_what_may_hold_media_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("rec_raw.part1.on.mkv");
        remove_unused(&file).unwrap();
        for left in [0, 700, 60_000] {
            std::fs::write(&file, vec![1; left]).unwrap();
            assert_eq!(has_bytes_within(&file, Duration::ZERO), left > 0);
            remove_unused(&file).unwrap();
            assert!(!file.exists());
        }
        std::fs::write(&file, vec![1; 70_000]).unwrap();
        let refused = remove_unused(&file).unwrap_err().to_string();
        assert!(refused.contains("rec_raw.part1.on.mkv") && refused.contains("move it away"), "{refused}");
        assert_eq!(std::fs::metadata(&file).unwrap().len(), 70_000);
    }
}
