//! Chrome, as a guest in the meeting: started on the private display and sound server, led into the room over the
//! DevTools protocol, and watched until it ends.
//!
//! The access token goes into the page by the protocol and never onto a command line.

use std::path::Path;
use std::time::{Duration, Instant};

use chromiumoxide::Page;
use chromiumoxide::cdp::browser_protocol::target;
use rustix::process::Signal;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::capture::browser::call_sync::{CallOffset, CallSync};
use crate::capture::browser::chrome_arguments::{arguments, find};
use crate::capture::browser::devtools::{self, ANSWER_LIMIT, DevtoolsConnection, evaluate, inspect, navigate};
use crate::capture::browser::joining::{JoinStep, join_step};
use crate::capture::browser::page_monitor::{self, PageEnd};
use crate::capture::browser::{certificate, page, trusted_roots};
use crate::capture::component_error::ComponentError;
use crate::capture::process_tag;
use crate::capture::rig_failure::RigFailure;
use crate::config::ChromeConfig;
use crate::process::child::{self, Child};
use crate::process::procfs::Process;
use crate::process::tree::ProcessTree;

const PART: &str = "Chrome";
/// The longest a start may take; some 400 ms on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How often the page is looked at on the way into the meeting.
const JOIN_POLL: Duration = Duration::from_millis(100);
/// What Chrome may take to answer that it closes.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// What a killed Chrome may take to be gone; then it is killed again.
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// What a look at the page may take on the way into the meeting; it comes again.
const LOOK_LIMIT: Duration = Duration::from_secs(5);
/// What the last look at it may take, when the recording ends.
const LAST_LOOK_LIMIT: Duration = Duration::from_secs(3);

/// A running Chrome with one page.
#[derive(Debug)]
pub struct Chrome {
    child: Child,
    /// `None` where `/proc` shows nothing.
    family: Option<ProcessTree>,
    /// Its processes when the meeting was reached: who they are cannot be told any more once Chrome has ended.
    known: Vec<Process>,
    browser: chromiumoxide::Browser,
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

impl Chrome {
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
    ) -> Result<Self, ComponentError> {
        let failed = |why: &dyn std::fmt::Display| ComponentError::new(PART, why);
        let program = find(config)
            .ok_or_else(|| failed(&"no Chrome found; install chromium or set chrome_settings.custom_chrome_path"))?;
        let profile = dir.join(process_tag::PROFILE);
        if let Some(database) = trusted {
            trusted_roots::give(database, dir)
                .map_err(|error| failed(&format!("its certificates cannot be copied: {error}")))?;
        }
        let mut spec = child::ChildSpec::new("chrome", program)
            .args(arguments(&config.flags, size, &profile, sandbox))
            // Crash reports, caches and sockets go where the rest goes, and go away with it.
            .env("TMPDIR", dir)
            .env(process_tag::VARIABLE, dir)
            .env("HOME", dir)
            .env("XDG_CONFIG_HOME", dir)
            .env("XDG_CACHE_HOME", dir);
        for (key, value) in env {
            spec = spec.env(key, value);
        }
        // It has much to say that is of no concern here: a missing session bus, above all.
        spec.log_level = tracing::Level::TRACE;
        let mut child = child::spawn(&spec).await.map_err(|error| failed(&error))?;
        let family = ProcessTree::of(child.pid());
        let result = tokio::select! {
            connected = devtools::connect_within(START_LIMIT, &profile) => connected,
            exit = child.wait() => Err(format!("ended at its start ({exit})")),
        };
        match result {
            Ok(DevtoolsConnection { browser, page, handler }) => {
                let (found, ended) = watch::channel(None);
                let crashes = browser.event_listener::<target::EventTargetCrashed>().await.ok();
                let life = page_monitor::watch_life(page.clone(), crashes, child.tail(), found.clone());
                let watch = AbortOnDropHandle::new(tokio::spawn(life));
                let (watches, known) = (vec![watch], Vec::new());
                let call_sync = CallSync::install(&page)
                    .await
                    .inspect_err(|error| tracing::warn!(%error, "the sound of calls may come later than their picture"))
                    .ok();
                Ok(Self { child, family, known, browser, page, _handler: handler, ended, call_sync, watches, found })
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
    pub async fn join(&mut self, url: &str) -> Result<(), RigFailure> {
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
                return Err(RigFailure::of(certificate::refusal(&error, url)));
            }
            if state.main && in_meeting.is_none() {
                tracing::info!(after_ms = started.elapsed().as_millis(), "in the meeting");
                in_meeting = Some(Instant::now());
            }
            match join_step(&state, joined, started.elapsed(), in_meeting.map(|since| since.elapsed())) {
                JoinStep::Ready => {
                    if evaluate::<()>(&page, page::NOTE_DEPARTURE, LOOK_LIMIT).await.is_none() {
                        tracing::debug!("the page does not note when it leaves: its error page may be recorded");
                    }
                    let painted = evaluate::<bool>(&page, page::PAINTED, Duration::from_millis(500));
                    if painted.await.is_none() {
                        tracing::debug!("the page does not say that it has painted");
                    }
                    self.known = self.family.as_ref().map(ProcessTree::members).unwrap_or_default();
                    let watch = tokio::spawn(page_monitor::watch_meeting(page, self.family, self.found.clone()));
                    self.watches.push(AbortOnDropHandle::new(watch));
                    return Ok(());
                }
                JoinStep::Join => {
                    tracing::debug!(after_ms = started.elapsed().as_millis(), "joining as a listener");
                    joined = evaluate::<()>(&page, page::JOIN, ANSWER_LIMIT).await.is_some();
                }
                JoinStep::Wait => tokio::time::sleep(JOIN_POLL).await,
                JoinStep::Fail(RigFailure { cause, page }) => {
                    let why = load_error.flatten().map(|error| format!(" ({error})")).unwrap_or_default();
                    return Err(RigFailure { cause: format!("{cause}{why}"), page });
                }
            }
        }
    }

    /// By how much the pictures of calls were held back so far.
    pub fn call_offset(&self) -> CallOffset {
        self.call_sync.as_ref().map(CallSync::offset).unwrap_or_default()
    }

    /// Resolves when the page or Chrome itself has ended, with the cause. Cancel-safe.
    pub async fn ended(&mut self) -> RigFailure {
        let chrome = |exit: child::Exit| RigFailure::of(format_args!("Chrome ended ({exit})"));
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
            Err(_) => found.unwrap_or_else(|| RigFailure::of("the connection to Chrome was lost")),
        }
    }

    /// When the page left the meeting for its error page, as far as is known now; asks the page where that has not been
    /// noticed yet.
    pub async fn left_at(&self) -> Option<Instant> {
        if let Some(end) = self.ended.borrow().as_ref() {
            return end.left_at;
        }
        let asked = Instant::now();
        page_monitor::left_at(asked, &inspect(&self.page, LAST_LOOK_LIMIT).await?)
    }

    /// Ends Chrome, in good order if it still listens, so that the room sees its guest leave; at once where it is known
    /// to be out of the meeting. None of its processes is left when this returns.
    pub async fn stop(mut self) {
        self.known.extend(self.family.as_ref().map(ProcessTree::members).unwrap_or_default());
        if self.ended.borrow().is_some() {
            self.child.stop(Signal::KILL, KILL_LIMIT).await;
        } else {
            let closed = tokio::select! {
                biased;
                // One that is gone is not asked.
                _ = self.child.wait() => true,
                closed = self.browser.close() => closed.is_ok(),
                () = tokio::time::sleep(CLOSE_LIMIT) => false,
            };
            if !closed {
                self.child.signal(Signal::TERM);
            }
            self.child.end_within(Duration::from_secs(5)).await;
        }
        ProcessTree::end(&self.known).await;
    }
}
