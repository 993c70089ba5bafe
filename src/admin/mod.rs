//! What an operator asks the program on its command line: what this node holds, what is to become of a job, and what the
//! hooks do.
//!
//! Everything is answered from the files in `recorder.state_dir`, so it does not matter whether the daemon runs. No server
//! is asked. Only trying the hooks starts anything: the operator's scripts, in processes of their own. Listing changes no file: the daemon's own functions put aside what they cannot read, and are not used here.
//!
//! No secret leaves: rows hold chosen fields only, and every text is scrubbed once more before it is printed.

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

use crate::cli::{Asked, HooksAsked, JobsAsked, ListFormat, OutboxAsked, RecordingsAsked};
use crate::config::Config;
use crate::protocol::ids::RecordingId;

/// Why there is no answer.
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

/// Does what was asked, and writes to `out` what it came to; `false`: what was tried has failed, and that was shown. `now`:
/// Unix milliseconds.
///
/// # Errors
/// See [`AdminError`]; nothing was changed then.
pub fn answer(config: &Config, asked: &Asked, now: u64, out: &mut (dyn Write + Send)) -> Result<bool, AdminError> {
    if let Asked::Hooks(HooksAsked::Test { stage, recording_id, json }) = asked {
        return hooks::test(config, *stage, recording_id.as_ref(), *json, out);
    }
    let text = text(config, asked, now)?;
    print(out, &text)?;
    Ok(true)
}

fn print(out: &mut (dyn Write + Send), text: &str) -> Result<(), AdminError> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Who reads has seen enough (`| head`).
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(AdminError::Output(error)),
        _ => Ok(()),
    }
}

/// What is to be printed, with a line feed at its end.
fn text(config: &Config, asked: &Asked, now: u64) -> Result<String, AdminError> {
    let state = state_dir::StateDir::open(config)?;
    match asked {
        // Shows its steps as they come.
        Asked::Hooks(_) => Ok(String::new()),
        Asked::Recordings(RecordingsAsked::List(format)) => list::recordings(&state, format, now),
        Asked::Jobs(JobsAsked::List(format)) => list::jobs(&state, format, now),
        Asked::Jobs(JobsAsked::Retry { id }) => jobs::retry(&state, id, now),
        Asked::Jobs(JobsAsked::Drop { id }) => jobs::forget(&state, id),
        Asked::Outbox(OutboxAsked::List { all, format }) => list::outbox(&state, format, *all, now),
        Asked::Outbox(OutboxAsked::Retry { id }) => outbox::retry(&state, id),
        Asked::Outbox(OutboxAsked::Drop { id, letter }) => outbox::forget(&state, id, *letter),
    }
}

impl ListFormat {
    /// Rows as a table, or as JSON with what all lists share.
    fn show<R: table::Row>(&self, state: &state_dir::StateDir, name: &'static str, rows: &[R]) -> String {
        if self.json { list::json(state, name, rows) } else { table::table(rows) }
    }
}
