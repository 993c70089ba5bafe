//! What an operator reads of a recording's events.

use crate::codes;
use crate::recording::session::{Interruption, OpenFailure, SessionEvent};

/// Logs an event for the operator. `begun`: something may have been captured. `goes_on`: a rig will be opened (again).
pub(super) fn log(event: &SessionEvent, begun: bool, goes_on: bool) {
    match event {
        SessionEvent::Stop(None) => tracing::info!("the server asks to stop"),
        SessionEvent::Stop(Some(reason)) => tracing::info!(reason, "stopping"),
        SessionEvent::Broke { cause, after: Interruption::MeetingOver } => {
            tracing::info!(page_says = cause, "the meeting has ended");
        }
        SessionEvent::Broke { cause, after: Interruption::Final } => {
            tracing::error!(code = %codes::ENDS_HERE, cause, "the recording ends here; what was recorded is kept");
        }
        SessionEvent::Broke { cause, after: Interruption::PageLeft } => {
            tracing::warn!(
                code = %codes::PAGE_LEFT, page_says = cause,
                "the page left the meeting, which goes on; what was recorded is kept"
            );
        }
        SessionEvent::Broke { cause, after: Interruption::Fault } => {
            tracing::error!(code = %codes::CAPTURE_BROKE, cause, "the capture broke off; what was recorded is kept");
        }
        SessionEvent::OpenFailed(OpenFailure::Over(why)) if begun => tracing::info!(why, "the meeting has ended"),
        SessionEvent::OpenFailed(OpenFailure::Cancelled) if goes_on => {
            tracing::warn!(code = %codes::OPENING_SLOW, "opening the meeting takes too long; trying again: look at the load of this host");
        }
        SessionEvent::OpenFailed(OpenFailure::Failed(cause) | OpenFailure::Refused(cause)) if begun && goes_on => {
            tracing::warn!(
                code = %codes::NOT_REJOINED_YET, cause,
                "the meeting cannot be joined again yet; what was recorded is kept"
            );
        }
        SessionEvent::OpenFailed(OpenFailure::Failed(cause) | OpenFailure::Refused(cause)) if goes_on => {
            tracing::warn!(code = %codes::NOT_JOINED_YET, cause, "the meeting cannot be joined yet; trying again");
        }
        SessionEvent::OpenFailed(OpenFailure::Failed(cause) | OpenFailure::Refused(cause)) if begun => {
            tracing::error!(
                code = %codes::NOT_REJOINED, cause,
                "the meeting is not joined again; what was recorded is kept"
            );
        }
        SessionEvent::OpenFailed(OpenFailure::Unrecordable(cause)) if begun => {
            tracing::error!(
                code = %codes::UNRECORDABLE, cause,
                "the meeting cannot be recorded any more; what was recorded is kept"
            );
        }
        SessionEvent::OpenFailed(
            OpenFailure::Failed(cause)
            | OpenFailure::Refused(cause)
            | OpenFailure::Over(cause)
            | OpenFailure::Unrecordable(cause),
        ) => {
            tracing::error!(code = %codes::CANNOT_RECORD, cause, "the meeting cannot be recorded; nothing was captured");
        }
        SessionEvent::OpenFailed(OpenFailure::Cancelled) => tracing::info!("stopped before the meeting was reached"),
        SessionEvent::Finished(Err(cause)) => {
            tracing::error!(code = %codes::ENCODER_ENDED_BADLY, cause, "ffmpeg did not end well; what it has written is kept");
        }
        SessionEvent::Checked(Err(cause)) => {
            tracing::error!(code = %codes::NOTHING_TO_DELIVER, cause, "nothing can be delivered; parts that are not empty stay in recorder.temporary_dir");
        }
        // Also after a restart of the recorder.
        SessionEvent::Opened if begun => tracing::info!("goes on with its next part"),
        SessionEvent::Opened => tracing::info!("started"),
        SessionEvent::TurnCame
        | SessionEvent::Finished(Ok(()))
        | SessionEvent::Closed
        | SessionEvent::Checked(Ok(()))
        | SessionEvent::EndNotified
        | SessionEvent::Tick { .. } => {}
    }
}
