//! Chrome, as a guest in the meeting: started on the private display and sound server, led into the room over the
//! DevTools protocol, and watched until it ends.
//!
//! The access token goes into the page by the protocol and never onto a command line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chromiumoxide::Page;
use chromiumoxide::cdp::browser_protocol::page::NavigateParams;
use chromiumoxide::cdp::browser_protocol::{inspector, target};
use chromiumoxide::cdp::js_protocol::runtime::EvaluateParams;
use chromiumoxide::error::CdpError;
use chromiumoxide::handler::HandlerConfig;
use futures::StreamExt as _;
use rustix::process::Signal;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::attendance::{self, PageEnd};
use super::call_sync::{CallOffset, CallSync};
use super::family::{Family, Process};
use super::page::{self, Break, PageState, Step};
use super::{PartError, certificate, owner, trust};
use crate::config::{ChromeConfig, ChromeFlag};
use crate::process::{self, Child};

const PART: &str = "Chrome";
/// The longest a start may take; some 400 ms on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How often the page is looked at on the way into the meeting.
const JOIN_POLL: Duration = Duration::from_millis(100);
/// What Chrome may take to answer a message, at most.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// What Chrome may take to answer that it closes.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// What a killed Chrome may take to be gone; then it is killed again.
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// What a look at the page may take on the way into the meeting; it comes again.
const LOOK_LIMIT: Duration = Duration::from_secs(5);
/// What the last look at it may take, when the recording ends.
const LAST_LOOK_LIMIT: Duration = Duration::from_secs(1);

/// A running Chrome with one page.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    /// `None` where `/proc` shows nothing.
    family: Option<Family>,
    /// Its processes when the meeting was reached: who they are cannot be told any more once Chrome has ended.
    known: Vec<Process>,
    connection: chromiumoxide::Browser,
    page: Page,
    _handler: AbortOnDropHandle<()>,
    /// Why the page ended, once it has.
    ended: watch::Receiver<Option<PageEnd>>,
    /// `None` where Chrome did not take it.
    call_sync: Option<CallSync>,
    /// Watches the page's life, and once it is in the meeting what it shows.
    watches: Vec<AbortOnDropHandle<()>>,
    found: watch::Sender<Option<PageEnd>>,
}

/// Flags that keep Chrome a quiet guest; each may be overridden in `chrome_settings.flags`.
const FLAGS: &[(&str, &str)] = &[
    // Samples, 11 ms: a page's sound is heard three of these after it was made, and the page may not know (a flash with a
    // beep, a call). 1,024 are 40 ms later.
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
    // No GPU behind Xvfb: the software compositor costs a fraction of GL emulated on the processor.
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
    // Keeps the bar away that warns of unusual flags, which would be in every picture.
    ("test-type", ""),
    ("use-mock-keychain", ""),
    ("window-position", "0,0"),
];

/// What decides the picture and the sound, and what the program itself steers Chrome by: not the operator's.
const OURS: &[&str] = &[
    "alsa-output-device",
    "audio-output-channels",
    "display",
    "remote-debugging-port",
    "user-data-dir",
    "window-size",
];

/// Chrome's command line: the defaults, then the operator's flags over them, then ours. A flag whose value is `false`
/// is left out.
#[must_use]
pub fn arguments(operator: &[ChromeFlag], size: (u32, u32), profile: &Path, sandbox: bool) -> Vec<String> {
    let mut flags: BTreeMap<&str, String> = FLAGS.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    if !sandbox {
        flags.insert("no-sandbox", String::new());
    }
    for flag in operator.iter().filter(|flag| !OURS.contains(&flag.name.as_str())) {
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

/// The operator's flags that are not heeded, for a warning at start.
pub fn ignored_flags(operator: &[ChromeFlag]) -> impl Iterator<Item = &str> {
    operator.iter().map(|flag| flag.name.as_str()).filter(|name| OURS.contains(name))
}

/// Whether the operator has asked for a Chrome that checks no certificate.
#[must_use]
pub fn takes_any_certificate(operator: &[ChromeFlag]) -> bool {
    let last = operator.iter().rfind(|flag| flag.name == "ignore-certificate-errors");
    last.is_some_and(|flag| flag.value.as_deref() != Some("false"))
}

/// The names Chrome has on various systems, in the order they are looked for.
pub const PROGRAMS: &[&str] = &["google-chrome-stable", "google-chrome", "chromium", "chromium-browser"];

/// The Chrome to run: the configured one, or the first of the usual names on `PATH`.
#[must_use]
pub fn find(config: &ChromeConfig) -> Option<PathBuf> {
    match &config.path {
        Some(path) => process::find_program(path),
        None => PROGRAMS.iter().find_map(|name| process::find_program(Path::new(name))),
    }
}

impl Browser {
    /// Starts Chrome with an empty page that covers the display. Its profile lies in `dir`. `trusted`: the database of the
    /// certificates that it trusts besides its own.
    ///
    /// # Errors
    /// Where Chrome is missing, ends, or cannot be steered within 20 s.
    pub async fn start(
        config: &ChromeConfig,
        size: (u32, u32),
        env: &[(&'static str, String)],
        sandbox: bool,
        trusted: Option<&Path>,
        dir: &Path,
    ) -> Result<Self, PartError> {
        let failed = |why: &dyn std::fmt::Display| PartError::new(PART, why);
        let program = find(config)
            .ok_or_else(|| failed(&"no Chrome found; install chromium or set chrome_settings.custom_chrome_path"))?;
        let profile = dir.join(owner::PROFILE);
        if let Some(database) = trusted {
            trust::give(database, dir)
                .map_err(|error| failed(&format!("its certificates cannot be copied: {error}")))?;
        }
        let mut spec = process::Spec::new("chrome", program)
            .args(arguments(&config.flags, size, &profile, sandbox))
            // Crash reports, caches and sockets go where the rest goes, and go away with it.
            .env("TMPDIR", dir)
            .env(owner::MARK, dir)
            .env("HOME", dir)
            .env("XDG_CONFIG_HOME", dir)
            .env("XDG_CACHE_HOME", dir);
        for (key, value) in env {
            spec = spec.env(key, value);
        }
        // It has much to say that is of no concern here: a missing session bus, above all.
        spec.log_level = tracing::Level::TRACE;
        let mut child = process::spawn(&spec).await.map_err(|error| failed(&error))?;
        let family = Family::of(child.pid());
        let result = tokio::select! {
            steered = steer_within(START_LIMIT, &profile) => steered,
            exit = child.wait() => Err(format!("ended at its start ({exit})")),
        };
        match result {
            Ok((connection, page, handler)) => {
                let (found, ended) = watch::channel(None);
                let crashes = connection.event_listener::<target::EventTargetCrashed>().await.ok();
                let life = attendance::watch_life(page.clone(), crashes, child.tail(), found.clone());
                let watch = AbortOnDropHandle::new(tokio::spawn(life));
                let (watches, known) = (vec![watch], Vec::new());
                let call_sync = CallSync::install(&page)
                    .await
                    .inspect_err(|error| tracing::warn!(%error, "the sound of calls may come later than their picture"))
                    .ok();
                Ok(Self { child, family, known, connection, page, _handler: handler, ended, call_sync, watches, found })
            }
            Err(why) => {
                child.stop(Signal::KILL, Duration::from_secs(1)).await;
                Err(failed(&format!("{why}: {}", child.tail().words(1))))
            }
        }
    }

    /// Opens the meeting page and joins as a listener; back when the meeting is painted and can be recorded.
    ///
    /// # Errors
    /// Where the page shows its error page (over: the cause, in its own words) or does not get ready.
    pub async fn join(&mut self, url: &str) -> Result<(), Break> {
        let started = Instant::now();
        let page = self.page.clone();
        let mut navigation = Box::pin(navigate(page.clone(), url.to_owned(), started));
        let mut load_error = None;
        let (mut joined, mut in_meeting) = (false, None);
        loop {
            let state = tokio::select! {
                biased;
                found = self.ended() => return Err(found),
                error = &mut navigation, if load_error.is_none() => {
                    load_error = Some(error);
                    continue;
                }
                state = inspect(&page, LOOK_LIMIT) => state.unwrap_or_default(),
            };
            if state.failed
                && let Some(Some(error)) = evaluate::<Option<String>>(&page, certificate::ERROR, LOOK_LIMIT).await
            {
                return Err(Break::of(certificate::refusal(&error, url)));
            }
            if state.main && in_meeting.is_none() {
                tracing::info!(after_ms = started.elapsed().as_millis(), "in the meeting");
                in_meeting = Some(Instant::now());
            }
            match page::step(&state, joined, started.elapsed(), in_meeting.map(|since| since.elapsed())) {
                Step::Ready => {
                    if evaluate::<()>(&page, page::NOTE_DEPARTURE, LOOK_LIMIT).await.is_none() {
                        tracing::debug!("the page does not note when it leaves: its error page may be recorded");
                    }
                    let painted = evaluate::<bool>(&page, page::PAINTED, Duration::from_millis(500));
                    if painted.await.is_none() {
                        tracing::debug!("the page does not say that it has painted");
                    }
                    self.known = self.family.as_ref().map(Family::members).unwrap_or_default();
                    let watch = tokio::spawn(attendance::watch_meeting(page, self.family, self.found.clone()));
                    self.watches.push(AbortOnDropHandle::new(watch));
                    return Ok(());
                }
                Step::Join => {
                    tracing::debug!(after_ms = started.elapsed().as_millis(), "joining as a listener");
                    joined = evaluate::<()>(&page, page::JOIN, ANSWER_LIMIT).await.is_some();
                }
                Step::Wait => tokio::time::sleep(JOIN_POLL).await,
                Step::Fail(Break { cause, page }) => {
                    let why = load_error.flatten().map(|error| format!(" ({error})")).unwrap_or_default();
                    return Err(Break { cause: format!("{cause}{why}"), page });
                }
            }
        }
    }

    /// By how much the pictures of calls were held back so far.
    pub fn call_offset(&self) -> CallOffset {
        self.call_sync.as_ref().map(CallSync::offset).unwrap_or_default()
    }

    /// Resolves when the page or Chrome itself has ended, with the cause. Cancel-safe.
    pub async fn ended(&mut self) -> Break {
        let chrome = |exit: process::Exit| Break::of(format_args!("Chrome ended ({exit})"));
        let found = tokio::select! {
            biased;
            exit = self.child.wait() => return chrome(exit),
            end = self.ended.wait_for(Option::is_some) => end.ok().and_then(|end| Some(end.as_ref()?.found.clone())),
        };
        if let Some(left) = found.as_ref().filter(|found| found.page.is_some()) {
            return left.clone();
        }
        // The page goes first when all of Chrome does: the better cause may be a moment away.
        match tokio::time::timeout(Duration::from_millis(300), self.child.wait()).await {
            Ok(exit) => chrome(exit),
            Err(_) => found.unwrap_or_else(|| Break::of("the connection to Chrome was lost")),
        }
    }

    /// When the page left the meeting for its error page, as far as is known now; asks the page where that has not been
    /// noticed yet.
    pub async fn left_at(&self) -> Option<Instant> {
        if let Some(end) = self.ended.borrow().as_ref() {
            return end.left_at;
        }
        let asked = Instant::now();
        attendance::left_at(asked, &inspect(&self.page, LAST_LOOK_LIMIT).await?)
    }

    /// Ends Chrome, in good order if it still listens, so that the room sees its guest leave; at once where it is known
    /// to be out of the meeting. None of its processes is left when this returns.
    pub async fn stop(mut self) {
        self.known.extend(self.family.as_ref().map(Family::members).unwrap_or_default());
        if self.ended.borrow().is_some() {
            self.child.stop(Signal::KILL, KILL_LIMIT).await;
        } else {
            let closed = tokio::select! {
                biased;
                // One that is gone is not asked.
                _ = self.child.wait() => true,
                closed = self.connection.close() => closed.is_ok(),
                () = tokio::time::sleep(CLOSE_LIMIT) => false,
            };
            if !closed {
                self.child.signal(Signal::TERM);
            }
            self.child.end_within(Duration::from_secs(5)).await;
        }
        Family::end(&self.known).await;
    }
}

type Steered = (chromiumoxide::Browser, Page, AbortOnDropHandle<()>);

/// [`steer`], again and again: at its start Chrome may exchange its first page for another while it is taken over.
async fn steer_within(limit: Duration, profile: &Path) -> Result<Steered, String> {
    let began = Instant::now();
    let mut why = "it does not say where it listens".to_owned();
    loop {
        match tokio::time::timeout(limit.saturating_sub(began.elapsed()), steer(profile)).await {
            Ok(Ok(steered)) => return Ok(steered),
            Ok(Err(error)) => {
                tracing::debug!(%error, "Chrome cannot be steered yet");
                why = error.to_string();
            }
            Err(_) => return Err(format!("cannot be steered {} s after its start: {why}", limit.as_secs())),
        }
        tokio::time::sleep(JOIN_POLL).await;
    }
}

/// Connects to the Chrome whose profile this is, and takes over its first page.
async fn steer(profile: &Path) -> Result<Steered, CdpError> {
    let port_file = profile.join("DevToolsActivePort");
    // Chrome writes the file whole, by renaming: port, newline, path.
    let address = loop {
        match tokio::fs::read_to_string(&port_file).await {
            Ok(text) if text.lines().count() >= 2 => {
                let (port, path) = text.split_once('\n').unwrap_or_default();
                break format!("ws://127.0.0.1:{}{}", port.trim(), path.trim());
            }
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let config = HandlerConfig {
        viewport: None,
        request_timeout: ANSWER_LIMIT,
        // Else it takes any certificate, and hands the token to whoever has one.
        ignore_https_errors: false,
        ..HandlerConfig::default()
    };
    let (mut connection, mut handler) = chromiumoxide::Browser::connect_with_config(address, config).await?;
    let handler = AbortOnDropHandle::new(tokio::spawn(async move {
        // Messages that chromiumoxide does not know are its own concern, not faults.
        while handler.next().await.is_some() {}
    }));
    connection.fetch_targets().await?;
    let page = loop {
        if let Some(page) = connection.pages().await?.into_iter().next() {
            break page;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    page.execute(inspector::EnableParams::default()).await?;
    Ok((connection, page, handler))
}

/// Asks for the page until it loads or the time to join is over; the last error, if any.
async fn navigate(page: Page, url: String, started: Instant) -> Option<String> {
    while let Err(error) = page
        .execute(NavigateParams::new(url.clone()))
        .await
        .and_then(|answer| answer.result.error_text.map_or(Ok(()), |text| Err(CdpError::ChromeMessage(text))))
    {
        // A page that loads slowly is not asked for again: `inspect` sees how far it is.
        if matches!(error, CdpError::Timeout) {
            return None;
        }
        tracing::warn!(%error, "the meeting page cannot be loaded yet");
        if started.elapsed() + Duration::from_secs(2) >= page::JOIN_LIMIT {
            return Some(error.to_string());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    None
}

/// What the page shows, `None` where it does not answer in time or cannot.
pub(super) async fn inspect(page: &Page, limit: Duration) -> Option<PageState> {
    evaluate(page, page::INSPECT, limit).await
}

/// The value of an expression in the page, `None` where it does not answer in time or cannot.
async fn evaluate<T: serde::de::DeserializeOwned>(page: &Page, expression: &str, limit: Duration) -> Option<T> {
    let mut params = EvaluateParams::new(expression);
    params.return_by_value = Some(true);
    params.await_promise = Some(true);
    let answer = tokio::time::timeout(limit, page.execute(params)).await.ok()?.ok()?;
    serde_json::from_value(answer.result.result.value.unwrap_or_default()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flag(name: &str, value: Option<&str>) -> ChromeFlag {
        ChromeFlag { name: name.to_owned(), value: value.map(str::to_owned) }
    }

    #[test]
    fn the_operators_flags_win_except_over_size_display_and_steering() {
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
        assert!(!takes_any_certificate(&operator));
        assert!(takes_any_certificate(&[flag("ignore-certificate-errors", None)]));
        assert!(!takes_any_certificate(&[flag("ignore-certificate-errors", Some("false"))]));
        assert!(arguments(&[], (2, 2), Path::new("/x"), false).contains(&"--no-sandbox".to_owned()));
    }
}
