//! What a capture that does not go on comes to: a fault, or a page that left, whose meeting may be over.

use crate::capture::rig_failure;
use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::capture::browser::error_page::ErrorPageMeaning;
use crate::capture::rig::Rig;
use crate::protocol::access::RoomAccess;
use crate::protocol::room_status::RoomStatus;
use crate::recording::room_client::RoomClient;
use crate::recording::session::{Interruption, SessionEvent};

/// What ffmpeg says where the disk is full (`ENOSPC`, strerror(3)).
const NO_SPACE: &str = "No space left on device";

/// What the server is asked where a page does not say whether its meeting goes on.
#[derive(Clone, Debug)]
pub struct RoomQuestion {
    pub room: RoomClient,
    pub access: RoomAccess,
}

/// Waits until the capture does not go on, and finds out what that comes to. Cancel-safe: the inquiry is kept.
pub async fn interrupted<R: Rig>(
    rig: Option<&mut R>,
    inquiry: &mut Option<BoxFuture<'static, SessionEvent>>,
    question: &RoomQuestion,
) -> SessionEvent {
    if inquiry.is_none() {
        let Some(rig) = rig else { return std::future::pending().await };
        let found = rig.broken().await;
        *inquiry = Some(look_into(found, question.clone()).boxed());
    }
    let event = match inquiry {
        Some(inquiry) => inquiry.await,
        None => std::future::pending().await,
    };
    *inquiry = None;
    event
}

async fn look_into(found: rig_failure::RigFailure, question: RoomQuestion) -> SessionEvent {
    let after = match found.page {
        // The next part would meet the same end of the disk.
        None if found.cause.contains(NO_SPACE) => Interruption::Final,
        None => Interruption::Fault,
        Some(ErrorPageMeaning::Ended) => Interruption::MeetingOver,
        Some(ErrorPageMeaning::Unclear | ErrorPageMeaning::Unrecordable) => {
            match question.room.ask(&question.access).await {
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
