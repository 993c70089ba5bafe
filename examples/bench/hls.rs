//! Processor time of the HLS of a meeting in three renditions: made of its MP4 by this program, and by ffmpeg run once for
//! each rendition on the raw file with the same options. In turns, some rounds; medians.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use plugnmeet_recorder::config::{FfmpegOptions, HlsConfig, HlsRendition, VideoRate};
use plugnmeet_recorder::hls::arguments::{self, Keyframes};
use plugnmeet_recorder::hls::ladder::{all_encoded, ladder};
use plugnmeet_recorder::hls::packager::Packager;
use plugnmeet_recorder::media::ffmpeg_arguments::FfmpegArguments;
use plugnmeet_recorder::media::ffprobe;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::machine::Machine;
use crate::scene::Scene;
use crate::standin::{Deployment, Standin};
use crate::total::own_and_children_cpu;
use crate::transcode::{encode, megabytes, record};
use crate::worker::Pipeline;

const HEIGHTS: [u32; 3] = [1080, 720, 360];
const SEGMENT: Duration = Duration::from_secs(4);
/// libx264's own default, by which a rendition is encoded for which none is configured.
const CRF: u32 = 23;
/// Ours over the separate runs, in processor time.
const TARGET: f64 = 0.7;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// How often each is made.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of the recording.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    #[arg(long, default_value = "one-webcam")]
    scene: Scene,
    /// A raw file that is there already; nothing is recorded then.
    #[arg(long)]
    raw: Option<PathBuf>,
    /// Keep the raw file in this directory.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Where `hls.json` goes; nowhere where it is left out.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// One way to the three renditions.
#[derive(Clone, Debug, Serialize)]
struct Way {
    name: &'static str,
    /// Processor seconds of each round.
    cpu: Vec<f64>,
    /// Bytes of the pictures, from the highest to the lowest.
    sizes: Vec<u64>,
}

#[derive(Serialize)]
struct Results {
    at: String,
    machine: Machine,
    scene: &'static str,
    /// Seconds of the recording.
    seconds: f64,
    ways: Vec<Way>,
}

pub async fn run(options: &Options) -> anyhow::Result<()> {
    let machine = Machine::look();
    println!("{}\n{} rounds", machine.line(), options.rounds);
    let dir = tempfile::Builder::new().prefix("pnm-bench-").tempdir()?;
    let raw = if let Some(raw) = &options.raw {
        raw.clone()
    } else {
        let standin = Standin::start(Deployment::default()).await?;
        let keep = options.keep.as_deref().unwrap_or(dir.path());
        record(&standin, options.scene, Pipeline::Ours, options.seconds, keep).await?
    };
    let mp4 = dir.path().join("meeting.mp4");
    let of_raw = ffprobe::measure(&raw).await?;
    // As the program makes MP4s where they become HLS.
    let mut defaults = FfmpegOptions::post_recording(None);
    defaults.post_input.extend(["-force_key_frames".to_owned(), keyframes()]);
    let made = encode(&FfmpegArguments::convert(&defaults, &of_raw), &raw, &mp4, 1).await.context("the MP4")?;
    println!("  the MP4: {:.2} CPU-s, {:.2} MB", made.cpu, megabytes(made.size));

    let names = ["ours: 1080 is the MP4's", "ours: all are encoded", "ffmpeg for each"];
    let mut ways = names.map(|name| Way { name, cpu: Vec::new(), sizes: Vec::new() });
    for round in 1..=options.rounds.max(1) {
        for (way, rate) in ways.iter_mut().zip([Some(None), Some(Some(VideoRate::Crf(CRF))), None]) {
            let work = dir.path().join("work");
            std::fs::create_dir(&work)?;
            let before = own_and_children_cpu();
            way.sizes = match rate {
                Some(rate) => ours(&mp4, &work, rate).await?,
                None => one_by_one(&raw, of_raw.duration, &work).await?,
            };
            way.cpu.push(own_and_children_cpu() - before);
            std::fs::remove_dir_all(&work)?;
            println!("  {round} {}: {:.2?} CPU-s, {:?} bytes", way.name, way.cpu[round - 1], way.sizes);
        }
    }
    let seconds = of_raw.duration.as_secs_f64();
    print(options.scene, seconds, &ways);
    if let Some(out) = &options.out {
        std::fs::create_dir_all(out)?;
        let at = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
        let results = Results { at, machine, scene: options.scene.name(), seconds, ways: ways.to_vec() };
        crate::cost::write_json(&out.join("hls.json"), &results)?;
    }
    Ok(())
}

fn keyframes() -> String {
    format!("expr:gte(t,n_forced*{})", SEGMENT.as_secs_f64())
}

/// The HLS of the MP4. `highest`: how its highest rendition is encoded; `None`: it is the MP4's own picture.
async fn ours(mp4: &Path, dir: &Path, highest: Option<VideoRate>) -> anyhow::Result<Vec<u64>> {
    let renditions = renditions(highest);
    let config = HlsConfig { renditions, segment: SEGMENT, live: false };
    let package = Packager { mp4, dir, config: &config, cancel: &CancellationToken::new() }.run().await?;
    ensure!(package.media.len() == HEIGHTS.len() + 1, "three pictures and the sound: {package:?}");
    let pictures = package.media.iter().take(HEIGHTS.len());
    pictures.map(|(path, _)| Ok(std::fs::metadata(path)?.len())).collect()
}

/// ffmpeg once for each rendition, without sound.
async fn one_by_one(raw: &Path, end: Duration, dir: &Path) -> anyhow::Result<Vec<u64>> {
    let media = ffprobe::probe(raw).await?;
    let video = media.video().context("the raw file has no picture")?;
    let mut sizes = Vec::new();
    for rung in all_encoded(&ladder(video.width, video.height, &renditions(None))) {
        let path = dir.join(format!("{}.mp4", rung.name()));
        let output = [(rung, path.clone())];
        let arguments = arguments::encode(raw, &output, Keyframes::Every(SEGMENT), end);
        let quiet = ["-nostdin", "-hide_banner", "-loglevel", "error"];
        let status = tokio::process::Command::new("ffmpeg").args(quiet).args(arguments).status().await?;
        ensure!(status.success(), "ffmpeg: {status}");
        sizes.push(std::fs::metadata(&path)?.len());
    }
    Ok(sizes)
}

fn renditions(highest: Option<VideoRate>) -> Vec<HlsRendition> {
    let rate = |height| if height == HEIGHTS[0] { highest } else { None };
    HEIGHTS.iter().map(|&height| HlsRendition { height, rate: rate(height) }).collect()
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn print(scene: Scene, seconds: f64, ways: &[Way]) {
    let separate = &ways[ways.len() - 1].cpu;
    println!("\nHLS of {}, {seconds:.0} s, in {HEIGHTS:?}: medians, and the ratio of each round\n", scene.name());
    println!("| way                      | CPU-s  | ÷ ffmpeg for each | rounds             | MB of each picture    |");
    println!("| ------------------------ | -----: | ----------------: | ------------------ | --------------------- |");
    for Way { name, cpu, sizes } in ways {
        let ratio = median(cpu) / median(separate);
        let reached = match *name {
            _ if cpu == separate => "",
            _ if ratio <= TARGET => " (≤ 0.7)",
            _ => " (NOT ≤ 0.7)",
        };
        let rounds: Vec<String> =
            cpu.iter().zip(separate).map(|(cpu, separate)| format!("{:.2}", cpu / separate)).collect();
        let sizes: Vec<String> = sizes.iter().map(|size| format!("{:.2}", megabytes(*size))).collect();
        let (cpu, ratio) = (median(cpu), format!("{ratio:.2}{reached}"));
        println!("| {name:24} | {cpu:6.2} | {ratio:>17} | {:18} | {:21} |", rounds.join(", "), sizes.join(", "));
    }
}
