//! The early MP4 of a recording: it is written beside the place of the raw file while the meeting runs, and when that is
//! over a job only has to check it.
//!
//! ```text
//! .<raw file>.early.mp4    the MP4; without its index until the recording has ended
//! .<raw file>.early.json   what it was made of: there only once the MP4 is complete, and the raw file in its place
//! ```
//!
//! Neither is needed: without them the job makes the MP4 from the raw file.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::media::ffprobe::MediaInfo;
use crate::storage::files::{hidden_beside, remove_unsynced};

/// The version of the note; another one is not read.
const VERSION: u32 = 1;
/// Limit of a note in bytes, far above any of a few streams.
const NOTE_LIMIT: u64 = 1 << 20;

/// The paths of an early MP4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EarlyMp4 {
    pub mp4: PathBuf,
    pub note: PathBuf,
}

/// What an early MP4 was made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EarlyMp4Note {
    version: u32,
    raw: FileIdentity,
    /// Length of the MP4 in bytes.
    mp4_bytes: u64,
    /// ffmpeg's options for the container.
    pub container: Vec<String>,
    /// The raw file, as it was measured while it grew.
    pub media: MediaInfo,
}

/// By which a file is known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FileIdentity {
    bytes: u64,
    /// Since 1970.
    modified: Duration,
}

impl FileIdentity {
    /// # Errors
    /// Where there is no regular file of this name.
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        if !metadata.is_file() {
            return Err(io::Error::other(format!("{} is no regular file", path.display())));
        }
        let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self { bytes: metadata.len(), modified })
    }
}

impl EarlyMp4 {
    /// That of a raw file with this path.
    #[must_use]
    pub fn of(raw: &Path) -> Self {
        Self { mp4: hidden_beside(raw, ".early.mp4"), note: hidden_beside(raw, ".early.json") }
    }

    /// Notes what the MP4 was made of. It is not synced: where it is lost, so is only the work.
    ///
    /// # Errors
    /// Where a file is missing, or the note cannot be written.
    pub fn write_note(&self, raw: &Path, container: Vec<String>, media: MediaInfo) -> io::Result<()> {
        let note = EarlyMp4Note {
            version: VERSION,
            raw: FileIdentity::of(raw)?,
            mp4_bytes: FileIdentity::of(&self.mp4)?.bytes,
            container,
            media,
        };
        fs::write(&self.note, serde_json::to_vec(&note)?)
    }

    /// The note, where it is about this raw file and about the MP4 that is there. `None`: there is no early MP4 that could
    /// be used.
    #[must_use]
    pub fn read_note(&self, raw: &Path) -> Option<EarlyMp4Note> {
        // Not through a symbolic link, which could lead anywhere.
        FileIdentity::of(&self.note).ok()?;
        let mut text = Vec::new();
        fs::File::open(&self.note).ok()?.take(NOTE_LIMIT).read_to_end(&mut text).ok()?;
        let note: EarlyMp4Note = serde_json::from_slice(&text).ok()?;
        let is_it = note.version == VERSION
            && FileIdentity::of(raw).is_ok_and(|raw| raw == note.raw)
            && FileIdentity::of(&self.mp4).is_ok_and(|mp4| mp4.bytes == note.mp4_bytes);
        is_it.then_some(note)
    }

    /// Removes both, as far as they are there.
    ///
    /// # Errors
    /// Where one that is there cannot be removed.
    pub fn remove(&self) -> io::Result<()> {
        // The note first: alone it says nothing.
        remove_unsynced(&self.note)?;
        remove_unsynced(&self.mp4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_believed_only_of_the_files_that_it_was_written_for() {
        let dir = tempfile::tempdir().unwrap();
        let raw = dir.path().join("r_raw.mkv");
        let early = EarlyMp4::of(&raw);
        assert_eq!(early.mp4, dir.path().join(".r_raw.mkv.early.mp4"));
        let write = |path: &Path, text: &str| fs::write(path, text).unwrap();
        write(&raw, "raw");
        assert!(early.write_note(&raw, Vec::new(), MediaInfo::default()).is_err(), "there is no MP4");
        let begin = || {
            write(&raw, "raw");
            write(&early.mp4, "mp4");
            early.write_note(&raw, vec!["-x".to_owned()], MediaInfo::default()).unwrap();
            assert_eq!(early.read_note(&raw).unwrap().container, ["-x"]);
        };
        let changes: [&dyn Fn(); 6] = [
            &|| write(&raw, "another"),
            // Of the same length, written later.
            &|| fs::File::open(&raw).unwrap().set_modified(UNIX_EPOCH).unwrap(),
            &|| write(&early.mp4, "m"),
            &|| fs::remove_file(&early.mp4).unwrap(),
            &|| write(&early.note, "{\"version\":1"),
            &|| {
                let text = fs::read_to_string(&early.note).unwrap();
                fs::remove_file(&early.note).unwrap();
                write(&dir.path().join("elsewhere"), &text);
                std::os::unix::fs::symlink("elsewhere", &early.note).unwrap();
            },
        ];
        for (case, change) in changes.iter().enumerate() {
            begin();
            change();
            assert_eq!(early.read_note(&raw), None, "{case}");
        }
        fs::remove_file(&early.note).unwrap();
        begin();
        early.remove().unwrap();
        early.remove().unwrap();
        assert!(raw.exists() && !early.mp4.exists() && !early.note.exists());
    }
}
