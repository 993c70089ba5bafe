//! When lost frames are worth a line in the log: pure; time is an argument.

use std::time::Duration;

/// Losses are looked at over so long.
const WINDOW: Duration = Duration::from_secs(10);
/// Share of the frames that were due: 1 in 20 is seen as a jerk now and then.
const TOO_MANY: f64 = 0.05;

/// What there is to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropNotice {
    /// Of `due` frames in the last 10 s, `dropped` found no room in ffmpeg and for `late` the capture itself was too late.
    Losing { due: u64, dropped: u64, late: u64 },
    /// After [`DropNotice::Losing`]: no longer.
    Over,
}

/// What has been counted since the recording's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameCounts {
    pub sent: u64,
    pub dropped: u64,
    pub late: u64,
}

/// Follows one recording.
#[derive(Clone, Debug, Default)]
pub struct DropMonitor {
    window: Duration,
    before: FrameCounts,
    losing: bool,
    /// Windows that were left out since the last line, and how many are to be.
    passed: u32,
    pause: u32,
}

impl DropMonitor {
    /// At `now` (since the start) so many frames have been counted. While it goes on, lines come ever more rarely, up to
    /// 5 min apart.
    pub fn look(&mut self, now: Duration, frames: FrameCounts) -> Option<DropNotice> {
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
        self.passed += 1;
        if self.losing && self.passed <= self.pause {
            return None;
        }
        self.pause = if self.losing { (self.pause * 2).clamp(1, 32) } else { 1 };
        (self.losing, self.passed) = (true, 0);
        Some(DropNotice::Losing { due, dropped, late })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten frames a second, of which `lost(second)` are dropped; what is said when.
    fn run(seconds: u64, lost: impl Fn(u64) -> u64) -> Vec<(u64, DropNotice)> {
        let (mut losses, mut frames, mut said) = (DropMonitor::default(), FrameCounts::default(), Vec::new());
        for second in 1..=seconds {
            frames.sent += 10 - lost(second);
            frames.dropped += lost(second);
            said.extend(losses.look(Duration::from_secs(second), frames).map(|news| (second, news)));
        }
        said
    }

    #[test]
    fn a_frame_now_and_then_is_not_worth_a_line() {
        assert_eq!(run(100, |second| u64::from(second % 2 == 0)), []);
    }

    #[test]
    fn losses_are_told_at_once_then_ever_more_rarely_and_their_end_is_told() {
        let said = run(400, |second| if (31..=350).contains(&second) { 4 } else { 0 });
        let losing = DropNotice::Losing { due: 100, dropped: 40, late: 0 };
        let times: Vec<u64> = said.iter().filter(|(_, news)| *news == losing).map(|(second, _)| *second).collect();
        assert_eq!(times, [40, 60, 90, 140, 230]);
        assert_eq!(said.last(), Some(&(360, DropNotice::Over)));
        assert_eq!(said.len(), 6);
    }
}
