//! Decides from counts of frames, taken once a second, whether an encoder is too slow: pure.

use std::collections::VecDeque;

/// The number of counts that are compared: the frames of some ten seconds.
const WINDOW: usize = 10;
/// More lost frames are not an accident, such as a disk that stood still for a moment: an encoder that is too slow loses
/// far more.
const ACCIDENT: u64 = 8;
/// The share of lost frames that is hardly seen.
const UNSEEN: f64 = 0.04;

/// The frames that an encoder had no room for.
#[derive(Clone, Debug, Default)]
pub struct FrameLoss {
    /// Frames sent and dropped since the start, oldest first.
    counts: VecDeque<(u64, u64)>,
}

impl FrameLoss {
    /// Takes the counts since the start. Returns how many frames were lost lately where that is too many.
    #[expect(clippy::cast_precision_loss, reason = "frames of ten seconds")]
    pub fn look(&mut self, sent: u64, dropped: u64) -> Option<u64> {
        self.counts.push_back((sent, dropped));
        if self.counts.len() > WINDOW {
            self.counts.pop_front();
        }
        let (sent_before, dropped_before) = self.counts.front()?;
        let lost = dropped.saturating_sub(*dropped_before);
        let due = sent.saturating_sub(*sent_before) + lost;
        (lost > ACCIDENT && lost as f64 > due as f64 * UNSEEN).then_some(lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accident_is_no_reason_and_a_steady_loss_is() {
        let mut loss = FrameLoss::default();
        assert_eq!((loss.look(0, 0), loss.look(25, 8)), (None, None));
        // What was lost longer ago does not count.
        for second in 2..20 {
            assert_eq!(loss.look(25 * second, 8), None);
        }
        let found: Vec<_> = (0..5).map(|second| loss.look(500 + 22 * second, 8 + 3 * second)).collect();
        assert_eq!(found, [None, None, None, None, Some(12)]);
    }

    #[test]
    fn a_share_that_nobody_sees_is_none() {
        let mut loss = FrameLoss::default();
        assert!((0..10).all(|second| loss.look(120 * second, second).is_none()));
    }
}
