//! What this host must have before the node announces itself: found out at the start, all of it in one go.

use std::path::Path;

use crate::capture::browser;
use crate::config::{Config, Mode, Stage};
use crate::process;
use crate::scripts::{hooks, post_processing};
use crate::storage::files;

/// Something the node cannot work without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault(String);

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Everything that is missing, with what to do about it; empty where the node can start.
#[must_use]
pub fn check(config: &Config) -> Vec<Fault> {
    let recorder = &config.recorder;
    let mut faults: Vec<Fault> = programs(recorder.mode).filter_map(|(name, package)| missing(name, package)).collect();
    if recorder.mode.records() && browser::find(&config.chrome).is_none() {
        faults.push(Fault(match &config.chrome.path {
            Some(path) => format!("chrome_settings.custom_chrome_path: {} is not an executable file", path.display()),
            None => format!(
                "Chrome is missing (looked for {} on PATH): apt-get install chromium, or set chrome_settings.custom_chrome_path",
                browser::PROGRAMS.join(", ")
            ),
        }));
    }
    if !recorder.main_path.exists() {
        let dir = recorder.main_path.display();
        tracing::warn!(%dir, "recorder.copy_to_path.main_path is not there and is made; should it have been mounted?");
    }
    let sub_dir = recorder.main_path.join(&recorder.sub_path);
    faults.extend(unwritable("recorder.copy_to_path.main_path", &recorder.main_path));
    if sub_dir != recorder.main_path {
        faults.extend(unwritable("recorder.copy_to_path.sub_path", &sub_dir));
    }
    faults.extend(unwritable("recorder.temporary_dir", &recorder.temporary_dir));
    // Where it cannot be made, the next line says so with the cause.
    let _ = files::create_private_dir(&recorder.state_dir);
    faults.extend(unwritable("recorder.state_dir", &recorder.state_dir));
    if recorder.mode.transcodes() {
        let problems = post_processing::check(&recorder.post_processing_scripts);
        faults.extend(problems.iter().map(|problem| Fault(problem.to_string())));
    }
    let problems = hooks::check(&config.hooks, &Stage::of(recorder.mode));
    faults.extend(problems.iter().map(|problem| Fault(problem.to_string())));
    faults
}

/// The programs a mode needs, and the Debian package that has each.
fn programs(mode: Mode) -> impl Iterator<Item = (&'static str, &'static str)> {
    let capture: &[_] = if mode.records() { &[("Xvfb", "xvfb"), ("pulseaudio", "pulseaudio")] } else { &[] };
    [("ffmpeg", "ffmpeg"), ("ffprobe", "ffmpeg")].into_iter().chain(capture.iter().copied())
}

fn missing(name: &str, package: &str) -> Option<Fault> {
    if process::find_program(Path::new(name)).is_some() {
        return None;
    }
    Some(Fault(format!("{name} is missing (not on PATH): apt-get install {package}")))
}

/// Tries to make the directory and a file in it.
fn unwritable(key: &str, dir: &Path) -> Option<Fault> {
    let tried =
        std::fs::create_dir_all(dir).and_then(|()| tempfile::Builder::new().prefix(".writable-").tempfile_in(dir));
    let error = tried.err()?;
    Some(Fault(format!(
        "{key}: cannot write to {}: {error}; create it, mount it, or give it to the user this runs as",
        dir.display()
    )))
}
