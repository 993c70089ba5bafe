//! Chrome as a participant of the meeting: started on the private display and PulseAudio, controlled over the DevTools
//! protocol, and monitored until it ends.
//!
//! The access token reaches the page through the protocol and never appears on a command line.

use std::path::Path;
use std::time::{Duration, Instant};

use chromiumoxide::Page;
use chromiumoxide::cdp::browser_protocol::target;
use rustix::process::Signal;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::capture::browser::call_sync::{CallOffset, CallSync};
use crate::capture::browser::chrome_arguments::{ChromeSettings, arguments, find_chrome};
use crate::capture::browser::devtools::{self, ANSWER_LIMIT, DevtoolsConnection, evaluate, inspect, navigate};
use crate::capture::browser::devtools_pipe::DevtoolsPipe;
use crate::capture::browser::error_page::ErrorPageMeaning;
use crate::capture::browser::joining::{JoinStep, join_step};
use crate::capture::browser::page_dialogs::PageDialogs;
use crate::capture::browser::page_monitor::{self, PageEnd};
use crate::capture::browser::visit::{self, PageVisit};
use crate::capture::browser::window::HiddenWindows;
use crate::capture::browser::{certificate, page, profile, trusted_roots};
use crate::capture::component_error::ComponentError;
use crate::capture::process_tag;
use crate::capture::rig_failure::RigFailure;
use crate::codes;
use crate::process::child::{self, Child};
use crate::process::procfs::Process;
use crate::process::tree::ProcessTree;
use crate::storage::files;

const COMPONENT: &str = "Chrome";
/// Time limit for a look at Chrome's program, and for the copy of the certificates, which lie in `state_dir`.
const DISK_LIMIT: Duration = Duration::from_secs(5);
/// Time limit for the start, which takes some 400 ms on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(20);
/// Interval of inspections of the page while it joins the meeting.
const JOIN_POLL: Duration = Duration::from_millis(100);
/// Time limit for Chrome's answer to `Browser.close`.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// Time until SIGKILL is sent again to a Chrome that has not ended.
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// Time limit for one inspection of the page while it joins; the next one follows.
const INSPECT_LIMIT: Duration = Duration::from_secs(5);
/// Time limit for the last inspection, when the recording ends.
const LAST_INSPECT_LIMIT: Duration = Duration::from_secs(3);
/// How long after its page Chrome itself may end, where it was Chrome that broke.
const BETTER_CAUSE: Duration = Duration::from_millis(300);

/// A running Chrome with one page.
#[derive(Debug)]
pub struct Chrome {
    child: Child,
    /// `None` where `/proc` is not readable.
    processes: Option<ProcessTree>,
    /// Chrome's processes when the meeting was reached; once Chrome has ended they can no longer be found.
    known_processes: Vec<Process>,
    browser: chromiumoxide::Browser,
    page: Page,
    _handler: AbortOnDropHandle<()>,
    _pipe: DevtoolsPipe,
    /// Why the page ended; `None` while it lives.
    ended: watch::Receiver<Option<PageEnd>>,
    /// `None` where Chrome refused the script.
    call_sync: Option<CallSync>,
    /// `None` where Chrome refused to be prepared.
    _dialogs: Option<PageDialogs>,
    /// `None` until the window covers the screen.
    hidden_windows: Option<HiddenWindows>,
    /// Tasks that monitor the page and, once it has joined, the meeting.
    monitors: Vec<AbortOnDropHandle<()>>,
    end_sender: watch::Sender<Option<PageEnd>>,
    /// When the end of the page was seen first.
    end_seen: Option<Instant>,
    /// The page is any page and no meeting: that it is closed is its end and no failure.
    visits: bool,
}

impl Chrome {
    /// Starts Chrome with an empty page that covers the display of `size` pixels, of which `dpi` are an inch. `dir`:
    /// the rig's directory, which holds the profile.
    ///
    /// # Errors
    /// Where Chrome is missing, ends, or does not accept a DevTools connection within 20 s.
    pub async fn start(
        settings: &ChromeSettings,
        size: (u32, u32),
        dpi: u32,
        env: &[(&'static str, String)],
        dir: &Path,
    ) -> Result<Self, ComponentError> {
        let failed = |why: &dyn std::fmt::Display| ComponentError::new(COMPONENT, why);
        let path = settings.path.clone();
        let program = files::on_disk_within(DISK_LIMIT, move || Ok(find_chrome(path.as_deref())))
            .await
            .map_err(|error| failed(&format!("its program cannot be looked for: {error}")))?
            .ok_or_else(|| failed(&"no Chrome found; install chromium or set chrome_settings.custom_chrome_path"))?;
        let profile = dir.join(process_tag::PROFILE);
        let search_path = profile::write(&profile, dir, &std::env::var_os("PATH").unwrap_or_default())
            .map_err(|error| failed(&format!("its profile cannot be written: {error}")))?;
        if let Some(database) = settings.trusted.clone() {
            let home = dir.to_owned();
            files::on_disk_within(DISK_LIMIT, move || trusted_roots::copy_to_home(&database, &home))
                .await
                .map_err(|error| failed(&format!("its certificates cannot be copied: {error}")))?;
        }
        let mut spec = child::ChildSpec::new("chrome", program)
            .args(arguments(&settings.flags, size, dpi, &profile, settings.sandbox))
            // Keeps crash reports, caches and sockets in the rig's directory, which is removed with the rig.
            .env("TMPDIR", dir)
            .env("PATH", search_path)
            .env(process_tag::VARIABLE, dir)
            .env("HOME", dir)
            .env("XDG_CONFIG_HOME", dir)
            .env("XDG_CACHE_HOME", dir);
        spec.env.extend(env.iter().map(|(name, value)| (name.into(), value.into())));
        spec.message_pipes = true;
        // Chrome logs much that does not matter here, such as a missing session bus.
        spec.log_level = tracing::Level::TRACE;
        let mut child = child::spawn(&spec).await.map_err(|error| failed(&error))?;
        let processes = ProcessTree::of(child.pid());
        let Some((requests, messages)) = child.messages.take() else {
            return Err(failed(&"there are no pipes to it"));
        };
        let result = tokio::select! {
            connected = devtools::connect_within(START_LIMIT, requests, messages) => connected,
            exit = child.wait() => Err(format!("ended at its start ({exit})")),
        };
        match result {
            Ok(DevtoolsConnection { browser, page, handler, pipe }) => {
                let (end_sender, ended) = watch::channel(None);
                let crashes = browser.event_listener::<target::EventTargetCrashed>().await.ok();
                let monitor = page_monitor::monitor_page(page.clone(), crashes, child.tail(), end_sender.clone());
                let monitors = vec![AbortOnDropHandle::new(tokio::spawn(monitor))];
                let call_sync = CallSync::install(&page)
                    .await
                    .inspect_err(|error| {
                        tracing::warn!(
                            code = %codes::CALLS_NOT_SYNCHRONISED, %error,
                            "the sound of calls may come later than their picture"
                        );
                    })
                    .ok();
                let dialogs = PageDialogs::answer(&browser, &page)
                    .await
                    .inspect_err(|error| {
                        tracing::warn!(
                            code = %codes::DIALOGS_NOT_CLOSED, %error,
                            "dialogs of the page may be recorded and stop it"
                        );
                    })
                    .ok();
                Ok(Self {
                    child,
                    processes,
                    known_processes: Vec::new(),
                    browser,
                    page,
                    _handler: handler,
                    _pipe: pipe,
                    ended,
                    call_sync,
                    _dialogs: dialogs,
                    hidden_windows: None,
                    monitors,
                    end_sender,
                    end_seen: None,
                    visits: false,
                })
            }
            Err(why) => {
                child.stop(Signal::KILL, Duration::from_secs(1)).await;
                Err(failed(&format!("{why}: {}", child.tail().last_lines(1))))
            }
        }
    }

    /// Opens the meeting page and joins as a listener. Returns when the meeting is painted and can be recorded.
    ///
    /// # Errors
    /// Where the page shows an error page (the cause is its text) or is not ready in time.
    pub async fn join(&mut self, url: &str) -> Result<(), RigFailure> {
        let started = Instant::now();
        let page = self.page.clone();
        let mut navigation = Box::pin(navigate(page.clone(), url.to_owned(), started));
        let (mut load_error, mut reason) = (None, String::new());
        let (mut clicked, mut in_meeting, mut document) = (None::<Instant>, None::<Instant>, String::new());
        loop {
            let state = tokio::select! {
                biased;
                failure = self.ended() => return Err(failure),
                error = &mut navigation, if load_error.is_none() => {
                    load_error = Some(error);
                    continue;
                }
                state = inspect(&page, INSPECT_LIMIT) => state.unwrap_or_default(),
            };
            if state.failed
                && let Some(Some(error)) = evaluate::<Option<String>>(&page, certificate::ERROR, INSPECT_LIMIT).await
            {
                let cause = certificate::refusal(&error, url);
                return Err(RigFailure { cause, page: Some(ErrorPageMeaning::Refused) });
            }
            if !state.document.is_empty() && state.document != document {
                // It was loaded anew, by us or by itself.
                (clicked, in_meeting) = (None, None);
                document.clone_from(&state.document);
            }
            if state.main && in_meeting.is_none() {
                tracing::info!(after_ms = started.elapsed().as_millis(), "in the meeting");
                in_meeting = Some(Instant::now());
            }
            let [since_click, since_meeting] = [clicked, in_meeting].map(|at| at.map(|at| at.elapsed()));
            match join_step(&state, since_click, started.elapsed(), since_meeting) {
                JoinStep::Ready => {
                    if evaluate::<()>(&page, page::NOTE_DEPARTURE, INSPECT_LIMIT).await.is_none() {
                        tracing::debug!("the page does not note when it leaves: its error page may be recorded");
                    }
                    let painted = evaluate::<bool>(&page, page::PAINTED, Duration::from_millis(500));
                    if painted.await.is_none() {
                        tracing::debug!("the page does not say that it has painted");
                    }
                    self.known_processes = self.processes.as_ref().map(ProcessTree::members).unwrap_or_default();
                    let monitor = page_monitor::monitor_meeting(page, self.processes, state, self.end_sender.clone());
                    self.monitors.push(AbortOnDropHandle::new(tokio::spawn(monitor)));
                    return Ok(());
                }
                JoinStep::Join => {
                    tracing::debug!(after_ms = started.elapsed().as_millis(), "joining as a listener");
                    clicked = evaluate::<()>(&page, page::JOIN, ANSWER_LIMIT).await.map(|()| Instant::now());
                }
                JoinStep::Load(why) if load_error.is_some() => {
                    if why != reason {
                        tracing::warn!(
                            code = %codes::PAGE_NOT_LOADED_YET, why,
                            "the meeting page cannot be loaded yet"
                        );
                        reason = why;
                    }
                    navigation = Box::pin(navigate(page.clone(), url.to_owned(), started));
                    load_error = None;
                }
                JoinStep::Load(_) | JoinStep::Wait => tokio::time::sleep(JOIN_POLL).await,
                JoinStep::Fail(RigFailure { cause, page }) => {
                    let why = load_error.flatten().map(|error| format!(" ({error})")).unwrap_or_default();
                    return Err(RigFailure { cause: format!("{cause}{why}"), page });
                }
            }
        }
    }

    /// Opens any page instead of a meeting, and does on it what the visit asks for. Returns when it is painted and can be
    /// recorded.
    ///
    /// # Errors
    /// Where the page cannot be opened, or lacks what the visit waits for; then the failure's `page` is set.
    pub async fn visit(&mut self, url: &str, visit: &PageVisit) -> Result<(), RigFailure> {
        self.visits = true;
        let page = self.page.clone();
        tokio::select! {
            biased;
            failure = self.ended() => return Err(failure),
            opened = visit::open(&page, url, visit) => opened?,
        }
        self.known_processes = self.processes.as_ref().map(ProcessTree::members).unwrap_or_default();
        let monitor = visit::monitor(page, self.processes, visit.until_gone.clone(), self.end_sender.clone());
        self.monitors.push(AbortOnDropHandle::new(tokio::spawn(monitor)));
        Ok(())
    }

    /// Chrome's processes when the meeting was reached.
    pub fn processes(&self) -> &[Process] {
        &self.known_processes
    }

    /// Keeps these windows hidden as long as this Chrome runs.
    pub fn keep_hidden(&mut self, windows: Option<HiddenWindows>) {
        self.hidden_windows = windows;
    }

    /// The delay of call pictures up to now.
    pub fn call_offset(&self) -> CallOffset {
        self.call_sync.as_ref().map(CallSync::offset).unwrap_or_default()
    }

    /// Resolves with the cause when the page or Chrome itself has ended. Cancel-safe.
    pub async fn ended(&mut self) -> RigFailure {
        let visits = self.visits;
        let chrome = |exit: child::Exit| {
            // Chrome ends with its last window.
            if visits && exit.success() {
                visit::closed()
            } else {
                RigFailure::of(format_args!("Chrome ended ({exit})"))
            }
        };
        let failure = tokio::select! {
            biased;
            exit = self.child.wait() => return chrome(exit),
            end = self.ended.wait_for(Option::is_some) => end.ok().and_then(|end| match end.as_ref()? {
                PageEnd { is_closed: true, .. } if visits => Some(visit::closed()),
                end => Some(end.failure.clone()),
            }),
        };
        if let Some(error_page) = failure.as_ref().filter(|failure| failure.page.is_some()) {
            return error_page.clone();
        }
        // When all of Chrome ends, the page ends first: wait a moment for the better cause. The moment goes on where the
        // caller has dropped this and asks again.
        let seen = *self.end_seen.get_or_insert_with(Instant::now);
        match tokio::time::timeout(BETTER_CAUSE.saturating_sub(seen.elapsed()), self.child.wait()).await {
            Ok(exit) => chrome(exit),
            Err(_) => failure.unwrap_or_else(|| RigFailure::of("the connection to Chrome was lost")),
        }
    }

    /// When the error page replaced the meeting, as far as is known; inspects the page where that was not noticed yet.
    pub async fn left_at(&self) -> Option<Instant> {
        if let Some(end) = self.ended.borrow().as_ref() {
            return end.left_at;
        }
        let asked = Instant::now();
        page_monitor::left_at(asked, &inspect(&self.page, LAST_INSPECT_LIMIT).await?)
    }

    /// Ends Chrome and all of its processes. Asks Chrome to close, so that the room sees the participant leave; kills
    /// it at once where the page has already left the meeting.
    pub async fn stop(mut self) {
        self.known_processes.extend(self.processes.as_ref().map(ProcessTree::members).unwrap_or_default());
        if self.ended.borrow().is_some() {
            self.child.stop(Signal::KILL, KILL_LIMIT).await;
        } else {
            let closed = tokio::select! {
                biased;
                // A Chrome that has ended is not asked.
                _ = self.child.wait() => true,
                closed = self.browser.close() => closed.is_ok(),
                () = tokio::time::sleep(CLOSE_LIMIT) => false,
            };
            if !closed {
                self.child.signal(Signal::TERM);
            }
            self.child.end_within(Duration::from_secs(5)).await;
        }
        ProcessTree::end(&self.known_processes).await;
    }
}
