//! How good a capture is, for the summary of a recording: pure.

use std::time::Duration;

use serde::Serialize;

use crate::capture::capture_report::CaptureReport;

/// A part of a summary as JSON; units are in the names. Levels are `null` where there was only digital silence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct QualitySummary {
    /// Frames that ffmpeg was too slow for.
    pub frames_dropped: u64,
    /// Frames left out because they were captured too late.
    pub frames_late: u64,
    pub longest_freeze_s: f64,
    /// The black share of the duration, 0…1.
    pub black_share: f64,
    /// The silent share of the sound, 0…1.
    pub silence_share: f64,
    pub longest_silence_s: f64,
    pub peak_dbfs: Option<f64>,
    pub mean_dbfs: Option<f64>,
}

impl QualitySummary {
    #[must_use]
    pub fn of(report: &CaptureReport) -> Self {
        let CaptureReport { picture, sound, .. } = report;
        Self {
            frames_dropped: report.frames_dropped,
            frames_late: report.frames_late,
            longest_freeze_s: seconds(picture.longest_freeze),
            black_share: rounded(picture.black_share, 1e4),
            silence_share: rounded(sound.silence_share, 1e4),
            longest_silence_s: seconds(sound.longest_silence),
            peak_dbfs: sound.peak_dbfs.map(|level| rounded(level, 1e2)),
            mean_dbfs: sound.mean_dbfs.map(|level| rounded(level, 1e2)),
        }
    }
}

/// Seconds with three decimals, since a freeze may last a fraction of a second.
#[must_use]
pub fn seconds(duration: Duration) -> f64 {
    rounded(duration.as_secs_f64(), 1e3)
}

/// Rounded to as many decimals as `unit` has zeros.
#[must_use]
pub fn rounded(value: f64, unit: f64) -> f64 {
    // An empty sum and a negative value rounded to zero are -0.0.
    (value * unit).round() / unit + 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_never_negative() {
        let none: [f64; 0] = [];
        for nothing in [none.iter().sum(), -0.0, -0.0001] {
            assert_eq!(rounded(nothing, 1e3).to_string(), "0");
        }
    }
}
