//! A simulated fleet: hundreds of nodes, thousands of recordings, the server's selection, and a table at the end. See
//! docs/fleet.md; `make sim` builds it with the optimiser, as it measures processor time.

use std::process::ExitCode;

use clap::Parser;

#[path = "../../tests/suite/dice.rs"]
mod dice;
#[path = "../../tests/measure/mod.rs"]
mod measure;
#[path = "../../tests/sim/mod.rs"]
mod sim;
#[path = "../../tests/standin/mod.rs"]
mod standin;

#[derive(Parser)]
struct Cli {
    #[arg(long, default_value_t = 500)]
    nodes: usize,
    /// Requests for one.
    #[arg(long, default_value_t = 5000)]
    recordings: usize,
    /// Of an earlier run, to repeat it.
    #[arg(long)]
    seed: Option<u64>,
    /// The shortest recording, in seconds.
    #[arg(long, default_value_t = 10.0)]
    shortest: f64,
    /// The longest recording, in seconds.
    #[arg(long, default_value_t = 50.0)]
    longest: f64,
    /// Requests a second at the most.
    #[arg(long, default_value_t = 40.0)]
    rate: f64,
    /// The shares of all slots that are to be taken, in percent, one after the other.
    #[arg(long, value_delimiter = ',', default_value = "60,90,100")]
    shares: Vec<usize>,
    /// What a node does that is full.
    #[arg(long, value_enum, default_value_t = sim::WhenFull::Refer)]
    when_full: sim::WhenFull,
    /// The server asks a node only when it has read what the last request has changed.
    #[arg(long)]
    settled: bool,
    /// Restart every node while the load is on, one after the other, as for an upgrade.
    #[arg(long)]
    restarts: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let options = sim::Options {
        nodes: cli.nodes,
        recordings: cli.recordings,
        seed: cli.seed.unwrap_or_else(|| dice::Dice::new().1),
        lengths: (cli.shortest, cli.longest.max(cli.shortest)),
        rate: cli.rate,
        shares: cli.shares,
        when_full: cli.when_full,
        settled: cli.settled,
        restarts: cli.restarts,
    };
    println!("seed {}, {} nodes, {} recordings", options.seed, options.nodes, options.recordings);
    match sim::run(&options).await {
        Ok(report) => {
            print!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("\nThe simulation failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
