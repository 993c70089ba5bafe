//! Limits how often an ongoing condition is logged.

use std::time::Duration;

use tokio::time::Instant;

/// Decides when a line about an ongoing condition is logged: at once, then after 10 s, 20 s, 40 s … at most every 5
/// min.
#[derive(Clone, Debug, Default)]
pub struct LogThrottle {
    logged: Option<(Instant, Duration)>,
}

impl LogThrottle {
    const FIRST_GAP: Duration = Duration::from_secs(10);
    const LONGEST_GAP: Duration = Duration::from_secs(5 * 60);

    /// Whether to log now; `true` counts as logged.
    pub fn due(&mut self, now: Instant) -> bool {
        let gap = match self.logged {
            None => Self::FIRST_GAP,
            Some((at, gap)) if now.duration_since(at) >= gap => gap.saturating_mul(2).min(Self::LONGEST_GAP),
            Some(_) => return false,
        };
        self.logged = Some((now, gap));
        true
    }

    /// The condition has ended. Returns whether it was logged, so that its end should be logged too.
    pub fn end(&mut self) -> bool {
        self.logged.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ongoing_condition_is_logged_ever_more_rarely() {
        let start = Instant::now();
        let mut throttle = LogThrottle::default();
        let logged: Vec<u64> = (0..200).filter(|s| throttle.due(start + Duration::from_secs(*s))).collect();
        assert_eq!(logged, [0, 10, 30, 70, 150]);
        assert!(throttle.end());
        assert!(!throttle.end());
        assert!(throttle.due(start));
    }
}
