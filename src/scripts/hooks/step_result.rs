//! What a step came to.

use crate::scripts::hooks::answer::NoAnswer;
use crate::scripts::hooks::failure::HookFailure;
use crate::scripts::hooks::payload::Object;

/// Why a step ended without output.
pub(super) enum StepFailure {
    Stopped,
    Failed(HookFailure),
}

impl From<HookFailure> for StepFailure {
    fn from(failure: HookFailure) -> Self {
        Self::Failed(failure)
    }
}

/// The result of a step: its answer or why its output is dropped, or why it ended without output.
pub(super) type StepResult = Result<Result<Object, NoAnswer>, StepFailure>;
