//! What the recordings were like for some seconds, in which a number of them ran. Pure.

use std::time::Duration;

use serde::Serialize;

use crate::capture::capture_report::CaptureReport;
use crate::fleet::recording_needs::RecordingNeeds;

/// A recording that loses this share of its frames does not hold.
const LOST_LIMIT: f64 = 0.01;
/// Nor one whose sound is missing for so long in all: two of the 20 ms in which its level is measured.
const MISSING_SOUND_LIMIT: Duration = Duration::from_millis(40);
/// Nor one that has fewer frames than this share of what it should have: Chrome is too slow to draw them.
const PACE_LIMIT: f64 = 0.9;
/// Frames that one may have less by chance, of those few that slides have.
const PACE_SLACK: f64 = 2.0;
/// Frames lost up to here may have been lost by a moment in which something else ran: it is looked at again.
const DOUBT_LIMIT: f64 = 0.05;

/// The time in which a number of recordings ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Window {
    /// How many ran.
    pub recordings: u32,
    /// Share of its frames, 0…1, of the recording that lost the most.
    pub frames_lost: f64,
    /// Milliseconds of the recording whose sound was missing the longest.
    pub missing_sound_ms: u64,
    /// Frames of the slowest recording over those that it should have, at most 1.
    pub pace: f64,
    /// Share of the processors that were busy, 0…1.
    pub busy: f64,
    pub needs: RecordingNeeds,
}

impl Window {
    /// Whether all recordings were as they should be.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.frames_lost < LOST_LIMIT
            && self.missing_sound_ms < duration_ms(MISSING_SOUND_LIMIT)
            && self.pace >= PACE_LIMIT
    }

    /// Whether it does not hold, but so little that something else may have been the cause.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        !self.holds() && self.frames_lost < DOUBT_LIMIT && self.pace >= PACE_LIMIT
    }

    /// What was wrong, for people.
    #[must_use]
    pub fn fault(&self) -> String {
        if self.frames_lost >= LOST_LIMIT {
            format!("{:.0} % of the frames", (self.frames_lost * 100.0).max(1.0))
        } else if self.missing_sound_ms >= duration_ms(MISSING_SOUND_LIMIT) {
            format!("{} ms of sound", self.missing_sound_ms)
        } else if self.pace < PACE_LIMIT {
            format!("{:.0} % of the page's frames", (1.0 - self.pace) * 100.0)
        } else {
            "nothing".to_owned()
        }
    }
}

fn duration_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What one recording did between two reports.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    pub frames_sent: u64,
    pub frames_lost: u64,
    pub missing_sound: Duration,
    pub bytes: u64,
}

impl Progress {
    #[must_use]
    pub fn between(before: &CaptureReport, after: &CaptureReport) -> Self {
        let lost = |report: &CaptureReport| report.frames_dropped + report.frames_late;
        let silence = |report: &CaptureReport| report.duration.mul_f64(report.sound.silence_share.clamp(0.0, 1.0));
        let put_in = after.corrections.gaps_ms.saturating_sub(before.corrections.gaps_ms);
        Self {
            frames_sent: after.frames_sent.saturating_sub(before.frames_sent),
            frames_lost: lost(after).saturating_sub(lost(before)),
            // The page sounds all the time: where there is silence, something was missing.
            missing_sound: silence(after).saturating_sub(silence(before)).max(Duration::from_millis(put_in)),
            bytes: after.bytes.saturating_sub(before.bytes),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "frames of seconds")]
    fn lost_share(&self) -> f64 {
        self.frames_lost as f64 / (self.frames_sent + self.frames_lost).max(1) as f64
    }
}

/// The window of `progress`, one of each recording. `expected`: the frames that one should have in as long a time.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "frames of seconds")]
pub fn window(progress: &[Progress], expected: u64, busy: f64, needs: RecordingNeeds) -> Window {
    let worst = |of: fn(&Progress) -> f64| progress.iter().map(of).fold(0.0, f64::max);
    let slowest = progress.iter().map(|one| one.frames_sent + one.frames_lost).min().unwrap_or_default();
    let pace = ((slowest as f64 + PACE_SLACK) / expected.max(1) as f64).min(1.0);
    let missing = progress.iter().map(|one| one.missing_sound).max().unwrap_or_default();
    Window {
        recordings: u32::try_from(progress.len()).unwrap_or(u32::MAX),
        frames_lost: worst(Progress::lost_share),
        missing_sound_ms: duration_ms(missing),
        pace,
        busy,
        needs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::audio::av_sync::SyncCorrections;
    use crate::capture::quality::AudioStats;

    fn report(seconds: u64, sent: u64, dropped: u64, late: u64, silence_share: f64) -> CaptureReport {
        CaptureReport {
            duration: Duration::from_secs(seconds),
            frames_sent: sent,
            frames_dropped: dropped,
            frames_late: late,
            sound: AudioStats { silence_share, ..AudioStats::default() },
            ..CaptureReport::default()
        }
    }

    #[test]
    fn only_what_was_lost_in_the_window_counts() {
        // The first seconds lost much, as those of a rig that opens do.
        let (before, after) = (report(10, 250, 20, 5, 0.1), report(15, 375, 21, 6, 0.1 * 10.0 / 15.0));
        let progress = Progress::between(&before, &after);
        assert_eq!((progress.frames_sent, progress.frames_lost), (125, 2));
        assert!(progress.missing_sound < Duration::from_millis(1), "{progress:?}");
        let mut gap = after;
        gap.corrections = SyncCorrections { gaps: 1, gaps_ms: 70, ..SyncCorrections::default() };
        assert_eq!(Progress::between(&before, &gap).missing_sound, Duration::from_millis(70));
        // A quarter of a second of silence within the five.
        let silent = report(15, 375, 20, 5, 1.25 / 15.0);
        let missing = Progress::between(&before, &silent).missing_sound;
        assert!(missing.abs_diff(Duration::from_millis(250)) < Duration::from_millis(2), "{missing:?}");
    }

    #[test]
    fn the_worst_recording_decides() {
        let good = Progress { frames_sent: 125, ..Progress::default() };
        let of = |worst: Progress| window(&[good, worst, good], 125, 0.5, RecordingNeeds::default());
        assert!(of(good).holds() && of(good).recordings == 3);
        let loses = of(Progress { frames_lost: 2, ..good });
        assert!(!loses.holds() && loses.is_doubtful() && loses.fault() == "2 % of the frames", "{loses:?}");
        assert!(of(Progress { frames_lost: 1, ..good }).holds());
        let much = of(Progress { frames_lost: 60, ..good });
        assert!(!much.holds() && !much.is_doubtful(), "{much:?}");
        let gap = of(Progress { missing_sound: Duration::from_millis(60), ..good });
        assert!(!gap.holds() && gap.fault() == "60 ms of sound", "{gap:?}");
        let slow = of(Progress { frames_sent: 98, ..good });
        assert!(!slow.holds() && !slow.is_doubtful() && slow.fault() == "20 % of the page's frames", "{slow:?}");
        // Slides have five or six frames in a window.
        let few = Progress { frames_sent: 5, ..Progress::default() };
        assert!(window(&[few], 6, 0.1, RecordingNeeds::default()).holds());
        assert!(!window(&[few], 125, 0.1, RecordingNeeds::default()).holds());
    }
}
