//! The rows of `store list`. Pure.

use std::time::Duration;

use serde::Serialize;

use crate::admin::cells::{age_cell, words};
use crate::admin::rows::status::{Moment, RowStatus};
use crate::admin::table::Row;
use crate::store::part_plan::PartPlan;
use crate::store::record::{UploadKind, UploadRecord};

/// A file on its way into a store, or in it with something still to be done.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct UploadRow {
    pub id: String,
    pub room: Option<String>,
    #[serde(flatten)]
    pub status: RowStatus,
    /// Where it goes, without credentials.
    pub object: Option<String>,
    /// `mp4` or `raw`.
    pub kind: Option<UploadKind>,
    pub file: Option<String>,
    pub added_at: Option<u64>,
    pub age_s: Option<u64>,
    pub failures: Option<u32>,
    pub next_try: Option<u64>,
    pub last_error: Option<String>,
}

impl UploadRow {
    #[must_use]
    pub fn new(record: &UploadRecord, moment: Moment) -> Self {
        Self {
            id: record.recording_id.clone(),
            room: Some(record.room_id.clone()),
            status: status(record, moment),
            object: Some(format!("{}/{}", record.store, record.key)),
            kind: Some(record.kind),
            file: Some(record.file.display().to_string()),
            added_at: Some(record.added_at),
            age_s: Some(moment.since(record.added_at).as_secs()),
            failures: Some(record.failures),
            next_try: record.next_try.filter(|_| record.stored.is_none()),
            last_error: record.last_error.clone(),
        }
    }

    #[must_use]
    pub fn unreadable(id: String, why: &str) -> Self {
        Self { id, status: RowStatus::unreadable(why), ..Self::default() }
    }
}

fn status(record: &UploadRecord, moment: Moment) -> RowStatus {
    if record.stored.is_some() {
        let text = match record.local_until() {
            _ if record.pictures_due => "stored; poster and thumbnails follow".to_owned(),
            Some(until) if until > moment.now => {
                format!("stored; the local copy goes in {}", words(moment.until(until)))
            }
            Some(_) => "stored; the local copy goes once its job is over".to_owned(),
            None => "stored".to_owned(),
        };
        return RowStatus::new("stored", text);
    }
    let sent = record.transfer.as_ref().map(|transfer| {
        let parts = PartPlan::with(transfer.size, transfer.part_size).count();
        format!(", {} of {parts} parts sent", transfer.parts.len())
    });
    let sent = sent.unwrap_or_default();
    match record.next_try {
        _ if !moment.runs => {
            RowStatus::new("interrupted", format!("the next start of the recorder goes on with it{sent}"))
        }
        Some(at) if at > moment.now => {
            let wait: Duration = moment.until(at);
            RowStatus::new("waiting", format!("waits, next try in {}{sent}", words(wait)))
        }
        _ => RowStatus::new("uploading", format!("on its way{sent}")),
    }
}

impl Row for UploadRow {
    const HEADER: &'static [&'static str] = &["ID", "FILE", "ROOM", "STATE", "AGE", "FAILURES", "LAST ERROR"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            match self.kind {
                Some(UploadKind::Mp4) => "MP4".to_owned(),
                Some(UploadKind::Raw) => "raw".to_owned(),
                None => String::new(),
            },
            self.room.clone().unwrap_or_default(),
            self.status.text.clone(),
            age_cell(self.age_s),
            self.failures.map(|failures| failures.to_string()).unwrap_or_default(),
            self.last_error.clone().unwrap_or_default(),
        ]
    }
}
