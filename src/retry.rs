//! How long to wait between tries.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

/// Waits that double up to a cap, each shortened by up to a quarter at random, so that a fleet does not try in step.
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

    /// The wait before the next try.
    pub fn wait(&mut self) -> Duration {
        let wait = self.next;
        self.next = wait.saturating_mul(2).min(self.cap);
        jittered(wait)
    }

    /// Something worked: the next wait is the first one again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// Waits before work on a recording that failed is tried again: after the first failure, the second and any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetrySchedule(pub [Duration; 3]);

impl RetrySchedule {
    /// Long enough for a share to be mounted again, a script to be mended, or another node to come by.
    pub const MINUTES: Self = Self([Duration::from_secs(30), Duration::from_secs(120), Duration::from_secs(300)]);

    /// The wait after this many failures, counted from 1.
    #[must_use]
    pub fn after(&self, failures: u64) -> Duration {
        let Self([first, second, any_other]) = *self;
        match failures {
            0 | 1 => first,
            2 => second,
            _ => any_other,
        }
    }
}

/// Three quarters of `wait` to the whole of it, at random.
fn jittered(wait: Duration) -> Duration {
    // The keys of a `RandomState` are the standard library's own randomness; nothing better is needed here.
    let random = RandomState::new().build_hasher().finish() % 1000;
    wait.mul_f64(0.75 + 0.25 * f64::from(u16::try_from(random).unwrap_or(0)) / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_begin_anew() {
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
    fn a_ladder_ends_with_its_longest_wait() {
        let waits = (0..=5).chain([u64::MAX]).map(|failures| RetrySchedule::MINUTES.after(failures).as_secs());
        assert_eq!(waits.collect::<Vec<_>>(), [30, 30, 120, 300, 300, 300, 300]);
    }
}
