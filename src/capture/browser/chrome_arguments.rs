//! Chrome's program and command line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::ChromeFlag;
use crate::process::programs::find_program;

/// Settings of a rig's Chrome.
#[derive(Clone, Debug, Default)]
pub struct ChromeSettings {
    /// Path of the program. `None`: the first of [`PROGRAMS`] on `PATH`.
    pub path: Option<PathBuf>,
    /// The operator's flags.
    pub flags: Vec<ChromeFlag>,
    /// Whether Chrome's sandbox can be used on this host.
    pub sandbox: bool,
    /// NSS database of the certificates that Chrome trusts besides its own
    /// ([`crate::capture::browser::trusted_roots::database`]).
    pub trusted: Option<PathBuf>,
}

/// Default flags; `chrome_settings.flags` overrides each of them.
const FLAGS: &[(&str, &str)] = &[
    // Samples, 11 ms. A page's sound is delayed by three buffers, of which a page that flashes and beeps, or a call,
    // may not know. 1,024 samples delay it by another 40 ms.
    ("audio-buffer-size", "512"),
    ("autoplay-policy", "no-user-gesture-required"),
    ("deny-permission-prompts", ""),
    ("disable-background-networking", ""),
    ("disable-background-timer-throttling", ""),
    ("disable-backgrounding-occluded-windows", ""),
    ("disable-breakpad", ""),
    ("disable-component-update", ""),
    ("disable-default-apps", ""),
    ("disable-extensions", ""),
    ("disable-features", "Translate,MediaRouter,GlobalMediaControls,OptimizationHints,AutofillServerCommunication"),
    // There is no GPU behind Xvfb; software compositing costs a fraction of emulated GL.
    ("disable-gpu", ""),
    ("disable-infobars", ""),
    ("disable-notifications", ""),
    ("disable-renderer-backgrounding", ""),
    ("disable-session-crashed-bubble", ""),
    ("disable-sync", ""),
    ("hide-crash-restore-bubble", ""),
    ("kiosk", ""),
    ("no-default-browser-check", ""),
    ("no-first-run", ""),
    ("noerrdialogs", ""),
    ("ozone-platform", "x11"),
    ("password-store", "basic"),
    // Hides the bar that warns of unusual flags and would be recorded.
    ("test-type", ""),
    ("use-mock-keychain", ""),
    ("window-position", "0,0"),
];

/// Flags that the recorder itself needs for picture, sound and control; the operator cannot set them.
const RESERVED: &[&str] = &[
    "alsa-output-device",
    "audio-output-channels",
    "display",
    "remote-debugging-port",
    "user-data-dir",
    "window-size",
];

/// Chrome's command line: the defaults, overridden by the operator's flags, then the recorder's. A flag with the value
/// `false` is omitted.
#[must_use]
pub fn arguments(operator: &[ChromeFlag], size: (u32, u32), profile: &Path, sandbox: bool) -> Vec<String> {
    let mut flags: BTreeMap<&str, String> = FLAGS.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    if !sandbox {
        flags.insert("no-sandbox", String::new());
    }
    for flag in operator.iter().filter(|flag| !RESERVED.contains(&flag.name.as_str())) {
        match flag.value.as_deref() {
            Some("false") => flags.remove(flag.name.as_str()),
            value => flags.insert(&flag.name, value.unwrap_or_default().to_owned()),
        };
    }
    flags.insert("remote-debugging-port", "0".to_owned());
    flags.insert("user-data-dir", profile.display().to_string());
    flags.insert("window-size", format!("{},{}", size.0, size.1));
    let mut args: Vec<String> = flags
        .into_iter()
        .map(|(name, value)| if value.is_empty() { format!("--{name}") } else { format!("--{name}={value}") })
        .collect();
    args.push("about:blank".to_owned());
    args
}

/// The operator's flags that are ignored, for a warning at start.
pub fn ignored_flags(operator: &[ChromeFlag]) -> impl Iterator<Item = &str> {
    operator.iter().map(|flag| flag.name.as_str()).filter(|name| RESERVED.contains(name))
}

/// Whether the operator's flags disable certificate checks.
#[must_use]
pub fn ignores_certificate_errors(operator: &[ChromeFlag]) -> bool {
    let last = operator.iter().rfind(|flag| flag.name == "ignore-certificate-errors");
    last.is_some_and(|flag| flag.value.as_deref() != Some("false"))
}

/// Names of Chrome's program on various systems, in order of preference.
pub const PROGRAMS: &[&str] = &["google-chrome-stable", "google-chrome", "chromium", "chromium-browser"];

/// The Chrome to run: the configured one, or the first of [`PROGRAMS`] on `PATH`.
#[must_use]
pub fn find_chrome(path: Option<&Path>) -> Option<PathBuf> {
    match path {
        Some(path) => find_program(path),
        None => PROGRAMS.iter().find_map(|name| find_program(Path::new(name))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flag(name: &str, value: Option<&str>) -> ChromeFlag {
        ChromeFlag { name: name.to_owned(), value: value.map(str::to_owned) }
    }

    #[test]
    fn the_operators_flags_override_all_but_size_display_and_control() {
        let operator = [
            flag("autoplay-policy", Some("user-required")),
            flag("disable-gpu", Some("false")),
            flag("lang", Some("de")),
            flag("window-size", Some("1,1")),
            flag("remote-debugging-port", Some("9222")),
            flag("user-data-dir", Some("/home/me")),
        ];
        let args = arguments(&operator, (1920, 1080), Path::new("/run/x/chrome"), true);
        for wanted in [
            "--autoplay-policy=user-required",
            "--lang=de",
            "--window-size=1920,1080",
            "--remote-debugging-port=0",
            "--user-data-dir=/run/x/chrome",
            "--kiosk",
        ] {
            assert!(args.iter().any(|arg| arg == wanted), "{wanted}: {args:?}");
        }
        assert!(!args.iter().any(|arg| arg.starts_with("--disable-gpu") || arg == "--no-sandbox"));
        assert_eq!(ignored_flags(&operator).count(), 3);
        assert!(!ignores_certificate_errors(&operator));
        assert!(ignores_certificate_errors(&[flag("ignore-certificate-errors", None)]));
        assert!(!ignores_certificate_errors(&[flag("ignore-certificate-errors", Some("false"))]));
        assert!(arguments(&[], (2, 2), Path::new("/x"), false).contains(&"--no-sandbox".to_owned()));
    }
}
