//! What a recording and its MP4 cost, side by side with the alternatives: `make bench` and the targets beside it.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

mod chart;
mod cost;
#[path = "../demo/daemon.rs"]
#[expect(dead_code, reason = "the demo needs more of it")]
mod daemon;
mod density;
mod hls;
mod machine;
#[path = "../../tests/measure/mod.rs"]
mod measure;
mod node_density;
mod profiles;
mod run;
mod scene;
#[path = "../../tests/standin/mod.rs"]
mod standin;
mod store;
mod sync;
mod total;
mod transcode;
mod worker;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Processor time per recording.
    Cost(cost::Options),
    /// How many recordings at once this machine holds.
    Density(density::Options),
    /// How many recordings at once a whole node carries, with and without `one_pass`.
    NodeDensity(node_density::Options),
    /// Processor time of the HLS of a meeting.
    Hls(hls::Options),
    /// How long the delivery of an MP4 into a store takes, beside rclone.
    Store(store::Options),
    /// Whether sound and picture are in step.
    Sync(sync::Options),
    /// Processor time of making the MP4.
    Transcode(transcode::Options),
    /// Processor time in all, live and for the MP4, and the wait for the MP4.
    Total(total::Options),
    /// One recording, for the other commands.
    #[command(hide = true)]
    Worker(worker::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    // What is dropped here takes its processes and files with it.
    let result = tokio::select! {
        result = run(Cli::parse().command) => result,
        signal = interrupted() => Err(anyhow::anyhow!(signal)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // `{:#}`: the causes in one line, without a backtrace.
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Worker(options) => Box::pin(worker::work(&options)).await,
        Command::Cost(options) => Box::pin(cost::run(&options)).await,
        Command::Density(options) => Box::pin(density::run(&options)).await,
        Command::NodeDensity(options) => Box::pin(node_density::run(&options)).await,
        Command::Hls(options) => Box::pin(hls::run(&options)).await,
        Command::Store(options) => Box::pin(store::run(&options)).await,
        Command::Sync(options) => Box::pin(sync::run(&options)).await,
        Command::Total(options) => Box::pin(total::run(&options)).await,
        Command::Transcode(options) => Box::pin(transcode::run(&options)).await,
    }
}

/// Ctrl-C goes to the workers as well; they end as they do when this one is gone.
async fn interrupted() -> &'static str {
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = signals else { return std::future::pending().await };
    tokio::select! {
        _ = interrupt.recv() => "interrupted",
        _ = terminate.recv() => "terminated",
    }
}
