//! Numbers that differ from run to run and are the same for the same seed.

use std::time::{SystemTime, UNIX_EPOCH};

/// xorshift64*.
pub struct Dice(u64);

impl Dice {
    /// Seeded by `PNM_SEED`, or the time; and the seed.
    pub fn new() -> (Self, u64) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
        let given = std::env::var("PNM_SEED").ok().map(|seed| seed.parse().expect("PNM_SEED is a number"));
        let seed = given.unwrap_or(u64::try_from(now).unwrap()).max(1);
        (Self::seeded(seed), seed)
    }

    /// 0 is the same as 1.
    pub fn seeded(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// Below `limit`.
    pub fn roll(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % limit
    }

    /// Below `limit`, in seconds.
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of a test")]
    pub fn seconds(&mut self, limit: f64) -> f64 {
        self.roll(1_000_000) as f64 / 1e6 * limit
    }
}
