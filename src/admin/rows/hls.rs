//! The rows of `hls list`. Pure.

use serde::Serialize;

use crate::admin::cells::{age_cell, words};
use crate::admin::rows::status::{Moment, RowStatus};
use crate::admin::table::Row;
use crate::hls::record::HlsRecord;

/// A recording that is not there as HLS yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct HlsRow {
    pub id: String,
    pub room: Option<String>,
    #[serde(flatten)]
    pub status: RowStatus,
    pub mp4: Option<String>,
    pub added_at: Option<u64>,
    pub age_s: Option<u64>,
    pub failures: Option<u32>,
    pub next_try: Option<u64>,
    pub last_error: Option<String>,
}

impl HlsRow {
    #[must_use]
    pub fn new(record: &HlsRecord, moment: Moment) -> Self {
        Self {
            id: record.recording_id.clone(),
            room: Some(record.room_id.clone()),
            status: status(record, moment),
            mp4: Some(record.mp4.display().to_string()),
            added_at: Some(record.added_at),
            age_s: Some(moment.since(record.added_at).as_secs()),
            failures: Some(record.failures),
            next_try: record.next_try,
            last_error: record.last_error.clone(),
        }
    }

    #[must_use]
    pub fn unreadable(id: String, why: &str) -> Self {
        Self { id, status: RowStatus::unreadable(why), ..Self::default() }
    }
}

fn status(record: &HlsRecord, moment: Moment) -> RowStatus {
    match record.next_try {
        _ if !moment.runs => RowStatus::new("interrupted", "the next start of the recorder goes on with it".to_owned()),
        Some(at) if at > moment.now => {
            RowStatus::new("waiting", format!("waits, next try in {}", words(moment.until(at))))
        }
        _ if record.files.is_some() => RowStatus::new("delivering", "made, on its way into the store".to_owned()),
        _ => RowStatus::new("making", "being made, or waits for others".to_owned()),
    }
}

impl Row for HlsRow {
    const HEADER: &'static [&'static str] = &["ID", "ROOM", "STATE", "AGE", "FAILURES", "LAST ERROR"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.room.clone().unwrap_or_default(),
            self.status.text.clone(),
            age_cell(self.age_s),
            self.failures.map(|failures| failures.to_string()).unwrap_or_default(),
            self.last_error.clone().unwrap_or_default(),
        ]
    }
}
