//! What is told of a finished job: its line in the log, and metrics.

use std::time::{Duration, SystemTime};

use crate::protocol::job::{Job, Work};
use crate::scripts::post_processing::{self, ScriptsReport};
use crate::storage::files;
use crate::telemetry::metrics::Metrics;
use crate::transcode::result_writer::JobResult;
use crate::transcode::summary;

/// How long the time of a recording's end is looked for, which is only counted.
const ENDED_LIMIT: Duration = Duration::from_secs(2);

/// Counts an MP4 that this node has made of a recording.
pub(super) async fn count(metrics: &Metrics, job: &Job, result: &JobResult) {
    let (Some(ran), Some(raw), Work::PostRecording { .. }) = (&result.ran, &result.raw, &job.work) else { return };
    metrics.transcoded(result.media.duration, ran.wall);
    let raw = raw.clone();
    let ended = files::on_disk_within(ENDED_LIMIT, move || Ok(summary::ended_at(&raw))).await.ok().flatten();
    if let Some(delay) = ended.and_then(|ended| SystemTime::now().duration_since(ended).ok()) {
        metrics.mp4_ready_after(delay);
    }
}

/// Logs the job's one summary line.
pub(super) fn log(result: &JobResult, scripts: &ScriptsReport, remuxed: Option<&str>, wall: Duration) {
    let duration = result.media.duration.as_secs_f64();
    let ran = result.ran.as_ref();
    tracing::info!(
        mp4 = %result.mp4.display(),
        duration_s = rounded(duration),
        size_mb = post_processing::megabytes(result.size),
        already_there = ran.is_none(),
        remuxed_because = remuxed,
        cpu_s = ran.and_then(|ran| ran.cpu).map(|cpu| rounded(cpu.as_secs_f64())),
        ffmpeg_s = ran.map(|ran| rounded(ran.wall.as_secs_f64())),
        wall_s = rounded(wall.as_secs_f64()),
        speed = ran.map(|ran| rounded(duration / ran.wall.as_secs_f64().max(0.001))),
        scripts_ok = scripts.succeeded,
        scripts_failed = scripts.failed.len(),
        "transcoding finished"
    );
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
