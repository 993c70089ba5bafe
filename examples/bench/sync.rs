//! Whether sound and picture are in step: recordings that follow each other, or one long one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::measure::sync::Sync;
use crate::measure::{picture, probe, sound, sync};
use crate::run::{self, Recording};
use crate::scene::BEEP_HZ;
use crate::standin::meeting::area;
use crate::standin::{Deployment, Meeting, Standin};
use crate::worker::Pipeline;

/// When memory is looked at first.
const SETTLED: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub struct Options {
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seconds of each run.
    #[arg(long, default_value_t = 15)]
    seconds: u32,
    /// Ours and the reference's where none is named.
    #[arg(long)]
    pipeline: Vec<Pipeline>,
    /// Keep each recording in this directory.
    #[arg(long)]
    keep: Option<PathBuf>,
}

pub async fn run(options: &Options) -> anyhow::Result<()> {
    let default = vec![Pipeline::Ours, Pipeline::Reference];
    let pipelines = if options.pipeline.is_empty() { default } else { options.pipeline.clone() };
    let standin = Standin::start(Deployment::default()).await?;
    println!(
        "beep − flash in milliseconds (positive: sound late), one webcam on the page, runs of {} s",
        options.seconds
    );
    for round in 1..=options.rounds {
        for pipeline in pipelines.iter().filter(|pipeline| run::is_there(**pipeline)) {
            let meeting = Meeting { webcams: 1, beep_hz: Some(BEEP_HZ), ..Meeting::default() };
            let recording = Recording::start(&standin, meeting, *pipeline, pipeline.name()).await?;
            let rest = Duration::from_secs(options.seconds.into()).saturating_sub(SETTLED);
            tokio::time::sleep(SETTLED).await;
            let memory = recording.resident();
            tokio::time::sleep(rest).await;
            let later = recording.resident();
            let shown = recording.flashes();
            let file = recording.stop().await?;
            if let Some(keep) = &options.keep {
                std::fs::create_dir_all(keep)?;
                std::fs::copy(&file, keep.join(format!("{}-{round}.mkv", pipeline.name())))?;
            }
            let found = measure(&file)?;
            println!("{round:3}  {:9}  {found}", pipeline.name());
            let own = found.without_page(&shown);
            println!(
                "                without Chrome's own share {own}; steadily {:+.2} ms a minute",
                own.steady_drift()
            );
            if *pipeline == Pipeline::Ours {
                let [memory, later] = [memory, later].map(|bytes| bytes >> 20);
                println!("     memory of the capture side {memory} MiB after 10 s, {later} MiB at the end");
            }
            if options.seconds <= 20 {
                println!("     {:.0?}", found.offsets);
            }
        }
    }
    Ok(())
}

fn measure(file: &Path) -> anyhow::Result<Sync> {
    let beeps = sound::beeps(file, BEEP_HZ)?;
    let flashes = picture::flashes(file, area::FLASH.inner(8))?;
    Ok(sync::pair(&beeps, &flashes, sync::expected(&beeps, probe(file)?.duration)))
}
