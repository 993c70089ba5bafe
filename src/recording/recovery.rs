//! What is to be done for a recording that an earlier run of the program has left behind: pure.

use crate::protocol::request::Kind;
use crate::recording::journal::{RecordingRecord, RecordingStage};
use crate::recording::session::InterruptedRecording;

/// Why a broadcast ends that a run of the program has left behind.
pub const RESTARTED: &str = "the recorder was restarted";
/// Why a recording is not joined again by a node that no longer records.
pub const RECORDS_NO_MORE: &str = "the recorder was restarted and does not record any more";

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecoveryStep {
    /// Its session goes on.
    Recover(InterruptedRecording),
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
pub struct SentNotices {
    /// The notice of its end.
    pub ended: bool,
    pub job: bool,
}

/// Decides. `records`: this node takes on recordings.
#[must_use]
pub fn plan(kind: Kind, record: &RecordingRecord, told: SentNotices, records: bool) -> RecoveryStep {
    match (kind, record.stage, told.ended) {
        (Kind::Broadcast, _, true) => RecoveryStep::Tidy { delivered: true },
        (Kind::Broadcast, _, false) => RecoveryStep::TellEnded(RESTARTED.to_owned()),
        (Kind::Recording, RecordingStage::Failed, _) => RecoveryStep::Leave,
        (Kind::Recording, RecordingStage::Stored, true) if !told.job => RecoveryStep::Publish,
        (Kind::Recording, stage, true) => RecoveryStep::Tidy { delivered: stage == RecordingStage::Stored },
        (Kind::Recording, _, false) => RecoveryStep::Recover(match &record.stop {
            Some(stop) => InterruptedRecording::Stopped(stop.reason.clone()),
            None if record.stage == RecordingStage::Stored => InterruptedRecording::Stopped(None),
            None if !records => InterruptedRecording::Stopped(Some(RECORDS_NO_MORE.to_owned())),
            None => InterruptedRecording::Running,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::access::RoomAccess;
    use crate::protocol::ids::{AccessToken, RecordingId, RoomId, RoomSid};
    use crate::protocol::request::{Output, RecordingInfo, Start};
    use crate::recording::journal::StopRequest;

    fn record(stage: RecordingStage, stop: Option<&StopRequest>) -> RecordingRecord {
        let info = RecordingInfo {
            room_table_id: 7,
            room_id: RoomId::parse("room01").unwrap(),
            room_sid: RoomSid::default(),
            recording_id: RecordingId::parse("rec").unwrap(),
        };
        let access = RoomAccess::Token(AccessToken::parse("token").unwrap());
        let mut record = RecordingRecord::new(&Start { info, access, output: Output::File });
        record.stage = stage;
        record.stop = stop.cloned();
        record
    }

    #[test]
    fn each_state_of_a_record_has_its_step() {
        let recover = RecoveryStep::Recover;
        let (asked, over) = (StopRequest { reason: None }, StopRequest { reason: Some("over".into()) });
        let told_of = |told| SentNotices { ended: told, job: told };
        for (stage, stop, told, records, wanted) in [
            (RecordingStage::Parts, None, false, true, recover(InterruptedRecording::Running)),
            (
                RecordingStage::Parts,
                None,
                false,
                false,
                recover(InterruptedRecording::Stopped(Some(RECORDS_NO_MORE.into()))),
            ),
            (RecordingStage::Parts, Some(&asked), false, true, recover(InterruptedRecording::Stopped(None))),
            (
                RecordingStage::Parts,
                Some(&over),
                false,
                true,
                recover(InterruptedRecording::Stopped(Some("over".into()))),
            ),
            (RecordingStage::Stored, Some(&asked), false, true, recover(InterruptedRecording::Stopped(None))),
            (RecordingStage::Stored, Some(&asked), true, true, RecoveryStep::Tidy { delivered: true }),
            // The end was told, and with no job: no raw file was made, so nothing that could be one is removed.
            (RecordingStage::Parts, Some(&asked), true, true, RecoveryStep::Tidy { delivered: false }),
            (RecordingStage::Failed, Some(&asked), true, true, RecoveryStep::Leave),
        ] {
            assert_eq!(
                plan(Kind::Recording, &record(stage, stop), told_of(told), records),
                wanted,
                "{stage:?} {stop:?} {told}"
            );
        }
        // Killed while the hooks ran.
        let no_job = SentNotices { ended: true, job: false };
        assert_eq!(
            plan(Kind::Recording, &record(RecordingStage::Stored, Some(&asked)), no_job, true),
            RecoveryStep::Publish
        );
        let broadcast = record(RecordingStage::Parts, None);
        assert_eq!(
            plan(Kind::Broadcast, &broadcast, SentNotices::default(), true),
            RecoveryStep::TellEnded(RESTARTED.into())
        );
        assert_eq!(plan(Kind::Broadcast, &broadcast, no_job, true), RecoveryStep::Tidy { delivered: true });
    }
}
