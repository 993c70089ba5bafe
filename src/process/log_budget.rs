//! How much of a program's output goes to the log: so many lines and bytes a minute. Pure.

use std::time::Duration;

/// Lines of a program in the log within [`WINDOW`]: ten a second.
pub const LINES: u32 = 600;
/// Bytes of a program in the log within [`WINDOW`]. At most some 90 MB in a day, about as much as the log files hold by
/// default; a recording's own lines are some 10 kB.
pub const BYTES: usize = 64 * 1024;
pub const WINDOW: Duration = Duration::from_secs(60);

/// The budget of one program. Times count from any fixed instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogBudget {
    /// End of the present window.
    ends: Duration,
    lines: u32,
    bytes: usize,
}

impl LogBudget {
    /// Whether a line of `bytes` bytes is logged at `now`. After the first one that is not, none is until the window
    /// ends, so that what is left out is in one piece.
    pub fn take(&mut self, now: Duration, bytes: usize) -> bool {
        if now >= self.ends {
            *self = Self { ends: now + WINDOW, lines: 0, bytes: 0 };
        }
        let fits = self.lines < LINES && self.bytes.saturating_add(bytes) <= BYTES;
        self.lines = if fits { self.lines + 1 } else { LINES };
        self.bytes = self.bytes.saturating_add(bytes);
        fits
    }

    /// When lines are logged again, if any was left out.
    #[must_use]
    pub fn ends(&self) -> Duration {
        self.ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `lines` lines of `bytes` bytes each are logged at `second`.
    fn logged(budget: &mut LogBudget, second: u64, lines: usize, bytes: usize) -> usize {
        (0..lines).filter(|_| budget.take(Duration::from_secs(second), bytes)).count()
    }

    #[test]
    fn a_minute_has_so_many_lines_and_so_many_bytes() {
        let mut budget = LogBudget::default();
        assert_eq!(logged(&mut budget, 5, 10_000, 10), LINES as usize);
        assert_eq!(budget.ends(), Duration::from_secs(65));
        assert_eq!(logged(&mut budget, 64, 10, 10), 0);
        assert_eq!(logged(&mut budget, 65, 10, 10), 10, "the next minute");
        assert_eq!(logged(&mut budget, 125, 1_000, 1024), BYTES / 1024);
        assert_eq!(logged(&mut budget, 300, 10, BYTES + 1), 0);
    }

    #[test]
    fn what_is_left_out_is_in_one_piece() {
        let mut budget = LogBudget::default();
        assert_eq!(logged(&mut budget, 0, 1, BYTES), 1);
        assert_eq!(logged(&mut budget, 0, 1, 1), 0);
        assert_eq!(logged(&mut budget, 59, 1, 0), 0, "an empty line would fit");
    }
}
