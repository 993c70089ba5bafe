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
/// Joining parts, and copying a raw file of many GB onto a slow network disk.
pub const STORING_LIMIT: Duration = Duration::from_secs(6 * 3600);
/// Writing a few small files.
pub const DELIVERING_LIMIT: Duration = Duration::from_secs(300);

/// The state of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// Nothing was captured yet.
    Starting(OpeningStep),
    Capturing,
    /// A part broke; the next one is being opened.
    Resuming(Resuming),
    Stopping(StopStep),
    Ended,
}

/// The step of opening a rig.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpeningStep {
    /// The latest try failed; the next one comes at `until`.
    Waiting { until: Duration },
    /// The server is asked about the room; then the opening waits for its turn among those of other recordings. Both
    /// have limits of their own, and neither counts as a failure.
    Queued,
    /// The rig is being opened.
    Running,
    /// It is being closed again.
    Cancelled,
}

/// The step of going on with the next part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resuming {
    Finishing,
    Closing,
    Opening(OpeningStep),
}

/// The step of ending the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopStep {
    Finishing,
    Closing,
    Storing,
    Delivering,
}

impl SessionState {
    /// The step of the opening that goes on, if any.
    pub(super) fn opening(self) -> Option<OpeningStep> {
        match self {
            Self::Starting(step) | Self::Resuming(Resuming::Opening(step)) => Some(step),
            _ => None,
        }
    }

    /// Until when the next opening waits, if it does.
    #[must_use]
    pub fn waits_until(self) -> Option<Duration> {
        match self.opening()? {
            OpeningStep::Waiting { until } => Some(until),
            OpeningStep::Queued | OpeningStep::Running | OpeningStep::Cancelled => None,
        }
    }

    /// How long the state, entered at `since`, may last.
    pub(super) fn limit(self, since: Duration) -> Option<Duration> {
        match self {
            Self::Starting(step) | Self::Resuming(Resuming::Opening(step)) => match step {
                OpeningStep::Waiting { until } => Some(until.saturating_sub(since)),
                OpeningStep::Queued => None,
                OpeningStep::Running => Some(STARTING_LIMIT),
                OpeningStep::Cancelled => Some(CANCELLING_LIMIT),
            },
            Self::Capturing | Self::Ended => None,
            Self::Resuming(Resuming::Finishing) | Self::Stopping(StopStep::Finishing) => Some(FINISHING_LIMIT),
            Self::Resuming(Resuming::Closing) | Self::Stopping(StopStep::Closing) => Some(CLOSING_LIMIT),
            Self::Stopping(StopStep::Storing) => Some(STORING_LIMIT),
            Self::Stopping(StopStep::Delivering) => Some(DELIVERING_LIMIT),
        }
    }
}
