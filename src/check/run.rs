//! Runs the checks and shows what they find.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::FuturesOrdered;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::capture::browser::sandbox;
use crate::check::report::{Finding, Report, Verdict};
use crate::check::{broker, certificates, clock, directories, disk_speed, fonts, host, place};
use crate::check::{programs, scripts, self_recording, server, store};
use crate::codes;
use crate::config::{Config, ConfigError, LoadedConfig, Mode, RecorderConfig};
use crate::protocol::request::Kind;
use crate::recording::journal::RecordingJournal;
use crate::storage::{detached, lock};
use crate::telemetry::redact;

/// The last bound of a group of checks, each of which has nearer ones.
const GROUP_LIMIT: Duration = Duration::from_secs(25);
/// The same for what starts a Chrome.
const CHROME_LIMIT: Duration = Duration::from_secs(120);
/// Time limit for looking for the state directory, and at what is in it.
const STATE_LIMIT: Duration = Duration::from_secs(5);
/// The same for the removal of what killed checks have left.
const LEFTOVERS_LIMIT: Duration = Duration::from_secs(15);
/// What may still hang at the end is left.
const LAST_GRACE: Duration = Duration::from_millis(100);

/// What is to be checked.
pub struct Request {
    /// As it was read, or why it cannot be used.
    pub loaded: Result<LoadedConfig, ConfigError>,
    pub mode: Option<Mode>,
    /// Without what takes seconds and a processor.
    pub quick: bool,
    pub json: bool,
    /// Where the state of the node is: `node::state_dir`.
    pub state_dir: fn(&RecorderConfig) -> PathBuf,
}

/// A group of checks: their names, and what they find.
pub(super) type Group = (&'static [&'static str], BoxFuture<'static, Vec<Finding>>);

/// Checks and shows everything. Returns whether the node is ready; false also where this was interrupted.
///
/// # Errors
/// Where the program cannot run at all, or its output cannot be written.
pub fn run(request: Request, out: &mut dyn Write) -> std::io::Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let report = runtime.block_on(async {
        let cancel = CancellationToken::new();
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let interrupted = cancel.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            interrupted.cancel();
        });
        let mut shown = Ok(());
        let json = request.json;
        let show = |finding: &Finding| {
            if !json && shown.is_ok() {
                shown = writeln!(out, "{}", finding.line_with_code()).and_then(|()| out.flush());
            }
        };
        let report = Box::pin(all(request, cancel.clone(), show)).await;
        shown?;
        if cancel.is_cancelled() {
            eprintln!("{} interrupted: not everything was checked", codes::CHECK_INTERRUPTED);
            return Ok(None);
        }
        if json {
            writeln!(out, "{:#}", report.json())?;
        } else {
            writeln!(out, "\n{}", report.summary())?;
        }
        Ok::<_, std::io::Error>(Some(report))
    });
    runtime.shutdown_timeout(LAST_GRACE);
    match report {
        Ok(report) => Ok(report.is_some_and(|report| report.is_ready())),
        // The reader has closed the pipe, as `| head` does.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

async fn all(request: Request, cancel: CancellationToken, mut show: impl FnMut(&Finding)) -> Report {
    let mut report = Report::default();
    let mut note = |finding: Finding| {
        let finding = Finding { text: redact::scrub(&finding.text).into_owned(), ..finding };
        show(&finding);
        report.0.push(finding);
    };
    let mut loaded = match request.loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            let text = error.to_string();
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            note(Finding::fault("configuration", lines.join("; ")));
            return report;
        }
    };
    let _secrets: Vec<_> = loaded.config.secrets().into_iter().map(redact::register).collect();
    note(configuration(&loaded));
    let recorder = &mut loaded.config.recorder;
    recorder.mode = request.mode.unwrap_or(recorder.mode);
    let (choose, asked) = (request.state_dir, recorder.clone());
    let chosen = tokio::time::timeout(STATE_LIMIT, detached::start("state-dir", move || choose(&asked))).await;
    if let Ok(Ok(dir)) = chosen {
        recorder.state_dir = dir;
    }
    let config = Arc::new(loaded.config);
    let removal = tokio::time::timeout(LEFTOVERS_LIMIT, place::remove_leftovers(&config.recorder));
    // What stays then is looked for by the next check.
    let _ = cancel.run_until_cancelled(removal).await;
    let mut found = together(quick(&config).into_iter().chain(remote(&config)), &cancel);
    let mut obstacles = Obstacles::default();
    while let Some(findings) = found.next().await {
        for finding in findings {
            obstacles.note(&finding);
            note(finding);
        }
    }
    if request.quick {
        return report;
    }
    // One after the other: they would measure each other.
    for (names, group) in slow(&config, &obstacles, &cancel).await {
        if cancel.is_cancelled() {
            break;
        }
        bounded(names, CHROME_LIMIT, group).await.into_iter().for_each(&mut note);
    }
    report
}

/// What was found that makes a slow check pointless.
#[derive(Debug, Default)]
struct Obstacles {
    /// A program of the capture is missing.
    program: bool,
    /// A directory cannot be written.
    disk: bool,
}

impl Obstacles {
    fn note(&mut self, finding: &Finding) {
        let fault = |of: &[&str]| finding.verdict == Verdict::Fault && of.contains(&finding.check);
        self.program |= fault(&["ffmpeg", "Xvfb", "PulseAudio", "Chrome"]);
        self.disk |= fault(&["state_dir", "temporary_dir"]);
    }
}

fn configuration(loaded: &LoadedConfig) -> Finding {
    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    if warnings.is_empty() {
        Finding::ok("configuration", "can be used")
    } else {
        Finding::warning("configuration", warnings.join("; "))
    }
}

/// Starts all groups at once; their findings come in the order of the groups. Those that `cancel` drops find nothing.
pub(super) fn together(
    groups: impl IntoIterator<Item = Group>,
    cancel: &CancellationToken,
) -> FuturesOrdered<BoxFuture<'static, Vec<Finding>>> {
    let start = |(names, group): Group| {
        let cancel = cancel.clone();
        let task = tokio::spawn(async move {
            let bounded = bounded(names, GROUP_LIMIT, group);
            cancel.run_until_cancelled(bounded).await.unwrap_or_default()
        });
        // A group that panics has found nothing.
        task.map(move |ended| ended.unwrap_or_else(|_| vec![Finding::fault(names[0], "this check itself has failed")]))
            .boxed()
    };
    groups.into_iter().map(start).collect()
}

/// Has a group end in time.
async fn bounded(
    names: &'static [&'static str],
    limit: Duration,
    group: BoxFuture<'static, Vec<Finding>>,
) -> Vec<Finding> {
    let ended = tokio::time::timeout(limit, group).await;
    ended.unwrap_or_else(|_| {
        let silent = |(n, name): (usize, &&'static str)| match n {
            0 => Finding::fault(name, format!("no result within {} s", limit.as_secs())),
            _ => Finding::skipped(name, "what comes before it did not end"),
        };
        names.iter().enumerate().map(silent).collect()
    })
}

/// What is quick and of this host alone: also the daemon checks it, at its start.
pub(super) fn quick(config: &Arc<Config>) -> Vec<Group> {
    let mut groups: Vec<Group> = vec![(&["ffmpeg"], programs::ffmpeg().boxed())];
    if config.recorder.mode.records() {
        groups.push((&["Xvfb", "PulseAudio"], programs::display_and_sound().boxed()));
        let of = config.clone();
        groups.push((&["Chrome", "sandbox"], async move { programs::chrome(&of).await }.boxed()));
        let of = config.clone();
        groups.push((&["/dev/shm"], async move { host::limits(&of) }.boxed()));
        groups.push((&["process 1"], async { vec![host::process_1().await] }.boxed()));
    }
    let of = config.clone();
    groups.push((&["certificates"], async move { vec![certificates::check(&of).await] }.boxed()));
    let of = config.clone();
    groups.push((
        &["recorder", "state_dir", "temporary_dir", "main_path"],
        async move { directories::check(&of).await }.boxed(),
    ));
    let of = config.clone();
    groups.push((&["hooks", "scripts"], async move { scripts::check(&of).await }.boxed()));
    groups
}

/// The server, its page, NATS, and the clocks of both.
fn remote(config: &Arc<Config>) -> Vec<Group> {
    let (of, page) = (config.clone(), config.clone());
    let records = config.recorder.mode.records();
    let ask = async move {
        let asked = server::check(&of.server, &of.recorder.id);
        let page = async { if records { Some(server::page(&page).await) } else { None } };
        let ((mut findings, one), page, (nats, other)) = tokio::join!(asked, page, broker::check(&of));
        findings.extend(page);
        findings.extend(nats);
        let samples: Vec<_> = one.into_iter().chain(other).collect();
        findings.push(clock::judge(&samples));
        findings
    };
    let mut groups: Vec<Group> = vec![(&["server", "key", "NATS", "clock"], ask.boxed())];
    let recordings = config.storage.upload_stores().into_iter().map(|url| (url.clone(), "recordings"));
    let raw_files = config.storage.raw.iter().map(|url| (url.clone(), "raw files"));
    let archives = config.storage.archive.iter().map(|url| (url.clone(), "running recordings"));
    let stores: Vec<_> = recordings.chain(raw_files).chain(archives).collect();
    if !stores.is_empty() {
        let check =
            async move { futures::future::join_all(stores.iter().map(|(url, takes)| store::check(url, takes))).await };
        groups.push((&["store"], check.boxed()));
    }
    groups
}

/// What takes seconds.
async fn slow(config: &Arc<Config>, obstacles: &Obstacles, cancel: &CancellationToken) -> Vec<Group> {
    let records = config.recorder.mode.records();
    let of = config.clone();
    let busy = tokio::time::timeout(STATE_LIMIT, detached::start("journals", move || is_recording(&of.recorder))).await;
    let busy = matches!(busy, Ok(Ok(true)));
    let busy =
        busy.then_some("a recording runs or is not handed over yet, and is not to be disturbed: check again later");
    let no_disk = busy.or(obstacles.disk.then_some("a directory cannot be used, see above"));
    let no_capture = busy.or(obstacles.program.then_some("a program is missing or does not work, see above"));
    let skipped = |name: &'static str, why: &'static str| async move { vec![Finding::skipped(name, why)] }.boxed();
    let mut groups: Vec<Group> = Vec::new();
    let (of, token) = (config.clone(), cancel.clone());
    groups.push(match no_disk {
        Some(why) => (&["disk speed"], skipped("disk speed", why)),
        None => (&["disk speed"], async move { disk_speed::check(&of, &token).await }.boxed()),
    });
    if !records {
        return groups;
    }
    if let Some(why) = no_capture {
        groups.push((&["fonts"], skipped("fonts", why)));
        groups.push((&["self-recording"], skipped("self-recording", why)));
        return groups;
    }
    let turned_off = config.chrome.flags.iter().any(|flag| flag.name == "no-sandbox");
    let sandbox = !turned_off && sandbox::check().await.is_ok();
    let (of, token) = (config.clone(), cancel.clone());
    let fonts = async move {
        let drawn = token.run_until_cancelled(fonts::check(&of, sandbox)).await;
        drawn.into_iter().collect()
    };
    groups.push((&["fonts"], fonts.boxed()));
    let (of, token) = (config.clone(), cancel.clone());
    // It ends by itself when cancelled, and closes what it has opened.
    let recording = async move { vec![self_recording::check(&of, sandbox, token).await] };
    groups.push((&["self-recording"], recording.boxed()));
    groups
}

/// Whether a recorder runs that has recordings, or records that are not handed over.
fn is_recording(recorder: &RecorderConfig) -> bool {
    let journal = RecordingJournal::new(&recorder.state_dir);
    lock::holder(&recorder.state_dir).is_some()
        && [Kind::Recording, Kind::Broadcast].iter().any(|kind| journal.has_any(*kind))
}
