//! Processor time of making an MP4 of the same meeting, from our raw file and from the reference's: both are recorded one
//! after the other, each is encoded with the default options, some rounds; the least of them counts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use plugnmeet_recorder::config::FfmpegOptions;
use plugnmeet_recorder::media::ffmpeg;
use plugnmeet_recorder::media::ffmpeg_arguments::FfmpegArguments;
use plugnmeet_recorder::media::ffprobe::{self, MediaInfo};
use plugnmeet_recorder::media::progress::FfmpegProgress;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::machine::Machine;
use crate::run::Recording;
use crate::scene::Scene;
use crate::standin::{Deployment, Standin};
use crate::worker::Pipeline;
use crate::{measure, profiles};

const MB: f64 = 1e6;
/// Two raw files of one meeting may differ by this much in length, in seconds: they are stopped by hand.
const SAME_LENGTH: f64 = 3.0;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// How often each MP4 is made.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each recording.
    #[arg(long, default_value_t = 600)]
    seconds: u32,
    /// Slides, and slides with one webcam, where none is named.
    #[arg(long)]
    scene: Vec<Scene>,
    /// Raw files that are there already, of the one scene that is named; nothing is recorded then.
    #[arg(long, requires = "raw_reference")]
    raw_ours: Option<PathBuf>,
    #[arg(long, requires = "raw_ours")]
    raw_reference: Option<PathBuf>,
    /// Each of `ffmpeg_settings.profile` on our raw file as well: processor time, size, PSNR, SSIM.
    #[arg(long)]
    profiles: bool,
    /// Keep the raw files in this directory.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Where `transcode.json` goes; nowhere where it is left out.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// One raw file, turned into an MP4 in one way.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Encoded {
    /// Processor seconds of ffmpeg, user and system: the least of the rounds, as other load only adds to it.
    pub cpu: f64,
    /// Seconds of the round that took least.
    pub wall: f64,
    /// Bytes.
    pub size: u64,
}

#[derive(Serialize)]
struct Row {
    scene: &'static str,
    /// Seconds of the raw files.
    seconds: f64,
    reference: Encoded,
    /// Our options on the reference's raw file: a mixed fleet.
    mixed: Encoded,
    ours: Encoded,
    /// Reference over ours, in processor time.
    times: f64,
    target: f64,
    profiles: Vec<profiles::Row>,
}

#[derive(Serialize)]
struct Results {
    at: String,
    machine: Machine,
    rounds: usize,
    rows: Vec<Row>,
}

/// What the project wants to reach, in reference over ours; nothing is promised of the other pages.
fn target(scene: Scene) -> f64 {
    match scene {
        Scene::Slides => 10.0,
        Scene::OneWebcam => 1.2,
        _ => 1.0,
    }
}

pub async fn run(options: &Options) -> anyhow::Result<()> {
    let scenes = if options.scene.is_empty() { vec![Scene::Slides, Scene::OneWebcam] } else { options.scene.clone() };
    let machine = Machine::look();
    println!("{}\n{} rounds", machine.line(), options.rounds);
    let dir = tempfile::Builder::new().prefix("pnm-bench-").tempdir()?;
    let mut rows = Vec::new();
    if let (Some(ours), Some(reference)) = (&options.raw_ours, &options.raw_reference) {
        ensure!(options.scene.len() == 1, "--raw-ours and --raw-reference need one --scene, whose raw files they are");
        rows.push(Box::pin(compare(options, scenes[0], [ours, reference], dir.path())).await?);
    } else {
        let standin = Standin::start(Deployment::default()).await?;
        for scene in scenes {
            let keep = options.keep.as_deref().unwrap_or(dir.path());
            let ours = record(&standin, scene, Pipeline::Ours, options.seconds, keep).await?;
            let reference = record(&standin, scene, Pipeline::Reference, options.seconds, keep).await?;
            rows.push(Box::pin(compare(options, scene, [&ours, &reference], dir.path())).await?);
        }
    }
    print(&rows);
    if let Some(out) = &options.out {
        std::fs::create_dir_all(out)?;
        let at = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
        crate::cost::write_json(&out.join("transcode.json"), &Results { at, machine, rounds: options.rounds, rows })?;
    }
    Ok(())
}

/// One after the other: on a small machine two at once would both lose frames.
pub async fn record(
    standin: &Standin,
    scene: Scene,
    pipeline: Pipeline,
    seconds: u32,
    keep: &Path,
) -> anyhow::Result<PathBuf> {
    println!("  recording {} for {seconds} s: {}", scene.name(), pipeline.name());
    let recording = Recording::start(standin, scene.meeting(), pipeline, "raw").await?;
    tokio::time::sleep(Duration::from_secs(seconds.into())).await;
    let file = recording.stop().await?;
    std::fs::create_dir_all(keep)?;
    let kept = keep.join(format!("{}-{}.mkv", scene.name().replace([' ', '+', ','], ""), pipeline.name()));
    // Perhaps to another file system.
    std::fs::copy(&file, &kept)?;
    std::fs::remove_file(&file)?;
    Ok(kept)
}

async fn compare(options: &Options, scene: Scene, [ours, reference]: [&Path; 2], dir: &Path) -> anyhow::Result<Row> {
    let seconds = measure::probe(ours)?.duration;
    let theirs = measure::probe(reference)?.duration;
    ensure!((seconds - theirs).abs() <= SAME_LENGTH, "the raw files last {seconds:.1} and {theirs:.1} s");
    let defaults = FfmpegOptions::post_recording(None);
    let part = dir.join("made.mp4");
    let mut made = Vec::new();
    let [of_reference, of_ours] = [ffprobe::measure(reference).await?, ffprobe::measure(ours).await?];
    for (name, raw, arguments) in [
        ("reference", reference, as_the_reference_does(&defaults, &of_reference)),
        ("ours on the reference's raw file", reference, FfmpegArguments::convert(&defaults, &of_reference)),
        ("ours", ours, FfmpegArguments::convert(&defaults, &of_ours)),
    ] {
        made.push(encode(&arguments, raw, &part, options.rounds).await.context(name)?);
    }
    let profiles = if options.profiles { profiles::measure(ours, &part, options.rounds).await? } else { Vec::new() };
    let [reference, mixed, ours] = made[..] else { unreachable!("three were made") };
    Ok(Row {
        scene: scene.name(),
        seconds,
        times: reference.cpu / ours.cpu,
        reference,
        mixed,
        ours,
        target: target(scene),
        profiles,
    })
}

/// ffmpeg with the operator's words and nothing else.
fn as_the_reference_does(options: &FfmpegOptions, raw: &MediaInfo) -> FfmpegArguments {
    let mut arguments = FfmpegArguments::convert(options, raw);
    arguments.pre_input.clone_from(&options.pre_input);
    arguments.post_input.clone_from(&options.post_input);
    arguments
}

/// Makes `part` of `raw` some times, as the daemon does; the last one stays.
pub async fn encode(arguments: &FfmpegArguments, raw: &Path, part: &Path, rounds: usize) -> anyhow::Result<Encoded> {
    let never = CancellationToken::new();
    let mut best = Encoded { cpu: f64::INFINITY, wall: f64::INFINITY, size: 0 };
    for _ in 0..rounds.max(1) {
        let task = ffmpeg::FfmpegTask {
            pre_input: &arguments.pre_input,
            post_input: &arguments.post_input,
            input: raw,
            total: Duration::ZERO,
            output: part,
            nice: 0,
        };
        let ran = ffmpeg::run(task, &watch::channel(FfmpegProgress::default()).0, &never).await?;
        let cpu = ran.cpu.context("the kernel does not say what ffmpeg has cost")?.as_secs_f64();
        best = Encoded {
            cpu: best.cpu.min(cpu),
            wall: best.wall.min(ran.wall.as_secs_f64()),
            size: std::fs::metadata(part)?.len(),
        };
    }
    Ok(best)
}

fn print(rows: &[Row]) {
    println!("\nProcessor seconds of ffmpeg for one MP4 with the default options (least of the rounds)\n");
    println!("| page              | raw file    | encoded by | CPU-s  | wall s |     MB | reference ÷ this |");
    println!("| ----------------- | ----------- | ---------- | -----: | -----: | -----: | ---------------: |");
    for row in rows {
        let lines = [
            ("reference's", "reference", &row.reference, String::new()),
            ("reference's", "ours", &row.mixed, format!("{:.2}", row.reference.cpu / row.mixed.cpu)),
            ("ours", "ours", &row.ours, {
                let reached = if row.times >= row.target { "≥" } else { "NOT ≥" };
                format!("{:.2} ({reached} {})", row.times, row.target)
            }),
        ];
        for (raw, by, Encoded { cpu, wall, size }, times) in lines {
            println!(
                "| {:17} | {raw:11} | {by:10} | {cpu:6.2} | {wall:6.2} | {:6.2} | {times:>16} |",
                row.scene,
                megabytes(*size)
            );
        }
    }
    println!();
    for row in rows.iter().filter(|row| !row.profiles.is_empty()) {
        profiles::print(row.scene, row.seconds, &row.profiles);
    }
}

/// In MB of a million bytes.
#[expect(clippy::cast_precision_loss, reason = "a size of a file")]
pub fn megabytes(size: u64) -> f64 {
    size as f64 / MB
}
