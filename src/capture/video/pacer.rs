//! When frames are sent: pure. Time is counted from the recording's start.

use std::time::Duration;

/// A still picture is repeated this often, so that the file never lacks its last second.
const STILL_INTERVAL: Duration = Duration::from_secs(1);
/// Two frames are at least this part of an interval apart, so that what is painted in one go is not sent in two.
const CLOSEST: u32 = 4;

/// When frames are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramePacing {
    /// When something changed, at most this many a second, at least one a second.
    Changes { framerate: u32 },
    /// This many a second, whatever happens.
    Constant { framerate: u32 },
}

/// Follows one recording.
///
/// At a changing pace a frame may come before its interval is over, if as much was saved before: a webcam of 25 frames
/// a second under a limit of 30 leaves some, and a slide that changes just after a frame of the webcam need not wait.
/// (The generic cell rate algorithm, ITU-T I.371, with a tolerance of one interval.)
#[derive(Clone, Debug)]
pub struct FramePacer {
    pace: FramePacing,
    interval: Duration,
    last: Duration,
    /// When the next frame would be due if all came regularly.
    regular: Duration,
}

impl FramePacer {
    /// The first frame is sent at `now`.
    #[must_use]
    pub fn begin(pace: FramePacing, now: Duration) -> Self {
        let (FramePacing::Changes { framerate } | FramePacing::Constant { framerate }) = pace;
        let interval = Duration::from_secs(1) / framerate.max(1);
        Self { pace, interval, last: now, regular: now + interval }
    }

    /// When the next frame is due, given whether anything has changed since the last one.
    #[must_use]
    pub fn due(&self, changed: bool) -> Duration {
        match self.pace {
            FramePacing::Constant { .. } => self.regular,
            FramePacing::Changes { .. } if !changed => self.last + STILL_INTERVAL,
            FramePacing::Changes { .. } => {
                self.regular.saturating_sub(self.interval).max(self.last + self.interval / CLOSEST)
            }
        }
    }

    /// A frame had its turn at `now`.
    pub fn passed(&mut self, now: Duration) {
        self.regular = match self.pace {
            // It keeps to its grid, unless it has fallen more than a frame behind.
            FramePacing::Constant { .. } if now < self.regular + self.interval => self.regular + self.interval,
            FramePacing::Constant { .. } => now + self.interval,
            FramePacing::Changes { .. } => self.regular.max(now) + self.interval,
        };
        self.last = now;
    }

    /// How many frames had their time between `due` and `now` without being sent.
    #[must_use]
    pub fn missed(&self, due: Duration, now: Duration) -> u64 {
        u64::try_from(now.saturating_sub(due).as_nanos() / self.interval.as_nanos().max(1)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: FramePacing = FramePacing::Changes { framerate: 25 };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// The frames of a picture that changes at these times, until `end`; the clock stands still meanwhile.
    fn frames(pace: FramePacing, changes: &[u64], end: u64) -> Vec<u64> {
        let mut pacer = FramePacer::begin(pace, ms(0));
        let (mut sent, mut is_new, mut next) = (vec![0], false, changes.iter().peekable());
        for now in 1..=end {
            is_new |= next.next_if(|at| **at == now).is_some();
            if pacer.due(is_new) <= ms(now) {
                pacer.passed(ms(now));
                sent.push(now);
                is_new = false;
            }
        }
        sent
    }

    #[test]
    fn a_still_picture_is_sent_once_a_second_and_a_change_at_once() {
        assert_eq!(frames(PACE, &[], 2_500), [0, 1_000, 2_000]);
        assert_eq!(frames(PACE, &[1_500], 3_000), [0, 1_000, 1_500, 2_500]);
    }

    #[test]
    fn a_change_just_after_another_does_not_wait_a_whole_interval() {
        // The second comes out of what was saved; a quarter of an interval is the closest. The third has to wait.
        assert_eq!(frames(PACE, &[500, 501, 515], 600), [0, 500, 510, 540]);
        // A webcam of 20 a second leaves enough for a slide every now and then.
        let webcam: Vec<u64> = (1..40).map(|i| i * 50).collect();
        let mut both = webcam.clone();
        both.push(1_012);
        both.sort_unstable();
        let mut expected = webcam.clone();
        expected.insert(0, 0);
        expected.insert(21, 1_012);
        assert_eq!(frames(PACE, &both, 1_999), expected);
    }

    #[test]
    fn what_changes_all_the_time_is_sent_at_the_framerate() {
        let always: Vec<u64> = (1..10_000).collect();
        let sent = frames(PACE, &always, 9_999);
        assert!((250..=252).contains(&sent.len()), "{}", sent.len());
        for window in sent.windows(27) {
            assert!(window[26] - window[0] >= 1_000, "{window:?}");
        }
    }

    #[test]
    fn a_constant_pace_keeps_to_its_grid() {
        let mut pacer = FramePacer::begin(FramePacing::Constant { framerate: 25 }, ms(0));
        assert_eq!((pacer.due(false), pacer.due(true)), (ms(40), ms(40)));
        pacer.passed(ms(47));
        assert_eq!(pacer.due(false), ms(80));
        // More than a frame behind: the grid begins anew.
        pacer.passed(ms(135));
        assert_eq!(pacer.due(false), ms(175));
    }

    #[test]
    fn frames_that_had_no_turn_are_counted() {
        let pacer = FramePacer::begin(PACE, ms(0));
        for (due, now, missed) in [(100, 90, 0), (100, 139, 0), (100, 140, 1), (100, 1_100, 25)] {
            assert_eq!(pacer.missed(ms(due), ms(now)), missed, "{due} {now}");
        }
    }
}
