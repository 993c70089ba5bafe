//! One MP4 of several: where they are, and the joining.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::decode;
use super::join::{self, Target};
use super::join_plan::Container;
use super::locate::{self, Root};
use super::media::{self, Media};
use super::verify::same_duration;
use crate::protocol::ids::{RecorderId, RecordingId};

/// The files of a merge, absolute.
#[derive(Clone, Debug)]
pub struct Files {
    pub inputs: Vec<PathBuf>,
    /// Where the result grows until it is whole: see [`super::plan::Paths::part`].
    pub part: PathBuf,
    pub mp4: PathBuf,
    /// The result, relative to `main_path`.
    pub file_path: String,
}

/// Why there is no merged file. Its inputs are as they were.
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
    Join(#[from] join::JoinError),
    #[error("cannot be merged: {0}")]
    LeftOut(String),
}

/// Finds the files that `paths` name, relative to `main_path`, or, of the same names, in the directory into which a hook has
/// fetched them. The result goes to the directory of the first one, as the job names it.
///
/// # Errors
/// With every file that is not there, or leads out of `main_path`.
pub fn locate(
    main_path: &Path,
    paths: &[PathBuf],
    fetched: Option<&Path>,
    id: &RecordingId,
    node: &RecorderId,
) -> Result<Files, MergeError> {
    let root = Root::open(main_path).map_err(|source| MergeError::Root { path: main_path.to_owned(), source })?;
    let dir = paths.first().ok_or(MergeError::Nothing)?.parent().unwrap_or(Path::new(""));
    let (mut inputs, mut missing) = (Vec::new(), Vec::new());
    for path in paths {
        let (at, found) = match fetched {
            None => {
                let at = root.path.join(path);
                let found = locate::file(&root, &at).map(|file| file.is_some());
                (at, found)
            }
            Some(fetched) => {
                let at = fetched.join(path.file_name().unwrap_or_default());
                let found = at.is_file();
                (at, Ok(found))
            }
        };
        match found {
            Ok(true) => inputs.push(at),
            Ok(false) => missing.push(format!("there is no {}", at.display())),
            Err(why) => missing.push(format!("{}: {why}", path.display())),
        }
    }
    if !missing.is_empty() {
        return Err(MergeError::Missing(missing.join(", ")));
    }
    let result = super::plan::paths(&root.path, dir, Path::new(""), id, node);
    if inputs.contains(&result.mp4) {
        return Err(MergeError::Itself(result.mp4));
    }
    Ok(Files { inputs, part: result.part, mp4: result.mp4, file_path: result.file_path })
}

/// What stands under the result's name, if it is the result: it lasts as long as its inputs and can be decoded. Else, where
/// there is a file, why it is none.
pub async fn existing(files: &Files, nice: u8) -> Option<Result<Media, String>> {
    tokio::fs::metadata(&files.mp4).await.ok()?;
    let seen = async {
        let made = media::measure(&files.mp4).await.map_err(|error| error.to_string())?;
        let mut expected = Duration::ZERO;
        for input in &files.inputs {
            expected += media::measure(input).await.map_err(|error| error.to_string())?.duration;
        }
        if !same_duration(made.duration, expected) {
            return Err(format!("it lasts {:.1?}, its inputs {expected:.1?}", made.duration));
        }
        decode::check(&files.mp4, &made, nice).await.map_err(|error| error.to_string())?;
        Ok(made)
    };
    Some(seen.await)
}

/// Joins the inputs into the part, measured against them.
///
/// # Errors
/// See [`MergeError`]; an input that cannot be played is named.
pub async fn run(files: &Files, nice: u8, cancel: &CancellationToken) -> Result<join::Joined, MergeError> {
    let target = Target { into: &files.part, container: Container::Mp4, nice };
    let joined = join::join(&files.inputs, target, cancel).await?;
    if joined.left_out.is_empty() {
        return Ok(joined);
    }
    Err(MergeError::LeftOut(joined.left_out.iter().map(|part| part.cause.as_str()).collect::<Vec<_>>().join("; ")))
}
