//! What is said of a recording at its end: numbers, and warnings of silence, a black or a frozen picture: pure.

use std::time::Duration;

use serde::Serialize;

use crate::capture::capture_report::CaptureReport;
use crate::capture::quality_summary::{QualitySummary, seconds};

/// Share of the time from which a black picture is warned of: a fade is no fault.
const BLACK: f64 = 0.9;
/// The same for silence: a page with a beep a second is silent for nine tenths of the time.
const SILENT: f64 = 0.98;
/// Share of the time that is silent at a stretch from which that is warned of, and the shortest such time.
const PAUSE: f64 = 0.5;
const PAUSE_TIME: Duration = Duration::from_secs(60);
/// Share of the time for which the picture stands still from which that is warned of, and the shortest such time: a page
/// of text is no fault.
const FROZEN: f64 = 0.8;
const FROZEN_TIME: Duration = Duration::from_secs(10);
/// Share of the frames that were lost from which that is warned of: one in a hundred is seen.
const LOST: f64 = 0.01;
/// Level in dBFS from which the sound is warned of as too loud: it was cut off.
const CLIPPED: f64 = -0.01;

/// Which tracks the output has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracks {
    pub picture: bool,
    pub sound: bool,
}

/// The summary as JSON; units are in the names. Levels are `null` where there was only digital silence.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PageSummary {
    /// The output; `null` where there is none.
    pub file: Option<String>,
    /// The raw file where it was kept.
    pub raw_file: Option<String>,
    /// Why the recording ended.
    pub ended_by: String,
    /// What failed; `null` where nothing did.
    pub error: Option<String>,
    /// The code of `error`, as `PNR-1234`.
    pub code: Option<String>,
    pub duration_s: f64,
    /// Bytes of the output.
    pub bytes: u64,
    pub width: u32,
    pub height: u32,
    pub frames: u64,
    #[serde(flatten)]
    pub quality: QualitySummary,
    pub warnings: Vec<String>,
    /// What `--hls` and `--rtmp` wrote; not there without them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hls: Option<OutletSummary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtmp: Option<OutletSummary>,
}

/// What became of an outlet, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutletSummary {
    /// The playlist, or the far end without its stream key.
    pub to: String,
    /// Whether it has all of the recording: of a broadcast, its end.
    pub complete: bool,
    /// How often it was begun anew.
    pub interruptions: u32,
    /// Why it is not complete.
    pub error: Option<String>,
    /// The code of `error`.
    pub code: Option<String>,
}

/// Why there is no summary, as JSON: nothing was recorded, or a second signal came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailureSummary {
    pub error: String,
    /// The code of `error`.
    pub code: String,
    /// The raw file where it was kept.
    pub raw_file: Option<String>,
}

impl PageSummary {
    /// What the capture has measured, without the output.
    #[must_use]
    pub fn new(report: &CaptureReport, size: (u32, u32), tracks: Tracks, ended_by: String) -> Self {
        Self {
            file: None,
            raw_file: None,
            ended_by,
            error: None,
            code: None,
            duration_s: seconds(report.duration),
            bytes: 0,
            width: if tracks.picture { size.0 } else { 0 },
            height: if tracks.picture { size.1 } else { 0 },
            frames: report.frames_sent,
            quality: QualitySummary::of(report),
            warnings: warnings(report, tracks),
            hls: None,
            rtmp: None,
        }
    }

    /// Notes a failure.
    pub fn fail(&mut self, failure: &FailureSummary) {
        let FailureSummary { error, code, raw_file } = failure.clone();
        (self.error, self.code, self.raw_file) = (Some(error), Some(code), raw_file);
    }

    /// The same for a reader: a line of the picture and one of the sound.
    #[must_use]
    pub fn lines(&self, tracks: Tracks) -> Vec<String> {
        let (mut lines, quality) = (Vec::new(), &self.quality);
        if tracks.picture {
            let lost = quality.frames_dropped + quality.frames_late;
            lines.push(format!(
                "picture: {}x{}, {} frames, {lost} lost, longest standstill {:.1} s, black {:.0} %",
                self.width,
                self.height,
                self.frames,
                quality.longest_freeze_s,
                quality.black_share * 100.0
            ));
        }
        if tracks.sound {
            let level = |level: Option<f64>| level.map_or("none".to_owned(), |level| format!("{level:.1} dBFS"));
            lines.push(format!(
                "sound:   peak {}, mean {}, silent {:.0} %, longest silence {:.1} s",
                level(quality.peak_dbfs),
                level(quality.mean_dbfs),
                quality.silence_share * 100.0,
                quality.longest_silence_s
            ));
        }
        lines
    }
}

/// What may be wrong with the recording, and what to look at.
#[must_use]
pub fn warnings(report: &CaptureReport, tracks: Tracks) -> Vec<String> {
    let mut warnings = Vec::new();
    let CaptureReport { picture, sound, .. } = report;
    let of_all = |time: Duration| time.as_secs_f64() / report.duration.as_secs_f64().max(0.001);
    if tracks.sound {
        if sound.peak_dbfs.is_none() {
            warnings.push(
                "there is no sound at all: does the page play any, or must something be clicked (--click)?".into(),
            );
        } else if sound.silence_share >= SILENT {
            warnings.push(format!("the sound is silent for {:.0} % of the time", sound.silence_share * 100.0));
        } else if sound.longest_silence >= PAUSE_TIME && of_all(sound.longest_silence) >= PAUSE {
            warnings.push(format!("the sound is silent for {:.0} s at a stretch", sound.longest_silence.as_secs_f64()));
        } else if sound.peak_dbfs.is_some_and(|peak| peak >= CLIPPED) {
            warnings.push("the sound reaches full scale: the page plays it so loud that it may be distorted".into());
        }
    }
    if tracks.picture {
        let still = picture.longest_freeze;
        if picture.black_share >= BLACK {
            warnings.push(format!("the picture is black for {:.0} % of the time", picture.black_share * 100.0));
        } else if still >= FROZEN_TIME && of_all(still) >= FROZEN {
            warnings.push(format!(
                "the picture stood still for {:.0} s: was it to move, or must something be clicked (--click)?",
                still.as_secs_f64()
            ));
        }
        let lost = report.frames_dropped + report.frames_late;
        if share(lost, report.frames_sent + lost) >= LOST {
            warnings.push(format!(
                "{lost} frames were lost: this machine is too slow for it; use a smaller --size or --fps"
            ));
        }
    }
    warnings
}

#[expect(clippy::cast_precision_loss, reason = "a share of frames is compared with one in a hundred")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Bytes for a reader.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
pub fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.0} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

/// A time for a reader: hours, minutes, seconds.
#[must_use]
pub fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::quality::{AudioStats, VideoStats};

    const BOTH: Tracks = Tracks { picture: true, sound: true };

    fn good() -> CaptureReport {
        CaptureReport {
            duration: Duration::from_secs(100),
            frames_sent: 3000,
            picture: VideoStats { longest_freeze: Duration::from_secs(2), black_share: 0.0 },
            sound: AudioStats { peak_dbfs: Some(-6.0), mean_dbfs: Some(-20.0), ..AudioStats::default() },
            ..CaptureReport::default()
        }
    }

    #[test]
    fn a_good_recording_is_warned_of_nothing_and_a_bad_one_of_each_fault() {
        assert_eq!(warnings(&good(), BOTH), [] as [String; 0]);
        let sound = |sound| CaptureReport { sound, ..good() };
        let picture = |longest_freeze, black_share| CaptureReport {
            picture: VideoStats { longest_freeze: Duration::from_secs(longest_freeze), black_share },
            ..good()
        };
        for (report, wanted) in [
            (sound(AudioStats { silence_share: 1.0, ..AudioStats::default() }), "no sound at all"),
            (sound(AudioStats { silence_share: 0.98, ..good().sound }), "silent for 98 %"),
            (sound(AudioStats { longest_silence: Duration::from_secs(60), ..good().sound }), "silent for 60 s at a"),
            (sound(AudioStats { peak_dbfs: Some(0.0), ..good().sound }), "full scale"),
            (picture(0, 1.0), "black for 100 %"),
            (picture(80, 0.0), "stood still for 80 s"),
            (CaptureReport { frames_dropped: 20, frames_late: 20, ..good() }, "40 frames were lost"),
        ] {
            let found = warnings(&report, BOTH);
            assert!(found.len() == 1 && found[0].contains(wanted), "{wanted}: {found:?}");
        }
        // Short standstills and single lost frames are no faults, nor is what is not in the output.
        assert_eq!(warnings(&picture(79, 0.0), BOTH), [] as [String; 0]);
        assert_eq!(warnings(&sound(AudioStats { silence_share: 0.97, ..good().sound }), BOTH), [] as [String; 0]);
        let short = CaptureReport { duration: Duration::from_secs(9), ..picture(9, 0.0) };
        assert_eq!(warnings(&short, BOTH), [] as [String; 0]);
        assert_eq!(warnings(&picture(0, 1.0), Tracks { picture: false, ..BOTH }), [] as [String; 0]);
        assert_eq!(warnings(&sound(AudioStats::default()), Tracks { sound: false, ..BOTH }), [] as [String; 0]);
    }

    #[test]
    fn the_lines_and_the_json_say_the_same() {
        let summary = PageSummary::new(&good(), (1280, 720), BOTH, "Ctrl-C".into());
        assert_eq!(
            summary.lines(BOTH),
            [
                "picture: 1280x720, 3000 frames, 0 lost, longest standstill 2.0 s, black 0 %",
                "sound:   peak -6.0 dBFS, mean -20.0 dBFS, silent 0 %, longest silence 0.0 s"
            ]
        );
        let json = serde_json::to_value(&summary).unwrap();
        assert_eq!((json["width"].as_u64(), json["peak_dbfs"].as_f64()), (Some(1280), Some(-6.0)));
        assert!(json.get("hls").is_none() && json.get("quality").is_none(), "{json}");
        let sound = Tracks { picture: false, sound: true };
        assert_eq!(PageSummary::new(&good(), (1280, 720), sound, String::new()).lines(sound).len(), 1);
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(
            [999, 12_345, 1_250_000, 3_210_000_000].map(bytes),
            ["999 B", "12 kB", "1.2 MB", "3.21 GB"].map(str::to_owned)
        );
        assert_eq!(clock(Duration::from_millis(3_723_900)), "01:02:03");
    }
}
