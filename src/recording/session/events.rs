//! What happens to a recording, and what its session has done about it. Pure.

use std::time::Duration;

use crate::protocol::notice::Outcome;

/// What happened to a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// The room is not known to be over, and it is this opening's turn.
    TurnCame,
    /// The rig is open and media flows.
    Opened,
    /// The rig could not be opened; it is closed again.
    OpenFailed(OpenFailure),
    /// The capture broke.
    Broke { cause: String, after: Interruption },
    /// The end is requested: by the server (`None`) or by the program, with its reason.
    Stop(Option<String>),
    /// The encoder has ended.
    Finished(Result<(), String>),
    /// The rig is closed.
    Closed,
    /// The raw file is complete and in its final place, or why not.
    Stored(Result<(), String>),
    /// The messages are in the outbox.
    Delivered,
    /// Time has passed. `idle`: for how long there was neither sound nor movement.
    Tick { idle: Duration },
}

/// Why a capture broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interruption {
    /// A component of the rig failed: the meeting goes on.
    Fault,
    /// The page left the meeting, which goes on: it lost its connection, or was removed.
    PageLeft,
    /// The meeting has ended, or its last participant has left.
    MeetingOver,
    /// Nothing can be recorded here any more: the disk is full.
    Final,
}

/// Why a rig could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenFailure {
    Cancelled,
    /// The meeting has ended, in the page's words or the server's.
    Over(String),
    /// The meeting cannot be recorded, however often that is tried.
    Unrecordable(String),
    /// The meeting goes on, but does not let the recorder in before somebody does something: its server refuses a token
    /// that was signed just now, or Chrome refuses the server's certificate. A new recording is not tried again.
    Refused(String),
    Failed(String),
}

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask the server about the room where it may be over, then wait for a turn: [`SessionEvent::TurnCame`].
    AwaitTurn,
    /// Open the rig of the next part.
    OpenRig,
    /// Cancel the opening, or the wait for its turn, which then ends in [`SessionEvent::OpenFailed`].
    CancelOpening,
    FinishEncoder,
    CloseRig,
    /// Join the parts and move the result to its final place. The recording ends, for this cause unless as requested.
    Store {
        cause: Option<String>,
    },
    NotifyStarted,
    /// Send the notice of the end, and publish the job where there is a raw file.
    Deliver {
        outcome: Outcome,
        job: bool,
    },
    /// Drop the current work, which takes too long, and the rig that it uses.
    GiveUp(String),
    /// Free the recording's slot on the node.
    FreeSlot,
}
