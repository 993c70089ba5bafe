//! Decides what is to be done with a recording of an earlier run of the program: pure.

use crate::protocol::request::Kind;
use crate::recording::journal::{RecordingPart, RecordingRecord, RecordingStage};
use crate::recording::session::InterruptedRecording;

/// The cause of the end of a broadcast of an earlier version of the program.
pub const RESTARTED: &str = "the recorder was restarted";
/// Why a recording is not joined again on a node that does not record any more.
pub const RECORDING_DISABLED: &str = "the recorder was restarted and does not record any more";

/// What to do with the recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecoveryStep {
    /// Resume its session.
    Recover(InterruptedRecording),
    /// Send the notice of the end of a broadcast that cannot go on.
    NotifyEnded(String),
    /// Store the raw file and publish its job: the notice of the end was sent.
    Store,
    /// Everything was sent: remove the parts and the record.
    RemoveParts,
    /// Keep the parts for the operator, unless a raw file can be made of them by now: the server knows of the end.
    Keep,
}

/// Which messages of a recording are in the outbox, delivered or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SentNotices {
    /// The notice of its end.
    pub ended: bool,
    pub job: bool,
}

/// Decides the next step. `records`: this node accepts recordings.
#[must_use]
pub fn plan(kind: Kind, record: &RecordingRecord, sent: SentNotices, records: bool) -> RecoveryStep {
    // The outbox keeps what it has delivered for a day only.
    match (kind, record.stage, sent.ended || record.end_told) {
        (Kind::Broadcast, _, true) => RecoveryStep::RemoveParts,
        (Kind::Broadcast, _, false) if !record.has_far_end() => RecoveryStep::NotifyEnded(RESTARTED.to_owned()),
        (Kind::Recording, RecordingStage::Failed, _) => RecoveryStep::Keep,
        (Kind::Recording, RecordingStage::Stored, true) if sent.job => RecoveryStep::RemoveParts,
        (Kind::Recording, _, true) => RecoveryStep::Store,
        (_, _, false) => RecoveryStep::Recover(match &record.stop {
            Some(stop) => InterruptedRecording::Stopped(stop.reason.clone()),
            None if record.stage == RecordingStage::Stored => InterruptedRecording::Stopped(None),
            None if !records => InterruptedRecording::Stopped(Some(RECORDING_DISABLED.to_owned())),
            None => InterruptedRecording::Running,
        }),
    }
}

/// Since when the media of a recording that is not captured now are missed, in Unix milliseconds: of a new one since it
/// was asked for. `None`: it was being captured when the program ended, so the latest loss is its own.
#[must_use]
pub fn missed_since(record: &RecordingRecord) -> Option<u64> {
    if record.parts.last().is_some_and(|part| part.began_at.is_some() && part.ended.is_none()) {
        return None;
    }
    let known = |part: &RecordingPart| part.began_at.map(|began| part.ended.as_ref().map_or(began, |end| end.at));
    Some(record.parts.iter().filter_map(known).max().unwrap_or(record.taken_at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::rig::CaptureReport;
    use crate::protocol::access::RoomAccess;
    use crate::protocol::ids::{AccessToken, RecordingId, RoomId, RoomSid, RtmpUrl};
    use crate::protocol::request::{Output, RecordingInfo, Start};
    use crate::recording::journal::{PartEnd, StopRequest};

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
        let sent_both = |sent| SentNotices { ended: sent, job: sent };
        for (stage, stop, told, records, expected) in [
            (RecordingStage::Parts, None, false, true, recover(InterruptedRecording::Running)),
            (
                RecordingStage::Parts,
                None,
                false,
                false,
                recover(InterruptedRecording::Stopped(Some(RECORDING_DISABLED.into()))),
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
            (RecordingStage::Stored, Some(&asked), true, true, RecoveryStep::RemoveParts),
            // The notice of the end does not wait for the file.
            (RecordingStage::Parts, Some(&asked), true, true, RecoveryStep::Store),
            (RecordingStage::Failed, Some(&asked), true, true, RecoveryStep::Keep),
        ] {
            assert_eq!(
                plan(Kind::Recording, &record(stage, stop), sent_both(told), records),
                expected,
                "{stage:?} {stop:?} {told}"
            );
        }
        // More than a day later the outbox does not know it any more.
        let mut told = record(RecordingStage::Parts, Some(&asked));
        told.end_told = true;
        assert_eq!(plan(Kind::Recording, &told, sent_both(false), true), RecoveryStep::Store);
        // The program was killed while the hooks ran.
        let no_job = SentNotices { ended: true, job: false };
        assert_eq!(
            plan(Kind::Recording, &record(RecordingStage::Stored, Some(&asked)), no_job, true),
            RecoveryStep::Store
        );
        let broadcast = record(RecordingStage::Parts, None);
        assert_eq!(
            plan(Kind::Broadcast, &broadcast, SentNotices::default(), true),
            RecoveryStep::NotifyEnded(RESTARTED.into())
        );
        assert_eq!(plan(Kind::Broadcast, &broadcast, no_job, true), RecoveryStep::RemoveParts);
        // A record of this version has the far end.
        let start =
            Start { output: Output::Rtmp(RtmpUrl::parse("rtmp://h/live/key").unwrap()), ..broadcast.start().unwrap() };
        let mut broadcast = RecordingRecord::new(&start);
        assert_eq!(broadcast.start(), Ok(start));
        let untold =
            |broadcast: &RecordingRecord, records| plan(Kind::Broadcast, broadcast, SentNotices::default(), records);
        assert_eq!(untold(&broadcast, true), recover(InterruptedRecording::Running));
        let disabled = InterruptedRecording::Stopped(Some(RECORDING_DISABLED.into()));
        assert_eq!(untold(&broadcast, false), recover(disabled));
        broadcast.stop = Some(asked);
        assert_eq!(untold(&broadcast, true), recover(InterruptedRecording::Stopped(None)));
        assert_eq!(plan(Kind::Broadcast, &broadcast, no_job, true), RecoveryStep::RemoveParts);
    }

    #[test]
    fn the_media_of_a_recording_are_missed_since_its_capture_ended() {
        let part = |began_at, ended: Option<u64>| RecordingPart {
            file: String::new(),
            began_at,
            ended: ended.map(|at| PartEnd { at, cause: None, report: CaptureReport::default() }),
            ..RecordingPart::default()
        };
        let mut record = record(RecordingStage::Parts, None);
        record.taken_at = 50;
        assert_eq!(missed_since(&record), Some(50), "it was not opened yet");
        for (parts, since) in [
            (vec![part(None, None)], Some(50)),
            (vec![part(Some(100), None)], None),
            (vec![part(Some(100), Some(900))], Some(900)),
            (vec![part(Some(100), Some(900)), part(Some(950), None)], None),
            (vec![part(Some(100), Some(900)), part(None, None), part(None, None)], Some(900)),
            // An earlier run ended during the first part, and another one before the second had media.
            (vec![part(Some(100), None), part(None, None)], Some(100)),
        ] {
            record.parts = parts;
            assert_eq!(missed_since(&record), since, "{:?}", record.parts);
        }
    }
}
