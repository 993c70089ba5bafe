//! Takes the MP4 that the recording node has written while the meeting ran ([`crate::media::early_mp4`]). It is checked as
//! any other result; only measuring the raw file, and copying it, was done before.

use std::time::{Duration, Instant};

use crate::codes;
use crate::config::FfmpegOptions;
use crate::media::early_mp4::{EarlyMp4, EarlyMp4Note};
use crate::media::ffmpeg::FfmpegReport;
use crate::media::ffmpeg_arguments::FfmpegArguments;
use crate::media::final_encoding::FinalEncoding;
use crate::media::unfinished_file::UnfinishedFile;
use crate::storage::{detached, files};
use crate::telemetry::seconds;
use crate::transcode::failure::JobFailure;
use crate::transcode::plan::{JobPaths, ProducePlan};
use crate::transcode::result_writer::{FINISH, JobResult, ResultWriter};

/// How long the note is looked for.
const NOTE_LIMIT: Duration = Duration::from_secs(5);

/// The early MP4 of this raw file as the job's result. `None`: there is none, or none that is good.
pub(super) async fn take(writer: &ResultWriter<'_>, paths: &JobPaths) -> Result<Option<JobResult>, JobFailure> {
    let (early, raw) = (EarlyMp4::of(&paths.raw), paths.raw.clone());
    let from = early.mp4.clone();
    let read = files::on_disk_within(NOTE_LIMIT, move || Ok(early.read_note(&raw)));
    let Some(note) = writer.or_stop(read).await?.ok().flatten() else { return Ok(None) };
    // Waited for, however long it takes: done late, it would take the place of what ffmpeg has written meanwhile. Another
    // node that was handed the job too finds no early MP4 from here on.
    let to = paths.part.clone();
    let renamed = writer.or_stop(detached::run("early-mp4", move || std::fs::rename(from, to))).await?;
    if renamed.is_err() {
        return Ok(None);
    }
    let part = UnfinishedFile::new(paths.part.clone());
    let Some(copy) = same_copy(&writer.settings.ffmpeg, &note) else {
        tracing::info!(
            "the MP4 that was written while the meeting ran has other options than this node's: making another"
        );
        return Ok(None);
    };
    match accept(writer, paths, part, note, copy).await {
        Ok(result) => Ok(Some(result)),
        Err(JobFailure::Cause(why)) => {
            tracing::warn!(
                code = %codes::EARLY_MP4_UNUSABLE, cause = why,
                "the MP4 that was written while the meeting ran is no good: making another from the raw file"
            );
            Ok(None)
        }
        Err(failure) => Err(failure),
    }
}

/// The copy that this node would make of the raw file, where the early MP4 is that.
fn same_copy(options: &FfmpegOptions, note: &EarlyMp4Note) -> Option<FfmpegArguments> {
    let encoding = FinalEncoding::read(options).ok()?;
    encoding.tracks_of(&note.media).sound?;
    FfmpegArguments::finish(options, &note.media).filter(|_| encoding.container_options() == note.container)
}

async fn accept(
    writer: &ResultWriter<'_>,
    paths: &JobPaths,
    part: UnfinishedFile,
    note: EarlyMp4Note,
    arguments: FfmpegArguments,
) -> Result<JobResult, JobFailure> {
    let (raw, started) = (note.media, Instant::now());
    tracing::info!(
        how = "early", raw = %paths.raw.display(), raw_s = seconds(raw.duration),
        "checking the MP4 that was written while the meeting ran"
    );
    let made = writer.measured(part, FfmpegReport { cpu: None, wall: Duration::ZERO }).await?;
    let plan = ProducePlan { paths: paths.clone(), raw, arguments, replaces: None, seam: None };
    let (result, _) = writer.accept(FINISH, &plan, true, made).await?;
    Ok(JobResult { ran: Some(FfmpegReport { cpu: None, wall: started.elapsed() }), ..result })
}
