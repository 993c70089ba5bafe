//! The raw file of one recording: where it grows, what makes it whole, where it goes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::protocol::ids::{RecordingId, RoomId};
use crate::protocol::job::RawFileName;
use crate::storage::files::{self, Existing};
use crate::transcode::media;

/// Where one raw file grows and where it goes.
#[derive(Clone, Debug)]
pub struct RawFile {
    /// In the temporary directory.
    pub growing: PathBuf,
    /// The final directory, which the job names.
    pub dir: PathBuf,
    pub name: RawFileName,
}

/// A raw file in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    pub bytes: u64,
    pub duration: Duration,
}

impl RawFile {
    /// `<temporary_dir>/<recording_id>_raw.mkv`, bound for `<main_path>/<sub_path>/<room_id>/`.
    ///
    /// # Errors
    /// Never for ids that were parsed; the name's own check is repeated, not skipped.
    pub fn new(
        temporary_dir: &Path,
        main_path: &Path,
        sub_path: &Path,
        recording: &RecordingId,
        room: &RoomId,
    ) -> Result<Self, crate::protocol::ids::InvalidName> {
        let name = RawFileName::of(recording)?;
        let growing = absolute(temporary_dir).join(name.as_str());
        Ok(Self { growing, dir: absolute(&main_path.join(sub_path)).join(room.as_str()), name })
    }

    /// Where the summary goes, beside the raw file in its final place.
    #[must_use]
    pub fn summary(&self) -> Option<PathBuf> {
        self.name.summary().map(|name| self.dir.join(name))
    }

    /// Verifies the file and puts it into its final place.
    ///
    /// # Errors
    /// Where it is missing, empty, cannot be read as a recording or cannot be moved: why. It stays where it is then.
    pub async fn store(&self) -> Result<Stored, String> {
        let bytes = match tokio::fs::metadata(&self.growing).await {
            Ok(metadata) => metadata.len(),
            Err(error) => return Err(format!("there is no raw file: {error}")),
        };
        if bytes == 0 {
            return Err("the raw file is empty".to_owned());
        }
        let media =
            media::verify_raw(&self.growing).await.map_err(|error| format!("the raw file is unusable: {error}"))?;
        let to = self.dir.join(self.name.as_str());
        let placed = files::place(&self.growing, &to, Existing::Refuse)
            .await
            .map_err(|error| format!("the raw file cannot be put into its place: {error}"))?;
        tracing::info!(raw = %to.display(), bytes, duration_s = crate::telemetry::seconds(media.duration), ?placed, "raw file in place");
        Ok(Stored { bytes, duration: media.duration })
    }

    /// What is still in the temporary directory when a recording has ended: an empty file is removed, anything else is
    /// kept and pointed out.
    pub async fn tidy(&self) {
        match tokio::fs::metadata(&self.growing).await {
            Ok(metadata) if metadata.len() == 0 => {
                if let Err(error) = tokio::fs::remove_file(&self.growing).await {
                    tracing::warn!(path = %self.growing.display(), %error, "the empty raw file cannot be removed");
                }
            }
            Ok(metadata) => tracing::error!(
                path = %self.growing.display(),
                bytes = metadata.len(),
                "the raw file was not delivered and is kept; look at it with ffprobe, and move it by hand if it is of use"
            ),
            Err(_) => {}
        }
    }
}

/// A job may be read by a process with another working directory.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
