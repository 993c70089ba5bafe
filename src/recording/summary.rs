//! The summary of a recording or broadcast as JSON: kept on this node for a month, and placed beside the raw file for
//! the scripts.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::capture::quality::{AudioStats, VideoStats};
use crate::capture::quality_summary::{QualitySummary, rounded, seconds};
use crate::capture::rig;
use crate::codes;
use crate::protocol::ids::{RecorderId, RecordingId};
use crate::protocol::notice::Outcome;
use crate::protocol::request::{Kind, RecordingInfo};
use crate::recording::gaps::Gap;
use crate::recording::journal::{FoundMedia, RecordingPart};
use crate::storage::files::{self, on_disk_within};
use crate::storage::journal::RECORD_LIMIT;
use crate::storage::main_path::MainPath;
use crate::storage::placement;

/// The directory in `state_dir`.
const DIR: &str = "summaries";
/// Operators look for the cause of a bad recording within days; a month of summaries takes a few MB.
const RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long a summary beside the raw file, which may be on a share, holds up the notice of the end.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// The content of the file. Units are in the names; levels are `null` where there was only digital silence.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RecordingSummary {
    pub recording_id: String,
    pub room_table_id: i64,
    pub room_id: String,
    pub room_sid: String,
    pub recorder_id: String,
    /// `recording` or `broadcast`.
    pub kind: &'static str,
    /// When media first flowed, RFC 3339; `null` where none did.
    pub started_at: Option<String>,
    /// When the capture ended, RFC 3339.
    pub ended_at: String,
    /// `success` or `failed`.
    pub outcome: &'static str,
    pub cause: Option<String>,
    /// The page's words when the meeting had ended; `null` where the recording ended otherwise.
    pub ended_by: Option<String>,
    pub duration_s: f64,
    /// The number of consecutive captures that the recording is made of.
    pub parts: u32,
    /// The gaps between them.
    pub gaps: Vec<Gap>,
    pub bytes: u64,
    pub frames_sent: u64,
    #[serde(flatten)]
    pub quality: QualitySummary,
    /// How often sound was missing, and the silence inserted for it.
    pub sound_gaps: u64,
    pub sound_gaps_ms: u64,
    /// How often sound was brought back in step with the picture, and how much was inserted and left out for it.
    pub offset_corrections: u64,
    pub offset_put_in_ms: u64,
    pub offset_left_out_ms: u64,
    /// The delay added to the picture of WebRTC calls to match their later sound, mean and maximum; `null` where no
    /// call had both.
    pub call_offset_mean_ms: Option<f64>,
    pub call_offset_max_ms: Option<f64>,
    /// Of a broadcast: pictures left out because its far end took too little, how often the far end was lost, and the
    /// lowest bit rate of the picture in kbit/s; `null` where it was never lowered.
    pub far_end_pictures_left_out: u64,
    pub far_end_losses: u64,
    pub far_end_lowest_kbit_per_s: Option<u32>,
}

/// Combines the reports of several parts. `lengths`: the measured length of each part, `None` for one without media. Of
/// a part during which the program died nothing is known but what was `found` on the disk.
#[must_use]
pub fn combine(
    parts: &[RecordingPart],
    lengths: &[Option<Duration>],
    found: &[Option<FoundMedia>],
) -> rig::CaptureReport {
    let mut all = rig::CaptureReport::default();
    let (mut black, mut silent, mut with_report, mut energy) = (0.0, 0.0, 0.0, 0.0);
    for (n, part) in parts.iter().enumerate() {
        let report = part.ended.as_ref().map(|end| end.report).unwrap_or_default();
        let length = lengths.get(n).copied().flatten();
        if !lengths.is_empty() && length.is_none() {
            continue;
        }
        let duration = length.unwrap_or(report.duration);
        let found = found.get(n).copied().flatten().filter(|_| part.ended.is_none());
        all.parts += 1;
        all.duration += duration;
        all.frames_sent += found.and_then(|found| found.frames).unwrap_or(report.frames_sent);
        all.frames_dropped += report.frames_dropped;
        all.frames_late += report.frames_late;
        all.bytes += found.map_or(report.bytes, |found| found.bytes);
        all.picture.longest_freeze = all.picture.longest_freeze.max(report.picture.longest_freeze);
        all.sound.longest_silence = all.sound.longest_silence.max(report.sound.longest_silence);
        all.sound.peak_dbfs = [all.sound.peak_dbfs, report.sound.peak_dbfs].into_iter().flatten().reduce(f64::max);
        all.corrections += report.corrections;
        all.call_offset += report.call_offset;
        all.far_end += report.far_end;
        // Shares and levels cover only the parts with a report.
        if part.ended.is_some() {
            let seconds = duration.as_secs_f64();
            with_report += seconds;
            black += report.picture.black_share * seconds;
            silent += report.sound.silence_share * seconds;
            energy += report.sound.mean_dbfs.map_or(0.0, |level| 10f64.powf(level / 10.0)) * seconds;
        }
    }
    if with_report > 0.0 {
        all.picture = VideoStats { black_share: black / with_report, ..all.picture };
        let mean_dbfs = (energy > 0.0).then(|| 10.0 * (energy / with_report).log10());
        all.sound = AudioStats { silence_share: silent / with_report, mean_dbfs, ..all.sound };
    }
    all
}

/// When a recording's capture began and ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    pub started: Option<SystemTime>,
    pub ended: SystemTime,
}

impl RecordingSummary {
    /// `outcome` must be free of secrets, as the server gets it.
    #[must_use]
    pub fn new(
        kind: Kind,
        info: &RecordingInfo,
        recorder: &RecorderId,
        times: Times,
        outcome: &Outcome,
        report: &rig::CaptureReport,
        gaps: Vec<Gap>,
    ) -> Self {
        let time = |at| humantime::format_rfc3339_millis(at).to_string();
        let corrections = report.corrections;
        let call = Some(report.call_offset).filter(|call| call.seconds > 0);
        Self {
            recording_id: info.recording_id.to_string(),
            room_table_id: info.room_table_id,
            room_id: info.room_id.to_string(),
            room_sid: info.room_sid.as_str().to_owned(),
            recorder_id: recorder.to_string(),
            kind: kind.as_str(),
            started_at: times.started.map(time),
            ended_at: time(times.ended),
            outcome: if outcome.is_ok() { "success" } else { "failed" },
            cause: outcome.clone().err(),
            ended_by: None,
            duration_s: seconds(report.duration),
            parts: report.parts,
            gaps,
            bytes: report.bytes,
            frames_sent: report.frames_sent,
            quality: QualitySummary::of(report),
            sound_gaps: corrections.gaps,
            sound_gaps_ms: corrections.gaps_ms,
            offset_corrections: corrections.offsets,
            offset_put_in_ms: corrections.put_in_ms,
            offset_left_out_ms: corrections.left_out_ms,
            call_offset_mean_ms: call.map(|call| rounded(call.mean_ms, 1e1)),
            call_offset_max_ms: call.map(|call| rounded(call.max_ms, 1e1)),
            far_end_pictures_left_out: report.far_end.pictures_left_out,
            far_end_losses: report.far_end.losses,
            far_end_lowest_kbit_per_s: report.far_end.lowest_bit_rate,
        }
    }

    /// Logs the recording's last line.
    pub fn log(&self) {
        tracing::info!(
            outcome = self.outcome,
            ended_by = self.ended_by,
            duration_s = self.duration_s,
            frames = self.frames_sent,
            frames_dropped = self.quality.frames_dropped,
            frames_late = self.quality.frames_late,
            longest_freeze_s = self.quality.longest_freeze_s,
            black_share = self.quality.black_share,
            silence_share = self.quality.silence_share,
            longest_silence_s = self.quality.longest_silence_s,
            peak_dbfs = self.quality.peak_dbfs,
            mean_dbfs = self.quality.mean_dbfs,
            sound_gaps = self.sound_gaps,
            sound_gaps_ms = self.sound_gaps_ms,
            offset_corrections = self.offset_corrections,
            call_offset_mean_ms = self.call_offset_mean_ms,
            call_offset_max_ms = self.call_offset_max_ms,
            parts = self.parts,
            gaps_s = rounded(self.gaps.iter().map(|gap| gap.length_s).sum(), 1e3),
            bytes = self.bytes,
            "ended"
        );
    }

    /// Writes the summary to `path`, atomically; waits up to [`WRITE_LIMIT`]. A failure is only logged: the recording
    /// matters more.
    pub async fn write(&self, path: PathBuf) {
        let to = path.clone();
        let written = match self.text() {
            Ok(text) => on_disk_within(WRITE_LIMIT, move || files::write(&to, &text)).await,
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            warn_unwritten(&path, &error);
        }
    }

    /// [`Self::write`] to a path in `main_path`.
    pub async fn write_in(&self, store: &MainPath, path: PathBuf) {
        let written = async { placement::write_in(store, &path, self.text()?).await };
        if let Err(error) = written.await {
            warn_unwritten(&path, &error);
        }
    }

    fn text(&self) -> std::io::Result<Vec<u8>> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        Ok(text)
    }
}

fn warn_unwritten(path: &Path, error: &std::io::Error) {
    tracing::warn!(
        code = %codes::SUMMARY_NOT_WRITTEN, path = %path.display(), %error,
        "the recording's summary cannot be written"
    );
}

/// The directory of the summaries that this node keeps.
#[derive(Clone, Debug)]
pub struct SummaryStore {
    dir: PathBuf,
}

impl SummaryStore {
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self { dir: state_dir.join(DIR) }
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.dir.clone()
    }

    /// The file of a recording's or broadcast's summary.
    #[must_use]
    pub fn path(&self, recording: &RecordingId) -> PathBuf {
        self.dir.join(format!("{recording}.json"))
    }

    /// Saves a summary, and removes those older than a month. Waits for the disk only a moment: the server is still to be
    /// told of the end.
    pub async fn save(&self, summary: &RecordingSummary, recording: &RecordingId) {
        let (path, dir, text) = (self.path(recording), self.dir.clone(), summary.text());
        let to = path.clone();
        let save = move || {
            files::create_private_dir(&dir)?;
            files::write(&to, &text?)?;
            if let Err(error) = remove_older(&dir, SystemTime::now()) {
                tracing::warn!(
                    code = %codes::SUMMARIES_NOT_REMOVED, dir = %dir.display(), %error,
                    "older summaries cannot be removed"
                );
            }
            Ok(())
        };
        if let Err(error) = on_disk_within(RECORD_LIMIT, save).await {
            warn_unwritten(&path, &error);
        }
    }
}

/// Removes the files of `dir` that were modified more than [`RETENTION`] before `now`.
fn remove_older(dir: &Path, now: SystemTime) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let age = now.duration_since(metadata.modified()?).unwrap_or_default();
        if metadata.is_file() && age > RETENTION {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::journal::PartEnd;

    #[test]
    fn reports_of_parts_are_combined_and_a_part_without_a_report_counts_its_duration() {
        let part = |report: Option<rig::CaptureReport>| RecordingPart {
            file: "x".into(),
            began_at: Some(0),
            ended: report.map(|report| PartEnd { at: 0, cause: None, report }),
            ..RecordingPart::default()
        };
        let seconds = Duration::from_secs;
        let one = rig::CaptureReport {
            duration: seconds(10),
            frames_sent: 100,
            picture: VideoStats { longest_freeze: seconds(2), black_share: 0.5 },
            sound: AudioStats { silence_share: 1.0, longest_silence: seconds(10), peak_dbfs: None, mean_dbfs: None },
            parts: 1,
            bytes: 7,
            ..rig::CaptureReport::default()
        };
        let two = rig::CaptureReport {
            duration: seconds(30),
            frames_sent: 200,
            sound: AudioStats { peak_dbfs: Some(-6.0), mean_dbfs: Some(-20.0), ..AudioStats::default() },
            ..one
        };
        let parts = [part(Some(one)), part(None), part(None), part(Some(two))];
        let lengths = [Some(seconds(10)), None, Some(seconds(5)), Some(seconds(30))];
        let all = combine(&parts, &lengths, &[]);
        assert_eq!((all.parts, all.duration, all.frames_sent, all.bytes), (3, seconds(45), 300, 14));
        // For a part without a report the values measured on disk count.
        let found = |frames| Some(FoundMedia { bytes: 1000, frames });
        let all = combine(&parts, &lengths, &[found(None), None, found(Some(50)), found(None)]);
        assert_eq!((all.frames_sent, all.bytes), (350, 1014));
        assert!((all.picture.black_share - 0.5).abs() < 1e-9 && (all.sound.silence_share - 0.25).abs() < 1e-9);
        assert_eq!((all.picture.longest_freeze, all.sound.peak_dbfs), (seconds(2), Some(-6.0)));
        // Three quarters of the energy of -20 dBFS.
        assert!((all.sound.mean_dbfs.unwrap() + 21.25).abs() < 0.01, "{:?}", all.sound.mean_dbfs);
        // A broadcast has no file to measure.
        assert_eq!(combine(&parts[..1], &[], &[]).duration, seconds(10));
    }

    #[test]
    fn only_what_is_older_than_a_month_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        for (name, days) in [("old.json", 31), ("young.json", 29), ("new.json", 0)] {
            let file = std::fs::File::create(dir.path().join(name)).unwrap();
            file.set_modified(now - Duration::from_secs(days * 24 * 3600)).unwrap();
        }
        remove_older(dir.path(), now).unwrap();
        let mut remaining: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        remaining.sort();
        assert_eq!(remaining, ["new.json", "young.json"]);
    }
}
