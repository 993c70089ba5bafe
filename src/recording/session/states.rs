//! The states of a session and their time limits. Pure.

use std::time::Duration;

/// Chrome's start, the page's 30 s, the first frame's 20 s, and some margin; each has a limit of its own.
pub const STARTING_LIMIT: Duration = Duration::from_secs(100);
/// Closing the rig after its opening was cancelled.
pub const CANCELLING_LIMIT: Duration = Duration::from_secs(30);
/// Ending ffmpeg, which includes the waits before its signals.
pub const FINISHING_LIMIT: Duration = Duration::from_secs(120);
/// Ending the other processes.
pub const CLOSING_LIMIT: Duration = Duration::from_secs(60);
/// Reading the headers of the parts; their content is unknown then.
pub const CHECKING_LIMIT: Duration = Duration::from_secs(20);
/// Writing a small file; the notice of the end is in memory all the same.
pub const NOTIFYING_LIMIT: Duration = Duration::from_secs(60);

/// The state of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    Starting {
        cancelled: bool,
    },
    Capturing,
    /// A part broke; the next one is being opened.
    Resuming(Resuming),
    Stopping(StopStep),
    Ended,
}

/// The step of opening the next part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resuming {
    Finishing,
    Closing,
    Waiting { until: Duration },
    Opening { cancelled: bool },
}

/// The step of ending the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopStep {
    Finishing,
    Closing,
    Checking,
    Notifying,
}

impl SessionState {
    /// How long the state, entered at `since`, may last.
    pub(super) fn limit(self, since: Duration) -> Option<Duration> {
        match self {
            Self::Starting { cancelled: false } | Self::Resuming(Resuming::Opening { cancelled: false }) => {
                Some(STARTING_LIMIT)
            }
            Self::Starting { cancelled: true } | Self::Resuming(Resuming::Opening { cancelled: true }) => {
                Some(CANCELLING_LIMIT)
            }
            Self::Resuming(Resuming::Waiting { until }) => Some(until.saturating_sub(since)),
            Self::Capturing | Self::Ended => None,
            Self::Resuming(Resuming::Finishing) | Self::Stopping(StopStep::Finishing) => Some(FINISHING_LIMIT),
            Self::Resuming(Resuming::Closing) | Self::Stopping(StopStep::Closing) => Some(CLOSING_LIMIT),
            Self::Stopping(StopStep::Checking) => Some(CHECKING_LIMIT),
            Self::Stopping(StopStep::Notifying) => Some(NOTIFYING_LIMIT),
        }
    }
}
