//! Command line → configuration → [`boot::run`]; signals; exit codes.
//!
//! 0: stopped, or answered, as asked; 1: cannot run (the log says why) or cannot answer (standard error does); 2: wrong
//! usage or configuration, or a `state_dir` of a newer version.

use std::fmt::Display;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use plugnmeet_recorder::check;
use plugnmeet_recorder::cli::{Cli, Command, ListFormat};
use plugnmeet_recorder::codes::{self, Code};
use plugnmeet_recorder::config::{Config, InterpolatedValue, RecorderConfig};
use plugnmeet_recorder::node::boot;
use plugnmeet_recorder::node::shutdown::Shutdown;
use plugnmeet_recorder::node::start_watch::StartWatch;
use plugnmeet_recorder::node::state_dir::{self, StateDirectories};
use plugnmeet_recorder::process::init;
use plugnmeet_recorder::storage::state_version::NewerState;
use plugnmeet_recorder::unix_time::unix_ms;
use plugnmeet_recorder::{admin, page_recording, sizing, telemetry};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Wrong usage or configuration, or a `state_dir` of a newer version; a service manager should not try again.
const EXIT_CONFIGURATION: u8 = 2;

/// How long blocking tasks may take to end, when everything else has ended.
const LAST_GRACE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let cli = Cli::from_args(std::env::args_os()).unwrap_or_else(|error| end_of_usage(&error));
    // Another command ends at once, and its orphans with the container.
    if matches!(cli.command, None | Some(Command::Record(_) | Command::Size(_))) && init::is_process_1() {
        return match init::run_daemon_as_child() {
            Ok(code) => ExitCode::from(code),
            Err(error) => {
                let why = "the recorder is process 1 and cannot start itself as a child";
                fail(
                    codes::NOT_STARTED_AS_CHILD,
                    format_args!("{why}: {error}; run it under an init, as `docker run --init` does"),
                )
            }
        };
    }
    if let Some(Command::Record(arguments)) = &cli.command {
        return ExitCode::from(page_recording::execute(arguments));
    }
    let state_dir = |recorder: &RecorderConfig| state_dir::choose(recorder, &StateDirectories::of_process(), false);
    if let Some(Command::Size(arguments)) = &cli.command {
        let request = sizing::Request { arguments, config: &cli.config, mode: cli.mode, state_dir };
        return ExitCode::from(sizing::execute(&request));
    }
    if let Some(Command::Explain(arguments)) = &cli.command {
        return match admin::explain(arguments, &mut io::stdout()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(error.code(), error),
        };
    }
    let loaded = Config::load(&cli.config);
    if let Some(Command::Check { quick, format: ListFormat { json } }) = cli.command {
        let request = check::Request { loaded, mode: cli.mode, quick, json, state_dir };
        return checked(check::run(request, &mut io::stdout()));
    }
    let mut loaded = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            let _ = fail(error.code(), error);
            return ExitCode::from(EXIT_CONFIGURATION);
        }
    };
    if let Some(mode) = cli.mode {
        loaded.config.recorder.mode = mode;
    }
    if let Some(command) = &cli.command {
        let recorder = &mut loaded.config.recorder;
        recorder.state_dir = state_dir::choose(recorder, &StateDirectories::of_process(), false);
        return answer(&loaded.config, command);
    }
    let _log = match telemetry::init(&loaded.config.log, loaded.config.recorder.debug) {
        Ok(guard) => guard,
        Err(error) => return fail(codes::LOG_NOT_OPENED, format_args!("{error:#}")),
    };
    for warning in &loaded.warnings {
        tracing::warn!(code = %codes::CONFIGURATION_WARNING, "{}: {warning}", cli.config.display());
    }
    for InterpolatedValue { line, key, value } in &loaded.interpolated {
        tracing::info!(key, value, "line {line} of {}: the environment's variables are put in", cli.config.display());
    }
    match run(loaded.config, cli.config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if error.is::<NewerState>() {
                tracing::error!(code = %codes::NEWER_STATE, "{error:#}");
                // It stays refused however often the program is started.
                return ExitCode::from(EXIT_CONFIGURATION);
            }
            tracing::error!(code = %codes::START_FAILED, "{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Says on standard error why a command ends, with the code that `explain` explains.
fn fail(code: Code, why: impl Display) -> ExitCode {
    eprintln!("{code} {why}");
    ExitCode::FAILURE
}

/// Shows the help or the version, or what is wrong with the command line.
fn end_of_usage(answer: &clap::Error) -> ! {
    if answer.use_stderr() {
        eprint!("{} ", codes::WRONG_USAGE);
    }
    answer.exit()
}

/// The exit code of a check.
fn checked(ready: io::Result<bool>) -> ExitCode {
    match ready {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(codes::CHECK_NOT_DONE, format_args!("nothing can be checked: {error}")),
    }
}

/// Carries out an operator's command: files are read and written, and only `status` asks NATS.
fn answer(config: &Config, command: &Command) -> ExitCode {
    match admin::answer(config, command, unix_ms(), &mut io::stdout()) {
        Ok(true) => ExitCode::SUCCESS,
        // The failure was shown.
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(error.code(), error),
    }
}

fn run(config: Config, config_file: PathBuf) -> anyhow::Result<()> {
    // Two at least: one may hang on a disk while the node starts.
    let threads = std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let ended = runtime.block_on(async {
        let (shutdown, start) = (Shutdown::default(), StartWatch::default());
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::spawn(on_signals(terminate, interrupt, shutdown.clone()));
        // In a task of its own: a disk that hangs while the node starts holds up that task alone.
        let node = tokio::spawn(boot::run(config, config_file, shutdown.clone(), start.clone()));
        tokio::select! {
            ended = node => ended?,
            step = start.hangs(shutdown.drain.clone()) => {
                anyhow::bail!("ended at once: the start does not get on with {step}; a disk that it needs does not answer")
            }
        }
    });
    // A task that hangs on a disk would hold up the end for ever.
    runtime.shutdown_timeout(LAST_GRACE);
    ended
}

/// The first SIGTERM drains: recordings go on to their end. A second one, or SIGINT, closes them now. Later ones are
/// only logged.
async fn on_signals(mut terminate: Signal, mut interrupt: Signal, shutdown: Shutdown) {
    loop {
        let (name, end) = tokio::select! {
            _ = terminate.recv() => ("SIGTERM", shutdown.drain.is_cancelled()),
            _ = interrupt.recv() => ("SIGINT", true),
        };
        if shutdown.end.is_cancelled() {
            tracing::info!(signal = name, "already shutting down");
        } else if end {
            tracing::info!(signal = name, "shutting down: recordings are closed now");
            shutdown.end_now();
        } else {
            tracing::info!(
                signal = name,
                "draining: nothing new is taken on; a second signal closes running recordings now"
            );
            shutdown.drain.cancel();
        }
    }
}
