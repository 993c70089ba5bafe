//! `size`: how many recordings this machine holds at once.
//!
//! In: the command line ([`crate::cli::size`]) and the configuration. Out: a table ([`advice`]), and with `--write` another
//! `recorder.max_limit` ([`config_file`], [`config_edit`]). [`mod@run`] goes from one to the other: [`scene_run`] has real
//! rigs ([`rigs`]) record built-in pages ([`scene_page`]), one more after the other as [`search`] wants them, and looks at
//! what each loses ([`window`]) and costs ([`meter`]), also beside [`transcodes`]. Nothing runs while something is recorded
//! on this machine ([`others`]), and nothing is left ([`place`], [`leftover_files`]).

mod advice;
mod config_edit;
mod config_file;
mod leftover_files;
mod meter;
mod others;
mod outcome;
mod place;
mod rigs;
mod run;
mod scene_page;
mod scene_run;
mod search;
mod transcodes;
mod window;

use std::time::Duration;

use crate::page_recording::console::Console;
use crate::page_recording::signals::StopRequests;
use crate::sizing::outcome::{Ending, SizeFailure};
use crate::telemetry::{self, redact};

pub use place::remove_all_leftovers;
pub use run::Request;

/// How long blocking tasks may take to end, when everything else has ended.
const LAST_GRACE: Duration = Duration::from_secs(1);

/// Carries out a `size`; returns the exit code of the process.
#[must_use]
pub fn execute(request: &Request<'_>) -> u8 {
    let mut console = Console::new(request.arguments.json, request.arguments.verbose);
    if request.arguments.verbose
        && let Err(error) = telemetry::init_console(tracing::Level::INFO)
    {
        console.note(format!("there is no log: {error:#}"));
    }
    let ended = tokio::runtime::Builder::new_multi_thread().enable_all().build().map(|runtime| {
        let ended = runtime.block_on(async {
            let stop =
                StopRequests::of_signals().map_err(|error| SizeFailure::new(Ending::Failed, error.to_string()))?;
            Box::pin(run::run(request, &mut console, &stop)).await
        });
        runtime.shutdown_timeout(LAST_GRACE);
        ended
    });
    console.end_progress();
    match ended.unwrap_or_else(|error| Err(SizeFailure::new(Ending::Failed, error.to_string()))) {
        Ok(()) => Ending::Complete.code(),
        Err(failure) => {
            console.note(format!("{} error: {}", failure.ending.message(), redact::scrub(&failure.cause)));
            failure.ending.code()
        }
    }
}
