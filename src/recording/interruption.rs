//! Finds out what kind of interruption a break of the rig is: a fault, or a page that left a meeting which may be over.

use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::capture::browser::error_page::ErrorPageMeaning;
use crate::capture::rig::Rig;
use crate::capture::rig_failure;
use crate::protocol::access::RoomAccess;
use crate::protocol::room_status::RoomStatus;
use crate::recording::room_client::RoomClient;
use crate::recording::session::{Interruption, SessionEvent};

/// ffmpeg's error message for a full disk (`ENOSPC`, strerror(3)).
const NO_SPACE: &str = "No space left on device";

/// Waits until the capture breaks and returns the interruption. Cancel-safe: a running diagnosis is kept in
/// `diagnosis`.
pub async fn next_interruption<R: Rig>(
    rig: Option<&mut R>,
    diagnosis: &mut Option<BoxFuture<'static, SessionEvent>>,
    room: &RoomClient,
    access: &RoomAccess,
) -> SessionEvent {
    if diagnosis.is_none() {
        let Some(rig) = rig else { return std::future::pending().await };
        let found = rig.broken().await;
        *diagnosis = Some(diagnose(found, room.clone(), access.clone()).boxed());
    }
    let event = match diagnosis {
        Some(diagnosis) => diagnosis.await,
        None => std::future::pending().await,
    };
    *diagnosis = None;
    event
}

async fn diagnose(found: rig_failure::RigFailure, room: RoomClient, access: RoomAccess) -> SessionEvent {
    let after = match found.page {
        // The next part would fail on the full disk too.
        None if found.cause.contains(NO_SPACE) => Interruption::Final,
        None => Interruption::Fault,
        Some(ErrorPageMeaning::Ended) => Interruption::MeetingOver,
        Some(ErrorPageMeaning::Unclear | ErrorPageMeaning::Unrecordable | ErrorPageMeaning::Refused) => {
            match room.check(&access).await {
                RoomStatus::Over => Interruption::MeetingOver,
                status => {
                    tracing::debug!(?status, "the page left the meeting, and the room is not known to be over");
                    Interruption::PageLeft
                }
            }
        }
    };
    SessionEvent::Broke { cause: found.cause, after }
}
