//! The rows of the lists, made of records at a given moment. Pure.
//!
//! A row has fields for programs (`--json`; times in Unix milliseconds) and cells for people. No field holds a secret,
//! such as the access token.

mod job;
mod message;
mod recording;

use std::time::Duration;

use serde::Serialize;

use crate::admin::cells::words;

pub use job::JobRow;
pub use message::MessageRow;
pub use recording::RecordingRow;

/// The moment at which a list is made.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Unix milliseconds.
    pub now: u64,
    /// A daemon runs, and works on what is unfinished.
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

/// The state of a row: a word for programs, and a text for people.
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
