//! What a recording costs, side by side with the alternatives: `make bench` and `make bench-density`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[path = "../../tests/measure/mod.rs"]
mod measure;
mod run;
mod scene;
#[path = "../../tests/standin/mod.rs"]
mod standin;
mod worker;

use scene::Scene;
use standin::{Deployment, Standin};
use worker::Pipeline;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Processor time per recording.
    Cost {
        #[arg(long, default_value_t = 3)]
        rounds: u32,
        /// Of each run.
        #[arg(long, default_value_t = 20)]
        seconds: u32,
        /// All of them where none is named.
        #[arg(long)]
        scene: Vec<Scene>,
        #[arg(long)]
        pipeline: Vec<Pipeline>,
    },
    /// One recording, for the other commands.
    #[command(hide = true)]
    Worker(worker::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Worker(options) => Box::pin(worker::work(&options)).await,
        Command::Cost { rounds, seconds, scene, pipeline } => Box::pin(cost(rounds, seconds, scene, pipeline)).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn cost(rounds: u32, seconds: u32, scenes: Vec<Scene>, pipelines: Vec<Pipeline>) -> anyhow::Result<()> {
    let scenes = if scenes.is_empty() { Scene::ALL.to_vec() } else { scenes };
    let pipelines = if pipelines.is_empty() { Pipeline::ALL.to_vec() } else { pipelines };
    let standin = Standin::start(Deployment::default()).await?;
    for round in 1..=rounds {
        for scene in &scenes {
            for pipeline in pipelines.iter().filter(|pipeline| run::is_there(**pipeline)) {
                let (cost, file) = run::measure(&standin, *scene, *pipeline, seconds).await?;
                if let Ok(keep) = std::env::var("BENCH_KEEP") {
                    std::fs::copy(&file, format!("{keep}/{}-{scene:?}.mkv", pipeline.name()))?;
                }
                let info = measure::probe(&file)?;
                println!(
                    "{round} {:20} {:10} {:6.2} without PA {:6.2} chrome {:5.2} {:?} frames {} size {}",
                    scene.name(),
                    pipeline.name(),
                    cost.total(),
                    cost.without_pulseaudio(),
                    cost.chrome,
                    cost.parts,
                    info.video()?.packets,
                    info.size
                );
            }
        }
    }
    Ok(())
}
