//! The rows of `jobs list`. Pure.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::admin::cells::{age_cell, words};
use crate::admin::rows::status::{Moment, RowStatus};
use crate::admin::table::Row;
use crate::transcode::journal::{JobRecord, JobState, ProgressSnapshot as Progress};

/// A transcoding job that this node runs, has handed back or has given up.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct JobRow {
    pub id: String,
    pub room: Option<String>,
    #[serde(flatten)]
    pub status: RowStatus,
    /// How often the queue has delivered it.
    pub deliveries: Option<u64>,
    /// When this node received it last.
    pub taken_at: Option<u64>,
    pub age_s: Option<u64>,
    pub last_error: Option<String>,
    /// The directory in the store of `storage.fail` into which the raw file and the reports on it go.
    pub fail_store: Option<String>,
    /// ffmpeg's progress: percent 0…100, seconds of media per second, and seconds until the end.
    pub percent: Option<f64>,
    pub speed: Option<f64>,
    pub eta_s: Option<u64>,
}

impl JobRow {
    #[must_use]
    pub fn new(record: &JobRecord, moment: Moment) -> Self {
        let progress = record.progress.filter(|_| record.state == JobState::Working && moment.runs);
        let status = match record.state {
            JobState::Working if record.steps.done.is_some() => {
                RowStatus::new("unacknowledged", "done and told; the queue has not confirmed it yet, tried again")
            }
            JobState::Working if moment.runs => RowStatus::new("working", working(progress)),
            JobState::Working => {
                RowStatus::new("interrupted", "interrupted: the next start of the recorder goes on with it")
            }
            JobState::HandedBack { until } => {
                RowStatus::new("handed_back", format!("handed back, {}", moment.due(until)))
            }
            JobState::GivenUp { at } => RowStatus::new("given_up", format!("given up {} ago", words(moment.since(at)))),
            JobState::Remuxed { at } => RowStatus::new(
                "remuxed",
                format!("delivered as it was recorded {} ago; retry encodes it", words(moment.since(at))),
            ),
            JobState::Waiting { until, .. } => {
                RowStatus::new("waiting", format!("waits, next try {}", moment.due(until)))
            }
            JobState::Retry => RowStatus::new("retry", "to be tried again"),
        };
        let fail_store = record.steps.fail_store.clone();
        let status = match &fail_store {
            Some(at) => RowStatus { text: format!("{}; its raw file goes to {at}", status.text), ..status },
            None => status,
        };
        Self {
            id: record.recording_id.clone(),
            room: Some(record.room_id.clone()),
            status,
            fail_store,
            deliveries: Some(record.delivered),
            taken_at: Some(record.taken_at),
            age_s: Some(moment.since(record.taken_at).as_secs()),
            last_error: record.last_error.clone().or_else(|| record.steps.remuxed.clone()),
            percent: progress.map(|progress| progress.percent),
            speed: progress.and_then(|progress| progress.speed),
            eta_s: progress.and_then(|progress| progress.eta_s),
        }
    }

    /// A payload of the queue that is no job, received `at` (Unix milliseconds).
    #[must_use]
    pub fn undecodable(id: String, why: &str, path: &Path, at: u64, moment: Moment) -> Self {
        let status = RowStatus::new("undecodable", format!("no job, kept as {}", path.display()));
        Self {
            status,
            taken_at: Some(at),
            age_s: Some(moment.since(at).as_secs()),
            last_error: Some(why.to_owned()),
            ..Self::unreadable(id, why)
        }
    }

    #[must_use]
    pub fn unreadable(id: String, why: &str) -> Self {
        Self { id, status: RowStatus::unreadable(why), ..Self::default() }
    }
}

/// `working, 42.5 % (3.1×, 2m to go)`.
fn working(progress: Option<Progress>) -> String {
    let Some(Progress { percent, speed, eta_s, .. }) = progress else { return "working".to_owned() };
    let speed = speed.map(|speed| format!("{speed}×"));
    let eta = eta_s.map(|eta| format!("{} to go", words(Duration::from_secs(eta))));
    let rest: Vec<String> = speed.into_iter().chain(eta).collect();
    if rest.is_empty() {
        format!("working, {percent} %")
    } else {
        format!("working, {percent} % ({})", rest.join(", "))
    }
}

impl Row for JobRow {
    const HEADER: &'static [&'static str] = &["ID", "ROOM", "STATE", "DELIVERIES", "AGE", "LAST ERROR"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.room.clone().unwrap_or_default(),
            self.status.text.clone(),
            self.deliveries.map(|deliveries| deliveries.to_string()).unwrap_or_default(),
            age_cell(self.age_s),
            self.last_error.clone().unwrap_or_default(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::{RecorderId, RecordingId, RoomId, RoomSid};
    use crate::protocol::job::{Job, Work};
    use crate::protocol::request::RecordingInfo;

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

    #[test]
    fn the_state_of_a_job_says_what_comes_next() {
        let job = Job {
            info: info(),
            recorder_id: RecorderId::parse("node_01").unwrap(),
            work: Work::Merge { paths: Vec::new() },
        };
        let record = |state| {
            let record = JobRecord::new(&job, b"\x01", Some("$JS.ACK.x".into()), 3);
            let mut record = record.with_state(state, Some("no raw file".into()));
            record.taken_at = NOW - 187_200_000;
            record
        };
        let cells = JobRow::new(&record(JobState::GivenUp { at: NOW - 3_600_000 }), RUNS).cells();
        assert_eq!(cells, ["rec-1", "room01", "given up 1h ago", "3", "2d 4h", "no raw file"]);
        for (state, moment, word, text) in [
            (JobState::Working, RUNS, "working", "working"),
            (JobState::Working, STOPPED, "interrupted", "interrupted: the next start of the recorder goes on with it"),
            (JobState::HandedBack { until: NOW + 25_000 }, RUNS, "handed_back", "handed back, due in 25s"),
            (JobState::HandedBack { until: NOW - 65_000 }, RUNS, "handed_back", "handed back, due 1m 5s ago"),
            (JobState::Waiting { since: NOW, until: NOW + 25_000 }, RUNS, "waiting", "waits, next try due in 25s"),
            (JobState::Retry, STOPPED, "retry", "to be tried again"),
            (
                JobState::Remuxed { at: NOW - 65_000 },
                RUNS,
                "remuxed",
                "delivered as it was recorded 1m 5s ago; retry encodes it",
            ),
        ] {
            assert_eq!(JobRow::new(&record(state), moment).status, RowStatus::new(word, text));
        }
        let json = serde_json::to_value(JobRow::new(&record(JobState::Retry), RUNS)).unwrap();
        assert_eq!((&json["state"], &json["deliveries"]), (&"retry".into(), &3.into()));
        let mut working = record(JobState::Working);
        working.state = JobState::Working;
        working.progress = Some(Progress { percent: 42.5, speed: Some(3.1), eta_s: Some(125), at: NOW });
        assert_eq!(JobRow::new(&working, RUNS).status.text, "working, 42.5 % (3.1×, 2m 5s to go)");
        assert_eq!(JobRow::new(&working, STOPPED).percent, None);
        let none = JobRow::undecodable("x".into(), "why", Path::new("/a/x.bin"), NOW - 5_000, RUNS);
        assert_eq!(none.cells(), ["x", "", "no job, kept as /a/x.bin", "", "5s", "why"]);
        assert_eq!(JobRow::unreadable("x".into(), "why").cells(), ["x", "", "unreadable: why", "", "", ""]);
    }
}
