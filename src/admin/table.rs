//! Rows as a table of text: aligned, nothing truncated, one line each.

use serde::Serialize;

use crate::admin::cells::NONE;
use crate::telemetry::redact;

/// Between two columns.
const GAP: &str = "  ";
/// Instead of a table without rows.
pub const NOTHING: &str = "nothing\n";

/// One line of a list.
pub trait Row: Serialize {
    const HEADER: &'static [&'static str];

    /// As many as the header has; an empty one where there is nothing to say.
    fn cells(&self) -> Vec<String>;
}

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
