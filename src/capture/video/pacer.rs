//! Decides when frames are sent: pure. Time is counted from the recording's start.

use std::time::Duration;

/// A still frame is repeated this often, so that the file never lacks its last second.
const STILL_INTERVAL: Duration = Duration::from_secs(1);
/// Within this time come the frames that an encoder which looks ahead waits for: a crash loses as much.
const AHEAD_LIMIT: Duration = Duration::from_millis(1500);
/// Two frames are at least this fraction of an interval apart, so that one repaint is not sent as two frames.
const CLOSEST: u32 = 4;

/// When frames are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramePacing {
    /// At changes: at most `framerate` and at least one per second. `ahead`: how many frames the encoder waits for
    /// before it gives one. These come within 1.5 s, however still the picture is, and at once at the start.
    Changes { framerate: u32, ahead: u32 },
    /// At a constant rate of `framerate` per second.
    Constant { framerate: u32 },
}

/// Paces the frames of one recording.
///
/// With [`FramePacing::Changes`] a frame may be sent before its interval is over, if earlier frames came later than
/// allowed: a webcam of 25 fps under a limit of 30 leaves room, so a slide that changes just after a webcam frame need
/// not wait. (The generic cell rate algorithm, ITU-T I.371, with a tolerance of one interval.)
#[derive(Clone, Debug)]
pub struct FramePacer {
    pacing: FramePacing,
    interval: Duration,
    last: Duration,
    /// When the next frame would be due in a regular sequence.
    regular: Duration,
    /// How many frames an encoder that looks ahead still waits for before it gives its first one.
    first: u32,
}

impl FramePacer {
    /// The first frame is sent at `now`.
    #[must_use]
    pub fn begin(pacing: FramePacing, now: Duration) -> Self {
        let (framerate, first) = match pacing {
            FramePacing::Changes { framerate, ahead } => (framerate, ahead),
            FramePacing::Constant { framerate } => (framerate, 0),
        };
        let interval = Duration::from_secs(1) / framerate.max(1);
        Self { pacing, interval, last: now, regular: now + interval, first }
    }

    /// When the next frame is due; `changed`: whether anything has changed since the last one.
    #[must_use]
    pub fn due(&self, changed: bool) -> Duration {
        match self.pacing {
            FramePacing::Constant { .. } => self.regular,
            FramePacing::Changes { .. } if !changed && self.first > 0 => self.regular,
            FramePacing::Changes { ahead, .. } if !changed => {
                self.last + STILL_INTERVAL.min(AHEAD_LIMIT / ahead.max(1)).max(self.interval)
            }
            FramePacing::Changes { .. } => {
                self.regular.saturating_sub(self.interval).max(self.last + self.interval / CLOSEST)
            }
        }
    }

    /// A frame was due at `now`, whether or not it was sent.
    pub fn advance(&mut self, now: Duration) {
        self.regular = match self.pacing {
            // Keeps its grid unless it is more than a frame late.
            FramePacing::Constant { .. } if now < self.regular + self.interval => self.regular + self.interval,
            FramePacing::Constant { .. } => now + self.interval,
            FramePacing::Changes { .. } => self.regular.max(now) + self.interval,
        };
        self.last = now;
        self.first = self.first.saturating_sub(1);
    }

    /// How many frames were due between `due` and `now` without being sent.
    #[must_use]
    pub fn missed(&self, due: Duration, now: Duration) -> u64 {
        u64::try_from(now.saturating_sub(due).as_nanos() / self.interval.as_nanos().max(1)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: FramePacing = FramePacing::Changes { framerate: 25, ahead: 0 };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// The send times of a picture that changes at `changes`, until `end`, with an exact clock.
    fn frames(pacing: FramePacing, changes: &[u64], end: u64) -> Vec<u64> {
        let mut pacer = FramePacer::begin(pacing, ms(0));
        let (mut sent, mut is_new, mut next) = (vec![0], false, changes.iter().peekable());
        for now in 1..=end {
            is_new |= next.next_if(|at| **at == now).is_some();
            if pacer.due(is_new) <= ms(now) {
                pacer.advance(ms(now));
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
    fn an_encoder_that_looks_ahead_gets_its_frames_in_time_and_the_first_ones_at_once() {
        let ahead = |ahead| FramePacing::Changes { framerate: 25, ahead };
        assert_eq!(frames(ahead(4), &[], 1_100), [0, 40, 80, 120, 160, 535, 910]);
        assert_eq!(frames(ahead(1), &[], 2_500), [0, 40, 1_040, 2_040]);
        // Never faster than the capture.
        assert_eq!(frames(ahead(100), &[], 200), [0, 40, 80, 120, 160, 200]);
    }

    #[test]
    fn a_change_just_after_another_does_not_wait_a_whole_interval() {
        // The second frame uses room left by earlier ones, at the minimum distance of a quarter interval. The third
        // must wait.
        assert_eq!(frames(PACE, &[500, 501, 515], 600), [0, 500, 510, 540]);
        // A webcam of 20 fps leaves room for an occasional slide.
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
    fn constant_pacing_keeps_its_grid() {
        let mut pacer = FramePacer::begin(FramePacing::Constant { framerate: 25 }, ms(0));
        assert_eq!((pacer.due(false), pacer.due(true)), (ms(40), ms(40)));
        pacer.advance(ms(47));
        assert_eq!(pacer.due(false), ms(80));
        // More than a frame late: the grid starts anew.
        pacer.advance(ms(135));
        assert_eq!(pacer.due(false), ms(175));
    }

    #[test]
    fn missed_frames_are_counted() {
        let pacer = FramePacer::begin(PACE, ms(0));
        for (due, now, missed) in [(100, 90, 0), (100, 139, 0), (100, 140, 1), (100, 1_100, 25)] {
            assert_eq!(pacer.missed(ms(due), ms(now)), missed, "{due} {now}");
        }
    }
}
