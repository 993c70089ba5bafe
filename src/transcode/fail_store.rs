//! What cannot be transcoded, on its way into the store of `storage.fail`: the raw file, what ffmpeg and ffprobe say of it, and
//! the summary of its recording. The raw file stays where it is as well.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::codes;
use crate::media::ffprobe_report;
use crate::protocol::job::{Job, Work};
use crate::storage::files;
use crate::store::record::{Report, UploadRecord, key_for};
use crate::telemetry::redact;
use crate::transcode::input_files::{self, InputQuery};
use crate::transcode::job::JobOutcome;
use crate::transcode::journal::JobEntry;
use crate::transcode::settings::TranscodeSettings;
use crate::transcode::summary;

/// Time limits: the job is over, and holds its place in the queue meanwhile.
const FIND_LIMIT: Duration = Duration::from_secs(20);
const PROBE_LIMIT: Duration = Duration::from_secs(20);
const SUMMARY_LIMIT: Duration = Duration::from_secs(5);
/// The longest report of ffprobe that is kept in the record of the upload, in bytes.
const LONGEST_REPORT: usize = 1 << 20;

/// Has the raw file copied where the job ends without an MP4, or with one that was only remuxed. Once for each end of a job.
pub(super) async fn copy_raw(
    job: &Job,
    entry: &JobEntry,
    settings: &TranscodeSettings,
    outcome: &JobOutcome,
    cause: Option<&str>,
) {
    let steps = entry.record().steps;
    let cause = match outcome {
        JobOutcome::GivenUp => cause.map(str::to_owned),
        JobOutcome::Done(files) if files.remuxed => steps.remuxed,
        _ => return,
    };
    let Some(uploads) = settings.uploads.as_ref().filter(|_| steps.fail_store.is_none()) else { return };
    let Some(url) = &uploads.storage().fail else { return };
    // The files of a merge are MP4s of other recordings.
    let Work::PostRecording { dir, file_name, .. } = &job.work else { return };
    let raw = match find(job, settings, dir, file_name.as_str()).await {
        Ok(raw) => raw,
        Err(why) => {
            tracing::warn!(
                code = %codes::RAW_NOT_COPIED, dir = %dir.display(), why,
                "a raw file that could not be transcoded is not copied into the store of storage.fail: it is not found here"
            );
            return;
        }
    };
    let info = &job.info;
    let home = key_for(&format!("{}/{}", raw.dir.display(), info.recording_id));
    let reports = reports(&raw.path, &home, cause.as_deref(), steps.last_words.as_deref()).await;
    let key = format!("{home}/{}", file_name.as_str());
    let record = UploadRecord::raw(&info.recording_id, &info.room_id, &raw.path, &key, &url.to_string(), reports);
    uploads.add(record).await;
    let at = url.object(&home);
    tracing::info!(raw = %raw.path.display(), store = at, "the raw file that could not be transcoded is copied into the store");
    entry.update(move |record| record.steps.fail_store = Some(at)).await;
}

/// A raw file that is there.
struct FoundRaw {
    path: PathBuf,
    /// Its directory, relative to `main_path`.
    dir: PathBuf,
}

async fn find(job: &Job, settings: &TranscodeSettings, dir: &Path, name: &str) -> Result<FoundRaw, String> {
    let query = InputQuery { dir, raw_name: name, recording_id: &job.info.recording_id, fetched: None };
    let found = tokio::time::timeout(FIND_LIMIT, input_files::find(&settings.main_path, query)).await;
    let found = found.map_err(|_| "main_path does not answer".to_owned())?.map_err(|error| error.to_string())?;
    let raw = found.raw.ok_or_else(|| format!("there is no {}", found.raw_path.display()))?;
    Ok(FoundRaw { path: raw.path, dir: found.dir })
}

/// What is known of the raw file; `home`: the directory of its object.
async fn reports(raw: &Path, home: &str, cause: Option<&str>, last_words: Option<&str>) -> Vec<Report> {
    let said: Vec<&str> = last_words.into_iter().chain(cause).collect();
    let ffprobe = tokio::time::timeout(PROBE_LIMIT, ffprobe_report::report(raw)).await;
    let ffprobe = match ffprobe {
        Ok(Ok(report)) if report.len() <= LONGEST_REPORT => report,
        Ok(Ok(_)) => unknown("its report is too long"),
        Ok(Err(error)) => unknown(&error.to_string()),
        Err(_) => unknown(&format!("it has said nothing within {} s", PROBE_LIMIT.as_secs())),
    };
    let beside = raw.to_owned();
    let summary = files::on_disk_within(SUMMARY_LIMIT, move || summary::text(&beside)).await.ok().flatten();
    let texts =
        [("ffmpeg.txt", Some(said.join("\n\n") + "\n")), ("ffprobe.json", Some(ffprobe)), ("summary.json", summary)];
    let report = |(name, text): (&str, Option<String>)| {
        Some(Report { key: format!("{home}/{name}"), text: redact::scrub(&text?).into_owned() })
    };
    texts.into_iter().filter_map(report).collect()
}

/// The report of an ffprobe that gave none.
fn unknown(why: &str) -> String {
    format!("{:#}\n", serde_json::json!({"error": {"string": why}}))
}
