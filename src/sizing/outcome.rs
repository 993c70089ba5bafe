//! How a measurement ends: its exit code, and what is said. Pure.

use crate::codes::{self, Code};

/// Exit codes; the help of `size` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Complete,
    /// Something broke, or the configuration cannot be written.
    Failed,
    /// Wrong usage or configuration.
    Usage,
    /// Something is being recorded on this machine.
    Refused,
    /// Stopped by a signal.
    Stopped,
}

impl Ending {
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Complete => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            // As shells say of a process that SIGINT ended.
            Self::Stopped => 130,
        }
    }

    /// The code of a `size` that ends like this.
    #[must_use]
    pub fn message(self) -> Code {
        match self {
            Self::Complete | Self::Failed => codes::SIZE_FAILED,
            Self::Usage => codes::SIZE_USAGE,
            Self::Refused => codes::SIZE_REFUSED,
            Self::Stopped => codes::SIZE_STOPPED,
        }
    }
}

/// A measurement that came to no end, or to one that nobody was told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SizeFailure {
    pub ending: Ending,
    /// What has failed and why, and what to do.
    pub cause: String,
}

impl SizeFailure {
    pub fn new(ending: Ending, cause: impl Into<String>) -> Self {
        Self { ending, cause: cause.into() }
    }
}

/// What stops a measurement before its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interruption {
    /// A signal.
    Signal,
    /// A program of a recording has failed or hangs.
    Broke(String),
    /// Something else is recorded on this machine now.
    Disturbed(String),
    /// There is no space for more.
    DiskFull(String),
}

impl From<Interruption> for SizeFailure {
    fn from(interruption: Interruption) -> Self {
        match interruption {
            Interruption::Signal => {
                Self::new(Ending::Stopped, "stopped: not everything was measured, and nothing is left")
            }
            Interruption::Broke(cause) => Self::new(
                Ending::Failed,
                format!(
                    "{cause}. Measure again; if the same comes again, `plugnmeet-recorder check` and docs/troubleshooting.md \
                     tell more, and --verbose shows what went before"
                ),
            ),
            Interruption::Disturbed(why) => Self::new(
                Ending::Refused,
                format!(
                    "{why}, and the measurement has ended so as not to disturb it: drain the node, and measure again"
                ),
            ),
            Interruption::DiskFull(why) => {
                Self::new(Ending::Failed, format!("{why}: free some space for the recordings, or try fewer with --max"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::size::AFTER_HELP;

    #[test]
    fn the_help_lists_every_exit_code() {
        use Ending::{Complete, Failed, Refused, Stopped, Usage};
        for ending in [Complete, Failed, Usage, Refused, Stopped] {
            assert!(AFTER_HELP.contains(&format!("\n  {:<5}", ending.code())), "{ending:?}");
        }
    }
}
