//! The raw file of one recording: its parts, their concatenation, and its final place.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::codes;
use crate::media::concat::{self, ConcatTarget};
use crate::media::ffprobe::{self, ProbeError};
use crate::media::verification::same_duration;
use crate::protocol::ids::{InvalidName, RecordingId, RoomId};
use crate::protocol::job::RawFileName;
use crate::recording::journal::{FoundMedia, RecordingPart};
use crate::recording::part_content::{PartContent, content, readable, size};
use crate::recording::{reference_dirs, trim};
use crate::storage::advance_copy::AdvanceCopy;
use crate::storage::main_path::{MainPath, StoreAbilities};
use crate::storage::placement::{self, IfExists};
use crate::storage::{detached, files};

/// A part's second file that is shorter than this holds only the moment of silence by which its encoder became ready: it
/// never took over, or took over as the recording ended. One chunk of sound.
const UNUSED_CONTINUATION: Duration = Duration::from_millis(50);
const NOTHING: &str = "there is no raw file: nothing was captured";

/// The paths of a recording's raw file and of its parts.
#[derive(Clone, Debug)]
pub struct RawFile {
    temporary_dir: PathBuf,
    /// The final directory, as the job names it.
    pub dir: PathBuf,
    /// The same, relative to `main_path`.
    sub_dir: PathBuf,
    pub name: RawFileName,
    /// `main_path`.
    store: MainPath,
    /// The directories in which reference transcoders would put the room's MP4s.
    reference_dirs: Vec<PathBuf>,
}

/// Why a raw file is not in its place. All parts remain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreFailure {
    /// Nothing was captured, or nothing that can be read: it will never be there.
    #[error("{0}")]
    Nothing(String),
    /// A disk fails, is full or away: it may be there later.
    #[error("{0}")]
    NotYet(String),
}

/// What the parts hold.
struct MeasuredParts {
    /// Of each part: how long it lasts, and what else was measured; `None` for a part without media.
    lengths: Vec<Option<Duration>>,
    found: Vec<Option<FoundMedia>>,
    /// The files with media.
    readable: Vec<PartFile>,
    /// No part is there.
    gone: bool,
}

/// A file of a part, with media.
struct PartFile {
    path: PathBuf,
    /// The index of its part.
    part: usize,
    /// It goes on where the part's first file ends.
    goes_on: bool,
}

/// The file in which a part goes on without a gap, where another encoder took over ([`crate::capture::rig`]); it need
/// not exist. `<recording_id>_raw.part1.mkv` → `<recording_id>_raw.part1.on.mkv`.
#[must_use]
pub fn continuation(part: &Path) -> PathBuf {
    part.with_extension("on.mkv")
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
        let sub_dir = sub_path.join(room.as_str());
        let store = MainPath::unwatched(main_path, StoreAbilities::ALL);
        let temporary_dir = files::absolute(temporary_dir);
        Ok(Self { temporary_dir, dir, sub_dir, name, store, reference_dirs: Vec::new() })
    }

    /// The same raw file in `main_path` as this node knows it.
    #[must_use]
    pub fn in_store(self, store: &MainPath) -> Self {
        Self { store: store.clone(), ..self }
    }

    /// `main_path`.
    #[must_use]
    pub fn store(&self) -> &MainPath {
        &self.store
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

    /// Where the parts are.
    #[must_use]
    pub fn parts_dir(&self) -> PathBuf {
        self.temporary_dir.clone()
    }

    /// The files that the part with this name may have.
    fn files_of(&self, name: &str) -> [PathBuf; 2] {
        let part = self.part(name);
        let next = continuation(&part);
        [part, next]
    }

    /// Where parts are concatenated.
    fn concatenated(&self) -> PathBuf {
        self.temporary_dir.join(self.name.as_str())
    }

    /// A file of an earlier recording with this id, if any: it must not be overwritten.
    #[must_use]
    pub fn existing(&self) -> Option<PathBuf> {
        let [first, next] = self.files_of(&self.part_name(1));
        [self.concatenated(), first, next].into_iter().find(|path| path.try_exists().unwrap_or(true))
    }

    /// The path of the summary beside the raw file in its final place.
    #[must_use]
    pub fn summary(&self) -> Option<PathBuf> {
        self.name.summary().map(|name| self.dir.join(name))
    }

    /// Checks whether anything was captured that can become the raw file. It reads no more than the headers of the
    /// first usable part. `placing`: an earlier attempt may have moved the only part to its place.
    ///
    /// # Errors
    /// [`StoreFailure::Nothing`] where the recording will never have a file.
    pub async fn captured(&self, parts: &[RecordingPart], placing: bool) -> Result<(), StoreFailure> {
        if parts.is_empty() {
            return Err(StoreFailure::Nothing(NOTHING.to_owned()));
        }
        let mut why = NOTHING.to_owned();
        for (file, goes_on) in parts.iter().flat_map(|part| self.files_of(&part.file).into_iter().zip([false, true])) {
            match self.measure(&file, false).await {
                Ok((lasts, _)) if goes_on && lasts < UNUSED_CONTINUATION => {}
                Ok(_) => return Ok(()),
                Err(failure @ StoreFailure::NotYet(_)) => return Err(failure),
                // That there is no second file says nothing.
                Err(StoreFailure::Nothing(_)) if goes_on => {}
                Err(StoreFailure::Nothing(cause)) => why = cause,
            }
        }
        // The rest is asked of main_path and of a directory that may be in it.
        let this = self.clone();
        let placed = move || {
            this.store.check().map_err(io::Error::other)?;
            std::fs::metadata(&this.temporary_dir)?;
            this.place().try_exists()
        };
        match detached::run("captured", placed).await {
            Ok(false) if !placing => Err(StoreFailure::Nothing(why)),
            Ok(_) => Ok(()),
            Err(error) => Err(StoreFailure::NotYet(error.to_string())),
        }
    }

    /// Joins the parts, each cut where its meeting ended, into one file and moves that to its final place. May be
    /// repeated: a file that is there already and lasts as long as the parts is taken as the result. The parts stay,
    /// but a single part is moved.
    ///
    /// `placing`: an earlier attempt had begun to put the file into its place. `begin_placing` notes that. `ahead`: what was
    /// copied of the first part.
    ///
    /// # Errors
    /// Where no part is readable, or the parts cannot be joined or moved. All parts remain.
    pub async fn store_parts(
        &self,
        parts: &[RecordingPart],
        placing: bool,
        begin_placing: impl Future<Output = ()>,
        ahead: Option<AdvanceCopy>,
    ) -> Result<StoreReport, StoreFailure> {
        let stored = self.put_in_place(parts, placing, begin_placing, ahead).await?;
        let this = self.clone();
        // Created before the job can be published. A failure is not worth losing the recording.
        let make = move || {
            this.make_reference_dirs();
            Ok(())
        };
        let _ = detached::run("reference-dirs", make).await;
        Ok(stored)
    }

    /// The final path.
    #[must_use]
    pub fn place(&self) -> PathBuf {
        self.dir.join(self.name.as_str())
    }

    async fn put_in_place(
        &self,
        parts: &[RecordingPart],
        placing: bool,
        begin_placing: impl Future<Output = ()>,
        ahead: Option<AdvanceCopy>,
    ) -> Result<StoreReport, StoreFailure> {
        self.captured(parts, placing).await?;
        let to = self.place();
        let MeasuredParts { mut lengths, found, readable, gone } = self.measure_all(parts).await?;
        let expected: Duration = lengths.iter().flatten().sum();
        // A store that cannot rename shows an interrupted copy under the final name, and its header states all of it.
        let copy_again = placing && !gone && !self.store.abilities().rename;
        if !copy_again && let Some(stored) = self.already_stored((!gone).then_some(expected), &lengths).await? {
            return Ok(StoreReport { found: if gone { stored.found } else { found }, ..stored });
        }
        let whole = match &readable[..] {
            [] => return Err(StoreFailure::NotYet(format!("{} is not there, nor a part of it", to.display()))),
            [file] => file.path.clone(),
            several => {
                let whole = self.concatenated();
                let paths: Vec<_> = several.iter().map(|file| file.path.clone()).collect();
                let on: Vec<_> = several.iter().filter(|file| file.goes_on).map(|file| file.path.clone()).collect();
                let target = ConcatTarget { going_on: &on, ..ConcatTarget::raw(&whole) };
                let concatenated =
                    concat::concat(&paths, target, &CancellationToken::new()).await.map_err(|error| {
                        StoreFailure::NotYet(format!("the parts of the recording cannot be joined: {error}"))
                    })?;
                // The lengths as they are in the joined file.
                lengths.fill(None);
                for joined in &concatenated.parts {
                    if let Some(file) = several.iter().find(|file| file.path == joined.path) {
                        *lengths[file.part].get_or_insert_default() += joined.duration;
                    }
                }
                whole
            }
        };
        begin_placing.await;
        let existing = if copy_again { IfExists::Replace } else { IfExists::Refuse };
        let not_yet = |error: &dyn std::fmt::Display| {
            StoreFailure::NotYet(format!("the raw file cannot be put into its place: {error}"))
        };
        let placed =
            placement::place_ahead(&self.store, &whole, &to, existing, ahead).await.map_err(|error| not_yet(&error))?;
        let bytes = size(&to).await.map_err(|error| not_yet(&error))?;
        tracing::info!(
            raw = %to.display(), bytes, duration_s = crate::telemetry::seconds(expected), parts = readable.len(),
            placed = placed.as_str(),
            "raw file in place"
        );
        Ok(StoreReport { bytes, duration: expected, lengths, found })
    }

    /// Measures all parts, each cut where its meeting ended.
    async fn measure_all(&self, parts: &[RecordingPart]) -> Result<MeasuredParts, StoreFailure> {
        let mut measured = MeasuredParts { lengths: Vec::new(), found: Vec::new(), readable: Vec::new(), gone: true };
        for (n, part) in parts.iter().enumerate() {
            let (mut length, mut found) = (None::<Duration>, None::<FoundMedia>);
            let files = self.files_of(&part.file).into_iter().zip([false, true]);
            for (path, goes_on) in files.filter(|_| !part.is_unused()) {
                let bytes = size(&path).await;
                let is_there = !bytes.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
                measured.gone &= !is_there;
                // One without content is not opened: an ffmpeg whose disk hangs may be at its first byte, and hold up who
                // opens it.
                if goes_on && (!is_there || matches!(bytes, Ok(0))) {
                    continue;
                }
                let (mut lasts, held) = match self.measure(&path, part.ended.is_none()).await {
                    Ok((lasts, _)) if goes_on && lasts < UNUSED_CONTINUATION => {
                        tracing::debug!(part = %path.display(), "its encoder never took over: left out");
                        continue;
                    }
                    Ok(media) => media,
                    Err(StoreFailure::Nothing(why)) => {
                        tracing::debug!(part = %path.display(), why, "this part is not in the recording");
                        continue;
                    }
                    Err(failure) => return Err(failure),
                };
                // What remains of the meeting behind the part's first file.
                let until = part.meeting_until().map(|until| until.saturating_sub(length.unwrap_or_default()));
                if until.is_some_and(|until| until.is_zero() && length.is_some()) {
                    tracing::info!(part = %path.display(), "it begins after the page had left the meeting: left out");
                    continue;
                }
                if let Some(until) = until {
                    lasts = trim::cut_end(&path, lasts, until).await;
                }
                *length.get_or_insert_default() += lasts;
                found = Some(found.map_or(held, |first| first.and(held)));
                measured.readable.push(PartFile { path, part: n, goes_on });
            }
            measured.lengths.push(length);
            measured.found.push(found);
        }
        Ok(measured)
    }

    /// A part's duration and content, or why it has no media. `count`: count its frames too, for which all of it is
    /// read.
    ///
    /// # Errors
    /// [`StoreFailure::Nothing`] where the file was read and has none.
    async fn measure(&self, part: &Path, count: bool) -> Result<(Duration, FoundMedia), StoreFailure> {
        let path = part.to_owned();
        // A disk that does not give its bytes says nothing about them.
        let read = detached::run("measure", move || {
            let mut file = std::fs::File::open(&path)?;
            io::Read::read(&mut file, &mut [0; 4096])?;
            Ok(file.metadata()?.len())
        });
        let nothing = |why: String| Err(StoreFailure::Nothing(why));
        let bytes = match read.await {
            Ok(0) => return nothing("the raw file is empty".to_owned()),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return nothing(format!("there is no raw file: {error}"));
            }
            Err(error) => return Err(StoreFailure::NotYet(format!("{}: {error}", part.display()))),
        };
        let media = match ffprobe::verify_raw(part).await {
            Ok(media) if !count => return Ok((media.duration, FoundMedia { bytes, frames: None })),
            Ok(media) => ffprobe::measure(part).await.map(|counted| (media.duration, counted)),
            Err(error) => Err(error),
        };
        match media {
            Ok((duration, counted)) => {
                let frames = counted.video().and_then(|stream| stream.packets);
                Ok((duration, FoundMedia { bytes, frames }))
            }
            Err(error @ (ProbeError::Start(_) | ProbeError::Deadline { .. })) => {
                Err(StoreFailure::NotYet(error.to_string()))
            }
            Err(error) => match readable(part).await {
                Ok(()) => Err(StoreFailure::Nothing(format!("the raw file is unusable: {error}"))),
                Err(error) => Err(StoreFailure::NotYet(format!("{}: {error}", part.display()))),
            },
        }
    }

    /// The raw file, where it is in its final place already. `expected`: the duration of all parts together; `None`
    /// where no part remains to compare with, because the only one was moved.
    async fn already_stored(
        &self,
        expected: Option<Duration>,
        lengths: &[Option<Duration>],
    ) -> Result<Option<StoreReport>, StoreFailure> {
        let to = self.place();
        let not_yet = |why: String| Err(StoreFailure::NotYet(why));
        let bytes = match size(&to).await {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return not_yet(format!("{}: {error}", to.display())),
        };
        let media = match ffprobe::verify_raw(&to).await {
            Ok(media) => media,
            Err(error) => return not_yet(format!("a file has the raw file's name: {error}; move it away")),
        };
        let lengths = match expected {
            None => vec![Some(media.duration)],
            Some(expected) if same_duration(media.duration, expected) => lengths.to_vec(),
            Some(expected) => {
                let (found, wanted) = (crate::telemetry::seconds(media.duration), crate::telemetry::seconds(expected));
                return not_yet(format!(
                    "{} is there already and lasts {found} s, not {wanted} s; move it away",
                    to.display()
                ));
            }
        };
        let found = vec![Some(FoundMedia { bytes, frames: None })];
        Ok(Some(StoreReport { bytes, duration: media.duration, lengths, found }))
    }

    /// Its directory relative to `main_path`.
    #[must_use]
    pub fn sub_dir(&self) -> &Path {
        &self.sub_dir
    }

    /// Removes the raw file that a store has, and the summary before it; what is not there is no error.
    ///
    /// # Errors
    /// Where `main_path` is away, or its disk fails.
    pub async fn remove_stored(&self) -> io::Result<()> {
        let this = self.clone();
        let remove = move || {
            // In the mount point of a share that is gone there is nothing to remove, which shows nothing.
            this.store.check().map_err(io::Error::other)?;
            if let Some(summary) = this.summary() {
                files::remove(&summary)?;
            }
            files::remove(&this.place())
        };
        detached::run("raw", remove).await
    }

    /// Removes the parts with these names if they were `delivered` or hold no media. Others are kept and logged;
    /// returns whether there were any.
    ///
    /// # Errors
    /// Where one cannot be removed or looked at: the others are removed.
    pub async fn remove_parts(&self, parts: &[String], delivered: bool) -> io::Result<bool> {
        let (mut existing, mut failure) = (false, None);
        let concatenated = self.concatenated();
        let files = parts.iter().flat_map(|name| self.files_of(name)).chain([concatenated.clone()]);
        for path in files {
            let size = match tokio::fs::metadata(&path).await {
                Ok(metadata) => metadata.len(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    failure = Some(error);
                    continue;
                }
            };
            // The joined file can be made again.
            let removable = path == concatenated || size == 0 || {
                match content(&path, size).await {
                    Ok(PartContent::Media) => delivered,
                    Ok(PartContent::Nothing) => true,
                    Ok(PartContent::Unreadable) => false,
                    Err(error) => {
                        failure = Some(error);
                        continue;
                    }
                }
            };
            if !removable {
                existing = true;
                tracing::error!(
                    code = %codes::PART_KEPT,
                    path = %path.display(),
                    bytes = size,
                    "this part of the recording was not delivered and is kept; look at it with ffprobe, and move it by hand if it is of use"
                );
            } else if let Err(error) = tokio::fs::remove_file(&path).await
                && error.kind() != io::ErrorKind::NotFound
            {
                failure = Some(error);
            }
        }
        failure.map_or(Ok(existing), Err)
    }
}
