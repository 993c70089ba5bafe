//! Why an attempt at a job ended without a result.

use crate::scripts::hooks::HookError;

/// Why an attempt at a job ended without a result.
#[derive(Debug)]
pub(super) enum JobFailure {
    /// The cause, for the log and the server.
    Cause(String),
    /// Another node works on the job or has finished it; the details.
    Elsewhere(String),
    /// This program is shutting down.
    Stopped,
}

impl JobFailure {
    pub(super) fn of(error: impl std::fmt::Display) -> Self {
        Self::Cause(error.to_string())
    }
}

impl From<HookError> for JobFailure {
    fn from(error: HookError) -> Self {
        match error {
            HookError::Stopped { .. } => Self::Stopped,
            HookError::Failed { .. } => Self::of(error),
        }
    }
}
