//! Merges several MP4s into one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::media::concat::{self, ConcatTarget};
use crate::media::concat_plan::Container;
use crate::media::decode_check;
use crate::media::ffprobe::{self, MediaInfo};
use crate::media::verification::same_joined_duration;
use crate::protocol::ids::{RecorderId, RecordingId};
use crate::transcode::input_files::{self, MediaRoot};
use crate::transcode::merge_inputs::MergeInput;

/// The files of a merge, absolute.
#[derive(Clone, Debug)]
pub struct MergeFiles {
    pub inputs: Vec<PathBuf>,
    /// Where the result is written until it is complete: see [`crate::transcode::plan::JobPaths::part`].
    pub part: PathBuf,
    pub mp4: PathBuf,
    /// The result, relative to `main_path`.
    pub file_path: String,
}

/// Why there is no merged file. The inputs are unchanged.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    #[error("main_path {path} cannot be read: {source}", path = path.display())]
    Root { path: PathBuf, source: std::io::Error },
    #[error("it names no file")]
    Nothing,
    #[error("cannot be merged: {0}")]
    Missing(String),
    #[error("the result {0:?} has the name of one of the files that are to be merged")]
    Itself(PathBuf),
    #[error(transparent)]
    Join(#[from] concat::ConcatError),
    #[error("cannot be merged: {0}")]
    LeftOut(String),
}

/// Checks that all inputs are there. The result goes to the directory of the first, as it is in `main_path`.
///
/// # Errors
/// Names every file that does not exist or is outside `main_path`.
pub fn locate(
    main_path: &Path,
    files: &[MergeInput],
    id: &RecordingId,
    node: &RecorderId,
    unfinished_dir: Option<&Path>,
) -> Result<MergeFiles, MergeError> {
    let root = MediaRoot::open(main_path).map_err(|source| MergeError::Root { path: main_path.to_owned(), source })?;
    let dir = files.first().ok_or(MergeError::Nothing)?.place().parent().unwrap_or(Path::new(""));
    let (mut inputs, mut missing) = (Vec::new(), Vec::new());
    for file in files {
        let (at, found) = match file {
            MergeInput::Local(path) => {
                let at = root.path.join(path);
                let found = input_files::file(&root, &at).map(|file| file.is_some());
                (at, found)
            }
            MergeInput::Fetched { at, .. } => (at.clone(), Ok(at.is_file())),
        };
        match found {
            Ok(true) => inputs.push(at),
            Ok(false) => missing.push(format!("there is no {}", at.display())),
            Err(why) => missing.push(format!("{}: {why}", file.place().display())),
        }
    }
    if !missing.is_empty() {
        return Err(MergeError::Missing(missing.join(", ")));
    }
    let result = super::plan::paths(&root.path, dir, Path::new(""), id, node, unfinished_dir);
    if inputs.contains(&result.mp4) {
        return Err(MergeError::Itself(result.mp4));
    }
    Ok(MergeFiles { inputs, part: result.part, mp4: result.mp4, file_path: result.file_path })
}

/// Checks the file at the result's path: it must last as long as its inputs together and be decodable. `None`: there is
/// no file; an error: why the file is not the result.
pub async fn existing(files: &MergeFiles, nice: u8) -> Option<Result<MediaInfo, String>> {
    tokio::fs::metadata(&files.mp4).await.ok()?;
    let seen = async {
        let made = ffprobe::measure(&files.mp4).await.map_err(|error| error.to_string())?;
        let mut expected = Duration::ZERO;
        for input in &files.inputs {
            expected += ffprobe::measure(input).await.map_err(|error| error.to_string())?.duration;
        }
        if !same_joined_duration(made.duration, expected, files.inputs.len()) {
            return Err(format!("it lasts {:.1?}, its inputs {expected:.1?}", made.duration));
        }
        decode_check::check(&files.mp4, &made, nice).await.map_err(|error| error.to_string())?;
        Ok(made)
    };
    Some(seen.await)
}

/// Concatenates the inputs into the unfinished file.
///
/// # Errors
/// See [`MergeError`]; an unplayable input is named.
pub async fn run(files: &MergeFiles, nice: u8, cancel: &CancellationToken) -> Result<concat::ConcatReport, MergeError> {
    let target = ConcatTarget { into: &files.part, container: Container::Mp4, nice, going_on: &[] };
    let joined = concat::concat(&files.inputs, target, cancel).await?;
    if joined.left_out.is_empty() {
        return Ok(joined);
    }
    Err(MergeError::LeftOut(joined.left_out.iter().map(|part| part.cause.as_str()).collect::<Vec<_>>().join("; ")))
}
