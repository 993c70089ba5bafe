//! The raw file of one recording: the parts it grows in, what makes it one whole, where it goes.

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
use crate::storage::placement::{self, IfExists};

/// A part that cannot be read and is smaller than this (bytes) was killed before it held anything: a header, the first
/// picture's beginning.
const NOTHING: u64 = 64 << 10;

/// Where one raw file grows and where it goes.
#[derive(Clone, Debug)]
pub struct RawFile {
    temporary_dir: PathBuf,
    /// The final directory, which the job names.
    pub dir: PathBuf,
    pub name: RawFileName,
    /// Where reference transcoders would put the room's MP4s.
    reference_dirs: Vec<PathBuf>,
}

/// A raw file in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreReport {
    pub bytes: u64,
    pub duration: Duration,
    /// How long each part lasts, as measured; `None` for one that holds nothing.
    pub lengths: Vec<Option<Duration>>,
    /// What else was found of each.
    pub found: Vec<Option<FoundMedia>>,
}

impl RawFile {
    /// Parts grow in `temporary_dir`; the whole goes to `<main_path>/<sub_path>/<room_id>/<recording_id>_raw.mkv`.
    ///
    /// # Errors
    /// Never for ids that were parsed; the name's own check is repeated, not skipped.
    pub fn new(
        temporary_dir: &Path,
        main_path: &Path,
        sub_path: &Path,
        recording: &RecordingId,
        room: &RoomId,
    ) -> Result<Self, InvalidName> {
        let name = RawFileName::of(recording)?;
        let dir = absolute(&main_path.join(sub_path)).join(room.as_str());
        Ok(Self { temporary_dir: absolute(temporary_dir), dir, name, reference_dirs: Vec::new() })
    }

    /// The same in a fleet whose reference transcoders have these directories below `main_path`.
    #[must_use]
    pub fn for_references(self, main_path: &Path, sub_paths: &[PathBuf]) -> Self {
        Self { reference_dirs: reference_dirs::reference_dirs(main_path, sub_paths, &self.dir), ..self }
    }

    /// The room's directories that are made for them.
    #[must_use]
    pub fn reference_dirs(&self) -> &[PathBuf] {
        &self.reference_dirs
    }

    /// Makes them; a failure is only warned of.
    pub fn make_reference_dirs(&self) {
        self.reference_dirs.iter().for_each(|dir| reference_dirs::make_dir(dir));
    }

    /// The name of the n-th part, counted from 1: `<recording_id>_raw.part1.mkv`.
    #[must_use]
    pub fn part_name(&self, n: usize) -> String {
        let whole = self.name.as_str();
        format!("{}.part{n}.mkv", whole.strip_suffix(".mkv").unwrap_or(whole))
    }

    /// Where a part of this name grows.
    #[must_use]
    pub fn part(&self, name: &str) -> PathBuf {
        self.temporary_dir.join(name)
    }

    /// Where parts become one.
    fn joined(&self) -> PathBuf {
        self.temporary_dir.join(self.name.as_str())
    }

    /// A file of an earlier recording with this id that was kept, where there is one: it must not be written over.
    #[must_use]
    pub fn kept(&self) -> Option<PathBuf> {
        [self.joined(), self.part(&self.part_name(1))].into_iter().find(|path| path.exists())
    }

    /// Where the summary goes, beside the raw file in its final place.
    #[must_use]
    pub fn summary(&self) -> Option<PathBuf> {
        self.name.summary().map(|name| self.dir.join(name))
    }

    /// Makes one whole of these parts, each without what follows the meeting in it, and puts it into its final place. May be
    /// done again: a whole that is
    /// there already and lasts as long as the parts is taken for theirs. The parts themselves stay, unless there is but
    /// one, which is moved.
    ///
    /// # Errors
    /// Where there is nothing that can be read as a recording, or it cannot be joined or moved: why. All parts are still
    /// there then.
    pub async fn store(&self, parts: &[RecordingPart]) -> Result<StoreReport, String> {
        let stored = self.put_in_place(parts).await?;
        let this = self.clone();
        // Before anybody can be told of a job. That they are there is not worth the recording.
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
            let looked = match self.look(&path, part.ended.is_none()).await {
                Ok((length, found)) => Some(match part.meeting_until() {
                    Some(until) => (trim::cut_off(&path, length, until).await, found),
                    None => (length, found),
                }),
                Err(error) => {
                    tracing::debug!(part = %path.display(), why = error, "this part is not in the recording");
                    why = error;
                    None
                }
            };
            lengths.push(looked.map(|(length, _)| length));
            found.push(looked.map(|(_, found)| found));
            if looked.is_some() {
                readable.push(path);
            }
        }
        let expected: Duration = lengths.iter().flatten().sum();
        if let Some(stored) = in_place(&to, (!moved).then_some(expected), &lengths).await? {
            return Ok(StoreReport { found: if moved { stored.found } else { found }, ..stored });
        }
        let whole = match &readable[..] {
            [] => return Err(why),
            [part] => part.clone(),
            several => {
                let whole = self.joined();
                let joined = concat::concat(several, ConcatTarget::raw(&whole), &CancellationToken::new())
                    .await
                    .map_err(|error| format!("the parts of the recording cannot be joined: {error}"))?;
                // As they are in the whole.
                for (part, length) in parts.iter().zip(&mut lengths) {
                    let joined = joined.parts.iter().find(|joined| joined.path == self.part(&part.file));
                    *length = joined.map(|joined| joined.duration);
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

    /// How long a part lasts and what is in it, or why it holds nothing. `count`: its pictures too, for which all of it is read.
    async fn look(&self, part: &Path, count: bool) -> Result<(Duration, FoundMedia), String> {
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

    /// Removes the parts with these names: they are in the whole (`delivered`), or hold nothing. What may be of use is kept
    /// and pointed out; whether there was any.
    pub async fn tidy(&self, parts: &[String], delivered: bool) -> bool {
        let mut kept = false;
        let joined = self.name.as_str().to_owned();
        for name in parts.iter().chain([&joined]) {
            let path = self.part(name);
            let Ok(metadata) = tokio::fs::metadata(&path).await else { continue };
            // What was joined can be joined again.
            let goes = *name == joined || metadata.len() == 0 || {
                match ffprobe::verify_raw(&path).await {
                    Ok(_) => delivered,
                    Err(ProbeError::Empty(_)) => true,
                    Err(_) => metadata.len() < NOTHING,
                }
            };
            if !goes {
                kept = true;
                tracing::error!(
                    path = %path.display(),
                    bytes = metadata.len(),
                    "this part of the recording was not delivered and is kept; look at it with ffprobe, and move it by hand if it is of use"
                );
            } else if let Err(error) = tokio::fs::remove_file(&path).await {
                tracing::warn!(path = %path.display(), %error, "a part of the recording cannot be removed");
            }
        }
        kept
    }
}

/// The whole, where it is in its place already. `expected`: how long the parts last together; `None` where no part is left to
/// compare it with: the only one was moved.
async fn in_place(
    to: &Path,
    expected: Option<Duration>,
    lengths: &[Option<Duration>],
) -> Result<Option<StoreReport>, String> {
    let Ok(metadata) = tokio::fs::metadata(to).await else { return Ok(None) };
    let there = ffprobe::verify_raw(to).await.map_err(|error| format!("a file has the raw file's name: {error}"))?;
    let lengths = match expected {
        None => vec![Some(there.duration)],
        Some(expected) if same_duration(there.duration, expected) => lengths.to_vec(),
        Some(expected) => {
            let (found, wanted) = (crate::telemetry::seconds(there.duration), crate::telemetry::seconds(expected));
            return Err(format!(
                "{} is there already and lasts {found} s, not {wanted} s; move it away, and start the recorder again",
                to.display()
            ));
        }
    };
    let bytes = metadata.len();
    Ok(Some(StoreReport {
        bytes,
        duration: there.duration,
        lengths,
        found: vec![Some(FoundMedia { bytes, frames: None })],
    }))
}

/// A job may be read by a process with another working directory.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
