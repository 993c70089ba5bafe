//! A measurement from its configuration to its table.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::capture::browser::sandbox;
use crate::capture::rig::RigSpec;
use crate::cli::size::{Scene, SizeArguments};
use crate::config::{self, Config, ConfigError, Mode, RecorderConfig};
use crate::fleet::load;
use crate::page_recording::console::Console;
use crate::page_recording::leftovers;
use crate::page_recording::signals::StopRequests;
use crate::process::cgroup::Cgroups;
use crate::recording::live_rig_factory::LiveRigFactory;
use crate::sizing::advice::{self, SceneResult};
use crate::sizing::meter::Meter;
use crate::sizing::outcome::{Ending, SizeFailure};
use crate::sizing::place::{COMMAND, Place};
use crate::sizing::scene_run::{self, Surroundings};
use crate::sizing::{config_file, leftover_files, others, scene_page};
use crate::storage::detached;
use crate::storage::disk_space::ByteSize;
use crate::storage::main_path::{MainPath, StoreAbilities};
use crate::telemetry::redact;

/// Where there is no configuration at all, this file is not there.
const DEFAULT_CONFIG: &str = "config.yaml";
const DEFAULTS: &str = include_str!("defaults.yaml");
/// All scenes together; the program ends within five minutes.
const BUDGET: Duration = Duration::from_secs(285);
/// One scene, where it is the only one.
const SCENE_LIMIT: Duration = Duration::from_secs(150);
/// When something hangs that no part of it tells of.
const HANG_LIMIT: Duration = Duration::from_secs(360);
/// Time limit for an answer of the disks, before anything is measured.
const DISK_LIMIT: Duration = Duration::from_secs(5);
/// How long the machine is looked at before the first recording.
const CALM: Duration = Duration::from_millis(1200);
/// Load by others that is told.
const OTHERS_LOAD: f64 = 0.2;

/// What is to be measured.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub arguments: &'a SizeArguments,
    /// Path of the configuration.
    pub config: &'a Path,
    pub mode: Option<Mode>,
    /// Where the state of the node is: `node::state_dir`.
    pub state_dir: fn(&RecorderConfig) -> PathBuf,
}

/// Measures, shows and writes.
///
/// # Errors
/// What has failed; what was measured before was shown.
pub async fn run(request: &Request<'_>, console: &mut Console, stop: &StopRequests) -> Result<(), SizeFailure> {
    let measuring = Box::pin(measure_all(request, console, &stop.end));
    tokio::select! {
        biased;
        ended = tokio::time::timeout(HANG_LIMIT, measuring) => ended.unwrap_or_else(|_| {
            Err(SizeFailure::new(
                Ending::Failed,
                format!(
                    "nothing has ended for {} s: a program or disk hangs; --verbose shows what went before",
                    HANG_LIMIT.as_secs()
                ),
            ))
        }),
        // The kernel ends the programs with this one, and the next run removes the rest.
        () = stop.now.cancelled() => Err(SizeFailure::new(Ending::Stopped, "stopped at once by a second signal")),
    }
}

async fn measure_all(
    request: &Request<'_>,
    console: &mut Console,
    cancel: &CancellationToken,
) -> Result<(), SizeFailure> {
    let begun = Instant::now();
    let arguments = request.arguments;
    let (config, is_file) = configuration(request)?;
    let _secrets: Vec<_> = config.secrets().into_iter().map(redact::register).collect();
    if is_file {
        let path = request.config.to_owned();
        let kept = on_disk(move || Ok(config_file::remove_leftovers(&path))).await;
        // Where the disk hangs, the next access says so.
        tell_kept(&kept.unwrap_or_default(), console);
    }
    if arguments.write {
        if !is_file {
            return Err(SizeFailure::new(
                Ending::Usage,
                format!(
                    "--write needs a configuration, and there is no {DEFAULT_CONFIG} here: name it with -config PATH"
                ),
            ));
        }
        let path = request.config.to_owned();
        on_disk(move || config_file::try_out(&path)).await.map_err(|why| SizeFailure::new(Ending::Usage, why))?;
    }
    let owner = leftovers::owner_of(COMMAND);
    refuse_while_recording(&config, request, is_file, &owner).await?;
    let place = place(&config, is_file, console).await?;
    let results = measure_scenes(arguments, &config, &place, &owner, begun, console, cancel).await;
    drop(place);
    let (results, failure) = match results {
        (results, Ok(())) => (results, None),
        (results, Err(failure)) => (results, Some(failure)),
    };
    show(&results, &config, arguments, console);
    if let Some(failure) = failure {
        return Err(failure);
    }
    if arguments.write { write(request.config, &results, console).await } else { Ok(()) }
}

/// Works with the configuration's file, whose disk may hang.
async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
    let done = tokio::time::timeout(DISK_LIMIT, detached::start("size-config", work)).await;
    done.unwrap_or(Ok(Err("the disk of the configuration does not answer: look at its mount".to_owned())))
        .unwrap_or_else(|_| Err("no thread could be started".to_owned()))
}

fn tell_kept(kept: &[PathBuf], console: &Console) {
    for path in kept {
        console.note(format!("A killed run has left {}, which cannot be removed: remove it.", path.display()));
    }
}

/// The configuration, with its mode, and whether it is one of a file.
fn configuration(request: &Request<'_>) -> Result<(Config, bool), SizeFailure> {
    let usage = |cause: String| SizeFailure::new(Ending::Usage, cause);
    let (mut config, is_file) = match Config::load(request.config) {
        Ok(loaded) => (loaded.config, true),
        Err(ConfigError::Unreadable { source, .. })
            if source.kind() == std::io::ErrorKind::NotFound && request.config == Path::new(DEFAULT_CONFIG) =>
        {
            let parsed = config::parse(DEFAULTS, "the embedded configuration");
            (parsed.map_err(|problems| usage(problems.to_string()))?.0, false)
        }
        Err(error) => return Err(usage(error.to_string())),
    };
    config.recorder.mode = request.mode.unwrap_or(config.recorder.mode);
    if !config.recorder.mode.records() {
        return Err(usage(
            "a node of mode transcoderOnly records nothing: -mode both or recorderOnly measures".to_owned(),
        ));
    }
    Ok((config, is_file))
}

/// Also removes what killed runs of this command have left, which would look like others' rigs.
async fn refuse_while_recording(
    config: &Config,
    request: &Request<'_>,
    is_file: bool,
    owner: &str,
) -> Result<(), SizeFailure> {
    leftovers::remove_of(&std::env::temp_dir(), COMMAND).await;
    let (mut recorder, choose, owner) = (config.recorder.clone(), request.state_dir, owner.to_owned());
    let look = detached::start("size-others", move || {
        recorder.state_dir = choose(&recorder);
        let recordings = if is_file { others::recordings(&recorder) } else { None };
        recordings.or_else(|| others::rigs(&owner))
    });
    let why = match tokio::time::timeout(DISK_LIMIT, look).await {
        Ok(Ok(why)) => why,
        _ => Some("state_dir or /proc does not answer, and whether something is recorded is not known".to_owned()),
    };
    let Some(why) = why else { return Ok(()) };
    Err(SizeFailure::new(
        Ending::Refused,
        format!(
            "{why}. It would lose frames: drain the node (the button on its page, or POST /drain at admin.listen), wait until \
             `plugnmeet-recorder recordings list` is empty, and measure then"
        ),
    ))
}

/// A directory on the disk that recordings are written to.
async fn place(config: &Config, is_file: bool, console: &Console) -> Result<Place, SizeFailure> {
    let parent = if is_file && config.recorder.temporary_dir.is_dir() {
        config.recorder.temporary_dir.clone()
    } else {
        std::env::temp_dir()
    };
    let dir = parent.clone();
    let making = detached::start("size-place", move || (leftover_files::remove_leftovers(&dir), Place::new(&dir)));
    let what = format!("nothing can be written to {}", parent.display());
    match tokio::time::timeout(DISK_LIMIT, making).await {
        Ok(Ok((kept, made))) => {
            tell_kept(&kept, console);
            made.map_err(|error| {
                let what = format!("{what}: {error}; run this as the recorder's user");
                SizeFailure::new(Ending::Failed, what)
            })
        }
        _ => Err(SizeFailure::new(Ending::Failed, format!("{what}: its disk or share hangs; look at its mount"))),
    }
}

/// The results in the order of the scenes, and what has stopped the measurement.
async fn measure_scenes(
    arguments: &SizeArguments,
    config: &Config,
    place: &Place,
    owner: &str,
    begun: Instant,
    console: &mut Console,
    cancel: &CancellationToken,
) -> (Vec<SceneResult>, Result<(), SizeFailure>) {
    let mut own = config.clone();
    place.path().clone_into(&mut own.recorder.state_dir);
    place.path().clone_into(&mut own.recorder.temporary_dir);
    (own.log.file, own.recorder.silence_warning) = (None, None);
    console.begin(&format!("Measuring on {}", machine()));
    let turned_off = config.chrome.flags.iter().any(|flag| flag.name == "no-sandbox");
    let sandbox = !turned_off && sandbox::check().await.is_ok();
    let scenes = arguments.scenes();
    let webcam = if scenes.iter().any(|scene| scene.webcams() > 0) {
        match scene_page::webcam(place.path()).await {
            Ok(webcam) => webcam,
            Err(why) => return (Vec::new(), Err(SizeFailure::new(Ending::Failed, why))),
        }
    } else {
        String::new()
    };
    let mut meter = Meter::begin().await;
    if cancel.run_until_cancelled(tokio::time::sleep(CALM)).await.is_some() && meter.busy() >= OTHERS_LOAD {
        let busy = meter.busy() * 100.0;
        console
            .note(format!("Other programs keep {busy:.0} % of the processors busy: what follows holds beside them."));
    }
    let around = Surroundings {
        config,
        dir: place.path(),
        most: arguments.max,
        window: Duration::from_secs(arguments.seconds.into()),
        owner,
        cancel,
    };
    let store = MainPath::unwatched(&own.recorder.main_path, StoreAbilities::ALL);
    let factory = LiveRigFactory::new(&own, &store, sandbox);
    let spec = |scene: Scene| RigSpec {
        owner: owner.to_owned(),
        ..factory.self_test(&scene_page::page(scene, &webcam), place.path().join("unnamed.mkv"))
    };
    let mut results = Vec::new();
    let mut failure = Ok(());
    // The dearest first: few recordings are quick to open, and what it leaves of the time is for the others.
    for (left, scene) in (1_u32..).zip(&scenes).collect::<Vec<_>>().into_iter().rev() {
        let share = BUDGET.saturating_sub(begun.elapsed()) / left;
        let until = Instant::now() + share.min(SCENE_LIMIT);
        let measured = scene_run::measure(&around, *scene, spec(*scene), until, &mut meter, console);
        match Box::pin(measured).await {
            Ok(result) => results.push(result),
            Err(interruption) => {
                failure = Err(SizeFailure::from(interruption));
                break;
            }
        }
    }
    results.reverse();
    (results, failure)
}

fn show(results: &[SceneResult], config: &Config, arguments: &SizeArguments, console: &mut Console) {
    console.end_progress();
    if results.is_empty() {
        return;
    }
    if arguments.json {
        console.json(&advice::json(results, config.recorder.mode.as_str(), &machine()));
        return;
    }
    let recorder = &config.recorder;
    console.result(&format!("{}; {}x{}\n", machine(), recorder.width, recorder.height));
    for line in advice::table(results) {
        console.result(&line);
    }
}

async fn write(path: &Path, results: &[SceneResult], console: &Console) -> Result<(), SizeFailure> {
    let Some(limit) = advice::most_cautious(results) else {
        return Err(SizeFailure::new(
            Ending::Failed,
            "nothing is written: a measured scene allows no recording here; --scene leaves it out",
        ));
    };
    let file = path.to_owned();
    let written = on_disk(move || config_file::write(&file, limit)).await;
    let old = written.map_err(|why| SizeFailure::new(Ending::Failed, why))?;
    let old = old.as_deref().unwrap_or("not set");
    console.result(&format!(
        "\n{}: recorder.max_limit is {limit}, it was {old}: the least of the measured scenes. A recorder that runs takes it \
         at its next start.",
        path.display()
    ));
    Ok(())
}

/// What was measured on, in a line.
fn machine() -> String {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let system = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let system = system.map_or("Linux", |name| name.trim_matches('"'));
    let groups = Cgroups::of_this_process();
    let memory = groups.memory().into_iter().map(|memory| memory.limit).min().unwrap_or_default();
    let build = if cfg!(debug_assertions) { ", a debug build, which is slower" } else { "" };
    format!("{} processors, {} of memory, {system}{build}", load::capacity(&groups), ByteSize(memory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_configuration_a_node_of_the_defaults_is_measured_and_a_named_one_must_be_there() {
        let arguments =
            SizeArguments { scene: Vec::new(), max: 1, seconds: 5, write: false, json: false, verbose: false };
        let state_dir = |recorder: &RecorderConfig| recorder.state_dir.clone();
        let request = |config| Request { arguments: &arguments, config, mode: None, state_dir };
        let (config, is_file) = configuration(&request(Path::new(DEFAULT_CONFIG))).unwrap();
        assert!(!is_file && config.recorder.mode == Mode::Both && config.recorder.width == 1920);
        let missing = configuration(&request(Path::new("/nowhere/config.yaml"))).unwrap_err();
        assert_eq!(missing.ending, Ending::Usage);
        let transcoder = Request { mode: Some(Mode::TranscoderOnly), ..request(Path::new(DEFAULT_CONFIG)) };
        assert!(configuration(&transcoder).unwrap_err().cause.contains("records nothing"));
    }
}
