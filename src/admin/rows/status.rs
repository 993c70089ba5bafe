//! The state of a row, and the moment at which it is told. Pure.

use std::time::Duration;

use serde::Serialize;

use crate::admin::cells::words;

/// The moment at which a list is made.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Unix milliseconds.
    pub now: u64,
    /// A daemon runs, and works on what is unfinished.
    pub runs: bool,
}

impl Moment {
    pub(super) fn since(self, at: u64) -> Duration {
        Duration::from_millis(self.now.saturating_sub(at))
    }

    pub(super) fn until(self, at: u64) -> Duration {
        Duration::from_millis(at.saturating_sub(self.now))
    }

    /// `due in 25s`, `due 3m ago`.
    pub(super) fn due(self, at: u64) -> String {
        if at > self.now {
            format!("due in {}", words(self.until(at)))
        } else {
            format!("due {} ago", words(self.since(at)))
        }
    }
}

/// The state of a row: a word for programs, and a text for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RowStatus {
    pub state: &'static str,
    #[serde(rename = "says")]
    pub text: String,
}

impl RowStatus {
    pub(super) fn new(state: &'static str, text: impl Into<String>) -> Self {
        Self { state, text: text.into() }
    }

    pub(super) fn unreadable(why: &str) -> Self {
        Self::new("unreadable", format!("unreadable: {why}"))
    }
}
