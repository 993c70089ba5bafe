//! A `record` from its arguments to its MP4.
//!
//! ```text
//! check the host ─ open the rig, visit the page ─ record ┬ finish the raw file ─ make the MP4 ─ into its place
//!                                                        └ a second signal: the raw file is kept
//! ```

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::capture::browser::chrome_arguments::{PROGRAMS, find_chrome};
use crate::capture::browser::sandbox;
use crate::capture::browser::trusted_roots::{self, TrustedRootsError};
use crate::capture::cpu_use::CaptureCpu;
use crate::capture::quality_summary::seconds;
use crate::capture::rig::{CaptureReport, LiveRig, OpenError, Rig as _};
use crate::capture::rig_failure::RigFailure;
use crate::config::Config;
use crate::media::progress::FfmpegProgress;
use crate::page_recording::arguments::RecordArguments;
use crate::page_recording::console::{Console, REDRAW};
use crate::page_recording::meter::{LevelMeter, bar};
use crate::page_recording::mp4::{self, Mp4Error};
use crate::page_recording::outcome::{Ending, RecordFailure};
use crate::page_recording::outlet::hls;
use crate::page_recording::outlet::outlets::{Outlet, Outlets};
use crate::page_recording::output::{OutputFiles, default_name, directory};
use crate::page_recording::signals::StopRequests;
use crate::page_recording::summary::{OutletSummary, PageSummary, bytes, clock};
use crate::page_recording::{disk, leftovers, settings};
use crate::process::programs::find_program;
use crate::recording::session::states::{CLOSING_LIMIT, FINISHING_LIMIT};
use crate::storage::placement::IfExists;
use crate::telemetry::redact;
use crate::tls::ca_file;

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

/// What was recorded.
struct Recorded {
    end: End,
    report: CaptureReport,
    outlets: Vec<(Outlet, OutletSummary)>,
}

/// Records, and makes the MP4. Everything is told on the console, but a failure.
///
/// # Errors
/// Why there is no MP4.
pub async fn run(
    arguments: &RecordArguments,
    outlets: &[Outlet],
    console: &mut Console,
    stop: &StopRequests,
) -> Result<Ending, RecordFailure> {
    let host = |cause: &dyn std::fmt::Display| RecordFailure::new(Ending::Host, cause);
    missing_programs().map_or(Ok(()), |missing| Err(host(&missing)))?;
    let config = settings::defaults().map_err(|error| host(&error))?;
    let temp = std::env::temp_dir();
    let look = temp.clone();
    // A fault of it is told by what needs it.
    disk::ask("TMPDIR", &temp, &stop.end, move || Ok(std::fs::read_dir(look).map(Iterator::count).ok())).await?;
    let mut output = prepare(arguments, &stop.end).await?;
    leftovers::remove(&temp).await;
    let ended = Box::pin(record_and_make(arguments, &config, outlets, &mut output, console, stop)).await;
    if let Err(why) = output.remove().await {
        console.note(format!("{} warning: {why}", Ending::DiskHangs.message()));
    }
    ended
}

/// The same in the directories that were made.
async fn record_and_make(
    arguments: &RecordArguments,
    config: &Config,
    outlets: &[Outlet],
    output: &mut OutputFiles,
    console: &mut Console,
    stop: &StopRequests,
) -> Result<Ending, RecordFailure> {
    let recorded = Box::pin(record(arguments, config, outlets, output, console, stop)).await?;
    let broke = match &recorded.end {
        End::Broke(cause) => Some(RecordFailure::new(Ending::BrokeOff, cause).cause),
        _ => None,
    };
    if let Some(cause) = &broke {
        console.note(format!("{} The recording broke off: {cause}", Ending::BrokeOff.message()));
    }
    if stop.now.is_cancelled() {
        let failure = RecordFailure::new(Ending::Stopped, "stopped at once by a second signal; there is no MP4");
        return Err(RecordFailure { raw: keep_raw(output, console).await, ..failure });
    }
    let tracks = settings::tracks(arguments);
    let mut summary = PageSummary::new(&recorded.report, arguments.size, tracks, recorded.end.text());
    if let Some(cause) = &broke {
        summary.fail(&RecordFailure::new(Ending::BrokeOff, cause).summary());
    }
    let made = match &output.mp4 {
        Some(mp4) => Box::pin(make(arguments, config, output, mp4, console, stop)).await.map(Some),
        None => Ok(None),
    };
    let complete = match &made {
        Ok(made) => {
            if let (Some((duration, size)), Some(mp4)) = (made, &output.mp4) {
                summary.file = Some(mp4.display().to_string());
                (summary.bytes, summary.duration_s) = (*size, seconds(*duration));
                console.result(&format!("Saved {}: {}, {}", mp4.display(), clock(*duration), bytes(*size)));
            }
            tell_outlets(&recorded, &mut summary, output.mp4.as_deref(), console)
        }
        Err(_) => tell_outlets(&recorded, &mut summary, None, console),
    };
    // Where segments are all that was to be made, the raw file is what they can be made of.
    let incomplete = !complete && output.mp4.is_none() && arguments.hls.is_some();
    let failure = match made {
        Ok(_) if incomplete => RecordFailure::new(Ending::OutletIncomplete, "what --hls wrote is not complete"),
        Ok(_) => {
            summary.lines(tracks).iter().for_each(|line| console.result(&format!("  {line}")));
            summary.warnings.iter().for_each(|line| console.result(&format!("  warning: {line}")));
            console.json(&summary);
            let ending = if complete { Ending::Complete } else { Ending::OutletIncomplete };
            return Ok(if broke.is_some() { Ending::BrokeOff } else { ending });
        }
        Err(failure) => failure,
    };
    let failure = RecordFailure { raw: keep_raw(output, console).await, ..failure };
    summary.fail(&failure.summary());
    console.json(&summary);
    Err(failure)
}

/// Makes the directories of the files, each with a limit for its disk.
async fn prepare(arguments: &RecordArguments, stop: &CancellationToken) -> Result<OutputFiles, RecordFailure> {
    let (force, temp) = (arguments.force, arguments.temp.clone());
    let name = || default_name(&arguments.url, SystemTime::now(), arguments.sound_only);
    if let Some(dir) = arguments.hls.clone() {
        disk::ask("--hls", &dir.clone(), stop, move || hls::prepare(&dir, force)).await?;
    }
    if !arguments.makes_file() {
        // Beside the segments, whose disk is large enough: the raw file takes about as much as they do.
        let segments = arguments.hls.as_deref().and_then(|dir| std::path::absolute(dir).ok());
        let beside = segments.as_deref().and_then(Path::parent).map(Path::to_owned);
        let (name, dir) = (name(), temp.or(beside).unwrap_or_else(std::env::temp_dir));
        return disk::ask("--temp", &dir.clone(), stop, move || OutputFiles::without_mp4(&name, &dir)).await;
    }
    let mp4 = arguments.output.clone().unwrap_or_else(name);
    let path = mp4.clone();
    let Some(temp) = temp else {
        return disk::ask("-o", &directory(&mp4), stop, move || OutputFiles::prepare(path, force)).await;
    };
    // The directory beside the output was a try.
    disk::ask("-o", &directory(&mp4), stop, move || OutputFiles::prepare(path, force).map(drop)).await?;
    disk::ask("--temp", &temp.clone(), stop, move || OutputFiles::in_temp(mp4, &temp)).await
}

/// Keeps the raw file, if there is one; its path.
async fn keep_raw(output: &mut OutputFiles, console: &Console) -> Option<PathBuf> {
    let (raw, why) = output.keep_raw().await;
    if let Some(why) = why {
        let code = Ending::DiskHangs.message();
        console.note(format!("{code} warning: {why}; the raw file is whole when it is well, as far as it was written"));
    }
    raw
}

/// Tells what became of the outlets; whether all of them are complete.
fn tell_outlets(recorded: &Recorded, summary: &mut PageSummary, mp4: Option<&Path>, console: &Console) -> bool {
    for (outlet, made) in &recorded.outlets {
        let (to, time) = (&made.to, clock(recorded.report.duration));
        let line = match (outlet, &made.error) {
            (Outlet::Hls(_), None) => format!("Saved {to}: {time}"),
            (Outlet::Rtmp(_), None) => format!("Sent to {to}: {time}"),
            (outlet, Some(error)) => outlet.remedy(error, mp4),
        };
        console.result(&redact::scrub(&line));
        if made.interruptions > 0 && made.complete && matches!(outlet, Outlet::Rtmp(_)) {
            console.result(&format!(
                "  warning: it was interrupted {} times, and lacks what was then",
                made.interruptions
            ));
        }
        *match outlet {
            Outlet::Hls(_) => &mut summary.hls,
            Outlet::Rtmp(_) => &mut summary.rtmp,
        } = Some(made.clone());
    }
    recorded.outlets.iter().all(|(_, made)| made.complete)
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
    outlets: &[Outlet],
    output: &OutputFiles,
    console: &mut Console,
    stop: &StopRequests,
) -> Result<Recorded, RecordFailure> {
    let sandbox = sandbox::check().await;
    if let Err(reason) = &sandbox {
        console.note(format!("Chrome runs without its sandbox, so record only pages that you trust: {reason}"));
    }
    console.begin(&format!("Opening {}", shown(arguments)));
    let trusted = trusted(arguments, output, &stop.end).await?;
    let (owner, screenshot) = (leftovers::owner(), output.screenshot());
    let spec = settings::rig(config, arguments, &output.raw(), owner, sandbox.is_ok(), screenshot, trusted);
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
    let mut outlets = Outlets::start(outlets, &output.raw(), settings::tracks(arguments), arguments.is_only_sent());
    let mut end = Box::pin(wait_for_end(&mut rig, &mut outlets, arguments, console, stop)).await;
    console.begin(if matches!(end, End::Signal) {
        "Ending the recording; another signal stops at once and keeps the raw file"
    } else {
        "Ending the recording"
    });
    let finished = tokio::select! {
        finished = rig.finish() => Some(finished),
        () = hurry(stop, FLUSH_LIMIT) => None,
        () = tokio::time::sleep(FINISHING_LIMIT) => {
            let why = format!("it did not end within {} s", FINISHING_LIMIT.as_secs());
            Some((CaptureReport::default(), Err(why)))
        }
    };
    // What does not close ends with this process; what it leaves is removed by the next run.
    let closing = tokio::spawn(rig.close());
    tokio::select! {
        _ = closing => {}
        () = hurry(stop, CLOSE_LIMIT) => {}
        () = tokio::time::sleep(CLOSING_LIMIT) => {}
    }
    let Some((report, finished)) = finished else {
        return Ok(Recorded { end, report: CaptureReport::default(), outlets: Vec::new() });
    };
    let outlets = stop.now.run_until_cancelled(outlets.finish()).await.unwrap_or_default();
    if let (Err(error), false) = (finished, matches!(end, End::Broke(_))) {
        end = End::Broke(error);
    }
    Ok(Recorded { end, report, outlets })
}

/// Chrome's database of the certificates that it is to trust besides its own.
async fn trusted(
    arguments: &RecordArguments,
    output: &OutputFiles,
    stop: &CancellationToken,
) -> Result<Option<PathBuf>, RecordFailure> {
    let file = arguments.ca_file.as_deref();
    if file.is_none() && arguments.url.scheme() == "http" {
        return Ok(None);
    }
    let refused = |ending, error: &dyn std::fmt::Display| {
        RecordFailure::new(ending, error.to_string().replace(ca_file::KEY, "--ca-file"))
    };
    if let Some(file) = file {
        let read = file.to_owned();
        let checked = disk::ask("--ca-file", file, stop, move || Ok(ca_file::check(&read, SystemTime::now()))).await?;
        checked.map_err(|error| refused(Ending::Usage, &error))?;
    }
    match trusted_roots::of_page(&output.certificates(), file).await {
        Err(TrustedRootsError::Spawn(error)) => {
            let (program, package) = trusted_roots::PROGRAM;
            Err(refused(Ending::Host, &format_args!("--ca-file needs {program} ({error}); apt-get install {package}")))
        }
        trusted => trusted.map_err(|error| refused(Ending::Host, &error)),
    }
}

/// Resolves when a second signal is older than `grace`.
async fn hurry(stop: &StopRequests, grace: Duration) {
    stop.now.cancelled().await;
    tokio::time::sleep(grace).await;
}

/// Waits until the recording is to end, and tells of its progress.
async fn wait_for_end(
    rig: &mut LiveRig,
    outlets: &mut Outlets,
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
        while let Some(news) = outlets.news() {
            console.note(redact::scrub(&news));
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
    mp4: &Path,
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
    let failed = |error, what| match error {
        Mp4Error::Stopped => RecordFailure::new(Ending::Stopped, "stopped by a second signal before the MP4 was made"),
        Mp4Error::Failed(cause) => {
            RecordFailure::new(Ending::Failed, format_args!("the MP4 cannot be {what}: {cause}"))
        }
    };
    let made = made.map_err(|error| failed(error, "made"))?;
    let existing = if arguments.force { IfExists::Replace } else { IfExists::Refuse };
    let size = mp4::store(&part, mp4, existing, &stop.now).await.map_err(|error| failed(error, "stored"))?;
    console.end_progress();
    Ok((made.duration, size))
}
