//! What the operator sees: a progress line on a terminal, plain lines elsewhere.
//!
//! A standard output that is closed ends nothing: the recording matters more.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::telemetry::redact;

/// How often a progress line is redrawn on a terminal.
pub const REDRAW: Duration = Duration::from_millis(250);
/// Times between plain lines: in the first minute, and from then on.
const PLAIN: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(60)];

/// Standard output and standard error.
#[derive(Debug)]
pub struct Console {
    /// `None`: standard error is no terminal, or has the log.
    bar: Option<ProgressBar>,
    /// Standard output has only the summary as JSON.
    json: bool,
    /// It was told.
    told: bool,
    /// When the next plain line is due.
    next: Duration,
}

impl Console {
    #[must_use]
    pub fn new(json: bool, verbose: bool) -> Self {
        let bar = (io::stderr().is_terminal() && !verbose).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self { bar, json, told: false, next: PLAIN[0] }
    }

    /// Tells something beside the progress.
    pub fn note(&self, text: impl AsRef<str>) {
        let tell = || {
            // Nobody could be told of an error.
            let _ = writeln!(io::stderr(), "{}", text.as_ref());
        };
        match &self.bar {
            Some(bar) => bar.suspend(tell),
            None => tell(),
        }
    }

    /// Tells of a recording that has run for `time`; `line` is asked for only where it is shown.
    pub fn progress(&mut self, time: Duration, line: impl FnOnce() -> String) {
        match &self.bar {
            Some(bar) => {
                bar.set_message(line());
                bar.tick();
            }
            None if time >= self.next => {
                self.next = time + PLAIN[usize::from(time >= PLAIN[1])];
                self.note(line());
            }
            None => {}
        }
    }

    /// Begins another thing whose progress is told.
    pub fn begin(&mut self, line: &str) {
        self.next = PLAIN[0];
        match &self.bar {
            Some(bar) => {
                bar.set_message(line.to_owned());
                bar.tick();
            }
            None => self.note(line),
        }
    }

    /// Removes the progress line.
    pub fn end_progress(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Tells the result.
    pub fn result(&self, line: &str) {
        if self.json {
            self.note(line);
        } else {
            let _ = writeln!(io::stdout(), "{line}");
        }
    }

    /// Tells the summary as JSON, where that was asked for; a second one is not told.
    pub fn json(&mut self, summary: &impl serde::Serialize) {
        if self.told {
            return;
        }
        if let (true, Ok(text)) = (self.json, serde_json::to_string(summary)) {
            self.told = true;
            let _ = writeln!(io::stdout(), "{}", redact::scrub(&text));
        }
    }
}
