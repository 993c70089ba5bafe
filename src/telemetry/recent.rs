//! The last lines of the log at `warn` and above, for the node's page. They are redacted as in the log.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Lines kept.
const LINES: usize = 100;
/// Bytes kept of a line.
const LONGEST: usize = 2_000;

/// Of this process, as the log is.
static RECENT: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

/// The last warnings and errors, oldest first, each as its line in the log.
#[must_use]
pub fn lines() -> Vec<String> {
    RECENT.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
}

/// Keeps a redacted line.
pub(super) fn keep(line: &str) {
    keep_in(&mut RECENT.lock().unwrap_or_else(PoisonError::into_inner), line);
}

fn keep_in(recent: &mut VecDeque<String>, line: &str) {
    if recent.len() == LINES {
        recent.pop_front();
    }
    let line = line.trim_end();
    let end = (0..=LONGEST.min(line.len())).rfind(|at| line.is_char_boundary(*at)).unwrap_or_default();
    recent.push_back(if end < line.len() { format!("{}…", &line[..end]) } else { line.to_owned() });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lines_are_kept_and_no_long_one_whole() {
        let mut recent = VecDeque::new();
        for number in 0..LINES + 5 {
            keep_in(&mut recent, &format!("{number}\n"));
        }
        assert_eq!((recent.len(), recent.front().unwrap().as_str()), (LINES, "5"));
        keep_in(&mut recent, &"é".repeat(LONGEST));
        assert_eq!((recent.len(), recent.back().unwrap().len()), (LINES, LONGEST + "…".len()));
    }
}
