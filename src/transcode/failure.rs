//! Why an attempt at a job ended without a result.

use crate::scripts::hooks::HookError;

/// Why an attempt ended without a result.
#[derive(Debug)]
pub(super) enum JobFailure {
    /// What the log and the server are told.
    Cause(String),
    /// Another node is at it, or has done it: what it is.
    Elsewhere(String),
    /// The program is shutting down.
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
