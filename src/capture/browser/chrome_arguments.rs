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

/// Dots per inch at which Chrome draws a CSS pixel on one pixel of the screen.
const DEFAULT_DPI: u32 = 96;
/// An empty page; Chrome takes no `about:blank` for [`app`](arguments).
const FIRST_PAGE: &str = "data:,";

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
    // The last three are dialogs in which a user chooses an account or a document.
    (
        "disable-features",
        "Translate,MediaRouter,GlobalMediaControls,OptimizationHints,AutofillServerCommunication,FedCm,\
         WebIdentityDigitalCredentials,WebIdentityDigitalCredentialsCreation",
    ),
    // There is no GPU behind Xvfb; software compositing costs a fraction of emulated GL.
    ("disable-gpu", ""),
    // The dialog of a page that does not answer; `page_health` notices it.
    ("disable-hang-monitor", ""),
    ("disable-infobars", ""),
    ("disable-notifications", ""),
    ("disable-prompt-on-repost", ""),
    ("disable-renderer-backgrounding", ""),
    ("disable-search-engine-choice-screen", ""),
    ("disable-session-crashed-bubble", ""),
    ("disable-sync", ""),
    // Frames of other sites get no dialogs: the script of `page_dialogs` is not in them. Chrome's dialogs are windows
    // of their own, which `window` hides.
    ("enable-features", "SuppressDifferentOriginSubframeJSDialogs,TabModalUsesDesktopWidget"),
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

/// Flags whose values are lists, to which the operator's are added.
const FEATURES: [&str; 2] = ["disable-features", "enable-features"];

/// Flags that the recorder itself needs for picture, sound and control; the operator cannot set them.
const RESERVED: &[&str] = &[
    "alsa-output-device",
    "app",
    "audio-output-channels",
    "display",
    "remote-debugging-pipe",
    "remote-debugging-port",
    "user-data-dir",
    "window-size",
];

/// Chrome's command line: the defaults, overridden by the operator's flags, then the recorder's. A flag with the value
/// `false` is omitted; lists of features are joined. The size is in pixels; `dpi`: dots per inch, of which 96 are a
/// scale of 1.
#[must_use]
pub fn arguments(
    operator: &[ChromeFlag],
    (width, height): (u32, u32),
    dpi: u32,
    profile: &Path,
    sandbox: bool,
) -> Vec<String> {
    let mut flags: BTreeMap<&str, String> = FLAGS.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    if !sandbox {
        flags.insert("no-sandbox", String::new());
    }
    let scale = f64::from(dpi) / f64::from(DEFAULT_DPI);
    if dpi != DEFAULT_DPI {
        flags.insert("force-device-scale-factor", scale.to_string());
    }
    for flag in operator.iter().filter(|flag| !RESERVED.contains(&flag.name.as_str())) {
        match flag.value.as_deref() {
            Some("false") => flags.remove(flag.name.as_str()),
            Some(features) if FEATURES.contains(&flag.name.as_str()) => {
                let ours = FLAGS.iter().find(|(name, _)| *name == flag.name).map_or("", |(_, value)| value);
                flags.insert(&flag.name, joined(features, ours, operator))
            }
            value => flags.insert(&flag.name, value.unwrap_or_default().to_owned()),
        };
    }
    flags.insert("remote-debugging-pipe", String::new());
    flags.insert("user-data-dir", profile.display().to_string());
    // In units of the page.
    let [width, height] = [width, height].map(|pixels| (f64::from(pixels) / scale).ceil());
    flags.insert("window-size", format!("{width},{height}"));
    // A window without tabs: what the page opens gets a window of its own, which `window` hides.
    flags.insert("app", FIRST_PAGE.to_owned());
    flags
        .into_iter()
        .map(|(name, value)| if value.is_empty() { format!("--{name}") } else { format!("--{name}={value}") })
        .collect()
}

/// A list of features: the operator's, and the program's that the operator does not name anywhere.
fn joined(features: &str, ours: &str, operator: &[ChromeFlag]) -> String {
    // A name may be followed by a study (`<`) or by parameters (`:`).
    let name = |feature: &str| feature.split(['<', ':']).next().unwrap_or_default().to_owned();
    let lists = operator.iter().filter(|flag| FEATURES.contains(&flag.name.as_str()));
    let named: Vec<_> = lists.flat_map(|flag| flag.value.iter().flat_map(|value| value.split(','))).map(name).collect();
    let ours = ours.split(',').filter(|ours| !named.iter().any(|name| name == ours));
    [features].into_iter().chain(ours).collect::<Vec<_>>().join(",")
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
        let args = arguments(&operator, (1920, 1080), 96, Path::new("/run/x/chrome"), true);
        for wanted in [
            "--autoplay-policy=user-required",
            "--lang=de",
            "--window-size=1920,1080",
            "--remote-debugging-pipe",
            "--user-data-dir=/run/x/chrome",
            "--kiosk",
        ] {
            assert!(args.iter().any(|arg| arg == wanted), "{wanted}: {args:?}");
        }
        assert!(!args.iter().any(|arg| arg.starts_with("--disable-gpu") || arg == "--no-sandbox"));
        assert!(!args.iter().any(|arg| arg.starts_with("--force-device-scale-factor")));
        assert_eq!(ignored_flags(&operator).count(), 3);
        assert!(!ignores_certificate_errors(&operator));
        assert!(ignores_certificate_errors(&[flag("ignore-certificate-errors", None)]));
        assert!(!ignores_certificate_errors(&[flag("ignore-certificate-errors", Some("false"))]));
        assert!(arguments(&[], (2, 2), 96, Path::new("/x"), false).contains(&"--no-sandbox".to_owned()));
    }
    #[test]
    fn more_dots_per_inch_make_the_page_larger_and_not_the_window() {
        let args = |dpi| arguments(&[], (1920, 1080), dpi, Path::new("/x"), true);
        for (dpi, scale, size) in [(192, "2", "960,540"), (120, "1.25", "1536,864"), (144, "1.5", "1280,720")] {
            let wanted = [format!("--force-device-scale-factor={scale}"), format!("--window-size={size}")];
            assert!(wanted.iter().all(|wanted| args(dpi).contains(wanted)), "{dpi}: {:?}", args(dpi));
        }
        let operator = [flag("force-device-scale-factor", Some("3"))];
        let args = arguments(&operator, (1920, 1080), 192, Path::new("/x"), true);
        assert!(args.contains(&"--force-device-scale-factor=3".to_owned()), "{args:?}");
    }
    #[test]
    fn the_operators_features_are_added_to_the_programs() {
        let value = |operator: &[ChromeFlag], name: &str| {
            let args = arguments(operator, (2, 2), 96, Path::new("/x"), true);
            args.iter().find_map(|arg| arg.strip_prefix(&format!("--{name}=")).map(str::to_owned))
        };
        let more =
            [flag("disable-features", Some("Other<Study:size/3")), flag("enable-features", Some("Translate:a/b"))];
        let disabled = value(&more, "disable-features").unwrap();
        assert!(disabled.starts_with("Other<Study:size/3,MediaRouter,"), "{disabled}");
        assert!(disabled.contains(",FedCm,"), "{disabled}");
        assert!(value(&more, "enable-features").unwrap().starts_with("Translate:a/b,Suppress"));
        assert_eq!(value(&[flag("enable-features", Some("false"))], "enable-features"), None);
    }
}
