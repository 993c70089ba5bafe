//! `record`: any web page into an MP4, without server, NATS and configuration.
//!
//! In: the command line ([`arguments`]). Out: an MP4, what the operator sees ([`console`]), an exit code ([`outcome`]).
//! [`mod@run`] goes from one to the other: the capture's rig visits the page instead of a meeting, and the MP4 is made as
//! that of a transcoding job ([`mp4`]). Disks are asked with a limit ([`disk`]). Nothing is written but the output and the directory of its raw file
//! ([`output`]), what `--hls` and `--rtmp` make of it ([`outlet`]), and the rig's directory, which the next run removes where this one is killed ([`leftovers`]).

pub mod arguments;
pub mod console;
pub mod disk;
pub mod leftovers;
pub mod meter;
pub mod mp4;
pub mod outcome;
pub mod outlet;
pub mod output;
pub mod run;
pub mod settings;
pub mod signals;
pub mod summary;

use std::path::Path;
use std::time::Duration;

use crate::page_recording::arguments::RecordArguments;
use crate::page_recording::console::Console;
use crate::page_recording::outcome::{Ending, RecordFailure};
use crate::page_recording::outlet::outlets::Outlet;
use crate::page_recording::signals::StopRequests;
use crate::telemetry::{self, redact};

/// How long blocking tasks may take to end, when everything else has ended.
const LAST_GRACE: Duration = Duration::from_secs(1);

/// Carries out a `record`; returns the exit code of the process.
#[must_use]
pub fn execute(arguments: &RecordArguments) -> u8 {
    let secrets = arguments.cookie.iter().chain(&arguments.header).map(|(_, value)| value.as_str());
    let url = [arguments.url.password(), arguments.url.query(), arguments.url.fragment()];
    let mut secrets_kept: Vec<_> = secrets.chain(url.into_iter().flatten()).map(redact::register).collect();
    let mut console = Console::new(arguments.summary, arguments.verbose);
    if arguments.verbose
        && let Err(error) = telemetry::init_console(tracing::Level::INFO)
    {
        console.note(format!("there is no log: {error:#}"));
    }
    let ended = tokio::runtime::Builder::new_multi_thread().enable_all().build().map(|runtime| {
        let ended = runtime.block_on(async {
            let stop = StopRequests::of_signals().map_err(|error| RecordFailure::new(Ending::Host, error))?;
            let outlets = outlets(arguments, &stop).await?;
            for outlet in &outlets {
                if let Outlet::Rtmp(url) = outlet {
                    secrets_kept.extend(url.secrets().iter().map(|secret| redact::register(secret)));
                }
            }
            Box::pin(run::run(arguments, &outlets, &mut console, &stop)).await
        });
        runtime.shutdown_timeout(LAST_GRACE);
        ended
    });
    console.end_progress();
    match ended.unwrap_or_else(|error| Err(RecordFailure::new(Ending::Host, error))) {
        Ok(ending) => ending.code(),
        Err(failure) => {
            console.json(&failure.summary());
            failure.lines().iter().for_each(|line| console.note(redact::scrub(line)));
            failure.ending.code()
        }
    }
}

/// The outlets; the address of a broadcast may be in a file.
async fn outlets(arguments: &RecordArguments, stop: &StopRequests) -> Result<Vec<Outlet>, RecordFailure> {
    let file = arguments.rtmp.as_deref().and_then(|rtmp| rtmp.strip_prefix('@')).unwrap_or_default();
    let read = arguments.clone();
    disk::ask("--rtmp", Path::new(file), &stop.end, move || read.outlets()).await
}
