//! How often to say that something still goes on.

use std::time::Duration;

use tokio::time::Instant;

/// Says when a line about something that goes on is due: at once, then 10 s later, 20 s, 40 s … at most every 5 min.
#[derive(Clone, Debug, Default)]
pub struct LogThrottle {
    said: Option<(Instant, Duration)>,
}

impl LogThrottle {
    const FIRST_GAP: Duration = Duration::from_secs(10);
    const LONGEST_GAP: Duration = Duration::from_secs(5 * 60);

    /// Whether to write the line now; `true` counts as written.
    pub fn due(&mut self, now: Instant) -> bool {
        let gap = match self.said {
            None => Self::FIRST_GAP,
            Some((at, gap)) if now.duration_since(at) >= gap => gap.saturating_mul(2).min(Self::LONGEST_GAP),
            Some(_) => return false,
        };
        self.said = Some((now, gap));
        true
    }

    /// It is over; whether anything had been said of it, so that its end is worth a line as well.
    pub fn over(&mut self) -> bool {
        self.said.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_about_the_same_comes_ever_more_rarely() {
        let start = Instant::now();
        let mut throttle = LogThrottle::default();
        let said: Vec<u64> = (0..200).filter(|s| throttle.due(start + Duration::from_secs(*s))).collect();
        assert_eq!(said, [0, 10, 30, 70, 150]);
        assert!(throttle.over());
        assert!(!throttle.over());
        assert!(throttle.due(start));
    }
}
