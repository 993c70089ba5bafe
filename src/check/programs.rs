//! Whether the programs of this node are there, run, and are of a version that is known to work.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::capture::browser::chrome_arguments;
use crate::capture::browser::sandbox::{self, SandboxUnavailable};
use crate::check::command::text_of;
use crate::check::report::Finding;
use crate::check::versions;
use crate::config::Config;
use crate::process::interpreter::missing_interpreter;
use crate::process::programs::find_program;
use crate::storage::detached;

/// Time limit of one program that tells its version. Chrome's wrapper script takes a second on a slow disk.
const LIMIT: Duration = Duration::from_secs(10);

/// The path of a program, which may be on a disk that hangs.
async fn find(name: &'static str, package: &str) -> Result<PathBuf, String> {
    let found = detached::start("check-program", move || {
        let found = find_program(Path::new(name))?;
        Some(missing_interpreter(&found).map_or(Ok(found.clone()), |why| Err(format!("{}: {why}", found.display()))))
    });
    match tokio::time::timeout(LIMIT, found).await {
        Ok(Ok(Some(found))) => found,
        Ok(Ok(None)) => Err(format!("{name} is missing (not on PATH): apt-get install {package}")),
        Ok(Err(_)) => Err("no thread could be started".to_owned()),
        Err(_) => Err(format!("looking for {name} on PATH takes longer than {} s: a disk hangs", LIMIT.as_secs())),
    }
}

/// ffmpeg and ffprobe.
pub async fn ffmpeg() -> Vec<Finding> {
    let both = async {
        let (program, probe) = tokio::join!(find("ffmpeg", "ffmpeg"), find("ffprobe", "ffmpeg"));
        let (program, probe) = (program?, probe?);
        let version = text_of(&program, &["-version"], LIMIT);
        let encoders = text_of(&program, &["-hide_banner", "-encoders"], LIMIT);
        let probe = text_of(&probe, &["-version"], LIMIT);
        let (version, encoders, _) = tokio::try_join!(version, encoders, probe)?;
        Ok::<_, String>(versions::ffmpeg(&version, &encoders))
    };
    vec![both.await.unwrap_or_else(|why| Finding::fault("ffmpeg", why))]
}

/// Xvfb and PulseAudio, for a node that records.
pub async fn display_and_sound() -> Vec<Finding> {
    let display = async {
        let found = find("Xvfb", "xvfb").await?;
        // It does not tell its version.
        text_of(&found, &["-help"], LIMIT).await?;
        Ok::<_, String>(Finding::ok("Xvfb", found.display().to_string()))
    };
    let sound = async {
        let found = find("pulseaudio", "pulseaudio").await?;
        Ok::<_, String>(versions::pulseaudio(&text_of(&found, &["--version"], LIMIT).await?))
    };
    let (display, sound) = tokio::join!(display, sound);
    vec![
        display.unwrap_or_else(|why| Finding::fault("Xvfb", why)),
        sound.unwrap_or_else(|why| Finding::fault("PulseAudio", why)),
    ]
}

/// The path of Chrome.
///
/// # Errors
/// What is missing.
pub fn find_chrome(config: &Config) -> Result<PathBuf, String> {
    let path = config.chrome.path.as_deref();
    let Some(found) = chrome_arguments::find_chrome(path) else {
        return Err(match path {
            Some(path) => format!("chrome_settings.custom_chrome_path: {} is not an executable file", path.display()),
            None => format!(
                "Chrome is missing (looked for {} on PATH): apt-get install chromium, or set chrome_settings.custom_chrome_path",
                chrome_arguments::PROGRAMS.join(", ")
            ),
        });
    };
    match missing_interpreter(&found) {
        Some(why) => Err(format!("{}: {why}", found.display())),
        None => Ok(found),
    }
}

/// Chrome and its sandbox.
pub async fn chrome(config: &Config) -> Vec<Finding> {
    let browser = async {
        let found = find_chrome(config)?;
        let version = text_of(&found, &["--version"], LIMIT).await?;
        // Packages keep the time at which the file was made.
        let modified = std::fs::metadata(&found).and_then(|file| file.modified()).ok();
        let age = modified.and_then(|made| SystemTime::now().duration_since(made).ok());
        Ok::<_, String>(versions::chrome(&version, age))
    };
    let (browser, sandbox) = tokio::join!(browser, sandbox::check());
    let turned_off = config.chrome.flags.iter().any(|flag| flag.name == "no-sandbox");
    let sandbox = match sandbox {
        Ok(()) if turned_off => Finding::warning(
            "sandbox",
            "Chrome's sandbox would work, and chrome_settings.flags turns it off: remove no-sandbox",
        ),
        Ok(()) => Finding::ok("sandbox", "this user can make user namespaces"),
        Err(why @ (SandboxUnavailable::Root | SandboxUnavailable::NoUserNamespaces)) => {
            Finding::warning("sandbox", format!("Chrome will run without its sandbox: {why}"))
        }
    };
    vec![browser.unwrap_or_else(|why| Finding::fault("Chrome", why)), sandbox]
}
