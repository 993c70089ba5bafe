//! Decides when lost frames need a line in the log: pure; time is an argument.

use std::time::Duration;

/// Length of the windows in which lost frames are counted.
const WINDOW: Duration = Duration::from_secs(10);
/// Share of the due frames: 1 in 20 is visible as an occasional jerk.
const TOO_MANY: f64 = 0.05;

/// What to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropNotice {
    /// Of `due` frames in the last 10 s, `dropped` found no room in ffmpeg's queue, and `late` were missed by the
    /// capture.
    Losing { due: u64, dropped: u64, late: u64 },
    /// After [`DropNotice::Losing`]: frames are no longer lost.
    Over,
}

/// Frames counted since the recording's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameCounts {
    pub sent: u64,
    pub dropped: u64,
    pub late: u64,
}

/// Observes the lost frames of one recording.
#[derive(Clone, Debug, Default)]
pub struct DropMonitor {
    window: Duration,
    before: FrameCounts,
    losing: bool,
    /// Windows without a notice since the last one, and how many of them are to come before the next one.
    silent_windows: u32,
    silent_windows_wanted: u32,
}

impl DropMonitor {
    /// Takes the counts at `now` (since the start). While frames are lost, notices become rarer, up to one every 5 min.
    pub fn update(&mut self, now: Duration, frames: FrameCounts) -> Option<DropNotice> {
        if now.saturating_sub(self.window) < WINDOW {
            return None;
        }
        let before = std::mem::replace(&mut self.before, frames);
        self.window = now;
        let (dropped, late) = (frames.dropped - before.dropped, frames.late - before.late);
        let due = frames.sent - before.sent + dropped + late;
        #[expect(clippy::cast_precision_loss, reason = "frames of ten seconds")]
        let losing = (dropped + late) as f64 > due as f64 * TOO_MANY;
        if !losing {
            let was_losing = self.losing;
            *self = Self { window: now, before: frames, ..Self::default() };
            return was_losing.then_some(DropNotice::Over);
        }
        self.silent_windows += 1;
        if self.losing && self.silent_windows <= self.silent_windows_wanted {
            return None;
        }
        self.silent_windows_wanted = if self.losing { (self.silent_windows_wanted * 2).clamp(1, 32) } else { 1 };
        (self.losing, self.silent_windows) = (true, 0);
        Some(DropNotice::Losing { due, dropped, late })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten frames a second, of which `lost(second)` are dropped. Returns each notice with its time.
    fn run(seconds: u64, lost: impl Fn(u64) -> u64) -> Vec<(u64, DropNotice)> {
        let (mut monitor, mut frames, mut notices) = (DropMonitor::default(), FrameCounts::default(), Vec::new());
        for second in 1..=seconds {
            frames.sent += 10 - lost(second);
            frames.dropped += lost(second);
            notices.extend(monitor.update(Duration::from_secs(second), frames).map(|notice| (second, notice)));
        }
        notices
    }

    #[test]
    fn single_lost_frames_cause_no_notice() {
        assert_eq!(run(100, |second| u64::from(second % 2 == 0)), []);
    }

    #[test]
    fn lost_frames_are_noticed_at_once_then_rarely_and_so_is_their_end() {
        let notices = run(400, |second| if (31..=350).contains(&second) { 4 } else { 0 });
        let losing = DropNotice::Losing { due: 100, dropped: 40, late: 0 };
        let times: Vec<u64> =
            notices.iter().filter(|(_, notice)| *notice == losing).map(|(second, _)| *second).collect();
        assert_eq!(times, [40, 60, 90, 140, 230]);
        assert_eq!(notices.last(), Some(&(360, DropNotice::Over)));
        assert_eq!(notices.len(), 6);
    }
}
