//! What the lists show: rows made of records at a given moment. Pure.
//!
//! A row has its fields for programs (`--json`; times in Unix milliseconds) and its cells for people. What must not be seen,
//! the access token above all, is no field of any row.

mod job;
mod message;
mod recording;

use std::time::Duration;

use serde::Serialize;

use crate::admin::cells::words;

pub use job::JobRow;
pub use message::MessageRow;
pub use recording::RecordingRow;

/// When a list is made.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Unix milliseconds.
    pub now: u64,
    /// A daemon runs: what is unfinished is being worked on.
    pub runs: bool,
}

impl Moment {
    fn since(self, at: u64) -> Duration {
        Duration::from_millis(self.now.saturating_sub(at))
    }

    fn until(self, at: u64) -> Duration {
        Duration::from_millis(at.saturating_sub(self.now))
    }

    /// `due in 25s`, `due 3m ago`.
    fn due(self, at: u64) -> String {
        if at > self.now {
            format!("due in {}", words(self.until(at)))
        } else {
            format!("due {} ago", words(self.since(at)))
        }
    }
}

/// What became of something: a word for programs, and a text that begins with it or means the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RowStatus {
    pub state: &'static str,
    #[serde(rename = "says")]
    pub text: String,
}

impl RowStatus {
    fn new(state: &'static str, text: impl Into<String>) -> Self {
        Self { state, text: text.into() }
    }

    fn unreadable(why: &str) -> Self {
        Self::new("unreadable", format!("unreadable: {why}"))
    }
}
