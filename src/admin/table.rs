//! Rows as lines of text: aligned, cut to nothing, each on one line. Pure.

use std::time::Duration;

use super::rows::Row;
use crate::telemetry::redact;

/// Between two columns.
const GAP: &str = "  ";
/// What stands where there is nothing to say.
pub const NONE: &str = "-";
/// Instead of a table without rows.
pub const NOTHING: &str = "nothing\n";

/// A header line and a line for each row, every column as wide as its widest cell.
#[must_use]
pub fn table<R: Row>(rows: &[R]) -> String {
    if rows.is_empty() {
        return NOTHING.to_owned();
    }
    let mut lines: Vec<Vec<String>> = vec![R::HEADER.iter().map(|&title| title.to_owned()).collect()];
    lines.extend(rows.iter().map(|row| row.cells().iter().map(|cell| clean(cell)).collect()));
    let mut widths = vec![0; R::HEADER.len()];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for line in lines {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join(GAP).trim_end());
        text.push('\n');
    }
    text
}

/// A cell that cannot leave its line, nor speak to the terminal, nor tell a secret; never empty.
fn clean(cell: &str) -> String {
    let mut clean = String::new();
    for c in redact::scrub(cell).trim().chars() {
        if c.is_control() {
            clean.extend(c.escape_default());
        } else {
            clean.push(c);
        }
    }
    if clean.is_empty() { NONE.to_owned() } else { clean }
}

/// A duration in its two largest units, the second left out where it is zero: `2d 4h`, `3m 12s`, `5h`, `0s`.
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Serialize;

    #[derive(Serialize)]
    struct Pair(String, String);

    impl Row for Pair {
        const HEADER: &'static [&'static str] = &["ID", "LAST ERROR"];

        fn cells(&self) -> Vec<String> {
            vec![self.0.clone(), self.1.clone()]
        }
    }

    fn pair(id: &str, error: &str) -> Pair {
        Pair(id.to_owned(), error.to_owned())
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_nothing_is_cut() {
        let long = "x".repeat(300);
        let rows = [pair("größer", ""), pair("b", &long)];
        assert_eq!(table(&rows), format!("ID      LAST ERROR\ngrößer  -\nb       {long}\n"));
        assert_eq!(table::<Pair>(&[]), "nothing\n");
    }

    #[test]
    fn a_cell_stays_on_its_line_and_keeps_secrets() {
        let rows = [pair("a", "one\ntwo\x1b[31m\r"), pair("b", "GET /?access_token=abcdef0123 failed")];
        let text = table(&rows);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains("one\\ntwo\\u{1b}[31m\n"), "{text}");
        assert!(!text.contains("abcdef0123"), "{text}");
    }

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
