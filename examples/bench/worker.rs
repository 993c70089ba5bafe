//! One recording in a process of its own, so that what it costs can be told from what the page server costs: it opens the page,
//! records until its standard input says or ends, and says what came of it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use plugnmeet_recorder::capture::audio::pulseaudio::PulseAudio;
use plugnmeet_recorder::capture::browser::chrome::Chrome;
use plugnmeet_recorder::capture::browser::chrome_arguments::ChromeSettings;
use plugnmeet_recorder::capture::browser::{sandbox, window};
use plugnmeet_recorder::capture::encoder::arguments::{EncoderSettings, EncoderTarget};
use plugnmeet_recorder::capture::rig::{CaptureReport, LiveRig, OpenError, Rig as _, RigSpec};
use plugnmeet_recorder::capture::video::display::Display;
use plugnmeet_recorder::config::{ChromeFlag, FfmpegOptions};
use plugnmeet_recorder::media::final_encoding::FinalEncoding;
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Pixels.
const SIZE: (u32, u32) = (1920, 1080);
/// What the reference records with unless its operator says otherwise; its sound is copied as it is.
const PRE_INPUT: &str = "-loglevel error -thread_queue_size 512 -draw_mouse 0 -threads 1";
const POST_INPUT: &str = "-c:v libx264 -bf 0 -x264-params keyint=120:scenecut=0 -preset ultrafast -crf 23 -c:a copy -flush_packets 1 -tune zerolatency";
const LOSSLESS: &str = "-c:v libx264 -qp 0 -bf 0 -preset ultrafast -c:a copy -flush_packets 1";
/// Once it is asked to end.
const END_LIMIT: Duration = Duration::from_secs(30);

/// Who records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Pipeline {
    /// What the reference recorder runs: ffmpeg grabs 30 full frames a second.
    Reference,
    /// This project's.
    Ours,
    /// This project's, encoded as its MP4 while it runs.
    Once,
    /// This project's, without loss: what others are compared with.
    Lossless,
    /// What `LiveKit` egress runs: `GStreamer` grabs 30 full frames a second.
    Egress,
}

impl Pipeline {
    pub const ALL: [Self; 3] = [Self::Reference, Self::Ours, Self::Egress];

    pub fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Ours => "ours",
            Self::Once => "once",
            Self::Lossless => "lossless",
            Self::Egress => "egress",
        }
    }
}

/// What is said on standard output, one line each.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum Said {
    /// Media flows.
    Recording,
    /// What has been done so far: once for each line on standard input, and at the end.
    Done(Done),
}

/// Frames that went out, and frames that should have; only ours knows.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Done {
    pub frames_sent: u64,
    pub frames_lost: u64,
    /// Of those, the ones that the capture itself was too late for.
    pub frames_late: u64,
    pub sound_gaps_ms: u64,
}

impl From<CaptureReport> for Done {
    fn from(summary: CaptureReport) -> Self {
        Self {
            frames_sent: summary.frames_sent,
            frames_lost: summary.frames_dropped + summary.frames_late,
            frames_late: summary.frames_late,
            sound_gaps_ms: summary.corrections.gaps_ms,
        }
    }
}

#[derive(Debug, clap::Args)]
pub struct Options {
    #[arg(long)]
    pub pipeline: Pipeline,
    #[arg(long)]
    pub url: String,
    /// Where the recording goes.
    #[arg(long)]
    pub file: PathBuf,
}

pub async fn work(options: &Options) -> anyhow::Result<()> {
    match options.pipeline {
        Pipeline::Ours | Pipeline::Once | Pipeline::Lossless => Box::pin(ours(options)).await,
        Pipeline::Reference => grabber(options, reference).await,
        Pipeline::Egress => grabber(options, egress).await,
    }
}

fn say(what: &Said) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(what)?);
    Ok(())
}

/// The lines on standard input; it ends when the parent says so, or is gone.
fn questions() -> mpsc::Receiver<()> {
    let (ask, asked) = mpsc::channel(1);
    // A thread that nobody waits for: it may outlive what it was started for.
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            if line.is_err() || ask.blocking_send(()).is_err() {
                return;
            }
        }
    });
    asked
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Chrome as the recorder starts it; for the others without the one flag that makes its sound cheaper, which they do not
/// set.
async fn chrome(pipeline: Pipeline) -> ChromeSettings {
    let plain = ChromeFlag { name: "audio-buffer-size".to_owned(), value: Some("false".to_owned()) };
    ChromeSettings {
        path: None,
        flags: if matches!(pipeline, Pipeline::Reference | Pipeline::Egress) { vec![plain] } else { Vec::new() },
        sandbox: sandbox::check().await.is_ok(),
        trusted: None,
    }
}

/// What our pipelines encode with.
pub fn encoder(pipeline: Pipeline) -> EncoderSettings {
    let fast = EncoderSettings::new(&words(PRE_INPUT), &words(POST_INPUT));
    match pipeline {
        Pipeline::Once => {
            let final_encoding = FinalEncoding::read(&FfmpegOptions::post_recording(None)).ok().map(Arc::new);
            EncoderSettings { final_encoding, ..fast }
        }
        Pipeline::Lossless => EncoderSettings::new(&words(PRE_INPUT), &words(LOSSLESS)),
        Pipeline::Ours | Pipeline::Reference | Pipeline::Egress => fast,
    }
}

async fn ours(options: &Options) -> anyhow::Result<()> {
    let spec = RigSpec {
        url: options.url.clone(),
        target: EncoderTarget::File(options.file.clone()),
        encoder: encoder(options.pipeline),
        fallback: None,
        chrome: chrome(options.pipeline).await,
        size: SIZE,
        dpi: 96,
        silence_warning: None,
        screenshot: options.file.with_extension("png"),
        owner: String::new(),
    };
    let mut rig = LiveRig::open(spec, CancellationToken::new()).await.map_err(|error| match error {
        OpenError::Cancelled => anyhow!("cancelled"),
        OpenError::Over(why) | OpenError::Unrecordable(why) | OpenError::Refused(why) | OpenError::Failed(why) => {
            anyhow!(why)
        }
    })?;
    say(&Said::Recording)?;
    let mut questions = questions();
    let broken = loop {
        tokio::select! {
            question = questions.recv() => match question {
                Some(()) => say(&Said::Done(rig.report().into()))?,
                None => break None,
            },
            broken = rig.broken() => break Some(broken),
        }
    };
    let (summary, result) = rig.finish().await;
    rig.close().await;
    if let Some(broken) = broken {
        bail!("the capture broke off: {}", broken.cause);
    }
    result.map_err(|why| anyhow!(why))?;
    say(&Said::Done(summary.into()))
}

/// A pipeline that is one program beside the same display, sound server and browser.
async fn grabber(options: &Options, start: impl Fn(&str, &Path) -> Command) -> anyhow::Result<()> {
    let dir = tempfile::Builder::new().prefix("pnm-").tempdir()?;
    let display = Display::start(dir.path(), SIZE.0, SIZE.1, 96).await?;
    let audio = PulseAudio::start(dir.path()).await?;
    let address = display.address().clone();
    tokio::task::spawn_blocking(move || window::rest_pointer(&address)).await??;
    let mut env = display.env().to_vec();
    env.push(("PULSE_SERVER", audio.address()));
    let mut browser = Chrome::start(&chrome(options.pipeline).await, SIZE, 96, &env, dir.path()).await?;
    // The same pixels for all: a window of Chrome's own size would be scaled.
    let address = display.address().clone();
    tokio::task::spawn_blocking(move || window::cover_screen(&address, SIZE)).await??;
    browser.join(&options.url).await.map_err(|why| anyhow!(why.cause))?;

    let number = &display.env()[0].1;
    let mut command = start(number, &options.file);
    command.envs(env).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    let mut grabber = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    // It has no better way to say that media flows.
    while std::fs::metadata(&options.file).map_or(0, |file| file.len()) == 0 {
        ensure!(grabber.try_wait()?.is_none(), "the grabber ended at its start");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    say(&Said::Recording)?;
    let mut questions = questions();
    while questions.recv().await.is_some() {
        say(&Said::Done(Done::default()))?;
    }
    finish(&mut grabber).await?;
    browser.stop().await;
    audio.stop().await;
    display.stop().await;
    dir.close()?;
    say(&Said::Done(Done::default()))
}

/// SIGINT is what both programs end well on.
async fn finish(grabber: &mut Child) -> anyhow::Result<()> {
    if let Some(pid) = grabber.id().and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?)) {
        rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
    }
    tokio::time::timeout(END_LIMIT, grabber.wait()).await.context("the grabber does not end")??;
    Ok(())
}

fn reference(display: &str, file: &Path) -> Command {
    let mut command = Command::new("ffmpeg");
    command
        .args(["-hide_banner", "-nostdin", "-nostats"])
        .args(words(PRE_INPUT))
        .args(["-video_size", &format!("{}x{}", SIZE.0, SIZE.1), "-framerate", "30", "-f", "x11grab", "-i"])
        .arg(display)
        .args(["-thread_queue_size", "512", "-f", "pulse", "-i", "meeting.monitor"])
        .args(words(POST_INPUT))
        .args(["-f", "matroska", "-y"])
        .arg(file);
    command
}

fn egress(display: &str, file: &Path) -> Command {
    let mut command = Command::new("gst-launch-1.0");
    command
        .args(["-q", "-e", "ximagesrc", "use-damage=false", "show-pointer=false"])
        .arg(format!("display-name={display}"))
        .args(["!", "video/x-raw,framerate=30/1", "!", "queue", "!", "videoconvert", "!", "queue"])
        .args(["!", "x264enc", "speed-preset=veryfast", "bitrate=4500", "key-int-max=120", "!", "queue", "!", "mux."])
        .args([
            "pulsesrc",
            "device=meeting.monitor",
            "!",
            "queue",
            "!",
            "mux.",
            "matroskamux",
            "name=mux",
            "!",
            "filesink",
        ])
        .arg(format!("location={}", file.display()));
    command
}
