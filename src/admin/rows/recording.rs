//! The rows of `recordings list`. Pure.

use std::path::Path;

use serde::Serialize;

use crate::admin::cells::age_cell;
use crate::admin::rows::status::{Moment, RowStatus};
use crate::admin::table::Row;
use crate::protocol::request::{Kind, RecordingInfo};
use crate::recording::journal::{RecordingPart, RecordingRecord, RecordingStage};
use crate::storage::disk_space::ByteSize;

/// A recording or broadcast that was accepted and is not handed over yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RecordingRow {
    pub id: String,
    pub kind: &'static str,
    pub room: Option<String>,
    #[serde(flatten)]
    pub status: RowStatus,
    pub taken_at: Option<u64>,
    pub age_s: Option<u64>,
    pub parts: Vec<PartRow>,
    /// The size of its parts on disk.
    pub bytes: u64,
}

/// A part of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartRow {
    pub file: String,
    pub began_at: Option<u64>,
    pub ended_at: Option<u64>,
    /// How it ended, or what it is doing.
    pub end: String,
    /// `None`: the file does not exist.
    pub bytes: Option<u64>,
}

impl RecordingRow {
    /// `sizes`: the parts' bytes on disk. `temporary_dir`: the directory of the parts.
    #[must_use]
    pub fn new(
        kind: Kind,
        info: &RecordingInfo,
        record: &RecordingRecord,
        sizes: &[Option<u64>],
        temporary_dir: &Path,
        moment: Moment,
    ) -> Self {
        let sizes = sizes.iter().copied().chain(std::iter::repeat(None));
        let parts: Vec<PartRow> = record
            .parts
            .iter()
            .zip(sizes)
            .enumerate()
            .map(|(n, (part, bytes))| PartRow {
                file: part.file.clone(),
                began_at: part.began_at,
                ended_at: part.ended.as_ref().map(|end| end.at),
                end: end_of(part, n + 1 == record.parts.len(), record, moment),
                bytes,
            })
            .collect();
        Self {
            id: info.recording_id.to_string(),
            kind: kind.as_str(),
            room: Some(info.room_id.to_string()),
            status: status(kind, record, temporary_dir, moment),
            taken_at: Some(record.taken_at),
            age_s: Some(moment.since(record.taken_at).as_secs()),
            bytes: parts.iter().filter_map(|part| part.bytes).sum(),
            parts,
        }
    }

    #[must_use]
    pub fn unreadable(kind: Kind, id: String, why: &str) -> Self {
        Self { id, kind: kind.as_str(), status: RowStatus::unreadable(why), ..Self::default() }
    }
}

fn end_of(part: &RecordingPart, last: bool, record: &RecordingRecord, moment: Moment) -> String {
    match &part.ended {
        Some(end) => end.cause.clone().unwrap_or_else(|| "ended".to_owned()),
        None if !(last && moment.runs && record.stage == RecordingStage::Parts) => {
            "cut off with the recorder".to_owned()
        }
        None if record.stop.is_some() => "closing".to_owned(),
        None if part.began_at.is_none() => "opening".to_owned(),
        None => "capturing".to_owned(),
    }
}

fn status(kind: Kind, record: &RecordingRecord, temporary_dir: &Path, moment: Moment) -> RowStatus {
    match (record.stage, &record.stop) {
        (RecordingStage::Stored, _) => match (&record.hooked, &record.storing) {
            (None, None) => RowStatus::new("stored", "stored"),
            (None, Some(failed)) => {
                let (due, why) = (moment.due(failed.next_try), &failed.last_error);
                RowStatus::new(
                    "storing_failed",
                    format!("stored here; the raw file is not in the store of storage.raw yet, next try {due}: {why}"),
                )
            }
            (Some(hooked), _) => {
                let (due, why) = (moment.due(hooked.next_try), &hooked.last_error);
                RowStatus::new("hooks_failed", format!("stored; post_recording hooks failed, next try {due}: {why}"))
            }
        },
        (RecordingStage::Failed, _) => {
            RowStatus::new("failed", format!("failed: its parts are kept at {}", temporary_dir.display()))
        }
        (RecordingStage::Parts, Some(_)) if record.end_told => match &record.storing {
            None => RowStatus::new("storing", "ended; the raw file is being stored"),
            Some(failed) => {
                let (due, why) = (moment.due(failed.next_try), &failed.last_error);
                RowStatus::new(
                    "storing_failed",
                    format!("ended; the raw file is not stored yet, next try {due}: {why}"),
                )
            }
        },
        (RecordingStage::Parts, Some(stop)) => {
            let cause = stop.reason.as_deref().unwrap_or("the server asked for it");
            RowStatus::new("stopping", format!("stopping: {cause}"))
        }
        (RecordingStage::Parts, None) => going_on(kind, record, moment),
    }
}

/// The status of a recording that is not to end.
fn going_on(kind: Kind, record: &RecordingRecord, moment: Moment) -> RowStatus {
    let n = record.parts.len();
    match (record.parts.last(), kind) {
        _ if !moment.runs => RowStatus::new("interrupted", "interrupted: the next start of the recorder takes it up"),
        (None, Kind::Broadcast) if record.began_at.is_some() => RowStatus::new("broadcasting", "broadcasting"),
        (None, _) => RowStatus::new("opening", "opening"),
        (Some(part), _) if part.ended.is_some() => RowStatus::new("joining", format!("joining again after part {n}")),
        (Some(part), _) if part.began_at.is_none() => RowStatus::new("opening", format!("opening part {n}")),
        (Some(_), _) => RowStatus::new("capturing", format!("capturing part {n}")),
    }
}

impl Row for RecordingRow {
    const HEADER: &'static [&'static str] = &["ID", "KIND", "ROOM", "STATE", "AGE", "SIZE", "PARTS"];

    fn cells(&self) -> Vec<String> {
        let parts: Vec<String> =
            self.parts.iter().enumerate().map(|(n, part)| format!("{}: {}", n + 1, part.end)).collect();
        vec![
            self.id.clone(),
            self.kind.to_owned(),
            self.room.clone().unwrap_or_default(),
            self.status.text.clone(),
            age_cell(self.age_s),
            ByteSize(self.bytes).to_string(),
            parts.join("; "),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::rig;
    use crate::protocol::access::RoomAccess;
    use crate::protocol::ids::{AccessToken, RecordingId, RoomId, RoomSid};
    use crate::protocol::request::{Output, Start};
    use crate::recording::journal::{FailedTry, PartEnd, StopRequest};

    const NOW: u64 = 1_800_000_000_000;
    const RUNS: Moment = Moment { now: NOW, runs: true };
    const STOPPED: Moment = Moment { now: NOW, runs: false };

    fn info() -> RecordingInfo {
        RecordingInfo {
            room_table_id: 7,
            room_id: RoomId::parse("room01").unwrap(),
            room_sid: RoomSid::default(),
            recording_id: RecordingId::parse("rec-1").unwrap(),
        }
    }

    fn stop(reason: Option<&str>) -> StopRequest {
        StopRequest { reason: reason.map(str::to_owned) }
    }

    fn record(stage: RecordingStage, stop: Option<StopRequest>, parts: Vec<RecordingPart>) -> RecordingRecord {
        let access = RoomAccess::Token(AccessToken::parse("very-secret-token").unwrap());
        let mut record = RecordingRecord::new(&Start { info: info(), access, output: Output::File });
        record.taken_at = NOW - 192_000;
        record.stage = stage;
        record.stop = stop;
        record.parts = parts;
        record
    }

    fn ended(cause: Option<&str>) -> PartEnd {
        PartEnd { at: NOW - 50_000, cause: cause.map(str::to_owned), report: rig::CaptureReport::default() }
    }

    fn part(n: usize, began: bool, ended: Option<PartEnd>) -> RecordingPart {
        RecordingPart {
            file: format!("rec-1_raw.part{n}.mkv"),
            began_at: began.then_some(NOW - 100_000),
            ended,
            ..RecordingPart::default()
        }
    }

    fn row(kind: Kind, record: &RecordingRecord, moment: Moment) -> RecordingRow {
        RecordingRow::new(kind, &info(), record, &[Some(1_048_576), None], Path::new("/tmp/parts"), moment)
    }

    #[test]
    fn a_recording_that_goes_on_shows_how_each_part_ended() {
        let record = record(
            RecordingStage::Parts,
            None,
            vec![part(1, true, Some(ended(Some("Chrome ended")))), part(2, true, None)],
        );
        let row = row(Kind::Recording, &record, RUNS);
        assert_eq!(
            row.cells(),
            ["rec-1", "recording", "room01", "capturing part 2", "3m 12s", "1 MiB", "1: Chrome ended; 2: capturing"]
        );
        let json = serde_json::to_string(&row).unwrap();
        assert!(!json.contains("very-secret"), "{json}");
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (&json["state"], &json["age_s"], &json["bytes"]),
            (&"capturing".into(), &192.into(), &1_048_576.into())
        );
        assert_eq!(json["parts"][0]["end"], "Chrome ended");
        assert!(json["parts"][1]["bytes"].is_null() && json["parts"][1]["ended_at"].is_null(), "{json}");
    }

    #[test]
    fn the_state_of_a_recording_follows_its_record_and_the_daemon() {
        let open = || vec![part(1, true, None)];
        let broken = || vec![part(1, true, Some(ended(Some("Chrome ended"))))];
        let of = |stage, stop, parts: Vec<RecordingPart>, moment| {
            let row = row(Kind::Recording, &record(stage, stop, parts), moment);
            (row.status.state, row.status.text, row.parts.last().map(|part| part.end.clone()).unwrap_or_default())
        };
        for (seen, expected) in [
            (of(RecordingStage::Parts, None, vec![], RUNS), ("opening", "opening", "")),
            (
                of(RecordingStage::Parts, None, vec![part(1, false, None)], RUNS),
                ("opening", "opening part 1", "opening"),
            ),
            (of(RecordingStage::Parts, None, open(), RUNS), ("capturing", "capturing part 1", "capturing")),
            (
                of(RecordingStage::Parts, None, broken(), RUNS),
                ("joining", "joining again after part 1", "Chrome ended"),
            ),
            (
                of(RecordingStage::Parts, None, open(), STOPPED),
                ("interrupted", "interrupted: the next start of the recorder takes it up", "cut off with the recorder"),
            ),
            (
                of(RecordingStage::Parts, Some(stop(None)), open(), RUNS),
                ("stopping", "stopping: the server asked for it", "closing"),
            ),
            (
                of(
                    RecordingStage::Parts,
                    Some(stop(Some("disk full"))),
                    vec![part(1, true, Some(ended(None)))],
                    STOPPED,
                ),
                ("stopping", "stopping: disk full", "ended"),
            ),
            (
                of(RecordingStage::Stored, Some(stop(None)), vec![part(1, true, Some(ended(None)))], RUNS),
                ("stored", "stored", "ended"),
            ),
            (
                of(RecordingStage::Failed, Some(stop(None)), open(), RUNS),
                ("failed", "failed: its parts are kept at /tmp/parts", "cut off with the recorder"),
            ),
        ] {
            assert_eq!((seen.0, seen.1.as_str(), seen.2.as_str()), expected);
        }
        let mut told = record(RecordingStage::Parts, Some(stop(None)), vec![part(1, true, Some(ended(None)))]);
        told.end_told = true;
        let text = |record: &RecordingRecord| row(Kind::Recording, record, RUNS).status.text;
        assert_eq!(text(&told), "ended; the raw file is being stored");
        told.storing = Some(FailedTry { failures: 2, last_error: "no space".into(), next_try: NOW + 25_000 });
        assert_eq!(text(&told), "ended; the raw file is not stored yet, next try due in 25s: no space");
        let mut broadcast = record(RecordingStage::Parts, None, vec![]);
        broadcast.began_at = Some(NOW);
        assert_eq!(row(Kind::Broadcast, &broadcast, RUNS).status.text, "broadcasting");
        let unreadable = RecordingRow::unreadable(Kind::Recording, "x".into(), "EOF at line 1");
        assert_eq!(unreadable.cells(), ["x", "recording", "", "unreadable: EOF at line 1", "", "0 B", ""]);
    }
}
