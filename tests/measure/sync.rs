//! Whether sound and picture are in step.

use std::fmt;

/// Beep and flash belong together if they are not further apart than this (seconds); they come once a second.
const REACH: f64 = 0.45;

/// Beeps against flashes.
#[derive(Debug, Clone)]
pub struct Sync {
    /// Beep minus flash in milliseconds, in order: positive where the sound is late.
    pub offsets: Vec<f64>,
    pub beeps: usize,
    pub flashes: usize,
    /// How many of each there should have been.
    pub expected: usize,
}

/// Puts every beep with the flash nearest to it.
pub fn pair(beeps: &[f64], flashes: &[f64], expected: usize) -> Sync {
    let offsets = beeps.iter().filter_map(|beep| {
        let offset = flashes.iter().map(|flash| beep - flash).min_by(|a, b| a.abs().total_cmp(&b.abs()))?;
        (offset.abs() <= REACH).then_some(offset * 1000.0)
    });
    Sync { offsets: offsets.collect(), beeps: beeps.len(), flashes: flashes.len(), expected }
}

/// How many beeps a film of `duration` seconds should have, given that they come once a second from the first one that was found.
/// Chrome may take seconds to open the sound card, so the start of the film says nothing.
pub fn expected(beeps: &[f64], duration: f64) -> usize {
    let (Some(first), Some(last)) = (beeps.first(), beeps.last()) else { return duration as usize };
    // One that sets in within the last tenth need not be there, but may; a beep may be some milliseconds off its second.
    let must = (duration - 0.1 - first).max(0.0) as usize;
    must.max((last - first).round() as usize) + 1
}

impl Sync {
    /// Milliseconds; NaN without a pair.
    pub fn mean(&self) -> f64 {
        self.offsets.iter().sum::<f64>() / self.offsets.len() as f64
    }

    /// The offset furthest from zero, in milliseconds.
    pub fn worst(&self) -> f64 {
        self.offsets.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or(f64::NAN)
    }

    /// Share of the expected beeps that were found, 0 to 1.
    pub fn found(&self) -> f64 {
        (self.beeps as f64 / self.expected.max(1) as f64).min(1.0)
    }
}

impl fmt::Display for Sync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "beep − flash: mean {:+.1} ms, worst {:+.1} ms over {} pairs; beeps found {}/{}, flashes {}",
            self.mean(),
            self.worst(),
            self.offsets.len(),
            self.beeps,
            self.expected,
            self.flashes
        )
    }
}
