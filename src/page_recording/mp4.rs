//! The MP4 of a recorded page, made and checked as a transcoding job does it.

use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::FfmpegOptions;
use crate::media::ffmpeg::{self, FfmpegError, FfmpegTask};
use crate::media::ffmpeg_arguments::FfmpegArguments;
use crate::media::ffprobe::{self, MediaInfo};
use crate::media::progress::FfmpegProgress;
use crate::media::{decode_check, verification};
use crate::page_recording::disk;
use crate::page_recording::output::directory;
use crate::page_recording::summary::Tracks;
use crate::storage::directory_check::DirectoryCheck;
use crate::storage::placement::{self, IfExists};

/// How often it is looked whether the disk of the output still answers, while the MP4 is moved there.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// So many looks in a row, of 4 s each, that have no answer: the disk hangs. A copy may take as long as it likes.
const UNANSWERED: u32 = 4;

/// Why there is no MP4.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mp4Error {
    #[error("stopped before it was done")]
    Stopped,
    #[error("{0}")]
    Failed(String),
}

fn failed(error: impl std::fmt::Display) -> Mp4Error {
    Mp4Error::Failed(error.to_string())
}

/// Makes `part` from the raw file; it is whole when this returns `Ok`, and compared with the raw file.
///
/// # Errors
/// See [`Mp4Error`].
pub async fn make(
    raw: &Path,
    part: &Path,
    options: &FfmpegOptions,
    tracks: Tracks,
    progress: &watch::Sender<FfmpegProgress>,
    cancel: &CancellationToken,
) -> Result<MediaInfo, Mp4Error> {
    let work = async {
        let content = ffprobe::measure(raw).await.map_err(failed)?;
        let arguments =
            if tracks.picture { FfmpegArguments::convert(options, &content) } else { FfmpegArguments::sound_only() };
        let task = FfmpegTask {
            pre_input: &arguments.pre_input,
            post_input: &arguments.post_input,
            input: raw,
            total: content.duration,
            output: part,
            nice: 0,
        };
        ffmpeg::run(task, progress, cancel).await.map_err(|error| match error {
            FfmpegError::Stopped => Mp4Error::Stopped,
            error => failed(error),
        })?;
        let made = ffprobe::measure(part).await.map_err(failed)?;
        if let Some(why) = &made.incomplete {
            return Err(failed(format_args!("it cannot be checked: {why}")));
        }
        verification::compare(&made, &arguments.expected(&content)).map_err(failed)?;
        decode_check::check_result(part, &made, raw, 0).await.map_err(failed)?;
        Ok(made)
    };
    // Dropped, its child processes are killed.
    cancel.run_until_cancelled(work).await.unwrap_or(Err(Mp4Error::Stopped))
}

/// Moves the MP4 into its place; its size in bytes.
///
/// # Errors
/// See [`Mp4Error`]; `part` is complete then, but a move that a disk holds which hangs may still be done.
pub async fn store(part: &Path, mp4: &Path, existing: IfExists, cancel: &CancellationToken) -> Result<u64, Mp4Error> {
    let dir = directory(mp4);
    let hangs = async {
        let mut unanswered = 0;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            match DirectoryCheck::start(&dir).answer().await {
                Ok(()) => unanswered = 0,
                Err(why) if unanswered + 1 == UNANSWERED => return format!("{} {why}", dir.display()),
                Err(_) => unanswered += 1,
            }
        }
    };
    tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(Mp4Error::Stopped),
        placed = placement::place(part, mp4, existing) => placed.map_err(failed)?,
        why = hangs => return Err(Mp4Error::Failed(why)),
    };
    let stored = mp4.to_owned();
    Ok(disk::end(&dir, move || stored.metadata().map_or(0, |file| file.len())).await.unwrap_or_default())
}
