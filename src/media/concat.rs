//! Concatenates media files: the parts of an interrupted recording into its raw file, or MP4s into one.
//!
//! ```text
//! inspect every part → copy, or encode where parts differ → measure the result against the parts
//! ```
//!
//! The parts are only read. A part that cannot be played is skipped and reported; who removes the parts of a joined
//! recording must keep the skipped ones.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::codes;
use crate::media::concat_plan::{self, ConcatInput, ConcatMethod, Container, UnlistablePath};
use crate::media::ffmpeg::{self, FfmpegError};
use crate::media::ffprobe::{self, FILES_ONLY, MediaInfo, MediaStream, ProbeError, StreamKind};
use crate::media::joined_mark::JoinedMark;
use crate::media::unfinished_file::UnfinishedFile;
use crate::media::verification::same_joined_duration;
use crate::storage::files::hidden_beside;
use crate::telemetry::seconds;

/// The result of a concatenation.
#[derive(Clone, Debug, PartialEq)]
pub struct ConcatReport {
    /// In their order.
    pub parts: Vec<ConcatPart>,
    pub left_out: Vec<SkippedPart>,
    /// The measured result.
    pub media: MediaInfo,
    pub how: ConcatMethod,
}

/// A part that is in the result.
#[derive(Clone, Debug, PartialEq)]
pub struct ConcatPart {
    pub path: PathBuf,
    /// Its start in the result.
    pub begin: Duration,
    /// Its measured playable length.
    pub duration: Duration,
}

/// A part that is not in the result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedPart {
    pub path: PathBuf,
    pub cause: String,
}

/// Why the parts could not be joined. The parts are unchanged, and nothing of the result is left.
#[derive(Debug, thiserror::Error)]
pub enum ConcatError {
    #[error("none of {} parts can be played{}", .0.len(), first(.0))]
    Nothing(Vec<SkippedPart>),
    #[error("{path} is one of the parts that are to be joined into it; choose another name", path = .0.display())]
    Itself(PathBuf),
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    UnlistablePath(#[from] UnlistablePath),
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error("the parts cannot be joined into {into}: {source}", into = into.display())]
    Run { into: PathBuf, source: FfmpegError },
    #[error("the parts cannot be joined into {into}: {mismatch}", into = into.display())]
    Mismatch { into: PathBuf, mismatch: ConcatMismatch },
}

/// How the result differs from its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConcatMismatch {
    #[error("it has no {0}, and a part has some")]
    Missing(&'static str),
    #[error("it lasts {made:.1?}, the parts {parts:.1?}")]
    Duration { made: Duration, parts: Duration },
    #[error("it has {made} packets of {what}, the parts {parts}")]
    Packets { what: &'static str, made: u64, parts: u64 },
}

fn first(left_out: &[SkippedPart]) -> String {
    left_out.first().map_or_else(String::new, |part| format!("; the first: {}", part.cause))
}

/// The file to write.
#[derive(Clone, Copy, Debug)]
pub struct ConcatTarget<'a> {
    /// An existing file is replaced.
    pub into: &'a Path,
    pub container: Container,
    /// Niceness of ffmpeg, 0…19 ([`crate::process::child::ChildSpec::nice`]).
    pub nice: u8,
    /// The parts that go on where the one before ends.
    pub going_on: &'a [PathBuf],
}

impl<'a> ConcatTarget<'a> {
    /// The raw file of a recording, at normal priority because its job waits.
    #[must_use]
    pub fn raw(into: &'a Path) -> Self {
        Self { into, container: Container::Raw, nice: 0, going_on: &[] }
    }
}

/// Joins `parts` in this order into `target`. Parts with equal parameters are copied packet by packet; others are
/// encoded in the size of the first picture. The result is not yet safe on disk ([`crate::storage::placement::place`] syncs
/// it).
///
/// # Errors
/// See [`ConcatError`]. All may be retried, except for a cancellation; a repeated copy gives the same bytes.
pub async fn concat(
    parts: &[PathBuf],
    target: ConcatTarget<'_>,
    cancel: &CancellationToken,
) -> Result<ConcatReport, ConcatError> {
    let into = target.into;
    let stopped = || ConcatError::Run { into: into.to_owned(), source: FfmpegError::Stopped };
    let inspected = cancel.run_until_cancelled(inspect(parts, into, target.container)).await.ok_or_else(stopped)?;
    let (mut pieces, left_out) = inspected?;
    for n in 1..pieces.len() {
        pieces[n - 1].goes_on = target.going_on.contains(&pieces[n].path);
    }
    if pieces.is_empty() {
        return Err(ConcatError::Nothing(left_out));
    }
    let mut how = concat_plan::method(&pieces, target.container);
    let mut made = write_result(how, &pieces, target, cancel).await;
    if let (true, Err(ConcatError::Run { source: FfmpegError::Failed { .. }, .. } | ConcatError::Mismatch { .. })) =
        (how.is_lossless(), &made)
    {
        // A recording with a little less quality is better than none.
        if let Err(error) = &made {
            warn!(
                code = %codes::PARTS_ENCODED_ANEW, into = %into.display(), %error,
                "the parts could not be copied; encoding them anew"
            );
        }
        how = ConcatMethod::Encoded;
        made = write_result(how, &pieces, target, cancel).await;
    }
    let made = made?;
    let mut begin = Duration::ZERO;
    let parts = pieces.into_iter().map(|piece| {
        let part = ConcatPart { begin, duration: piece.media.duration, path: piece.path.clone() };
        begin += piece.slot();
        part
    });
    let joined = ConcatReport { parts: parts.collect(), left_out, media: made, how };
    for part in &joined.left_out {
        warn!(
            code = %codes::PART_LEFT_OUT, path = %part.path.display(), cause = part.cause,
            "this part cannot be played and is left out"
        );
    }
    tracing::info!(into = %into.display(), parts = joined.parts.len(), left_out = joined.left_out.len(),
        duration_s = seconds(joined.media.duration), how = how.as_str(), "parts joined");
    Ok(joined)
}

/// Measures the parts. Returns the playable ones, and the others with the cause.
async fn inspect(
    parts: &[PathBuf],
    into: &Path,
    container: Container,
) -> Result<(Vec<ConcatInput>, Vec<SkippedPart>), ConcatError> {
    let target = std::fs::metadata(into).ok().map(|file| (file.dev(), file.ino()));
    let (mut pieces, mut left_out) = (Vec::new(), Vec::new());
    for part in parts {
        let path = std::path::absolute(part).unwrap_or_else(|_| part.clone());
        let mut leave_out = |cause: String| left_out.push(SkippedPart { path: part.clone(), cause });
        let file = match tokio::fs::metadata(&path).await {
            Ok(file) => file,
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::NOENT | Errno::NOTDIR)) => {
                leave_out(format!("{} is not there", part.display()));
                continue;
            }
            Err(source) => return Err(ConcatError::Io { action: "look at", path, source }),
        };
        if target == Some((file.dev(), file.ino())) {
            return Err(ConcatError::Itself(into.to_owned()));
        }
        if !file.is_file() || file.len() == 0 {
            let cause = if file.is_file() { "is empty" } else { "is no regular file" };
            leave_out(format!("{} {cause}", part.display()));
            continue;
        }
        // Checked here, so that ffprobe's "cannot be read" is about the content.
        if let Err(source) = tokio::fs::File::open(&path).await {
            return Err(ConcatError::Io { action: "open", path, source });
        }
        match ffprobe::measure(&path).await {
            Ok(media) if media.video().is_none() && media.audio().is_none() => {
                leave_out(format!("{} has neither picture nor sound", part.display()));
            }
            Ok(media) => {
                let media = MediaInfo { duration: concat_plan::joined_duration(&media, container), ..media };
                pieces.push(ConcatInput { path, media, goes_on: false });
            }
            Err(error) if !error.is_temporary() => leave_out(error.to_string()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok((pieces, left_out))
}

/// Writes and measures the result; a wrong result is removed.
async fn write_result(
    how: ConcatMethod,
    pieces: &[ConcatInput],
    ConcatTarget { into, container, nice, .. }: ConcatTarget<'_>,
    cancel: &CancellationToken,
) -> Result<MediaInfo, ConcatError> {
    // A fixed name, so that a retry after a crash replaces the list.
    let list = UnfinishedFile::new(hidden_beside(into, ".parts"));
    let what = match how {
        ConcatMethod::Copied | ConcatMethod::CopiedWithParameters => {
            let bytes = concat_plan::list(pieces)?;
            let written = tokio::fs::write(list.path(), bytes).await;
            written.map_err(|source| ConcatError::Io { action: "write", path: list.path().to_owned(), source })?;
            let [.., formats] = FILES_ONLY;
            let tags = JoinedMark::of(pieces).tags();
            concat_plan::copy_arguments(list.path(), formats, how, container, tags)
        }
        ConcatMethod::Encoded => concat_plan::encode_arguments(pieces, container, &FILES_ONLY),
    };
    // Neither times nor random numbers in the file, so that equal parts give equal files.
    let spec = ffmpeg::spec()
        .args(["-fflags", "+bitexact"])
        .args(what)
        .args(["-flags", "+bitexact", "-fflags", "+bitexact"])
        .args(container.arguments())
        .args([OsString::from("-y"), ffprobe::file_url(into)])
        .nice(nice);
    let unfinished = UnfinishedFile::new(into.to_owned());
    let run = ffmpeg::run_spec(&spec, into, cancel).await;
    run.map_err(|source| ConcatError::Run { into: into.to_owned(), source })?;
    let stopped = || ConcatError::Run { into: into.to_owned(), source: FfmpegError::Stopped };
    let made = cancel.run_until_cancelled(ffprobe::measure(into)).await.ok_or_else(stopped)??;
    compare(&made, pieces, how, container)
        .map_err(|mismatch| ConcatError::Mismatch { into: into.to_owned(), mismatch })?;
    unfinished.keep();
    Ok(made)
}

/// Whether the result holds all of the parts.
fn compare(
    made: &MediaInfo,
    pieces: &[ConcatInput],
    how: ConcatMethod,
    container: Container,
) -> Result<(), ConcatMismatch> {
    let (picture, sound) = concat_plan::has_video_and_audio(pieces);
    if picture && made.video().is_none() {
        return Err(ConcatMismatch::Missing("picture"));
    }
    if sound && made.audio().is_none() {
        return Err(ConcatMismatch::Missing("sound"));
    }
    let parts: Duration = pieces.iter().map(ConcatInput::slot).sum();
    if !same_joined_duration(made.duration, parts, pieces.len()) {
        return Err(ConcatMismatch::Duration { made: made.duration, parts });
    }
    for (kind, what) in [(StreamKind::Video, "picture"), (StreamKind::Audio, "sound")] {
        let expected = |piece: &ConcatInput| packets(concat_plan::joined_streams(piece, container), kind);
        let (made, parts) = (packets(made.streams.iter(), kind), pieces.iter().map(expected).sum());
        if how.is_lossless() && made != parts {
            return Err(ConcatMismatch::Packets { what, made, parts });
        }
    }
    Ok(())
}

fn packets<'a>(streams: impl IntoIterator<Item = &'a MediaStream>, kind: StreamKind) -> u64 {
    streams.into_iter().filter(|stream| stream.kind == kind).filter_map(|stream| stream.packets).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn media(seconds: f64, kinds: &[(StreamKind, u64)]) -> MediaInfo {
        let stream = |(kind, packets): &(StreamKind, u64)| MediaStream {
            kind: *kind,
            width: 2,
            height: 2,
            packets: Some(*packets),
            ..MediaStream::default()
        };
        let streams = kinds.iter().map(stream).collect();
        MediaInfo { duration: Duration::from_secs_f64(seconds), streams, ..MediaInfo::default() }
    }

    #[test]
    fn a_result_that_lacks_anything_is_refused() {
        let (video, audio) = (StreamKind::Video, StreamKind::Audio);
        let piece = |media| ConcatInput { path: "/a".into(), media, goes_on: false };
        let parts = [piece(media(5.0, &[(video, 10), (audio, 20)])), piece(media(3.0, &[(video, 4), (audio, 0)]))];
        let made = media(8.0, &[(video, 14), (audio, 20)]);
        assert_eq!(compare(&made, &parts, ConcatMethod::Copied, Container::Mp4), Ok(()));
        assert_eq!(
            compare(&media(8.0, &[(video, 14)]), &parts, ConcatMethod::Encoded, Container::Mp4),
            Err(ConcatMismatch::Missing("sound"))
        );
        assert_eq!(
            compare(&media(8.0, &[(audio, 20)]), &parts, ConcatMethod::Encoded, Container::Mp4),
            Err(ConcatMismatch::Missing("picture"))
        );
        let short = media(5.0, &[(video, 14), (audio, 20)]);
        assert!(matches!(
            compare(&short, &parts, ConcatMethod::Encoded, Container::Mp4),
            Err(ConcatMismatch::Duration { .. })
        ));
        let lost = media(8.0, &[(video, 13), (audio, 20)]);
        assert_eq!(compare(&lost, &parts, ConcatMethod::Encoded, Container::Mp4), Ok(()));
        assert_eq!(
            compare(&lost, &parts, ConcatMethod::Copied, Container::Mp4),
            Err(ConcatMismatch::Packets { what: "picture", made: 13, parts: 14 })
        );
    }
}
