//! Delays between retries.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

/// Delays that double up to a cap, each shortened by up to a quarter at random, so that nodes do not retry in step.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    next: Duration,
}

impl Backoff {
    #[must_use]
    pub const fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap, next: first }
    }

    /// The delay before the next attempt.
    pub fn wait(&mut self) -> Duration {
        let wait = self.next;
        self.next = wait.saturating_mul(2).min(self.cap);
        jittered(wait)
    }

    /// After a success: the next delay is the first one again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// Delays before failed work on a recording is retried: after the first failure, the second, and any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetrySchedule(pub [Duration; 3]);

impl RetrySchedule {
    /// Long enough to remount a share, repair a script, or let another node take over.
    pub const MINUTES: Self = Self([Duration::from_secs(30), Duration::from_secs(120), Duration::from_secs(300)]);

    /// The delay after this many failures, counted from 1.
    #[must_use]
    pub fn after(&self, failures: u64) -> Duration {
        let Self([first, second, other]) = *self;
        match failures {
            0 | 1 => first,
            2 => second,
            _ => other,
        }
    }
}

/// Between three quarters of `wait` and all of it, at random.
fn jittered(wait: Duration) -> Duration {
    // `RandomState` has random keys from the standard library, which is good enough here.
    let random = RandomState::new().build_hasher().finish() % 1000;
    wait.mul_f64(0.75 + 0.25 * f64::from(u16::try_from(random).unwrap_or(0)) / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap_and_restart() {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(3));
        for nominal in [500, 1000, 2000, 3000, 3000] {
            let wait = backoff.wait();
            let nominal = Duration::from_millis(nominal);
            assert!(wait <= nominal && wait >= nominal.mul_f64(0.75), "{wait:?} of {nominal:?}");
        }
        backoff.reset();
        assert!(backoff.wait() <= Duration::from_millis(500));
    }

    #[test]
    fn a_schedule_ends_with_its_longest_delay() {
        let waits = (0..=5).chain([u64::MAX]).map(|failures| RetrySchedule::MINUTES.after(failures).as_secs());
        assert_eq!(waits.collect::<Vec<_>>(), [30, 30, 120, 300, 300, 300, 300]);
    }
}
