//! The raw file of one recording: its parts, their concatenation, and its final place.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::media::concat::{self, ConcatTarget};
use crate::media::ffprobe::{self, ProbeError};
use crate::media::verification::same_duration;
use crate::protocol::ids::{InvalidName, RecordingId, RoomId};
use crate::protocol::job::RawFileName;
use crate::recording::journal::{FoundMedia, RecordingPart};
use crate::recording::{reference_dirs, trim};
use crate::storage::files;
use crate::storage::placement::{self, IfExists};

/// An unreadable part smaller than this (bytes) was killed before it held any media: only a header, or a part of the
/// first frame.
const EMPTY_PART_LIMIT: u64 = 64 << 10;

/// The paths of a recording's raw file and of its parts.
#[derive(Clone, Debug)]
pub struct RawFile {
    temporary_dir: PathBuf,
    /// The final directory, as the job names it.
    pub dir: PathBuf,
    pub name: RawFileName,
    /// The directories in which reference transcoders would put the room's MP4s.
    reference_dirs: Vec<PathBuf>,
}

/// A raw file in its final place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreReport {
    pub bytes: u64,
    pub duration: Duration,
    /// How long each part lasts, as measured; `None` for a part without media.
    pub lengths: Vec<Option<Duration>>,
    /// What else was measured of each part.
    pub found: Vec<Option<FoundMedia>>,
}

impl RawFile {
    /// Parts are written to `temporary_dir`; the raw file is `<main_path>/<sub_path>/<room_id>/<recording_id>_raw.mkv`.
    ///
    /// # Errors
    /// None for ids that were parsed; the file name's own check is repeated, not skipped.
    pub fn new(
        temporary_dir: &Path,
        main_path: &Path,
        sub_path: &Path,
        recording: &RecordingId,
        room: &RoomId,
    ) -> Result<Self, InvalidName> {
        let name = RawFileName::of(recording)?;
        // Made absolute, because a process with another working directory may read the job.
        let dir = files::absolute(&main_path.join(sub_path)).join(room.as_str());
        Ok(Self { temporary_dir: files::absolute(temporary_dir), dir, name, reference_dirs: Vec::new() })
    }

    /// The same raw file in a fleet whose reference transcoders have these directories below `main_path`.
    #[must_use]
    pub fn for_references(self, main_path: &Path, sub_paths: &[PathBuf]) -> Self {
        Self { reference_dirs: reference_dirs::reference_dirs(main_path, sub_paths, &self.dir), ..self }
    }

    /// The room's directories that are created for reference transcoders.
    #[must_use]
    pub fn reference_dirs(&self) -> &[PathBuf] {
        &self.reference_dirs
    }

    /// Creates these directories; a failure is only logged.
    pub fn make_reference_dirs(&self) {
        self.reference_dirs.iter().for_each(|dir| reference_dirs::make_dir(dir));
    }

    /// The name of the n-th part, counted from 1: `<recording_id>_raw.part1.mkv`.
    #[must_use]
    pub fn part_name(&self, n: usize) -> String {
        let whole = self.name.as_str();
        format!("{}.part{n}.mkv", whole.strip_suffix(".mkv").unwrap_or(whole))
    }

    /// The path of the part with this name.
    #[must_use]
    pub fn part(&self, name: &str) -> PathBuf {
        self.temporary_dir.join(name)
    }

    /// Where parts are concatenated.
    fn concatenated(&self) -> PathBuf {
        self.temporary_dir.join(self.name.as_str())
    }

    /// A file of an earlier recording with this id, if any: it must not be overwritten.
    #[must_use]
    pub fn existing(&self) -> Option<PathBuf> {
        [self.concatenated(), self.part(&self.part_name(1))].into_iter().find(|path| path.try_exists().unwrap_or(true))
    }

    /// The path of the summary beside the raw file in its final place.
    #[must_use]
    pub fn summary(&self) -> Option<PathBuf> {
        self.name.summary().map(|name| self.dir.join(name))
    }

    /// Joins the parts, each cut where its meeting ended, into one file and moves that to its final place. May be
    /// repeated: a file that is there already and lasts as long as the parts is taken as the result. The parts stay,
    /// but a single part is moved.
    ///
    /// # Errors
    /// Where no part is readable, or the parts cannot be joined or moved. All parts remain.
    pub async fn store(&self, parts: &[RecordingPart]) -> Result<StoreReport, String> {
        let stored = self.put_in_place(parts).await?;
        let this = self.clone();
        // Created before the job can be published. A failure is not worth losing the recording.
        let _ = tokio::task::spawn_blocking(move || this.make_reference_dirs()).await;
        Ok(stored)
    }

    async fn put_in_place(&self, parts: &[RecordingPart]) -> Result<StoreReport, String> {
        let to = self.dir.join(self.name.as_str());
        let mut why = "there is no raw file: nothing was captured".to_owned();
        let (mut lengths, mut found, mut readable) = (Vec::new(), Vec::new(), Vec::new());
        let mut moved = true;
        for part in parts {
            let path = self.part(&part.file);
            moved &= !path.exists();
            let measured = match self.measure(&path, part.ended.is_none()).await {
                Ok((length, found)) => Some(match part.meeting_until() {
                    Some(until) => (trim::cut_end(&path, length, until).await, found),
                    None => (length, found),
                }),
                Err(error) => {
                    tracing::debug!(part = %path.display(), why = error, "this part is not in the recording");
                    why = error;
                    None
                }
            };
            lengths.push(measured.map(|(length, _)| length));
            found.push(measured.map(|(_, found)| found));
            if measured.is_some() {
                readable.push(path);
            }
        }
        let expected: Duration = lengths.iter().flatten().sum();
        if let Some(stored) = already_stored(&to, (!moved).then_some(expected), &lengths).await? {
            return Ok(StoreReport { found: if moved { stored.found } else { found }, ..stored });
        }
        let whole = match &readable[..] {
            [] => return Err(why),
            [part] => part.clone(),
            several => {
                let whole = self.concatenated();
                let concatenated = concat::concat(several, ConcatTarget::raw(&whole), &CancellationToken::new())
                    .await
                    .map_err(|error| format!("the parts of the recording cannot be joined: {error}"))?;
                // The lengths as they are in the joined file.
                for (part, length) in parts.iter().zip(&mut lengths) {
                    let concatenated =
                        concatenated.parts.iter().find(|concatenated| concatenated.path == self.part(&part.file));
                    *length = concatenated.map(|concatenated| concatenated.duration);
                }
                whole
            }
        };
        let placed = placement::place(&whole, &to, IfExists::Refuse)
            .await
            .map_err(|error| format!("the raw file cannot be put into its place: {error}"))?;
        let bytes = tokio::fs::metadata(&to).await.map_err(|error| error.to_string())?.len();
        tracing::info!(
            raw = %to.display(), bytes, duration_s = crate::telemetry::seconds(expected), parts = readable.len(),
            placed = placed.as_str(),
            "raw file in place"
        );
        Ok(StoreReport { bytes, duration: expected, lengths, found })
    }

    /// A part's duration and content, or why it has no media. `count`: count its frames too, for which all of it is
    /// read.
    async fn measure(&self, part: &Path, count: bool) -> Result<(Duration, FoundMedia), String> {
        let bytes = match tokio::fs::metadata(part).await {
            Ok(metadata) if metadata.len() == 0 => return Err("the raw file is empty".to_owned()),
            Ok(metadata) => metadata.len(),
            Err(error) => return Err(format!("there is no raw file: {error}")),
        };
        let unusable = |error: ProbeError| format!("the raw file is unusable: {error}");
        let media = ffprobe::verify_raw(part).await.map_err(unusable)?;
        let mut frames = None;
        if count {
            frames = ffprobe::measure(part).await.map_err(unusable)?.video().and_then(|stream| stream.packets);
        }
        Ok((media.duration, FoundMedia { bytes, frames }))
    }

    /// Removes the parts with these names if they were `delivered` or hold no media. Others are kept and logged;
    /// returns whether there were any.
    pub async fn remove_parts(&self, parts: &[String], delivered: bool) -> bool {
        let mut existing = false;
        let concatenated = self.name.as_str().to_owned();
        for name in parts.iter().chain([&concatenated]) {
            let path = self.part(name);
            let Ok(metadata) = tokio::fs::metadata(&path).await else { continue };
            // The joined file can be made again.
            let removable = *name == concatenated || metadata.len() == 0 || {
                match ffprobe::verify_raw(&path).await {
                    Ok(_) => delivered,
                    Err(ProbeError::Empty(_)) => true,
                    Err(_) => metadata.len() < EMPTY_PART_LIMIT,
                }
            };
            if !removable {
                existing = true;
                tracing::error!(
                    path = %path.display(),
                    bytes = metadata.len(),
                    "this part of the recording was not delivered and is kept; look at it with ffprobe, and move it by hand if it is of use"
                );
            } else if let Err(error) = tokio::fs::remove_file(&path).await {
                tracing::warn!(path = %path.display(), %error, "a part of the recording cannot be removed");
            }
        }
        existing
    }
}

/// The raw file, where it is in its final place already. `expected`: the duration of all parts together; `None` where
/// no part remains to compare with, because the only one was moved.
async fn already_stored(
    to: &Path,
    expected: Option<Duration>,
    lengths: &[Option<Duration>],
) -> Result<Option<StoreReport>, String> {
    let Ok(metadata) = tokio::fs::metadata(to).await else { return Ok(None) };
    let media = ffprobe::verify_raw(to).await.map_err(|error| format!("a file has the raw file's name: {error}"))?;
    let lengths = match expected {
        None => vec![Some(media.duration)],
        Some(expected) if same_duration(media.duration, expected) => lengths.to_vec(),
        Some(expected) => {
            let (found, wanted) = (crate::telemetry::seconds(media.duration), crate::telemetry::seconds(expected));
            return Err(format!(
                "{} is there already and lasts {found} s, not {wanted} s; move it away, and start the recorder again",
                to.display()
            ));
        }
    };
    let bytes = metadata.len();
    Ok(Some(StoreReport {
        bytes,
        duration: media.duration,
        lengths,
        found: vec![Some(FoundMedia { bytes, frames: None })],
    }))
}
