//! Joins files into one: the parts of a recording that was interrupted into its raw file, MP4s into another.
//!
//! ```text
//! look at every part → copy, or encode anew where they differ → measure the result against the parts
//! ```
//!
//! The parts are only read. What cannot be played is left out and named; it may still be of use to somebody, so
//! whoever removes the parts of a joined recording keeps those.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::ffmpeg::{self, Part, RunError};
use super::join_plan::{self, Container, How, LineBreak, Piece};
use super::media::{self, FILES_ONLY, Media, ProbeError, StreamKind};
use super::verify::same_duration;
use crate::telemetry::seconds;

/// What has become of the parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Joined {
    /// In the order in which they follow each other.
    pub parts: Vec<JoinedPart>,
    pub left_out: Vec<LeftOut>,
    /// The joined file, as measured.
    pub media: Media,
    pub how: How,
}

/// A part that is in the joined file.
#[derive(Clone, Debug, PartialEq)]
pub struct JoinedPart {
    pub path: PathBuf,
    /// When it begins in the joined file.
    pub begin: Duration,
    /// What of it can be played, as measured.
    pub duration: Duration,
}

/// A part that is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    pub path: PathBuf,
    pub cause: String,
}

/// Why the parts could not be joined. They are untouched, and nothing of the joined file is left.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error("none of {} parts can be played{}", .0.len(), first(.0))]
    Nothing(Vec<LeftOut>),
    #[error("{path} is one of the parts that are to be joined into it; choose another name", path = .0.display())]
    Itself(PathBuf),
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    LineBreak(#[from] LineBreak),
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error("the parts cannot be joined into {into}: {source}", into = into.display())]
    Run { into: PathBuf, source: RunError },
    #[error("the parts cannot be joined into {into}: {mismatch}", into = into.display())]
    Mismatch { into: PathBuf, mismatch: Mismatch },
}

/// How a joined file differs from its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    #[error("it has no {0}, and a part has some")]
    Missing(&'static str),
    #[error("it lasts {made:.1?}, the parts {parts:.1?}")]
    Duration { made: Duration, parts: Duration },
    #[error("it has {made} packets of {what}, the parts {parts}")]
    Packets { what: &'static str, made: u64, parts: u64 },
}

fn first(left_out: &[LeftOut]) -> String {
    left_out.first().map_or_else(String::new, |part| format!("; the first: {}", part.cause))
}

/// What is to be made.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Replaced if it is there.
    pub into: &'a Path,
    pub container: Container,
    /// 0…19: how far ffmpeg steps back behind other programs.
    pub nice: u8,
}

impl<'a> Target<'a> {
    /// A recording's raw file: somebody waits for it.
    #[must_use]
    pub fn raw(into: &'a Path) -> Self {
        Self { into, container: Container::Raw, nice: 0 }
    }
}

/// Joins `parts`, in this order, into the `target`. Parts that are alike are copied packet by packet; ones that differ are
/// encoded anew, in the size of the first picture. What was written is not yet safe on disk (`storage::files::place` sees to
/// that).
///
/// # Errors
/// See [`JoinError`]. What is not ended by `cancel` may be tried again; the result of a copy is the same, byte for byte.
pub async fn join(parts: &[PathBuf], target: Target<'_>, cancel: &CancellationToken) -> Result<Joined, JoinError> {
    let into = target.into;
    let stopped = || JoinError::Run { into: into.to_owned(), source: RunError::Stopped };
    let looked = cancel.run_until_cancelled(look(parts, into)).await.ok_or_else(stopped)?;
    let (pieces, left_out) = looked?;
    if pieces.is_empty() {
        return Err(JoinError::Nothing(left_out));
    }
    let mut how = join_plan::how(&pieces);
    let mut made = make(how, &pieces, target, cancel).await;
    if let (How::Copied, Err(JoinError::Run { source: RunError::Failed { .. }, .. } | JoinError::Mismatch { .. })) =
        (how, &made)
    {
        // A recording that lost a little of its quality is more than none.
        if let Err(error) = &made {
            warn!(into = %into.display(), %error, "the parts could not be copied; encoding them anew");
        }
        how = How::Encoded;
        made = make(how, &pieces, target, cancel).await;
    }
    let made = made?;
    let mut begin = Duration::ZERO;
    let parts = pieces.into_iter().map(|piece| {
        let part = JoinedPart { begin, duration: piece.media.duration, path: piece.path.clone() };
        begin += piece.slot();
        part
    });
    let joined = Joined { parts: parts.collect(), left_out, media: made, how };
    for part in &joined.left_out {
        warn!(path = %part.path.display(), cause = part.cause, "this part cannot be played and is left out");
    }
    tracing::info!(into = %into.display(), parts = joined.parts.len(), left_out = joined.left_out.len(),
        duration_s = seconds(joined.media.duration), how = how.as_str(), "parts joined");
    Ok(joined)
}

/// What can be played of the parts, measured, and what cannot.
async fn look(parts: &[PathBuf], into: &Path) -> Result<(Vec<Piece>, Vec<LeftOut>), JoinError> {
    let target = std::fs::metadata(into).ok().map(|file| (file.dev(), file.ino()));
    let (mut pieces, mut left_out) = (Vec::new(), Vec::new());
    for part in parts {
        let path = std::path::absolute(part).unwrap_or_else(|_| part.clone());
        let mut leave_out = |cause: String| left_out.push(LeftOut { path: part.clone(), cause });
        let file = match tokio::fs::metadata(&path).await {
            Ok(file) => file,
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::NOENT | Errno::NOTDIR)) => {
                leave_out(format!("{} is not there", part.display()));
                continue;
            }
            Err(source) => return Err(JoinError::Io { action: "look at", path, source }),
        };
        if target == Some((file.dev(), file.ino())) {
            return Err(JoinError::Itself(into.to_owned()));
        }
        if !file.is_file() || file.len() == 0 {
            let cause = if file.is_file() { "is empty" } else { "is no regular file" };
            leave_out(format!("{} {cause}", part.display()));
            continue;
        }
        // ffprobe's "cannot be read" must be about what is in the file.
        if let Err(source) = tokio::fs::File::open(&path).await {
            return Err(JoinError::Io { action: "open", path, source });
        }
        match media::measure(&path).await {
            Ok(media) if media.video().is_none() && media.audio().is_none() => {
                leave_out(format!("{} has neither picture nor sound", part.display()));
            }
            Ok(media) => pieces.push(Piece { path, media }),
            Err(error @ (ProbeError::Unreadable { .. } | ProbeError::Empty(_) | ProbeError::Missing { .. })) => {
                leave_out(error.to_string());
            }
            Err(error @ (ProbeError::Start(_) | ProbeError::Deadline { .. })) => return Err(error.into()),
        }
    }
    Ok((pieces, left_out))
}

/// Makes the joined file and measures it; nothing is left of one that is not right.
async fn make(
    how: How,
    pieces: &[Piece],
    Target { into, container, nice }: Target<'_>,
    cancel: &CancellationToken,
) -> Result<Media, JoinError> {
    let list = Part::new(list_name(into));
    let what = match how {
        How::Copied => {
            let bytes = join_plan::list(pieces)?;
            let written = tokio::fs::write(list.path(), bytes).await;
            written.map_err(|source| JoinError::Io { action: "write", path: list.path().to_owned(), source })?;
            let [.., formats] = FILES_ONLY;
            join_plan::copy_arguments(list.path(), formats)
        }
        How::Encoded => join_plan::encode_arguments(pieces, container, &FILES_ONLY),
    };
    // Neither times nor random numbers in the file: the same parts give the same file.
    let spec = ffmpeg::spec()
        .args(["-fflags", "+bitexact"])
        .args(what)
        .args(["-flags", "+bitexact", "-fflags", "+bitexact"])
        .args(container.arguments())
        .args([OsString::from("-y"), media::file_url(into)])
        .nice(nice);
    let unfinished = Part::new(into.to_owned());
    let run = ffmpeg::run_spec(&spec, into, cancel).await;
    run.map_err(|source| JoinError::Run { into: into.to_owned(), source })?;
    let stopped = || JoinError::Run { into: into.to_owned(), source: RunError::Stopped };
    let made = cancel.run_until_cancelled(media::measure(into)).await.ok_or_else(stopped)??;
    compare(&made, pieces, how).map_err(|mismatch| JoinError::Mismatch { into: into.to_owned(), mismatch })?;
    unfinished.keep();
    Ok(made)
}

/// The list of the parts lies beside the joined file: hidden, and always under the same name, so that what a crash
/// leaves behind is replaced at the next try.
fn list_name(into: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(into.file_name().unwrap_or_default());
    name.push(".parts");
    into.with_file_name(name)
}

/// Whether all of the parts is in what was made of them.
fn compare(made: &Media, pieces: &[Piece], how: How) -> Result<(), Mismatch> {
    let (picture, sound) = join_plan::holds(pieces);
    if picture && made.video().is_none() {
        return Err(Mismatch::Missing("picture"));
    }
    if sound && made.audio().is_none() {
        return Err(Mismatch::Missing("sound"));
    }
    let parts: Duration = pieces.iter().map(Piece::slot).sum();
    if !same_duration(made.duration, parts) {
        return Err(Mismatch::Duration { made: made.duration, parts });
    }
    for (kind, what) in [(StreamKind::Video, "picture"), (StreamKind::Audio, "sound")] {
        let (made, parts) = (packets(made, kind), pieces.iter().map(|piece| packets(&piece.media, kind)).sum());
        if how == How::Copied && made != parts {
            return Err(Mismatch::Packets { what, made, parts });
        }
    }
    Ok(())
}

fn packets(media: &Media, kind: StreamKind) -> u64 {
    media.streams.iter().filter(|stream| stream.kind == kind).filter_map(|stream| stream.packets).sum()
}

#[cfg(test)]
mod tests {
    use super::super::media::Stream;
    use super::*;

    fn media(seconds: f64, kinds: &[(StreamKind, u64)]) -> Media {
        let stream = |(kind, packets): &(StreamKind, u64)| Stream {
            kind: *kind,
            width: 2,
            height: 2,
            packets: Some(*packets),
            ..Stream::default()
        };
        Media { duration: Duration::from_secs_f64(seconds), streams: kinds.iter().map(stream).collect() }
    }

    #[test]
    fn nothing_of_the_parts_may_be_missing() {
        let (video, audio) = (StreamKind::Video, StreamKind::Audio);
        let piece = |media| Piece { path: "/a".into(), media };
        let parts = [piece(media(5.0, &[(video, 10), (audio, 20)])), piece(media(3.0, &[(video, 4), (audio, 0)]))];
        let made = media(8.0, &[(video, 14), (audio, 20)]);
        assert_eq!(compare(&made, &parts, How::Copied), Ok(()));
        assert_eq!(compare(&media(8.0, &[(video, 14)]), &parts, How::Encoded), Err(Mismatch::Missing("sound")));
        assert_eq!(compare(&media(8.0, &[(audio, 20)]), &parts, How::Encoded), Err(Mismatch::Missing("picture")));
        let short = media(5.0, &[(video, 14), (audio, 20)]);
        assert!(matches!(compare(&short, &parts, How::Encoded), Err(Mismatch::Duration { .. })));
        let lost = media(8.0, &[(video, 13), (audio, 20)]);
        assert_eq!(compare(&lost, &parts, How::Encoded), Ok(()));
        assert_eq!(
            compare(&lost, &parts, How::Copied),
            Err(Mismatch::Packets { what: "picture", made: 13, parts: 14 })
        );
    }

    #[test]
    fn the_list_lies_hidden_beside_the_joined_file() {
        assert_eq!(list_name(Path::new("/a/rec_raw.mkv")), Path::new("/a/.rec_raw.mkv.parts"));
        assert_eq!(list_name(Path::new("rec_raw.mkv")), Path::new(".rec_raw.mkv.parts"));
    }
}
