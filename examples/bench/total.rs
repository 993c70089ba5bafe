//! What a recording costs in all, live and for its MP4, and how long its MP4 is waited for: encoded twice, and encoded once
//! while it runs (`ffmpeg_settings.one_pass`). Both are recorded in turns. Size and likeness are of the same frames: a
//! lossless capture that goes through both encoders.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use plugnmeet_recorder::capture::encoder::arguments::{EncoderTarget, arguments};
use plugnmeet_recorder::config::FfmpegOptions;
use plugnmeet_recorder::media::ffmpeg_arguments::FfmpegArguments;
use plugnmeet_recorder::media::{decode_check, ffprobe, verification};
use plugnmeet_recorder::transcode::copy_ahead::CopyAhead;
use serde::Serialize;

use crate::machine::Machine;
use crate::measure;
use crate::profiles::likeness;
use crate::run::Recording;
use crate::scene::Scene;
use crate::standin::{Deployment, Standin};
use crate::transcode::{encode, megabytes};
use crate::worker::{Pipeline, encoder};

/// Frames of the lossless capture.
const SIZE: (u32, u32) = (1920, 1080);
const WAYS: [Pipeline; 2] = [Pipeline::Ours, Pipeline::Once];

#[derive(Debug, clap::Args)]
pub struct Options {
    /// How often each is recorded, in turns.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each recording.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// How many are recorded at once; the wait is then for the MP4s of all.
    #[arg(long, default_value_t = 1)]
    at_once: usize,
    /// Seconds of the lossless capture; 0: none, and no size and likeness.
    #[arg(long, default_value_t = 20)]
    lossless: u32,
    /// Minutes of a meeting whose MP4 is waited for too: the recording that was encoded once, repeated; 0: none.
    #[arg(long, default_value_t = 120)]
    long: u32,
    /// Slides, one and four webcams, where none is named.
    #[arg(long)]
    scene: Vec<Scene>,
    /// Where `total.json` goes; nowhere where it is left out.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// The recordings of one round and their MP4s; medians of the rounds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Total {
    /// Processor seconds while it ran: of Chrome, of all else.
    chrome: f64,
    capture: f64,
    /// Of the jobs: measuring, making and checking the MP4.
    job: f64,
    /// Seconds of the jobs.
    wait: f64,
    /// Frames that were lost.
    lost: f64,
}

impl Total {
    fn cpu(&self) -> f64 {
        self.chrome + self.capture + self.job
    }
}

/// The MP4 of the lossless capture.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Picture {
    /// Bytes.
    size: u64,
    psnr: f64,
    ssim: f64,
}

#[derive(Serialize)]
struct Row {
    scene: &'static str,
    seconds: u32,
    twice: (Total, Option<Picture>),
    once: (Total, Option<Picture>),
    /// The job of a long meeting that was encoded once.
    long: Option<LongJob>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct LongJob {
    minutes: u32,
    /// Bytes of the raw file, and seconds.
    size: u64,
    wait: f64,
}

#[derive(Serialize)]
struct Results {
    at: String,
    machine: Machine,
    rounds: usize,
    rows: Vec<Row>,
}

pub async fn run(options: &Options) -> anyhow::Result<()> {
    let all = [Scene::Slides, Scene::OneWebcam, Scene::FourWebcams];
    let scenes = if options.scene.is_empty() { all.to_vec() } else { options.scene.clone() };
    let machine = Machine::look();
    println!("{}\n{} rounds of {} s, {} at once", machine.line(), options.rounds, options.seconds, options.at_once);
    let dir = tempfile::Builder::new().prefix("pnm-bench-").tempdir()?;
    let standin = Standin::start(Deployment::default()).await?;
    let mut rows = Vec::new();
    for scene in scenes {
        let mut found = [Vec::new(), Vec::new()];
        for round in 0..options.rounds.max(1) {
            for (way, found) in WAYS.into_iter().zip(&mut found) {
                let total = Box::pin(record(&standin, scene, way, options, dir.path())).await?;
                println!("  {} {} {}: {total:.2?}", round + 1, scene.name(), way.name());
                found.push(total);
            }
        }
        let long = match options.long {
            0 => None,
            minutes => Some(long_job(&raw_file(dir.path(), Pipeline::Once, 0), minutes, dir.path()).await?),
        };
        let mut pictures = [None, None];
        if options.lossless > 0 {
            let (lossless, _) = capture(&standin, scene, Pipeline::Lossless, (1, options.lossless), dir.path()).await?;
            for (way, picture) in WAYS.into_iter().zip(&mut pictures) {
                *picture = Some(Box::pin(again(&lossless[0].0, way, dir.path())).await?);
            }
        }
        let [twice, once] = [median(&found[0]), median(&found[1])];
        let [of_twice, of_once] = pictures;
        let seconds = options.seconds;
        rows.push(Row { scene: scene.name(), seconds, twice: (twice, of_twice), once: (once, of_once), long });
    }
    print(&rows);
    if let Some(out) = &options.out {
        std::fs::create_dir_all(out)?;
        let at = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
        crate::cost::write_json(&out.join("total.json"), &Results { at, machine, rounds: options.rounds, rows })?;
    }
    Ok(())
}

/// Records and makes the MP4s, one after the other, as a node does.
async fn record(
    standin: &Standin,
    scene: Scene,
    way: Pipeline,
    options: &Options,
    dir: &Path,
) -> anyhow::Result<Total> {
    let (raws, live) = capture(standin, scene, way, (options.at_once, options.seconds), dir).await?;
    let (began, before) = (Instant::now(), children_cpu());
    for (raw, frames) in &raws {
        job(raw, way, &dir.join("made.mp4"), *frames).await?;
    }
    Ok(Total { job: children_cpu() - before, wait: began.elapsed().as_secs_f64(), ..live })
}

/// The raw files of so many recordings at once with their frames, and what these cost while they ran.
async fn capture(
    standin: &Standin,
    scene: Scene,
    way: Pipeline,
    (count, seconds): (usize, u32),
    dir: &Path,
) -> anyhow::Result<(Vec<(PathBuf, u64)>, Total)> {
    let mut recordings = Vec::new();
    for n in 0..count.max(1) {
        recordings.push(Recording::start(standin, scene.meeting(), way, &format!("total{n}")).await?);
    }
    let mut meters: Vec<_> = recordings.iter().map(Recording::meter).collect();
    tokio::time::sleep(Duration::from_secs(seconds.into())).await;
    let (mut total, mut frames) = (Total::default(), Vec::new());
    for (recording, meter) in recordings.iter_mut().zip(&mut meters) {
        let cost = meter.read();
        let so_far = recording.so_far().await?;
        // Some come until it ends.
        frames.push(so_far.frames_sent + 60);
        #[expect(clippy::cast_precision_loss, reason = "frames of minutes")]
        let lost = so_far.frames_lost as f64;
        total.chrome += cost.browser;
        total.capture += cost.capture;
        total.lost += lost;
    }
    let mut raws = Vec::new();
    for (n, (recording, frames)) in recordings.into_iter().zip(frames).enumerate() {
        let (file, raw) = (recording.stop().await?, raw_file(dir, way, n));
        std::fs::copy(&file, &raw)?;
        std::fs::remove_file(&file)?;
        raws.push((raw, frames));
    }
    Ok((raws, total))
}

fn raw_file(dir: &Path, way: Pipeline, n: usize) -> PathBuf {
    dir.join(format!("{}{n}_raw.mkv", way.name()))
}

/// The job of a recording that is repeated until it lasts for so long.
async fn long_job(raw: &Path, minutes: u32, dir: &Path) -> anyhow::Result<LongJob> {
    let long = dir.join("long_raw.mkv");
    let once = ffprobe::measure(raw).await?;
    let times = f64::from(minutes) * 60.0 / once.duration.as_secs_f64();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "thousands")]
    let frames = once.video().and_then(|stream| stream.packets).unwrap_or_default() * (times.round() as u64 + 1);
    let repeated = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-y", "-stream_loop", &format!("{times:.0}"), "-i"])
        .arg(raw)
        .args(["-map", "0", "-c", "copy", "-f", "matroska"])
        .arg(&long)
        .status()?;
    ensure!(repeated.success(), "the recording cannot be repeated");
    // What was written is on disk, as of a recording of hours.
    std::fs::File::open(&long)?.sync_all()?;
    let began = Instant::now();
    job(&long, Pipeline::Once, &dir.join("long.mp4"), frames).await?;
    let wait = began.elapsed().as_secs_f64();
    let size = std::fs::metadata(&long)?.len();
    std::fs::remove_file(&long)?;
    Ok(LongJob { minutes, size, wait })
}

/// What a transcoder does for one job: measures the raw file, makes the MP4, measures it while it is written to its disk, and
/// decodes samples of it. What was encoded once is copied while the raw file is measured. `frames`: of the recording.
async fn job(raw: &Path, way: Pipeline, mp4: &Path, frames: u64) -> anyhow::Result<()> {
    let defaults = FfmpegOptions::post_recording(None);
    let finish = async |arguments: &FfmpegArguments| {
        encode(arguments, raw, mp4, 1).await?;
        let file = std::fs::File::open(mp4)?;
        let sync = tokio::task::spawn_blocking(move || file.sync_all());
        let (made, on_disk) = tokio::join!(ffprobe::measure(mp4), sync);
        on_disk??;
        anyhow::Ok(made?)
    };
    let headers = ffprobe::headers(raw).await?;
    let (media, arguments, made) = if way == Pipeline::Once {
        let stated = headers.stated().context("it was not ended")?;
        let copy = CopyAhead::new(&defaults, stated, frames).context("it was not encoded as its MP4")?;
        let (media, made) = tokio::join!(ffprobe::measure_with(raw, headers), finish(&copy.arguments));
        let media = media?;
        ensure!(copy.is_of(&media), "it is not what its headers state");
        (media, copy.arguments, made?)
    } else {
        let media = ffprobe::measure_with(raw, headers).await?;
        let arguments = FfmpegArguments::convert(&defaults, &media);
        let made = finish(&arguments).await?;
        (media, arguments, made)
    };
    verification::compare(&made, &arguments.expected(&media))?;
    decode_check::check_result(mp4, &made, raw, 0).await?;
    Ok(())
}

/// What an encoder of recordings and a job make of a lossless capture.
async fn again(lossless: &Path, way: Pipeline, dir: &Path) -> anyhow::Result<Picture> {
    let (raw, mp4) = (dir.join("again_raw.mkv"), dir.join("again.mp4"));
    let mut frames = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(lossless)
        .args(["-fps_mode", "passthrough", "-enc_time_base:v", "1:1000", "-c:v", "rawvideo", "-pix_fmt", "yuv420p"])
        .args(["-c:a", "pcm_s16le", "-f", "matroska", "-"])
        .stdout(Stdio::piped())
        .spawn()?;
    let encoded = Command::new("ffmpeg")
        .args(arguments(&encoder(way), SIZE, &EncoderTarget::File(raw.clone()), None))
        .stdin(frames.stdout.take().context("no frames")?)
        .stdout(Stdio::null())
        .status()?;
    ensure!(frames.wait()?.success() && encoded.success(), "the lossless capture cannot be encoded");
    job(&raw, way, &mp4, measure::probe(lossless)?.video()?.packets).await?;
    let (psnr, ssim) = likeness(&mp4, lossless)?;
    Ok(Picture { size: std::fs::metadata(&mp4)?.len(), psnr, ssim })
}

/// Processor seconds of all processes that this one has waited for.
fn children_cpu() -> f64 {
    cpu_fields(13, 2)
}

/// Processor seconds of this process and of all that it has waited for.
pub fn own_and_children_cpu() -> f64 {
    cpu_fields(11, 4)
}

/// The sum of so many fields of `/proc/self/stat` behind the name in brackets, of which the 12th to the 15th are hundredths
/// of a second: user, system, and both of the children (proc(5)).
fn cpu_fields(skip: usize, count: usize) -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().skip(skip).take(count);
    fields.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn median(all: &[Total]) -> Total {
    let of = |value: fn(&Total) -> f64| {
        let mut values: Vec<f64> = all.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Total {
        chrome: of(|total| total.chrome),
        capture: of(|total| total.capture),
        job: of(|total| total.job),
        wait: of(|total| total.wait),
        lost: of(|total| total.lost),
    }
}

fn print(rows: &[Row]) {
    println!("\nProcessor seconds of a recording and its MP4, and the wait for the MP4 (medians)\n");
    println!(
        "| page, seconds           | encoded | Chrome | live   | MP4    | in all | ÷ twice | wait s | lost |    MB |  PSNR |   SSIM |"
    );
    println!(
        "| ----------------------- | ------- | -----: | -----: | -----: | -----: | ------: | -----: | ---: | ----: | ----: | -----: |"
    );
    for row in rows {
        for (name, (total, picture)) in [("twice", &row.twice), ("once", &row.once)] {
            let picture = picture.map_or_else(
                || format!("{:>5} | {:>5} | {:>6}", "", "", ""),
                |Picture { size, psnr, ssim }| format!("{:5.2} | {psnr:5.2} | {ssim:6.4}", megabytes(size)),
            );
            println!(
                "| {:23} | {name:7} | {:6.2} | {:6.2} | {:6.2} | {:6.2} | {:7.2} | {:6.2} | {:4} | {picture} |",
                format!("{}, {}", row.scene, row.seconds),
                total.chrome,
                total.capture,
                total.job,
                total.cpu(),
                total.cpu() / row.twice.0.cpu(),
                total.wait,
                total.lost,
            );
        }
    }
    println!();
    for row in rows {
        if let Some(LongJob { minutes, size, wait }) = row.long {
            println!("{}, {minutes} min, once: {:.0} MB, wait {wait:.1} s", row.scene, megabytes(size));
        }
    }
}
