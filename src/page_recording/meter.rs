//! The level of the sound since the last look, for a running recording: pure.

use std::time::Duration;

use crate::capture::capture_report::CaptureReport;

/// The quietest level that the meter shows, in dBFS.
const FLOOR: f64 = -60.0;
/// Number of places of the meter.
const WIDTH: u32 = 10;

/// Follows the level of a recording from one report to the next: each holds the mean of all sound up to then.
#[derive(Clone, Copy, Debug, Default)]
pub struct LevelMeter {
    duration: Duration,
    energy: f64,
    level: Option<f64>,
}

impl LevelMeter {
    /// The mean level of the sound since the last report, in dBFS; `None`: it was silent.
    pub fn look(&mut self, report: &CaptureReport) -> Option<f64> {
        let seconds = report.duration.as_secs_f64();
        let energy = report.sound.mean_dbfs.map_or(0.0, |level| 10f64.powf(level / 10.0)) * seconds;
        let since = seconds - self.duration.as_secs_f64();
        if since > 0.0 {
            let mean = (energy - self.energy) / since;
            self.level = Some(10.0 * mean.max(0.0).log10()).filter(|level| *level > FLOOR);
            (self.duration, self.energy) = (report.duration, energy);
        }
        self.level
    }
}

/// A level as a bar.
#[must_use]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the number of places")]
pub fn bar(level: Option<f64>) -> String {
    let share = level.map_or(0.0, |level| ((level - FLOOR) / -FLOOR).clamp(0.0, 1.0));
    let filled = (share * f64::from(WIDTH)).round() as usize;
    "|".repeat(filled) + &".".repeat((WIDTH as usize).saturating_sub(filled))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::quality::AudioStats;

    fn report(seconds: u64, mean_dbfs: Option<f64>) -> CaptureReport {
        let sound = AudioStats { mean_dbfs, ..AudioStats::default() };
        CaptureReport { duration: Duration::from_secs(seconds), sound, ..CaptureReport::default() }
    }

    #[test]
    fn the_level_is_that_since_the_last_look() {
        let mut meter = LevelMeter::default();
        let near = |found: Option<f64>, wanted: f64| found.is_some_and(|found| (found - wanted).abs() < 0.01);
        assert_eq!(meter.look(&report(0, None)), None);
        assert!(near(meter.look(&report(10, Some(-20.0))), -20.0));
        // As long again, silent: the mean of all is half the energy.
        assert_eq!(meter.look(&report(20, Some(-23.0103))), None);
        // A quarter of the time as loud as that would be 6 dB below.
        assert!(near(meter.look(&report(40, Some(-20.0))), -18.239), "{meter:?}");
        assert!(near(meter.look(&report(40, Some(-20.0))), -18.239), "nothing new");
    }

    #[test]
    fn the_bar_grows_with_the_level() {
        assert_eq!(bar(None), "..........");
        assert_eq!(bar(Some(-30.0)), "|||||.....");
        assert_eq!(bar(Some(0.0)), "||||||||||");
        assert_eq!(bar(Some(3.0)), "||||||||||");
    }
}
