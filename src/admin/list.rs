//! The lists of recordings, jobs, messages and uploads.

use serde_json::{Value, json};

use crate::admin::error::AdminError;
use crate::admin::rows::{HlsRow, JobRow, MessageRow, Moment, RecordingRow, UploadRow};
use crate::admin::state_dir::{Readable, RecordingState, StateDir, Undecodable};
use crate::admin::table::{Row, table};
use crate::cli::ListFormat;
use crate::protocol::request::Kind;
use crate::telemetry::redact;

fn moment(state: &StateDir, now: u64) -> Moment {
    Moment { now, runs: state.runs() }
}

/// Sorts oldest first; unreadable rows, which have no age, last.
fn by_age<R>(mut rows: Vec<R>, at: impl Fn(&R) -> Option<u64>) -> Vec<R> {
    rows.sort_by_key(|row| at(row).unwrap_or(u64::MAX));
    rows
}

/// The recordings and broadcasts that are not handed over yet, and a last line on whether the daemon runs.
///
/// # Errors
/// Where a directory cannot be read.
pub fn recordings(state: &StateDir, format: &ListFormat, now: u64) -> Result<String, AdminError> {
    let (rows, _secrets) = recording_rows(state, now)?;
    let mut text = format.show(state, "recordings", &rows);
    if !format.json {
        text.push_str(&daemon(state));
    }
    Ok(text)
}

/// The rows, and what keeps the secrets out of what is shown of them.
fn recording_rows(
    state: &StateDir,
    now: u64,
) -> Result<(Vec<RecordingRow>, Vec<redact::SecretRegistration>), AdminError> {
    let (mut rows, mut secrets) = (Vec::new(), Vec::new());
    for kind in [Kind::Recording, Kind::Broadcast] {
        for Readable { id, read } in state.recordings(kind)? {
            rows.push(match read {
                Ok(RecordingState { info, record, sizes }) => {
                    // No row holds the token, but the cause of a break may quote an address with it.
                    secrets.extend(
                        record.start().ok().and_then(|start| Some(redact::register(start.access.sent()?.expose()))),
                    );
                    RecordingRow::new(kind, &info, &record, &sizes, &state.temporary_dir, moment(state, now))
                }
                Err(why) => RecordingRow::unreadable(kind, id, &why),
            });
        }
    }
    Ok((by_age(rows, |row| row.taken_at), secrets))
}

/// # Errors
/// Where the directory cannot be read.
pub fn jobs(state: &StateDir, format: &ListFormat, now: u64) -> Result<String, AdminError> {
    Ok(format.show(state, "jobs", &job_rows(state, now)?))
}

fn job_rows(state: &StateDir, now: u64) -> Result<Vec<JobRow>, AdminError> {
    let row = |found: Readable<_>| match found.read {
        Ok(record) => JobRow::new(&record, moment(state, now)),
        Err(why) => JobRow::unreadable(found.id, &why),
    };
    let mut rows: Vec<_> = state.jobs()?.into_iter().map(row).collect();
    let undecodable =
        |found: Undecodable| JobRow::undecodable(found.id, &found.why, &found.path, found.at, moment(state, now));
    rows.extend(state.undecodable()?.into_iter().map(undecodable));
    Ok(by_age(rows, |row| row.taken_at))
}

/// The MP4s on their way into the store.
///
/// # Errors
/// Where the directory cannot be read.
pub fn uploads(state: &StateDir, format: &ListFormat, now: u64) -> Result<String, AdminError> {
    let row = |found: Readable<_>| match found.read {
        Ok(record) => UploadRow::new(&record, moment(state, now)),
        Err(why) => UploadRow::unreadable(found.id, &why),
    };
    let rows: Vec<_> = state.uploads()?.into_iter().map(row).collect();
    Ok(format.show(state, "uploads", &by_age(rows, |row| row.added_at)))
}

/// The recordings that become HLS.
///
/// # Errors
/// Where the directory cannot be read.
pub fn hls(state: &StateDir, format: &ListFormat, now: u64) -> Result<String, AdminError> {
    let row = |found: Readable<_>| match found.read {
        Ok(record) => HlsRow::new(&record, moment(state, now)),
        Err(why) => HlsRow::unreadable(found.id, &why),
    };
    let rows: Vec<_> = state.hls()?.into_iter().map(row).collect();
    Ok(format.show(state, "hls", &by_age(rows, |row| row.added_at)))
}

/// The messages of the outbox; `all`: delivered and dropped ones too.
///
/// # Errors
/// Where the directory cannot be read.
pub fn outbox(state: &StateDir, format: &ListFormat, all: bool, now: u64) -> Result<String, AdminError> {
    Ok(format.show(state, "outbox", &message_rows(state, all, now)?))
}

fn message_rows(state: &StateDir, all: bool, now: u64) -> Result<Vec<MessageRow>, AdminError> {
    let mut rows = Vec::new();
    for Readable { id, read } in state.outbox()? {
        match read {
            Ok(stored) => {
                let row = |message| MessageRow::new(&id, message, stored.is_obsolete(message), moment(state, now));
                rows.extend(stored.messages.iter().map(row));
            }
            Err(why) => rows.push(MessageRow::unreadable(id, &why)),
        }
    }
    rows.retain(|row| all || !matches!(row.status.state, "delivered" | "dropped"));
    Ok(by_age(rows, |row| row.added_at))
}

/// All three lists for the node's page, each with at most `most` rows, and how many there are.
///
/// # Errors
/// Where a directory cannot be read.
pub fn all(state: &StateDir, most: usize, now: u64) -> Result<Value, AdminError> {
    fn first<R: Row>(rows: &[R], most: usize) -> Value {
        let shown: Vec<Value> =
            rows.iter().take(most).map(|row| serde_json::to_value(row).unwrap_or_default()).collect();
        json!({"count": rows.len(), "rows": shown})
    }
    let (recordings, _secrets) = recording_rows(state, now)?;
    let mut lists = json!({
        "recordings": first(&recordings, most),
        "jobs": first(&job_rows(state, now)?, most),
        "outbox": first(&message_rows(state, false, now)?, most),
    });
    scrub(&mut lists);
    Ok(lists)
}

/// A line on whether the daemon runs.
fn daemon(state: &StateDir) -> String {
    let (recorder, dir) = (&state.recorder, state.dir.display());
    match &state.daemon {
        Some(holder) => format!("the recorder {recorder} runs ({holder}); its state is in {dir}\n"),
        None => format!("the recorder {recorder} does not run; its state is in {dir}\n"),
    }
}

/// The rows under `name`, with the node's id and state directory.
pub fn json<R: Row>(state: &StateDir, name: &'static str, rows: &[R]) -> String {
    let mut told = json!({
        "recorder": state.recorder,
        "state_dir": state.dir.display().to_string(),
        "daemon": state.daemon,
        // Rows have keys of text and values that JSON can hold, so this cannot fail.
        name: rows.iter().map(|row| serde_json::to_value(row).unwrap_or_default()).collect::<Vec<_>>(),
    });
    scrub(&mut told);
    format!("{told:#}\n")
}

/// Masks what looks like a secret in every text of `value`.
pub(super) fn scrub(value: &mut Value) {
    match value {
        Value::String(text) => *text = redact::scrub(text).into_owned(),
        Value::Array(values) => values.iter_mut().for_each(scrub),
        Value::Object(fields) => fields.values_mut().for_each(scrub),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

impl ListFormat {
    /// The rows as a table, or as JSON.
    fn show<R: Row>(&self, state: &StateDir, name: &'static str, rows: &[R]) -> String {
        if self.json { json(state, name, rows) } else { table(rows) }
    }
}
