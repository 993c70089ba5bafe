//! The soak: recordings begun, ended and broken at random for half an hour, and a ledger at the end. `make soak` builds
//! the recorder first.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

#[path = "../../tests/suite/dice.rs"]
mod dice;
#[path = "../../tests/measure/mod.rs"]
mod measure;
#[path = "../../tests/soak/mod.rs"]
mod soak;
#[path = "../../tests/standin/mod.rs"]
mod standin;

#[derive(Parser)]
struct Cli {
    /// How long things are begun and broken; then what is open is ended.
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// Of an earlier run, to repeat it.
    #[arg(long)]
    seed: Option<u64>,
    /// At once.
    #[arg(long, default_value_t = 2)]
    recordings: usize,
    /// The beginning of kinds of faults to leave out, such as `Disk(Main` or `HangNats`; may be repeated.
    #[arg(long)]
    without: Vec<String>,
    /// Recordings are archived and published as HLS while they run.
    #[arg(long)]
    publish: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Cli { minutes, seed, recordings, without, publish } = Cli::parse();
    let seed = seed.unwrap_or_else(|| dice::Dice::new().1);
    println!("seed {seed}, {minutes} min, {recordings} recordings at once");
    // What is dropped here takes its processes and files with it.
    let result = tokio::select! {
        result = run(seed, minutes, recordings, without, publish) => result,
        signal = interrupted() => Err(anyhow::anyhow!(signal)),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // `{:#}`: the causes in one line, without a backtrace.
            eprintln!("\nThe soak failed (seed {seed}): {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything is accounted for.
async fn run(seed: u64, minutes: u64, recordings: usize, without: Vec<String>, publish: bool) -> anyhow::Result<bool> {
    let here = std::env::current_exe()?;
    let target = here.ancestors().nth(2).context("this example lies in no target directory")?;
    let binary = target.join("plugnmeet-recorder");
    ensure!(binary.exists(), "{} is not there: build it with `cargo build`, or use `make soak`", binary.display());
    let options =
        soak::Options { seed, length: Duration::from_secs(60 * minutes), recordings, binary, without, publish };
    let ledger = Box::pin(soak::run(&options)).await?;
    print!("{ledger}");
    Ok(ledger.is_clean())
}

async fn interrupted() -> &'static str {
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = signals else { return std::future::pending().await };
    tokio::select! {
        _ = interrupt.recv() => "interrupted",
        _ = terminate.recv() => "terminated",
    }
}
