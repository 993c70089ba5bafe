//! Why a pipeline failed.

use std::time::Duration;

use crate::config::HookStage;
use crate::process::child::{Exit, SpawnError};
use crate::process::output::OutputTail;
use crate::scripts::hooks::payload::RefusedAnswer;

/// The number of lines of standard error that are quoted of a failed script.
const LAST_WORDS: usize = 3;

/// Why a stage has no result.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// Neither the recording nor the scripts are at fault: the next start tries again.
    #[error("hooks.{stage}: stopped, because the program is shutting down")]
    Stopped { stage: HookStage },
    #[error("hooks.{stage}: step {number} ({script}): {failure}")]
    Failed {
        stage: HookStage,
        /// From 1.
        number: usize,
        script: String,
        failure: HookFailure,
    },
}

/// Why a step has failed.
#[derive(Debug, thiserror::Error)]
pub enum HookFailure {
    #[error(transparent)]
    Start(#[from] SpawnError),
    #[error("it did not answer within {} (hook_timeout) and was ended; it said: {words}", humantime::format_duration(*limit))]
    Timeout { limit: Duration, words: String },
    /// Of a long-lived script, also at its second try.
    #[error("it ended before it answered, twice ({exit}); it said: {words}")]
    Died { exit: Exit, words: String },
    /// Of a one-shot script.
    #[error("it failed ({exit}); it said: {words}")]
    Exit { exit: Exit, words: String },
    #[error(transparent)]
    RefusedAnswer(#[from] RefusedAnswer),
    #[error("{0}")]
    Http(String),
}

/// The end of what a script wrote to its standard error.
pub(super) fn stderr_tail(tail: &OutputTail) -> String {
    tail.last_lines(LAST_WORDS)
}
