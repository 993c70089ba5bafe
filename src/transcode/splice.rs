//! Encodes the tail of a raw file's picture by a [`SplicePlan`], and holds it beside the unfinished MP4 until that is
//! made. Nothing of it is noted on disk: an attempt begins with removing the files of the one before.

use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::media::ffmpeg::{self, FfmpegReport, FfmpegTask};
use crate::media::ffprobe;
use crate::media::progress::FfmpegProgress;
use crate::media::unfinished_file::UnfinishedFile;
use crate::storage::{detached, disk_space};
use crate::telemetry::seconds;
use crate::transcode::failure::JobFailure;
use crate::transcode::plan::ProducePlan;
use crate::transcode::splice_plan::{Seam, SpliceFiles, SplicePlan};

/// Time limit for the free space, of a share that may hang: then it is unknown.
const SPACE_DEADLINE: Duration = Duration::from_secs(4);
/// The tail's container: it has the times of a raw file, and its parameters in the same form.
const CONTAINER: &str = "matroska";

/// An encoded tail; its files are removed when this is dropped.
pub(super) struct Tail {
    pub seam: Seam,
    pub ran: FfmpegReport,
    _files: [UnfinishedFile; 2],
}

/// Removes what a killed attempt has left.
pub(super) fn remove_files(part: &Path) {
    drop(unfinished(SpliceFiles::of(part)));
}

/// Encodes the tail of the raw file of `job`, and writes the list of beginning and tail. Nothing but one frame is
/// encoded where this ffmpeg gives the tail other parameters than the beginning has.
pub(super) async fn encode_tail(
    splice: &SplicePlan,
    job: &ProducePlan,
    nice: u8,
    progress: &watch::Sender<FfmpegProgress>,
    cancel: &CancellationToken,
) -> Result<Tail, JobFailure> {
    let files = unfinished(splice.files.clone());
    let [tail, list] = &files;
    splice.check_space(free(tail.path()).await).map_err(JobFailure::of)?;
    let run = async |post_input: &[String]| {
        let task = FfmpegTask {
            pre_input: &splice.tail.pre_input,
            post_input,
            input: &job.paths.raw,
            total: job.raw.duration.saturating_sub(splice.span.until),
            output: tail.path(),
            nice,
        };
        let ran = ffmpeg::run_into(CONTAINER, task, progress, cancel).await.map_err(|error| match error {
            ffmpeg::FfmpegError::Stopped => JobFailure::Stopped,
            error => JobFailure::of(error),
        })?;
        let measured = cancel.run_until_cancelled(ffprobe::measure(tail.path())).await.ok_or(JobFailure::Stopped)?;
        Ok::<_, JobFailure>((ran, measured.map_err(JobFailure::of)?))
    };
    let one_frame = ["-frames:v", "1"].map(str::to_owned);
    let (_, first) = run(&[splice.tail.post_input.as_slice(), &one_frame].concat()).await?;
    splice.check_parameters(&first).map_err(JobFailure::of)?;
    tracing::info!(
        copied_s = seconds(splice.span.until),
        encoded_s = seconds(job.raw.duration.saturating_sub(splice.span.until)),
        "the beginning of the picture was encoded while it was recorded: encoding the rest"
    );
    let (ran, measured) = run(&splice.tail.post_input).await?;
    splice.check_parameters(&measured).map_err(JobFailure::of)?;
    if let Some(why) = &measured.incomplete {
        return Err(JobFailure::Cause(format!("the tail of the picture cannot be checked: {why}")));
    }
    let seam = splice.seam(&measured).map_err(JobFailure::of)?;
    let bytes = splice.list(&job.paths.raw).map_err(JobFailure::of)?;
    tokio::fs::write(list.path(), bytes).await.map_err(JobFailure::of)?;
    Ok(Tail { seam, ran, _files: files })
}

fn unfinished(SpliceFiles { tail, list }: SpliceFiles) -> [UnfinishedFile; 2] {
    [tail, list].map(UnfinishedFile::new)
}

/// Bytes that are free where this file goes; `None`: unknown.
async fn free(path: &Path) -> Option<u64> {
    let dir = path.parent()?.to_owned();
    let look = detached::run("free-space", move || disk_space::free(&dir));
    Some(tokio::time::timeout(SPACE_DEADLINE, look).await.ok()?.ok()?.free)
}
