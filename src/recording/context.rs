//! What every recording needs from the rest of the program.

use crate::archive::archives::Archives;
use crate::delivery::dispatcher::Dispatcher;
use crate::hls::recordings::HlsRecordings;
use crate::protocol::ids::RecorderId;
use crate::recording::early_copy::EarlyCopies;
use crate::recording::job_handoff::JobHandoff;
use crate::recording::open_failures::OpenFailures;
use crate::recording::opening_turns::OpeningTurns;
use crate::recording::room_client::RoomClient;
use crate::recording::session::SessionLimits;
use crate::recording::signals::RecordingSignals;
use crate::recording::summary::SummaryStore;

/// What every recording needs from the rest of the program.
#[derive(Clone, Debug)]
pub struct RecordingContext {
    pub recorder: RecorderId,
    pub dispatcher: Dispatcher,
    pub handoff: JobHandoff,
    pub summaries: SummaryStore,
    /// Asks the server whether a room is still open.
    pub room: RoomClient,
    pub limits: SessionLimits,
    /// Rigs are opened in turns.
    pub turns: OpeningTurns,
    pub open_failures: OpenFailures,
    pub signals: RecordingSignals,
    /// `None`: no MP4 is written while its recording runs.
    pub early_copies: Option<EarlyCopies>,
    /// Where recordings are archived while they run.
    pub archives: Archives,
    /// Publishes recordings while they run; `None`: none.
    pub hls: Option<HlsRecordings>,
}
