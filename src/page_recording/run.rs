//! A `record` from its arguments to its MP4.
//!
//! ```text
//! check the host ─ open the rig, visit the page ─ record ┬ finish the raw file ─ make the MP4 ─ into its place
//!                                                        └ a second signal: the raw file is kept
//! ```

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use crate::capture::browser::chrome_arguments::{PROGRAMS, find_chrome};
use crate::capture::browser::sandbox;
use crate::capture::cpu_use::CaptureCpu;
use crate::capture::rig::{CaptureReport, LiveRig, OpenError, Rig as _};
use crate::capture::rig_failure::RigFailure;
use crate::config::Config;
use crate::media::progress::FfmpegProgress;
use crate::page_recording::arguments::RecordArguments;
use crate::page_recording::console::{Console, REDRAW};
use crate::page_recording::meter::{LevelMeter, bar};
use crate::page_recording::mp4::{self, Mp4Error};
use crate::page_recording::outcome::{Ending, RecordFailure};
use crate::page_recording::output::{OutputFiles, default_name};
use crate::page_recording::signals::StopRequests;
use crate::page_recording::summary::{PageSummary, bytes, clock};
use crate::page_recording::{leftovers, settings};
use crate::process::programs::find_program;
use crate::storage::placement::{self, IfExists};

/// How often the processor time is read: that takes some milliseconds.
const CPU_LOOK: Duration = Duration::from_secs(1);
/// Time limit for the rig to close after a second signal; the kernel ends its processes with this one.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);
/// The same for ffmpeg to write what it holds: the last second.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);
/// Programs that are needed besides Chrome, and their packages.
const NEEDED: [(&str, &str); 4] =
    [("ffmpeg", "ffmpeg"), ("ffprobe", "ffmpeg"), ("Xvfb", "xvfb"), ("pulseaudio", "pulseaudio")];

/// Why a recording ended.
enum End {
    Duration,
    Signal,
    /// The page was closed, or the element of `--until-gone` is gone.
    Page(String),
    Broke(String),
}

impl End {
    fn text(&self) -> String {
        match self {
            Self::Duration => "--duration is over".to_owned(),
            Self::Signal => "a signal".to_owned(),
            Self::Page(cause) => cause.clone(),
            Self::Broke(cause) => format!("a failure: {}", RecordFailure::new(Ending::BrokeOff, cause).cause),
        }
    }
}

/// Records, and makes the MP4. Everything is told on the console, but a failure.
///
/// # Errors
/// Why there is no MP4.
pub async fn run(
    arguments: &RecordArguments,
    console: &mut Console,
    stop: &StopRequests,
) -> Result<Ending, RecordFailure> {
    let host = |cause: &dyn std::fmt::Display| RecordFailure::new(Ending::Host, cause);
    missing_programs().map_or(Ok(()), |missing| Err(host(&missing)))?;
    let config = settings::defaults().map_err(|error| host(&error))?;
    let named = arguments.output.clone();
    let output = named.unwrap_or_else(|| default_name(&arguments.url, SystemTime::now(), arguments.sound_only));
    let output = OutputFiles::prepare(output, arguments.temp.as_deref(), arguments.force)
        .map_err(|error| RecordFailure::new(Ending::Usage, error))?;
    leftovers::remove(&std::env::temp_dir()).await;
    let (end, report) = Box::pin(record(arguments, &config, &output, console, stop)).await?;
    let broke = match &end {
        End::Broke(cause) => Some(RecordFailure::new(Ending::BrokeOff, cause).cause),
        _ => None,
    };
    if let Some(cause) = &broke {
        console.note(format!("{} The recording broke off: {cause}", Ending::BrokeOff.message()));
    }
    if stop.now.is_cancelled() {
        let failure = RecordFailure::new(Ending::Stopped, "stopped at once by a second signal; there is no MP4");
        return Err(RecordFailure { raw: output.keep_raw(), ..failure });
    }
    let tracks = settings::tracks(arguments);
    let mut summary = PageSummary::new(&report, arguments.size, tracks, end.text());
    summary.error.clone_from(&broke);
    match Box::pin(make(arguments, &config, &output, console, stop)).await {
        Ok((duration, size)) => {
            summary.file = Some(output.mp4.display().to_string());
            (summary.bytes, summary.duration_s) = (size, rounded(duration));
            console.result(&format!("Saved {}: {}, {}", output.mp4.display(), clock(duration), bytes(size)));
            summary.lines(tracks).iter().for_each(|line| console.result(&format!("  {line}")));
            summary.warnings.iter().for_each(|line| console.result(&format!("  warning: {line}")));
            console.json(&summary);
            Ok(if broke.is_some() { Ending::BrokeOff } else { Ending::Complete })
        }
        Err(failure) => {
            let failure = RecordFailure { raw: output.keep_raw(), ..failure };
            summary.raw_file = failure.raw.as_ref().map(|raw| raw.display().to_string());
            summary.error = Some(failure.cause.clone());
            console.json(&summary);
            Err(failure)
        }
    }
}

fn rounded(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 100.0).round() / 100.0
}

/// What is to be installed.
fn missing_programs() -> Option<String> {
    let mut missing: Vec<(&str, &str)> =
        NEEDED.into_iter().filter(|(name, _)| find_program(Path::new(name)).is_none()).collect();
    if find_chrome(None).is_none() {
        missing.push(("Chrome", "chromium"));
    }
    if missing.is_empty() {
        return None;
    }
    let names: Vec<_> = missing.iter().map(|(name, _)| *name).collect();
    let mut packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    packages.dedup();
    let chrome =
        if names.contains(&"Chrome") { format!(" (looked for {})", PROGRAMS.join(", ")) } else { String::new() };
    Some(format!("not on PATH: {}{chrome}; apt-get install {}", names.join(", "), packages.join(" ")))
}

/// Opens the page and records it to its end. The raw file is finished when this returns.
async fn record(
    arguments: &RecordArguments,
    config: &Config,
    output: &OutputFiles,
    console: &mut Console,
    stop: &StopRequests,
) -> Result<(End, CaptureReport), RecordFailure> {
    let sandbox = sandbox::check().await;
    if let Err(reason) = &sandbox {
        console.note(format!("Chrome runs without its sandbox, so record only pages that you trust: {reason}"));
    }
    console.begin(&format!("Opening {}", shown(arguments)));
    let spec =
        settings::rig(config, arguments, &output.raw(), leftovers::owner(), sandbox.is_ok(), output.screenshot());
    let opened = LiveRig::open_page(spec, settings::visit(arguments), stop.end.clone()).await;
    let mut rig = opened.map_err(|error| match error {
        OpenError::Cancelled => RecordFailure::new(Ending::Stopped, "stopped before anything was recorded"),
        OpenError::Refused(cause) | OpenError::Over(cause) | OpenError::Unrecordable(cause) => {
            RecordFailure::new(Ending::Page, cause)
        }
        OpenError::Failed(cause) => {
            RecordFailure::new(Ending::Host, format_args!("{cause}; --verbose tells what went before"))
        }
    })?;
    console.begin(&format!("Recording, until {}; the raw file grows in {}", until(arguments), output.raw().display()));
    let mut end = Box::pin(wait_for_end(&mut rig, arguments, console, stop)).await;
    console.begin(if matches!(end, End::Signal) {
        "Ending the recording; another signal stops at once and keeps the raw file"
    } else {
        "Ending the recording"
    });
    let finished = tokio::select! {
        finished = rig.finish() => Some(finished),
        () = hurry(stop, FLUSH_LIMIT) => None,
    };
    let closing = tokio::spawn(rig.close());
    tokio::select! {
        _ = closing => {}
        () = hurry(stop, CLOSE_LIMIT) => {}
    }
    let Some((report, finished)) = finished else { return Ok((end, CaptureReport::default())) };
    if let (Err(error), false) = (finished, matches!(end, End::Broke(_))) {
        end = End::Broke(error);
    }
    Ok((end, report))
}

/// Resolves when a second signal is older than `grace`.
async fn hurry(stop: &StopRequests, grace: Duration) {
    stop.now.cancelled().await;
    tokio::time::sleep(grace).await;
}

/// Waits until the recording is to end, and tells of its progress.
async fn wait_for_end(
    rig: &mut LiveRig,
    arguments: &RecordArguments,
    console: &mut Console,
    stop: &StopRequests,
) -> End {
    let begun = Instant::now();
    // They always flow when a rig has opened.
    let Some(reports) = rig.reports() else { return End::Broke("no media flow".to_owned()) };
    let recorded = reports().duration;
    let left = arguments.duration.map(|duration| duration.saturating_sub(recorded));
    let over = async {
        match left {
            Some(left) => tokio::time::sleep(left).await,
            None => std::future::pending().await,
        }
    };
    // Begun once: a failure takes longer than a redraw to be understood.
    let broken = rig.broken();
    tokio::pin!(over, broken);
    let (mut cpu, mut meter) = (CaptureCpu::default(), LevelMeter::default());
    cpu.used();
    let (mut looked, mut share) = (begun, 0.0);
    loop {
        tokio::select! {
            biased;
            () = stop.end.cancelled() => return End::Signal,
            () = &mut over => return End::Duration,
            RigFailure { cause, page } = &mut broken => {
                return if page.is_some() { End::Page(cause) } else { End::Broke(cause) };
            }
            () = tokio::time::sleep(REDRAW) => {}
        }
        let report = reports();
        let level = meter.look(&report);
        if looked.elapsed() >= CPU_LOOK {
            let since = looked.elapsed();
            looked = Instant::now();
            share = 100.0 * tokio::task::block_in_place(|| cpu.used()).as_secs_f64() / since.as_secs_f64();
        }
        console.progress(report.duration, || progress_line(&report, level, share));
    }
}

fn progress_line(report: &CaptureReport, level: Option<f64>, cpu: f64) -> String {
    let lost = report.frames_dropped + report.frames_late;
    let lost = if lost > 0 { format!(" ({lost} lost)") } else { String::new() };
    let db = level.map_or("silent".to_owned(), |level| format!("{level:.0} dB"));
    format!(
        "{}  {}  {} frames{lost}  [{}] {db}  CPU {cpu:.0} %",
        clock(report.duration),
        bytes(report.bytes),
        report.frames_sent,
        bar(level)
    )
}

/// What ends the recording.
fn until(arguments: &RecordArguments) -> String {
    let mut ends = Vec::new();
    ends.extend(arguments.duration.map(|duration| clock(duration) + " are over"));
    ends.extend(arguments.until_gone.as_ref().map(|selector| format!("{selector:?} is gone")));
    ends.push("the page is closed, or Ctrl-C".to_owned());
    ends.join(", ")
}

/// The address without what may be secret.
fn shown(arguments: &RecordArguments) -> String {
    let mut url = arguments.url.clone();
    // They fail where the kind of address has none.
    let _ = (url.set_username(""), url.set_password(None));
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

/// Makes the MP4 and moves it into its place; its duration, and its size in bytes.
async fn make(
    arguments: &RecordArguments,
    config: &Config,
    output: &OutputFiles,
    console: &mut Console,
    stop: &StopRequests,
) -> Result<(Duration, u64), RecordFailure> {
    console.begin("Making the MP4");
    let (part, tracks): (PathBuf, _) = (output.part(), settings::tracks(arguments));
    let options = settings::mp4_options(config, tracks);
    let (sender, progress) = watch::channel(FfmpegProgress::default());
    let raw = output.raw();
    let making = mp4::make(&raw, &part, &options, tracks, &sender, &stop.now);
    tokio::pin!(making);
    let begun = Instant::now();
    let made = loop {
        tokio::select! {
            made = &mut making => break made,
            () = tokio::time::sleep(REDRAW) => {
                let percent = progress.borrow().percent();
                console.progress(begun.elapsed(), || format!("Making the MP4: {percent:.0} %"));
            }
        }
    };
    let made = made.map_err(|error| match error {
        Mp4Error::Stopped => RecordFailure::new(Ending::Stopped, "stopped by a second signal before the MP4 was made"),
        Mp4Error::Failed(cause) => RecordFailure::new(Ending::Failed, format_args!("the MP4 cannot be made: {cause}")),
    })?;
    let existing = if arguments.force { IfExists::Replace } else { IfExists::Refuse };
    let placed = placement::place(&part, &output.mp4, existing).await;
    placed.map_err(|error| RecordFailure::new(Ending::Failed, format_args!("the MP4 cannot be stored: {error}")))?;
    console.end_progress();
    let size = tokio::fs::metadata(&output.mp4).await.map_or(0, |file| file.len());
    Ok((made.duration, size))
}
