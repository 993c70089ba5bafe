//! Whether a node's processors carry what its recordings take: pure.

use crate::fleet::cost::Costs;

/// What encoding a recording as its MP4 takes beyond the fast encoder, in processors: four webcams (docs/benchmarks.md).
const EXTRA: f64 = 0.15;
/// The share of the processors up to which one more recording is encoded as its MP4.
const ADMITTED: f64 = 0.75;
/// The share above which recordings are encoded fast again: what is left is for moments that take more.
const EXCEEDED: f64 = 0.85;

/// The processors that a node may use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProcessorRoom {
    pub cores: f64,
}

impl ProcessorRoom {
    /// Whether one of the `running` recordings, which is about to open, may be encoded as its MP4.
    #[must_use]
    pub fn has_room(&self, costs: &Costs, running: usize) -> bool {
        costs.expected(running) + EXTRA <= self.cores * ADMITTED
    }

    /// Whether the recordings take more than is good for them.
    #[must_use]
    pub fn is_exceeded(&self, costs: &Costs, running: usize) -> bool {
        costs.expected(running) > self.cores * EXCEEDED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: ProcessorRoom = ProcessorRoom { cores: 2.0 };

    #[test]
    fn as_many_are_encoded_as_their_mp4_as_leave_room_for_the_others() {
        let costs = |recordings: &[f64]| Costs { recordings: recordings.to_vec(), typical: 0.4 };
        // The one that is about to open is not measured yet.
        for (measured, room) in [(&[][..], true), (&[0.5], true), (&[0.5, 0.45], true), (&[0.5, 0.45, 0.4], false)] {
            assert_eq!(TWO.has_room(&costs(measured), measured.len() + 1), room, "{measured:?}");
        }
        for (measured, exceeded) in [(&[0.5, 0.5, 0.5][..], false), (&[0.6, 0.6, 0.6], true)] {
            assert_eq!(TWO.is_exceeded(&costs(measured), measured.len()), exceeded, "{measured:?}");
        }
    }

    #[test]
    fn what_is_admitted_is_not_ended_at_once() {
        let costs = Costs { recordings: vec![TWO.cores * ADMITTED - EXTRA], typical: 0.4 };
        assert!(
            TWO.has_room(&costs, 1) && !TWO.is_exceeded(&Costs { recordings: vec![TWO.cores * ADMITTED], ..costs }, 1)
        );
    }
}
