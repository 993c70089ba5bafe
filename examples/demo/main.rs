//! The main job once, with the real binary: a stand-in server asks for a recording, about 15 s of meeting are recorded and become an MP4,
//! and the MP4 is measured. `make demo` builds the binary first.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use plugnmeet_recorder::protocol::messages::{RecorderToPlugNmeet, RecordingTasks};
use tokio::signal::unix::{SignalKind, signal};

#[expect(dead_code, reason = "benchmarks need more of it")]
mod daemon;
#[path = "../../tests/measure/mod.rs"]
mod measure;
#[path = "../../tests/standin/mod.rs"]
mod standin;

use daemon::{Daemon, NodeOptions};
use measure::cost::Cost;
use measure::{MediaInfo, picture, probe, sound, sync};
use standin::meeting::area;
use standin::{Deployment, Meeting, Room, Standin};

const RECORDER: &str = "demo-node";
const RECORDING: &str = "demo-recording";
const BEEP_HZ: f64 = 1000.0;
/// How long the meeting is recorded.
const SECONDS: u32 = 15;

const ANNOUNCE_LIMIT: Duration = Duration::from_secs(20);
/// Chrome's first start on a slow machine, and the join.
const JOIN_LIMIT: Duration = Duration::from_secs(60);
const END_LIMIT: Duration = Duration::from_secs(45);
const TRANSCODE_LIMIT: Duration = Duration::from_secs(240);

#[tokio::main]
async fn main() -> ExitCode {
    match Box::pin(demo()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // `{:#}`: the causes in one line, without a backtrace.
            eprintln!("\nThe demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn demo() -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;

    step("starting a stand-in for the plugNmeet server");
    let standin = Standin::start(Deployment::default()).await?;
    let main_path = standin.dir().join("recordings");
    println!("    meeting page and notices {}, NATS {}", standin.host(), standin.nats_url());

    step("starting the recorder");
    let mut daemon = Daemon::start(&standin, RECORDER, &main_path, &NodeOptions::default())?;
    println!("    process {}", daemon.id());

    let outcome = tokio::select! {
        outcome = record(&standin, &mut daemon, &main_path) => outcome,
        _ = interrupt.recv() => Err(anyhow::anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow::anyhow!("terminated")),
    };
    step("SIGTERM to the recorder");
    let stopped = daemon.stop();
    let result = outcome.and_then(|report| stopped.map(|()| report));
    let report = match result {
        Ok(report) => report,
        Err(error) => {
            eprintln!("\nThe end of the recorder's log:\n{}", daemon.tail());
            return Err(error);
        }
    };
    println!("    it has ended, with every process that it had started");
    let keys = standin.fleet.keys().await?;
    ensure!(keys.is_empty(), "the recorder left its announcement behind: {keys:?}");
    ensure!(
        standin.violations().is_empty(),
        "the recorder used a subject it may not use:\n{}",
        standin.violations().join("\n")
    );
    report.print();
    Ok(())
}

/// What the run has produced.
struct Report {
    mp4: PathBuf,
    sheet: PathBuf,
    media: MediaInfo,
    sync: sync::Sync,
    webcams_move: bool,
    cost: Cost,
}

async fn record(standin: &Standin, daemon: &mut Daemon, main_path: &Path) -> anyhow::Result<Report> {
    daemon.during(standin.fleet.wait_selectable(RECORDER, ANNOUNCE_LIMIT)).await?;
    println!("    it has announced itself, and the server would choose it");

    step("START_RECORDING");
    let room = standin.meeting(Meeting { beep_hz: Some(BEEP_HZ), ..Meeting::default() });
    let asked = Instant::now();
    let reply = standin.fleet.start_recording(&room, RECORDING, RECORDER).await?;
    let response = reply.response.context("the recorder did not answer START_RECORDING within 3 s")?;
    ensure!(response.status, "the recorder refused: {}", response.msg);
    println!("    answered after {:.0} ms: {}", reply.took.as_secs_f64() * 1000.0, response.msg);

    daemon.during(notice(standin, RecordingTasks::StartRecording, JOIN_LIMIT)).await?;
    println!("    it records, {:.1} s after it was asked", asked.elapsed().as_secs_f64());
    let cost = watch(daemon, &room, main_path).await?;

    step("STOP_RECORDING");
    let reply = standin.fleet.stop(RecordingTasks::StopRecording, &room, RECORDING).await?;
    let response = reply.response.context("the recorder did not answer STOP_RECORDING within 3 s")?;
    ensure!(response.status, "the recorder would not stop: {}", response.msg);
    let stopped = Instant::now();
    let since = |what: &str| println!("    {:5.1} s  {what}", stopped.elapsed().as_secs_f64());
    daemon.during(notice(standin, RecordingTasks::EndRecording, END_LIMIT)).await?;
    since("END_RECORDING");
    let proceeded = daemon.during(notice(standin, RecordingTasks::RecordingProceeded, TRANSCODE_LIMIT)).await?;
    since(&format!("RECORDING_PROCEEDED: {}, {} MB", proceeded.file_path, proceeded.file_size));
    daemon.during(notice(standin, RecordingTasks::RecordingTranscodingFinished, END_LIMIT)).await?;
    since("RECORDING_TRANSCODING_FINISHED");

    step("measuring the MP4");
    let out = Path::new(env!("CARGO_MANIFEST_DIR")).join("out");
    fs::create_dir_all(&out)?;
    let mp4 = out.join("demo.mp4");
    let made = main_path.join(&proceeded.file_path);
    fs::copy(&made, &mp4).with_context(|| format!("cannot copy {}", made.display()))?;
    measure_film(mp4, out.join("demo-contact-sheet.png"), cost)
}

/// Waits for a notice, and fails if it reports a failure.
async fn notice(standin: &Standin, task: RecordingTasks, limit: Duration) -> anyhow::Result<RecorderToPlugNmeet> {
    // An early end would otherwise be waited for as if it could still become the notice that is wanted.
    let early = [RecordingTasks::EndRecording, RecordingTasks::RecordingTranscodingFinished];
    let found = standin.notices.wait_until(limit, || {
        let notices = standin.notices.of(RECORDING);
        let failed = notices.iter().find(|notice| early.contains(&notice.task()) && !notice.message.status);
        failed.or_else(|| notices.iter().find(|notice| notice.task() == task)).cloned()
    });
    let Some(found) = found.await else {
        bail!("no {task:?} within {} s; refused: {:?}", limit.as_secs(), standin.notices.refused());
    };
    let message = found.message;
    ensure!(message.status, "{:?} reports a failure: {}", message.task(), message.msg);
    Ok(message)
}

/// The meeting, while it is recorded; one line each second.
async fn watch(daemon: &mut Daemon, room: &Room, main_path: &Path) -> anyhow::Result<Cost> {
    step(&format!("{SECONDS} s of meeting: slides, three webcams, a beep and a flash each second"));
    daemon.meter.restart();
    let mut each = tokio::time::interval(Duration::from_secs(1));
    each.tick().await;
    let mut cost = Cost::default();
    for second in 1..=SECONDS {
        daemon
            .during(async {
                each.tick().await;
                Ok(())
            })
            .await?;
        cost = daemon.meter.read();
        let sounding = if room.presence().sounds > 0 { "picture and sound" } else { "picture, Chrome opens its sound" };
        println!(
            "    {second:2}/{SECONDS} s  {sounding}; raw file {:.1} MB; capture+encode {:.2} CPU-s, Chrome {:.2}",
            in_megabytes(raw_bytes(main_path)),
            cost.capture,
            cost.browser
        );
    }
    ensure!(room.presence().open > 0, "the recorder has left the meeting page");
    Ok(cost)
}

fn measure_film(mp4: PathBuf, sheet: PathBuf, cost: Cost) -> anyhow::Result<Report> {
    let media = probe(&mp4)?;
    media.video()?;
    media.audio()?;
    let beeps = sound::beeps(&mp4, BEEP_HZ)?;
    let flashes = picture::flashes(&mp4, area::FLASH.inner(8))?;
    let sync = sync::pair(&beeps, &flashes, sync::expected(&beeps, media.duration));
    let mut webcams_move = true;
    for n in 0..3 {
        webcams_move &= picture::movement(&mp4, area::webcam(n).inner(8))? > 1.0;
    }
    picture::contact_sheet(&mp4, &sheet)?;
    Ok(Report { mp4, sheet, media, sync, webcams_move, cost })
}

impl Report {
    fn print(&self) {
        let Self { media, sync, cost, .. } = self;
        println!("\nMP4            {} ({:.2} MB)", self.mp4.display(), in_megabytes(self.media.size));
        for stream in &media.streams {
            let details = match stream.kind.as_str() {
                "video" => format!("{}x{}, {} frames", stream.width, stream.height, stream.packets),
                _ => format!("{} Hz, {} channels", stream.sample_rate, stream.channels),
            };
            println!("{:14} {}, {details}", stream.kind, stream.codec);
        }
        println!("duration       {:.2} s (meeting: {SECONDS} s)", media.duration);
        println!(
            "webcams        {}",
            if self.webcams_move { "moving all the time" } else { "NOT moving all the time" }
        );
        println!("beep to flash  mean {:+.1} ms, worst {:+.1} ms (positive: sound late)", sync.mean(), sync.worst());
        println!("beeps          {} of {} found, {} flashes", sync.beeps, sync.expected, sync.flashes);
        let parts: Vec<String> = cost.parts.iter().map(|(name, seconds)| format!("{name} {seconds:.2}")).collect();
        println!("capture+encode {:.2} CPU-seconds in {SECONDS} s ({})", cost.capture, parts.join(", "));
        println!("Chrome         {:.2} CPU-seconds in {SECONDS} s", cost.browser);
        println!("contact sheet  {}", self.sheet.display());
    }
}

/// One more thing that is being done.
fn step(what: &str) {
    println!("==> {what}");
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn in_megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// The size of the raw files that are growing under a directory.
fn raw_bytes(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(data) if data.is_dir() => raw_bytes(&entry.path()),
        Ok(data) if entry.path().extension().is_some_and(|extension| extension == "mkv") => data.len(),
        _ => 0,
    });
    sizes.sum()
}
