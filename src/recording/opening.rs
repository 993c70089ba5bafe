//! One opening of a rig: asks the server about the room, waits for its turn, notes the part's name in the journal, opens
//! the rig.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::capture::rig::{OpenError, Rig};
use crate::codes;
use crate::protocol::access::RoomAccess;
use crate::protocol::ids::AccessToken;
use crate::protocol::request::Start;
use crate::protocol::room_status::RoomStatus;
use crate::recording::journal::RecordingEntry;
use crate::recording::opening_turns::{OpeningTurn, OpeningTurns};
use crate::recording::raw_file::RawFile;
use crate::recording::rig_factory::RigFactory;
use crate::recording::room_client::RoomClient;
use crate::recording::session::OpenFailure;

/// Why a recording that has captured nothing does not join.
const OCCUPIED: &str =
    "the server says that the recorder's page is in the room already: another recorder seems to record it";
/// An opening keeps its turn for this long at the most. What takes longer waits for a page or a disk and no longer for
/// processors, and must not hold up the openings of other recordings.
const TURN_LIMIT: Duration = Duration::from_secs(20);

/// Asks the server whether the room goes on, unless `access` is `None`, and waits for a turn. `is_first`: nothing was
/// captured yet.
pub async fn await_turn(
    room: &RoomClient,
    access: Option<&RoomAccess>,
    is_first: bool,
    turns: &OpeningTurns,
    missed_since: u64,
    cancel: &CancellationToken,
) -> Result<OpeningTurn, OpenFailure> {
    let turn = async {
        // Before the wait: a room that is over needs no turn, and none is held while the server is slow.
        if let Some(access) = access
            && let Some(failure) = refusal(room, access, is_first).await
        {
            return Err(failure);
        }
        Ok(turns.take(missed_since).await)
    };
    cancel.run_until_cancelled(turn).await.unwrap_or(Err(OpenFailure::Cancelled))
}

/// One opening of a rig.
pub struct Opening<R: Rig> {
    pub start: Start,
    pub rigs: Arc<dyn RigFactory<R>>,
    pub raw: Option<RawFile>,
    pub entry: RecordingEntry,
    pub turn: Option<OpeningTurn>,
    pub cancel: CancellationToken,
}

impl<R: Rig> Opening<R> {
    /// Opens the rig.
    pub async fn run(self, token: &AccessToken) -> Result<R, OpenFailure> {
        // The name is on disk before the file is. A broadcast has no file.
        let named = self.raw.clone();
        let n = self.entry.add_part(move |n| named.map(|raw| raw.part_name(n)).unwrap_or_default()).await;
        if n > 1 {
            tracing::info!(part = n, "joining the meeting again, as its next part");
        }
        let part = self.raw.map(|raw| raw.part(&raw.part_name(n)));
        let opening = R::open(self.rigs.rig(&self.start, token, part.as_deref()), self.cancel);
        let rig = with_turn(self.turn, opening).await?;
        self.entry.part_began().await;
        Ok(rig)
    }
}

/// Runs `opening`, and gives its turn back when it has ended or takes too long for it.
async fn with_turn<T>(turn: Option<OpeningTurn>, opening: impl Future<Output = T>) -> T {
    let mut opening = std::pin::pin!(opening);
    let in_time = tokio::time::timeout(TURN_LIMIT, &mut opening).await;
    drop(turn);
    match in_time {
        Ok(opened) => opened,
        Err(_) => opening.await,
    }
}

impl From<OpenError> for OpenFailure {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Cancelled => Self::Cancelled,
            OpenError::Over(cause) => Self::Over(cause),
            OpenError::Unrecordable(cause) => Self::Unrecordable(cause),
            OpenError::Refused(cause) => Self::Refused(cause),
            OpenError::Failed(cause) => Self::Failed(cause),
        }
    }
}

/// Why the room cannot be joined, as the server says; `None`: joining may be tried.
async fn refusal(room: &RoomClient, access: &RoomAccess, is_first: bool) -> Option<OpenFailure> {
    match room.status(access).await {
        RoomStatus::Open => {
            tracing::info!("the room goes on");
            None
        }
        RoomStatus::Over => Some(OpenFailure::Over("the room is over, as the server says".to_owned())),
        RoomStatus::Refused(why) => Some(OpenFailure::Refused(why)),
        // Its own page would be gone by now. Joining would end the other's, and it ours.
        RoomStatus::Occupied if is_first => Some(OpenFailure::Failed(OCCUPIED.to_owned())),
        RoomStatus::Occupied => {
            tracing::warn!(
                code = %codes::STILL_PRESENT,
                "the server still counts the recorder's last page as present; joining all the same"
            );
            None
        }
        RoomStatus::Unknown(why) => {
            tracing::warn!(
                code = %codes::ROOM_STATE_UNKNOWN, why,
                "whether the room goes on is not known; trying to join it"
            );
            None
        }
    }
}
