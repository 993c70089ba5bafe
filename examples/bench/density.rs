//! How many recordings at once a machine holds: one more every few seconds, until frames or sound suffer.
//!
//! A number of recordings holds where, in the time in which exactly so many ran, each of them lost less than 1 % of the
//! frames that were due and none of its sound. Ours counts the changes that it could not send in time; the reference
//! grabs 30 frames a second, so it lost what its file has less. Sound is whole where each second has its beep.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::chart::{self, Group};
use crate::cost::write_json;
use crate::machine::Machine;
use crate::measure::sound;
use crate::run::Recording;
use crate::scene::{BEEP_HZ, Scene};
use crate::standin::{Deployment, Standin};
use crate::worker::Pipeline;

/// From a recording's start until the machine is as busy as it stays.
pub const SETTLE: Duration = Duration::from_secs(3);
/// More frames lost than this are too many.
pub const LOST_LIMIT: f64 = 0.01;
/// What the reference grabs, in frames a second.
const GRABBED: f64 = 30.0;
/// Of a window, at each end, that is not looked at in the file: when exactly the file began is not known.
const MARGIN: f64 = 1.0;
/// After so many windows in a row in which frames were lost, or the machine had nothing left, no more is tried.
pub const PATIENCE: usize = 2;
/// Share of the processors' time, under which a machine is full.
pub const IDLE_LIMIT: f64 = 0.01;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// How long each number of recordings runs.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    #[arg(long)]
    scene: Vec<Scene>,
    /// The most that are tried.
    #[arg(long, default_value_t = 60)]
    most: usize,
    /// Where `density.json` and `density.svg` go; nowhere where it is left out.
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Found {
    scene: &'static str,
    pipeline: &'static str,
    recordings: usize,
    windows: Vec<Window>,
}

/// The time in which a number of recordings ran.
#[derive(Debug, Clone, Serialize)]
struct Window {
    recordings: usize,
    /// Share of the processors' time that nobody wanted.
    idle: f64,
    /// Of the recording that lost the most.
    frames_lost: f64,
    beeps_lost: usize,
    #[serde(skip)]
    began: Instant,
    #[serde(skip)]
    ended: Instant,
}

impl Window {
    fn holds(&self) -> bool {
        self.frames_lost < LOST_LIMIT && self.beeps_lost == 0
    }
}

#[derive(Serialize)]
struct Results {
    at: String,
    machine: Machine,
    seconds: u32,
    found: Vec<Found>,
}

pub async fn run(options: &Options) -> anyhow::Result<()> {
    let default = vec![Scene::Slides, Scene::OneWebcam, Scene::FourWebcams];
    let scenes = if options.scene.is_empty() { default } else { options.scene.clone() };
    let machine = Machine::look();
    println!("{}", machine.line());
    let mut found = Vec::new();
    for scene in scenes {
        for pipeline in [Pipeline::Reference, Pipeline::Ours] {
            println!("{}, {}", scene.name(), pipeline.name());
            let windows = fill(options, scene, pipeline).await?;
            let recordings = windows.iter().take_while(|window| window.holds()).map(|window| window.recordings).last();
            let recordings = recordings.unwrap_or(0);
            for window in &windows {
                println!(
                    "  {:2} at once: {:4.1} % idle, {:5.2} % of the frames lost, {} beeps lost",
                    window.recordings,
                    window.idle * 100.0,
                    window.frames_lost * 100.0,
                    window.beeps_lost
                );
            }
            println!("  holds {recordings}");
            found.push(Found { scene: scene.name(), pipeline: pipeline.name(), recordings, windows });
        }
    }
    println!("\n| page | reference | ours | ours ÷ reference |\n| ---- | ----: | ----: | ----: |");
    for pair in found.chunks(2) {
        let [a, b] = [pair[0].recordings, pair[1].recordings];
        println!("| {} | {a} | {b} | {:.1} |", pair[0].scene, count(b) / count(a.max(1)));
    }
    if let Some(out) = &options.out {
        std::fs::create_dir_all(out)?;
        std::fs::write(out.join("density.svg"), chart(&found, &machine))?;
        let at = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
        write_json(&out.join("density.json"), &Results { at, machine, seconds: options.seconds, found })?;
    }
    Ok(())
}

/// A recording that runs, and when its file began.
struct Running {
    recording: Recording,
    began: Instant,
}

async fn fill(options: &Options, scene: Scene, pipeline: Pipeline) -> anyhow::Result<Vec<Window>> {
    let standin = Standin::start(Deployment::default()).await?;
    let mut running: Vec<Running> = Vec::new();
    let mut windows: Vec<Window> = Vec::new();
    let mut full = 0;
    while running.len() < options.most && full < PATIENCE {
        let name = format!("{}-{}", pipeline.name(), running.len());
        let recording = match Recording::start(&standin, scene.meeting(), pipeline, &name).await {
            Ok(recording) => recording,
            Err(error) => {
                println!("  one more does not start: {error:#}");
                break;
            }
        };
        running.push(Running { recording, began: Instant::now() });
        tokio::time::sleep(SETTLE).await;
        let window = watch(&mut running, options.seconds).await?;
        full = if window.idle < IDLE_LIMIT || window.frames_lost >= LOST_LIMIT { full + 1 } else { 0 };
        windows.push(window);
    }
    // All at once: one after the other, the machine would be less and less busy.
    let stopping =
        running.into_iter().map(|Running { recording, began }| async move { (recording.stop().await, began) });
    for (file, began) in futures::future::join_all(stopping).await {
        let file = file?;
        tokio::task::block_in_place(|| look_into(&file, began, pipeline, &mut windows))?;
    }
    Ok(windows)
}

async fn watch(running: &mut [Running], seconds: u32) -> anyhow::Result<Window> {
    let (began, idle) = (Instant::now(), idle_and_all());
    let mut before = Vec::new();
    for one in running.iter_mut() {
        before.push(one.recording.so_far().await?);
    }
    tokio::time::sleep(Duration::from_secs(seconds.into())).await;
    let mut frames_lost = 0.0f64;
    for (one, before) in running.iter_mut().zip(before) {
        let now = one.recording.so_far().await?;
        let (sent, lost) = (now.frames_sent - before.frames_sent, now.frames_lost - before.frames_lost);
        frames_lost = frames_lost.max(share(lost, sent + lost));
    }
    let idle_now = idle_and_all();
    let idle = share(idle_now.0.saturating_sub(idle.0), idle_now.1.saturating_sub(idle.1));
    Ok(Window { recordings: running.len(), idle, frames_lost, beeps_lost: 0, began, ended: Instant::now() })
}

/// What the file of one recording has in each window since it began.
fn look_into(file: &Path, file_began: Instant, pipeline: Pipeline, windows: &mut [Window]) -> anyhow::Result<()> {
    let beeps = sound::beeps(file, BEEP_HZ)?;
    let packets = crate::measure::packets(file)?;
    let frames: Vec<f64> = packets.iter().filter(|packet| packet.is_video).map(|packet| packet.at).collect();
    for window in windows.iter_mut().filter(|window| window.began > file_began) {
        let at = |instant: Instant| instant.duration_since(file_began).as_secs_f64();
        let (from, to) = (at(window.began) + MARGIN, at(window.ended) - MARGIN);
        let within = |times: &[f64]| times.iter().filter(|time| (from..to).contains(*time)).count();
        // A beep each second: as many as whole seconds, or one more.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some seconds")]
        let due = (to - from).floor().max(0.0) as usize;
        window.beeps_lost = window.beeps_lost.max(due.saturating_sub(within(&beeps)));
        if pipeline == Pipeline::Reference {
            let grabbed = GRABBED * (to - from);
            window.frames_lost = window.frames_lost.max(1.0 - count(within(&frames)) / grabbed);
        }
    }
    Ok(())
}

/// Ticks of all processors: idle, and all there were (`/proc/stat`).
pub fn idle_and_all() -> (u64, u64) {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
    (ticks.iter().skip(3).take(2).sum(), ticks.iter().take(8).sum())
}

#[expect(clippy::cast_precision_loss, reason = "counts of some seconds")]
pub fn share(part: u64, all: u64) -> f64 {
    part as f64 / all.max(1) as f64
}

#[expect(clippy::cast_precision_loss, reason = "counts of some seconds")]
fn count(n: usize) -> f64 {
    n as f64
}

fn chart(found: &[Found], machine: &Machine) -> String {
    let group = |pair: &[Found]| Group {
        label: pair.first().map_or(String::new(), |found| found.scene.to_owned()),
        bars: pair
            .iter()
            .map(|found| (found.pipeline, count(found.recordings), found.recordings.to_string()))
            .collect(),
    };
    let groups: Vec<Group> = found.chunks(2).map(group).collect();
    let subtitle = "recordings at once, each with whole sound and less than 1 % of its frames lost";
    chart::svg("How many recordings one machine holds", subtitle, &machine.line(), &groups)
}
