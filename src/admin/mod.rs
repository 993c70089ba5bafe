//! The commands of an operator: list what this node holds, retry or drop a job or message, test the hooks.
//!
//! Everything is read from the files in `recorder.state_dir`, whether the daemon runs or not. No server is contacted.
//! Only `hooks test` starts processes: the operator's scripts. Listing changes no file, so the daemon's own functions,
//! which put unreadable files aside, are not used here.
//!
//! No secret is printed: rows hold selected fields only, and every text is scrubbed before it is printed.

mod cells;
mod hooks;
mod jobs;
mod list;
mod outbox;
pub mod rows;
mod sample_payload;
mod state_dir;
pub mod table;

use std::io::{self, Write};
use std::path::PathBuf;

use crate::cli::{Command, HooksCommand, JobsCommand, ListFormat, OutboxCommand, RecordingsCommand};
use crate::config::Config;
use crate::protocol::ids::RecordingId;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error(
        "there is no {path} (recorder.state_dir): no recorder has run with this configuration yet, or from this working directory",
        path = .0.display()
    )]
    NoState(PathBuf),
    #[error("cannot read {path}: {source}; ask as the user that the recorder runs as", path = .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("this node holds no job {id} (there is no {path}); `jobs list` shows those it holds", path = .path.display())]
    NoJob { id: RecordingId, path: PathBuf },
    #[error("the record of job {id} cannot be read: {why} ({path})", path = .path.display())]
    NoRecord { id: RecordingId, path: PathBuf, why: String },
    #[error("job {id}: {why}")]
    Refused { id: RecordingId, why: String },
    #[error("job {id}: cannot {action} {path}: {source}", path = .path.display())]
    Disk { id: RecordingId, action: &'static str, path: PathBuf, source: io::Error },
    #[error("this node has nothing to tell of {id} (there is no {path}); `outbox list` shows what it has", path = .path.display())]
    NoLetters { id: RecordingId, path: PathBuf },
    #[error("outbox {id}: {why}")]
    OutboxRefused { id: RecordingId, why: String },
    #[error("outbox {id}: cannot write {path}: {source}", path = .path.display())]
    OutboxDisk { id: RecordingId, path: PathBuf, source: io::Error },
    #[error(
        "this node knows no recording {id}: no job, no record in recorder.state_dir, and no {id}_raw.mkv, {id}_raw.mp4 or \
         {id}.mp4 under {main_path}",
        main_path = main_path.display()
    )]
    NoRecording { id: RecordingId, main_path: PathBuf },
    #[error("the hooks cannot be run: {0}")]
    Start(String),
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

/// Carries out a command and writes its result to `out`; returns false where hooks were tested and failed, which was
/// shown. `now`: Unix milliseconds.
///
/// # Errors
/// See [`AdminError`]; nothing was changed then.
pub fn answer(config: &Config, command: &Command, now: u64, out: &mut (dyn Write + Send)) -> Result<bool, AdminError> {
    if let Command::Hooks(HooksCommand::Test { stage, recording_id, json }) = command {
        return hooks::test(config, *stage, recording_id.as_ref(), *json, out);
    }
    let text = text(config, command, now)?;
    print(out, &text)?;
    Ok(true)
}

fn print(out: &mut (dyn Write + Send), text: &str) -> Result<(), AdminError> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // The reader has closed the pipe, as `| head` does.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(AdminError::Output(error)),
        _ => Ok(()),
    }
}

/// The text to print, with a line feed at its end.
fn text(config: &Config, command: &Command, now: u64) -> Result<String, AdminError> {
    let state = state_dir::StateDir::open(config)?;
    match command {
        // Handled by `answer`: it prints while it runs.
        Command::Hooks(_) => Ok(String::new()),
        Command::Recordings(RecordingsCommand::List(format)) => list::recordings(&state, format, now),
        Command::Jobs(JobsCommand::List(format)) => list::jobs(&state, format, now),
        Command::Jobs(JobsCommand::Retry { id }) => jobs::retry(&state, id, now),
        Command::Jobs(JobsCommand::Drop { id }) => jobs::forget(&state, id),
        Command::Outbox(OutboxCommand::List { all, format }) => list::outbox(&state, format, *all, now),
        Command::Outbox(OutboxCommand::Retry { id }) => outbox::retry(&state, id),
        Command::Outbox(OutboxCommand::Drop { id, letter }) => outbox::forget(&state, id, *letter),
    }
}

impl ListFormat {
    /// The rows as a table, or as JSON.
    fn show<R: table::Row>(&self, state: &state_dir::StateDir, name: &'static str, rows: &[R]) -> String {
        if self.json { list::json(state, name, rows) } else { table::table(rows) }
    }
}
