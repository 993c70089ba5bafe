//! What a capture that does not go on comes to: a fault, or a page that left, whose meeting may be over.

use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::room::RoomClient;
use super::session::{Event, Interruption};
use crate::capture::rig::{self, Meaning, Rig};
use crate::protocol::access::RoomAccess;
use crate::protocol::room_status::RoomStatus;

/// What ffmpeg says where the disk is full (`ENOSPC`, strerror(3)).
const NO_SPACE: &str = "No space left on device";

/// What the server is asked where a page does not say whether its meeting goes on.
#[derive(Clone, Debug)]
pub struct Question {
    pub room: RoomClient,
    pub access: RoomAccess,
}

/// Waits until the capture does not go on, and finds out what that comes to. Cancel-safe: the inquiry is kept.
pub async fn interrupted<R: Rig>(
    rig: Option<&mut R>,
    inquiry: &mut Option<BoxFuture<'static, Event>>,
    question: &Question,
) -> Event {
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

async fn look_into(found: rig::Break, question: Question) -> Event {
    let after = match found.page {
        // The next part would meet the same end of the disk.
        None if found.cause.contains(NO_SPACE) => Interruption::Final,
        None => Interruption::Fault,
        Some(Meaning::Ended) => Interruption::MeetingOver,
        Some(Meaning::Unclear | Meaning::Unrecordable) => match question.room.ask(&question.access).await {
            RoomStatus::Over => Interruption::MeetingOver,
            status => {
                tracing::debug!(?status, "the page left the meeting, and the room is not known to be over");
                Interruption::PageLeft
            }
        },
    };
    Event::Broke { cause: found.cause, after }
}
