//! How a `record` ends: its exit code, and what is said: pure.

use std::path::PathBuf;

use crate::codes::{self, Code};
use crate::page_recording::summary::FailureSummary;

/// Exit codes; the help of `record` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Complete,
    /// The recording or its MP4 has failed.
    Failed,
    /// The output cannot be written.
    Usage,
    /// A disk that is needed does not answer.
    DiskHangs,
    /// This machine cannot record.
    Host,
    /// The page cannot be recorded.
    Page,
    /// The recording broke off; there is an MP4 of what came before.
    BrokeOff,
    /// An outlet (`--hls`, `--rtmp`) is not complete.
    OutletIncomplete,
    /// Stopped by a signal without an MP4.
    Stopped,
}

impl Ending {
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Complete => 0,
            Self::Failed => 1,
            Self::Usage | Self::DiskHangs => 2,
            Self::Host => 3,
            Self::Page => 4,
            Self::BrokeOff => 5,
            Self::OutletIncomplete => 6,
            // As shells say of a process that SIGINT ended.
            Self::Stopped => 130,
        }
    }

    /// The code of a `record` that ends like this without an MP4, or with less than was asked for.
    #[must_use]
    pub fn message(self) -> Code {
        match self {
            Self::Complete | Self::Failed => codes::RECORD_FAILED,
            Self::Usage => codes::RECORD_OUTPUT,
            Self::DiskHangs => codes::RECORD_DISK_HANGS,
            Self::Host => codes::RECORD_HOST,
            Self::Page => codes::RECORD_PAGE,
            Self::BrokeOff => codes::RECORD_BROKE_OFF,
            Self::OutletIncomplete => codes::RECORD_OUTLET,
            Self::Stopped => codes::RECORD_STOPPED,
        }
    }
}

/// A `record` without an MP4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordFailure {
    pub ending: Ending,
    /// What has failed and why, and what to do.
    pub cause: String,
    /// The raw file, where one was kept.
    pub raw: Option<PathBuf>,
}

impl RecordFailure {
    pub fn new(ending: Ending, cause: impl std::fmt::Display) -> Self {
        // The capture speaks of its pages as of meetings.
        let cause = cause.to_string().replace("the meeting page", "the page");
        Self { ending, cause, raw: None }
    }

    /// The same for programs.
    #[must_use]
    pub fn summary(&self) -> FailureSummary {
        FailureSummary {
            error: self.cause.clone(),
            code: self.ending.message().to_string(),
            raw_file: self.raw.as_ref().map(|raw| raw.display().to_string()),
        }
    }

    /// The lines for the operator.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("{} error: {}", self.ending.message(), self.cause)];
        if let Some(raw) = &self.raw {
            lines.push(format!("The raw file is kept: {}", raw.display()));
            lines.push(format!(
                "To make an MP4 of it: ffmpeg -i '{}' -c:v copy -c:a aac -movflags +faststart out.mp4",
                raw.display()
            ));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page_recording::arguments::AFTER_HELP;

    #[test]
    fn the_help_lists_every_exit_code() {
        use Ending::{BrokeOff, Complete, DiskHangs, Failed, Host, OutletIncomplete, Page, Stopped, Usage};
        for ending in [Complete, Failed, Usage, DiskHangs, Host, Page, BrokeOff, OutletIncomplete, Stopped] {
            let line = format!("\n  {:<5}", ending.code());
            assert!(AFTER_HELP.contains(&line), "{ending:?}");
        }
    }

    #[test]
    fn a_raw_file_that_is_kept_is_named_with_the_way_to_an_mp4() {
        let failure = RecordFailure::new(Ending::Failed, "the meeting page crashed");
        assert_eq!(failure.lines(), ["PNR-1230 error: the page crashed"]);
        let json = serde_json::json!({"error": "the page crashed", "code": "PNR-1230", "raw_file": null});
        assert_eq!(serde_json::to_value(failure.summary()).unwrap(), json);
        let kept = RecordFailure { raw: Some("/a/raw.mkv".into()), ..failure };
        assert_eq!(kept.summary().raw_file.as_deref(), Some("/a/raw.mkv"));
        assert!(kept.lines()[1].ends_with("/a/raw.mkv") && kept.lines()[2].contains("ffmpeg -i '/a/raw.mkv'"));
    }
}
