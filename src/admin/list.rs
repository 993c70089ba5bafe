//! The three lists of recordings, jobs and messages.

use serde_json::{Value, json};

use crate::admin::error::AdminError;
use crate::admin::rows::{JobRow, MessageRow, Moment, RecordingRow};
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
    let mut text = format.show(state, "recordings", &by_age(rows, |row| row.taken_at));
    if !format.json {
        text.push_str(&daemon(state));
    }
    Ok(text)
}

/// # Errors
/// Where the directory cannot be read.
pub fn jobs(state: &StateDir, format: &ListFormat, now: u64) -> Result<String, AdminError> {
    let row = |found: Readable<_>| match found.read {
        Ok(record) => JobRow::new(&record, moment(state, now)),
        Err(why) => JobRow::unreadable(found.id, &why),
    };
    let mut rows: Vec<_> = state.jobs()?.into_iter().map(row).collect();
    let undecodable =
        |found: Undecodable| JobRow::undecodable(found.id, &found.why, &found.path, found.at, moment(state, now));
    rows.extend(state.undecodable()?.into_iter().map(undecodable));
    Ok(format.show(state, "jobs", &by_age(rows, |row| row.taken_at)))
}

/// The messages of the outbox; `all`: delivered and dropped ones too.
///
/// # Errors
/// Where the directory cannot be read.
pub fn outbox(state: &StateDir, format: &ListFormat, all: bool, now: u64) -> Result<String, AdminError> {
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
    Ok(format.show(state, "outbox", &by_age(rows, |row| row.added_at)))
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
fn scrub(value: &mut Value) {
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
