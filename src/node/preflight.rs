//! Checks at the start what the host lacks, all of it at once.

use std::io;
use std::path::Path;
use std::time::SystemTime;

use crate::capture::browser::{chrome_arguments, trusted_roots};
use crate::codes::{self, Code};
use crate::config::{Config, HookStage, Mode};
use crate::process::interpreter::missing_interpreter;
use crate::process::programs::find_program;
use crate::scripts::{hooks, post_processing};
use crate::storage::main_path::{self, MainPath, StoreStatus};
use crate::storage::{directory_check, files};
use crate::tls::{ca_file, roots};

/// Something missing without which the node cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct HostFault {
    pub code: Code,
    pub text: String,
}

impl HostFault {
    fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

/// Everything that is missing, and what to do about it; empty where the node can start.
#[must_use]
pub fn check(config: &Config) -> Vec<HostFault> {
    let recorder = &config.recorder;
    let mut faults: Vec<HostFault> =
        programs(recorder.mode).filter_map(|(name, package)| missing(name, package)).collect();
    if recorder.mode.records() {
        faults.extend(chrome(config.chrome.path.as_deref()));
    }
    faults.extend(certificates(config));
    // A share that is not mounted now was there before: what needs it waits, and nothing is made in its mount point.
    let known = main_path::is_remembered(&recorder.main_path, &recorder.state_dir);
    if !known && !recorder.main_path.exists() {
        let dir = recorder.main_path.display();
        tracing::warn!(
            code = %codes::MAIN_PATH_MADE, %dir,
            "recorder.copy_to_path.main_path is not there and is made; should it have been mounted?"
        );
    }
    let sub_dir = recorder.main_path.join(&recorder.sub_path);
    if !known {
        faults.extend(no_store("recorder.copy_to_path.main_path", &recorder.main_path));
        if sub_dir != recorder.main_path {
            faults.extend(no_store("recorder.copy_to_path.sub_path", &sub_dir));
        }
    }
    if !known || !recorder.temporary_dir.starts_with(&recorder.main_path) {
        faults.extend(unwritable("recorder.temporary_dir", &recorder.temporary_dir));
    }
    // A failure is reported by the next line, with its cause.
    let _ = files::create_private_dir(&recorder.state_dir);
    faults.extend(unwritable("recorder.state_dir", &recorder.state_dir));
    if recorder.mode.transcodes() {
        let problems = post_processing::check(&recorder.post_processing_scripts);
        faults.extend(problems.iter().map(|problem| HostFault::new(codes::SCRIPT_UNUSABLE, problem.to_string())));
    }
    let problems = hooks::check(&config.hooks, &HookStage::of(recorder.mode));
    faults.extend(problems.iter().map(|problem| HostFault::new(codes::HOOK_UNUSABLE, problem.to_string())));
    faults
}

/// [`check`], which logs each fault, and the parts of the configuration that have no effect.
///
/// # Errors
/// Where anything is missing.
pub fn require(config: &Config) -> anyhow::Result<()> {
    let faults = check(config);
    for fault in &faults {
        tracing::error!(code = %fault.code, "{fault}");
    }
    anyhow::ensure!(
        faults.is_empty(),
        "this host is not ready: {}",
        faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    );
    for flag in chrome_arguments::ignored_flags(&config.chrome.flags) {
        tracing::warn!(
            code = %codes::FLAG_IGNORED, flag,
            "chrome_settings.flags: this flag is the recorder's own and is not heeded"
        );
    }
    let storage = &config.storage;
    if config.recorder.mode.transcodes() && storage.raw.is_some() && storage.deliver.is_none() {
        tracing::warn!(
            code = %codes::RAW_WITHOUT_DELIVERY, main_path = %config.recorder.main_path.display(),
            "storage.raw is set and storage.deliver is not: MP4s of raw files that come from the store stay in main_path of this \
             node, which must be a directory that the plugNmeet server sees; else set storage.deliver"
        );
    }
    if chrome_arguments::ignores_certificate_errors(&config.chrome.flags) {
        tracing::warn!(
            code = %codes::CERTIFICATES_NOT_CHECKED,
            "chrome_settings.flags: with ignore-certificate-errors Chrome hands the access token to whoever answers for the \
             meeting page; better name the CA in plugNmeet_info.ca_file"
        );
    }
    Ok(())
}

/// Makes `temporary_dir`, and warns where it is in a `main_path` that cannot do what recordings need.
pub(super) fn prepare_temporary_dir(config: &Config, store: &MainPath) {
    let recorder = &config.recorder;
    let StoreStatus { fault, abilities } = store.status();
    if fault.is_none()
        && let Err(error) = std::fs::create_dir_all(&recorder.temporary_dir)
    {
        tracing::error!(
            code = %codes::TEMPORARY_DIR_NOT_MADE, dir = %recorder.temporary_dir.display(), %error,
            "recorder.temporary_dir cannot be made, so every recording fails: make it, and give it to the user this runs as"
        );
    }
    if let Some(missing) = abilities.missing().filter(|_| recorder.temporary_dir.starts_with(&recorder.main_path)) {
        tracing::error!(
            code = %codes::TEMPORARY_DIR_UNFIT,
            temporary_dir = %recorder.temporary_dir.display(), missing,
            "recorder.temporary_dir is in main_path, which cannot do what recordings and MP4s need while they are made; \
             set it to a directory on a local disk"
        );
    }
}

/// The problems of the certificates to trust, and of the program by which Chrome learns of them.
fn certificates(config: &Config) -> Vec<HostFault> {
    let server = &config.server;
    if let Some(path) = &server.ca_file {
        match ca_file::check(path, SystemTime::now()) {
            Err(error) => return vec![HostFault::new(codes::CA_FILE_UNUSABLE, error.to_string())],
            Ok(expired) => {
                for on in expired {
                    tracing::warn!(
                        code = %codes::CERTIFICATE_EXPIRED, path = %path.display(), on,
                        "plugNmeet_info.ca_file: a certificate in it has expired; put the present one there, and restart the recorder"
                    );
                }
            }
        }
    }
    let environment = ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().find(|name| std::env::var_os(name).is_some());
    for error in environment.map(|_| roots::of_host().errors).unwrap_or_default() {
        tracing::warn!(
            code = %codes::CERTIFICATES_UNREADABLE, error,
            "SSL_CERT_FILE or SSL_CERT_DIR: not all of it can be read; correct the file or the variable"
        );
    }
    let (program, package) = trusted_roots::PROGRAM;
    let needed =
        config.recorder.mode.records() && trusted_roots::certificates(server).is_ok_and(|found| !found.is_empty());
    if !needed || find_program(Path::new(program)).is_some() {
        return Vec::new();
    }
    let asked_for = if server.ca_file.is_some() { Some("plugNmeet_info.ca_file") } else { environment };
    if let Some(name) = asked_for {
        return vec![HostFault::new(
            codes::CERTUTIL_MISSING,
            format!(
                "{program} is missing (not on PATH), by which Chrome learns of the certificates in {name}: apt-get install {package}"
            ),
        )];
    }
    // They may be unrelated to the meeting page.
    tracing::warn!(
        code = %codes::CERTUTIL_WANTED,
        "{program} is missing (not on PATH), so Chrome does not trust the certificates that were added to this host; where \
         the meeting page needs them: apt-get install {package}"
    );
    Vec::new()
}

/// Why Chrome cannot run. `path`: the configured one.
fn chrome(path: Option<&Path>) -> Option<HostFault> {
    if let Some(found) = chrome_arguments::find_chrome(path) {
        return no_interpreter(&found);
    }
    Some(HostFault::new(
        codes::CHROME_MISSING,
        match path {
            Some(path) => format!("chrome_settings.custom_chrome_path: {} is not an executable file", path.display()),
            None => format!(
                "Chrome is missing (looked for {} on PATH): apt-get install chromium, or set chrome_settings.custom_chrome_path",
                chrome_arguments::PROGRAMS.join(", ")
            ),
        },
    ))
}

/// The programs that a mode needs, and their Debian packages.
fn programs(mode: Mode) -> impl Iterator<Item = (&'static str, &'static str)> {
    let capture: &[_] = if mode.records() { &[("Xvfb", "xvfb"), ("pulseaudio", "pulseaudio")] } else { &[] };
    [("ffmpeg", "ffmpeg"), ("ffprobe", "ffmpeg")].into_iter().chain(capture.iter().copied())
}

fn missing(name: &str, package: &str) -> Option<HostFault> {
    match find_program(Path::new(name)) {
        Some(found) => no_interpreter(&found),
        None => Some(HostFault::new(
            codes::PROGRAM_MISSING,
            format!("{name} is missing (not on PATH): apt-get install {package}"),
        )),
    }
}

/// Of a program that is a script, as a wrapper may be.
fn no_interpreter(program: &Path) -> Option<HostFault> {
    missing_interpreter(program)
        .map(|why| HostFault::new(codes::INTERPRETER_MISSING, format!("{}: {why}", program.display())))
}

/// Tries to create the directory and a file in it. Nothing is read: a disk that cannot be read for a moment is waited for
/// by whoever reads its records.
fn unwritable(key: &str, dir: &Path) -> Option<HostFault> {
    unfit(key, dir, directory_check::write_byte)
}

/// Tries to create the directory, and what is needed of a directory for results.
fn no_store(key: &str, dir: &Path) -> Option<HostFault> {
    unfit(key, dir, |dir| main_path::try_out(dir).map(drop))
}

fn unfit(key: &str, dir: &Path, try_out: impl FnOnce(&Path) -> io::Result<()>) -> Option<HostFault> {
    let error = std::fs::create_dir_all(dir).and_then(|()| try_out(dir)).err()?;
    Some(HostFault::new(
        codes::DIRECTORY_NOT_WRITABLE,
        format!(
            "{key}: cannot write to {}: {error}; create it, mount it, or give it to the user this runs as",
            dir.display()
        ),
    ))
}
