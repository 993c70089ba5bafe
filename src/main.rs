//! Command line → configuration → [`plugnmeet_recorder::run`]; exit codes.
//!
//! 0: stopped as asked; 1: cannot run (the log says why); 2: wrong usage or configuration.

use std::process::ExitCode;

use plugnmeet_recorder::cli::Cli;
use plugnmeet_recorder::config::Config;
use plugnmeet_recorder::telemetry;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Wrong usage or configuration; a service manager should not try again.
const EXIT_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::from_args(std::env::args_os()).unwrap_or_else(|error| error.exit());
    let mut loaded = match Config::load(&cli.config) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(EXIT_CONFIGURATION);
        }
    };
    if let Some(mode) = cli.mode {
        loaded.config.recorder.mode = mode;
    }
    let _log = match telemetry::init(&loaded.config.log, loaded.config.recorder.debug) {
        Ok(guard) => guard,
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::FAILURE;
        }
    };
    for warning in &loaded.warnings {
        tracing::warn!("{}: {warning}", cli.config.display());
    }
    match run(loaded.config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let shutdown = CancellationToken::new();
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::spawn(on_signals(terminate, interrupt, shutdown.clone()));
        plugnmeet_recorder::run(config, shutdown).await
    })
}

/// The first signal shuts down; later ones are only acknowledged, since every recording is being closed already.
async fn on_signals(mut terminate: Signal, mut interrupt: Signal, shutdown: CancellationToken) {
    loop {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        if shutdown.is_cancelled() {
            tracing::info!(signal = name, "already shutting down");
        } else {
            tracing::info!(signal = name, "shutting down");
            shutdown.cancel();
        }
    }
}
