//! The commands of an operator: list what this node holds, retry or drop a job or message, test the hooks.
//!
//! [`http`] answers programs that watch the node. For the commands,
//! everything is read from the files in `recorder.state_dir`, whether the daemon runs or not. Only `status` asks
//! a server, NATS, and `store check` the store.
//! Only `hooks test` starts processes: the operator's scripts. Listing changes no file, so the daemon's own functions,
//! which put unreadable files aside, are not used here.
//!
//! No secret is printed: rows hold selected fields only, and every text is scrubbed before it is printed.

mod cells;
mod error;
mod explain;
mod hls;
mod hooks;
pub mod http;
mod jobs;
mod list;
mod outbox;
mod output;
mod rebuild;
pub mod rows;
mod sample_payload;
mod state_dir;
mod status;
mod store;
pub mod table;

use std::io::Write;

use crate::cli::{Command, HlsCommand, HooksCommand, JobsCommand, OutboxCommand, RecordingsCommand, StoreCommand};
use crate::config::Config;
use crate::unix_time::unix_ms;

pub use error::AdminError;
pub use explain::explain;
use output::print;

/// Carries out a command and writes its result to `out`; returns false where hooks were tested and failed, which was
/// shown. `now`: Unix milliseconds.
///
/// # Errors
/// See [`AdminError`]; nothing was changed then.
pub fn answer(config: &Config, command: &Command, now: u64, out: &mut (dyn Write + Send)) -> Result<bool, AdminError> {
    if let Command::Hooks(HooksCommand::Test { stage, recording_id, json }) = command {
        return hooks::test(config, *stage, recording_id.as_ref(), *json, out);
    }
    if let Command::Store(StoreCommand::Check { url, format }) = command {
        return store::check(config, url.as_deref(), format, out);
    }
    if let Command::Status(format) = command {
        let text = status::show(config, format, unix_ms)?;
        print(out, &text)?;
        return Ok(true);
    }
    let text = text(config, command, now)?;
    print(out, &text)?;
    Ok(true)
}

/// The text to print, with a line feed at its end.
fn text(config: &Config, command: &Command, now: u64) -> Result<String, AdminError> {
    let state = state_dir::StateDir::open(config)?;
    match command {
        // Handled by `answer`, and by `main`.
        Command::Hooks(_)
        | Command::Store(StoreCommand::Check { .. })
        | Command::Status(_)
        | Command::Check { .. }
        | Command::Record(_)
        | Command::Size(_)
        | Command::Explain(_) => Ok(String::new()),
        Command::Recordings(RecordingsCommand::Rebuild { recording }) => rebuild::ask(config, &state, recording),
        Command::Recordings(RecordingsCommand::List(format)) => list::recordings(&state, format, now),
        Command::Store(StoreCommand::List(format)) => list::uploads(&state, format, now),
        Command::Store(StoreCommand::Drop { id }) => store::forget(&state, id),
        Command::Hls(HlsCommand::List(format)) => list::hls(&state, format, now),
        Command::Hls(HlsCommand::Drop { id }) => hls::forget(&state, id),
        Command::Jobs(JobsCommand::List(format)) => list::jobs(&state, format, now),
        Command::Jobs(JobsCommand::Retry { id }) => jobs::retry(&state, id, now),
        Command::Jobs(JobsCommand::Drop { id }) => jobs::forget(&state, id),
        Command::Outbox(OutboxCommand::List { all, format }) => list::outbox(&state, format, *all, now),
        Command::Outbox(OutboxCommand::Retry { id }) => outbox::retry(&state, id),
        Command::Outbox(OutboxCommand::Drop { id, letter }) => outbox::forget(&state, id, *letter),
    }
}
