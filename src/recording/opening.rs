//! One opening of a rig: asks the server about the room, notes the part's name in the journal, opens the rig.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::capture::rig::{OpenError, Rig};
use crate::protocol::ids::AccessToken;
use crate::protocol::request::Start;
use crate::protocol::room_status::RoomStatus;
use crate::recording::journal::RecordingEntry;
use crate::recording::raw_file::RawFile;
use crate::recording::rig_factory::RigFactory;
use crate::recording::room_client::RoomClient;
use crate::recording::session::OpenFailure;

/// One opening of a rig.
pub struct Opening<R: Rig> {
    pub start: Start,
    pub rigs: Arc<dyn RigFactory<R>>,
    pub raw: Option<RawFile>,
    pub entry: RecordingEntry,
    pub room: RoomClient,
    pub cancel: CancellationToken,
}

impl<R: Rig> Opening<R> {
    /// Opens the rig. `check_room`: the room may have ended since the last opening, so the server is asked first.
    pub async fn run(self, token: &AccessToken, check_room: bool) -> Result<R, OpenFailure> {
        if check_room {
            let asked = self.cancel.run_until_cancelled(refusal(&self.room, token)).await;
            if let Some(failure) = asked.unwrap_or(Some(OpenFailure::Cancelled)) {
                return Err(failure);
            }
        }
        // The name is on disk before the file is. A broadcast has no file.
        let named = self.raw.clone();
        let n = self.entry.add_part(move |n| named.map(|raw| raw.part_name(n)).unwrap_or_default()).await;
        if n > 1 {
            tracing::info!(part = n, "joining the meeting again, as its next part");
        }
        let part = self.raw.map(|raw| raw.part(&raw.part_name(n)));
        let rig = R::open(self.rigs.rig(&self.start, token, part.as_deref()), self.cancel).await?;
        self.entry.part_began().await;
        Ok(rig)
    }
}

impl From<OpenError> for OpenFailure {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Cancelled => Self::Cancelled,
            OpenError::Over(cause) => Self::Over(cause),
            OpenError::Unrecordable(cause) => Self::Unrecordable(cause),
            OpenError::Failed(cause) => Self::Failed(cause),
        }
    }
}

/// Why the room cannot be joined, as the server says; `None`: joining may be tried.
async fn refusal(room: &RoomClient, token: &AccessToken) -> Option<OpenFailure> {
    match room.status(token).await {
        RoomStatus::Open => {
            tracing::info!("the room goes on");
            None
        }
        RoomStatus::Over => Some(OpenFailure::Over("the room is over, as the server says".to_owned())),
        RoomStatus::Refused(why) => Some(OpenFailure::Failed(why)),
        RoomStatus::Occupied => {
            tracing::warn!("the server still counts the recorder's last page as present; joining all the same");
            None
        }
        RoomStatus::Unknown(why) => {
            tracing::warn!(why, "whether the room goes on is not known; trying to join it");
            None
        }
    }
}
