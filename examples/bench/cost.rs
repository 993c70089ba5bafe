//! Processor time per recording: every scene with every pipeline, one after the other, some rounds; medians and ratios.

use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use crate::chart::{self, Group};
use crate::machine::Machine;
use crate::run::{self, Cost};
use crate::scene::Scene;
use crate::standin::{Deployment, Standin};
use crate::worker::Pipeline;

#[derive(Debug, clap::Args)]
pub struct Options {
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each run.
    #[arg(long, default_value_t = 15)]
    seconds: u32,
    /// All of them where none is named.
    #[arg(long)]
    scene: Vec<Scene>,
    #[arg(long)]
    pipeline: Vec<Pipeline>,
    /// Where `results.json` and `cost.svg` go; nowhere where it is left out.
    #[arg(long)]
    out: Option<std::path::PathBuf>,
}

/// One scene with one pipeline.
#[derive(Debug, Serialize)]
struct Row {
    scene: &'static str,
    pipeline: &'static str,
    /// Processor seconds of each round.
    runs: Vec<Cost>,
}

/// One scene: how much more another pipeline costs than ours; medians over the rounds.
#[derive(Debug, Serialize)]
struct Ratio {
    scene: &'static str,
    pipeline: &'static str,
    times: f64,
    without_pulseaudio: f64,
    /// What the project wants to reach; only against the reference.
    target: Option<(f64, f64)>,
}

#[derive(Serialize)]
struct Results {
    at: String,
    machine: Machine,
    seconds: u32,
    rows: Vec<Row>,
    ratios: Vec<Ratio>,
}

pub async fn run(options: &Options) -> anyhow::Result<()> {
    let scenes = if options.scene.is_empty() { Scene::ALL.to_vec() } else { options.scene.clone() };
    let pipelines = if options.pipeline.is_empty() { Pipeline::ALL.to_vec() } else { options.pipeline.clone() };
    let (pipelines, missing): (Vec<_>, Vec<_>) = pipelines.into_iter().partition(|pipeline| run::is_there(*pipeline));
    let machine = Machine::look();
    println!("{}\n{} rounds of {} s", machine.line(), options.rounds, options.seconds);
    for pipeline in missing {
        println!("left out, as its programs are not installed: {}", pipeline.name());
    }
    let standin = Standin::start(Deployment::default()).await?;
    let row = |scene: Scene, pipeline: Pipeline| (scene, pipeline, Vec::new());
    let mut runs: Vec<_> =
        scenes.iter().flat_map(|scene| pipelines.iter().map(move |pipeline| row(*scene, *pipeline))).collect();
    for round in 1..=options.rounds {
        for (scene, pipeline, costs) in &mut runs {
            let cost = run::measure(&standin, *scene, *pipeline, options.seconds)
                .await
                .with_context(|| format!("{} on {}", pipeline.name(), scene.name()))?;
            println!("  {round}  {:18}  {:9}  {}", scene.name(), pipeline.name(), line(&cost));
            costs.push(cost);
        }
    }
    let ratios = ratios(&runs);
    print(&runs, &ratios);
    if let Some(out) = &options.out {
        std::fs::create_dir_all(out)?;
        std::fs::write(out.join("cost.svg"), chart(&runs, &ratios, &machine))?;
        let row = |(scene, pipeline, runs): (Scene, Pipeline, Vec<Cost>)| Row {
            scene: scene.name(),
            pipeline: pipeline.name(),
            runs,
        };
        let results = Results {
            at: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
            machine,
            seconds: options.seconds,
            rows: runs.into_iter().map(row).collect(),
            ratios,
        };
        write_json(&out.join("results.json"), &results)?;
    }
    Ok(())
}

pub fn write_json(path: &Path, what: &impl Serialize) -> anyhow::Result<()> {
    std::fs::write(path, serde_json::to_string_pretty(what)? + "\n")?;
    println!("written: {}", path.display());
    Ok(())
}

type Runs = [(Scene, Pipeline, Vec<Cost>)];

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => values[len / 2],
        len => f64::midpoint(values[len / 2 - 1], values[len / 2]),
    }
}

fn find(runs: &Runs, scene: Scene, pipeline: Pipeline) -> &[Cost] {
    runs.iter().find(|(s, p, _)| (*s, *p) == (scene, pipeline)).map_or(&[], |(_, _, costs)| costs)
}

fn ratios(runs: &Runs) -> Vec<Ratio> {
    let others = runs.iter().filter(|(_, pipeline, _)| *pipeline != Pipeline::Ours);
    let ratio = |(scene, pipeline, costs): &(Scene, Pipeline, Vec<Cost>)| {
        let ours = find(runs, *scene, Pipeline::Ours);
        let over = |value: fn(&Cost) -> f64| median(costs.iter().zip(ours).map(|(a, b)| value(a) / value(b)).collect());
        Ratio {
            scene: scene.name(),
            pipeline: pipeline.name(),
            times: over(Cost::total),
            without_pulseaudio: over(Cost::without_pulseaudio),
            target: (*pipeline == Pipeline::Reference).then(|| scene.target()),
        }
    };
    others.map(ratio).filter(|ratio| ratio.times.is_finite()).collect()
}

fn line(cost: &Cost) -> String {
    let mut parts: Vec<_> = cost.parts.iter().collect();
    parts.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let parts: Vec<String> = parts.iter().map(|(name, seconds)| format!("{name} {seconds:.2}")).collect();
    let (total, parts, chrome) = (cost.total(), parts.join(", "), cost.chrome);
    format!("{total:6.2} CPU-s ({parts}); Chrome {chrome:.2}; {} frames, {} lost", cost.frames, cost.lost)
}

fn medians(costs: &[Cost], value: fn(&Cost) -> f64) -> f64 {
    median(costs.iter().map(value).collect())
}

fn print(runs: &Runs, ratios: &[Ratio]) {
    println!("\nProcessor seconds in 20 s of recording, without Chrome (medians)\n");
    println!(
        "| page               | pipeline  | CPU-s | without PulseAudio | Chrome | ÷ ours | ÷ ours without PulseAudio |"
    );
    println!(
        "| ------------------ | --------- | ----: | -----------------: | -----: | -----: | ------------------------: |"
    );
    let per_20 =
        |costs: &[Cost], value: fn(&Cost) -> f64| medians(costs, value) * 20.0 / medians(costs, |cost| cost.seconds);
    for (scene, pipeline, costs) in runs {
        let ratio = ratios.iter().find(|ratio| (ratio.scene, ratio.pipeline) == (scene.name(), pipeline.name()));
        let said = |value: fn(&Ratio) -> f64, target: fn((f64, f64)) -> f64| match ratio {
            None => String::new(),
            Some(ratio) => match ratio.target {
                None => format!("{:.1}", value(ratio)),
                Some(wanted) => {
                    let reached = if value(ratio) >= target(wanted) { "≥" } else { "NOT ≥" };
                    format!("{:.2} ({reached} {})", value(ratio), target(wanted))
                }
            },
        };
        println!(
            "| {:18} | {:9} | {:5.2} | {:18.2} | {:6.2} | {} | {} |",
            scene.name(),
            pipeline.name(),
            per_20(costs, Cost::total),
            per_20(costs, Cost::without_pulseaudio),
            per_20(costs, |cost| cost.chrome),
            said(|ratio| ratio.times, |(with, _)| with),
            said(|ratio| ratio.without_pulseaudio, |(_, without)| without),
        );
    }
    println!();
}

/// Percent of one processor, so that a bar means something by itself.
fn chart(runs: &Runs, ratios: &[Ratio], machine: &Machine) -> String {
    let mut groups: Vec<Group> = Vec::new();
    for (scene, pipeline, costs) in runs {
        let percent = medians(costs, |cost| cost.total() / cost.seconds * 100.0);
        let ratio = ratios.iter().find(|ratio| (ratio.scene, ratio.pipeline) == (scene.name(), pipeline.name()));
        let times = ratio.map(|ratio| format!(" ({:.1}×)", ratio.times)).unwrap_or_default();
        let bar = (pipeline.name(), percent, format!("{percent:.1} %{times}"));
        match groups.iter_mut().find(|group| group.label == scene.name()) {
            Some(group) => group.bars.push(bar),
            None => groups.push(Group { label: scene.name().to_owned(), bars: vec![bar] }),
        }
    }
    let subtitle = "percent of one processor, at 1920×1080 and up to 30 frames a second";
    chart::svg("What a recording costs besides Chrome", subtitle, &machine.line(), &groups)
}
