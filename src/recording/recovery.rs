//! What is to be done for a recording that an earlier run of the program has left behind: pure.

use super::journal::{Record, Stage};
use super::session::Left;
use crate::protocol::request::Kind;

/// Why a broadcast ends that a run of the program has left behind.
pub const RESTARTED: &str = "the recorder was restarted";
/// Why a recording is not joined again by a node that no longer records.
pub const RECORDS_NO_MORE: &str = "the recorder was restarted and does not record any more";

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Its session goes on.
    Recover(Left),
    /// A broadcast: the server is told of its end.
    TellEnded(String),
    /// Its end is told, and its raw file stored: the hooks, and then its job.
    Publish,
    /// Others know all: what is left of it may go.
    Tidy { delivered: bool },
    /// Nothing could be made of it, which the server knows; the operator is to look at it.
    Leave,
}

/// What of a recording is in the outbox already, delivered or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The notice of its end.
    pub ended: bool,
    pub job: bool,
}

/// Decides. `records`: this node takes on recordings.
#[must_use]
pub fn plan(kind: Kind, record: &Record, told: Told, records: bool) -> Step {
    match (kind, record.stage, told.ended) {
        (Kind::Broadcast, _, true) => Step::Tidy { delivered: true },
        (Kind::Broadcast, _, false) => Step::TellEnded(RESTARTED.to_owned()),
        (Kind::Recording, Stage::Failed, _) => Step::Leave,
        (Kind::Recording, Stage::Stored, true) if !told.job => Step::Publish,
        (Kind::Recording, stage, true) => Step::Tidy { delivered: stage == Stage::Stored },
        (Kind::Recording, _, false) => Step::Recover(match &record.stop {
            Some(stop) => Left::Stopped(stop.reason.clone()),
            None if record.stage == Stage::Stored => Left::Stopped(None),
            None if !records => Left::Stopped(Some(RECORDS_NO_MORE.to_owned())),
            None => Left::Running,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::access::RoomAccess;
    use crate::protocol::ids::{AccessToken, RecordingId, RoomId, RoomSid};
    use crate::protocol::request::{Output, RecordingInfo, Start};
    use crate::recording::journal::Stop;

    fn record(stage: Stage, stop: Option<&Stop>) -> Record {
        let info = RecordingInfo {
            room_table_id: 7,
            room_id: RoomId::parse("room01").unwrap(),
            room_sid: RoomSid::default(),
            recording_id: RecordingId::parse("rec").unwrap(),
        };
        let access = RoomAccess::Token(AccessToken::parse("token").unwrap());
        let mut record = Record::new(&Start { info, access, output: Output::File });
        record.stage = stage;
        record.stop = stop.cloned();
        record
    }

    #[test]
    fn each_state_of_a_record_has_its_step() {
        let recover = Step::Recover;
        let (asked, over) = (Stop { reason: None }, Stop { reason: Some("over".into()) });
        let told_of = |told| Told { ended: told, job: told };
        for (stage, stop, told, records, wanted) in [
            (Stage::Parts, None, false, true, recover(Left::Running)),
            (Stage::Parts, None, false, false, recover(Left::Stopped(Some(RECORDS_NO_MORE.into())))),
            (Stage::Parts, Some(&asked), false, true, recover(Left::Stopped(None))),
            (Stage::Parts, Some(&over), false, true, recover(Left::Stopped(Some("over".into())))),
            (Stage::Stored, Some(&asked), false, true, recover(Left::Stopped(None))),
            (Stage::Stored, Some(&asked), true, true, Step::Tidy { delivered: true }),
            // The end was told, and with no job: no raw file was made, so nothing that could be one is removed.
            (Stage::Parts, Some(&asked), true, true, Step::Tidy { delivered: false }),
            (Stage::Failed, Some(&asked), true, true, Step::Leave),
        ] {
            assert_eq!(
                plan(Kind::Recording, &record(stage, stop), told_of(told), records),
                wanted,
                "{stage:?} {stop:?} {told}"
            );
        }
        // Killed while the hooks ran.
        let no_job = Told { ended: true, job: false };
        assert_eq!(plan(Kind::Recording, &record(Stage::Stored, Some(&asked)), no_job, true), Step::Publish);
        let broadcast = record(Stage::Parts, None);
        assert_eq!(plan(Kind::Broadcast, &broadcast, Told::default(), true), Step::TellEnded(RESTARTED.into()));
        assert_eq!(plan(Kind::Broadcast, &broadcast, no_job, true), Step::Tidy { delivered: true });
    }
}
