//! The texts of table cells. Pure.

use std::time::Duration;

/// The text of an empty cell.
pub const NONE: &str = "-";

/// A duration in its two largest units, the second one omitted where it is zero: `2d 4h`, `3m 12s`, `5h`, `0s`.
#[must_use]
pub fn words(duration: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let seconds = duration.as_secs();
    let largest = UNITS.iter().position(|(unit, _)| seconds >= *unit).unwrap_or(UNITS.len() - 1);
    let (unit, name) = UNITS[largest];
    match UNITS.get(largest + 1) {
        Some((next, next_name)) if seconds % unit >= *next => {
            format!("{}{name} {}{next_name}", seconds / unit, seconds % unit / next)
        }
        _ => format!("{}{name}", seconds / unit),
    }
}

/// [`words`] of seconds; empty for `None`.
#[must_use]
pub fn age_cell(age_s: Option<u64>) -> String {
    age_s.map(|age| words(Duration::from_secs(age))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units_at_most() {
        for (seconds, expected) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (192, "3m 12s"),
            (3_600, "1h"),
            (3_659, "1h"),
            (3_660, "1h 1m"),
            (187_200, "2d 4h"),
            (86_400 + 59 * 60, "1d"),
        ] {
            assert_eq!(words(Duration::from_secs(seconds)), expected);
        }
        assert_eq!(words(Duration::from_millis(999)), "0s");
    }
}
