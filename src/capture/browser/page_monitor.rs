//! Monitors a page for crashes and its place in the meeting. The first end that is found is the cause.

use std::time::{Duration, Instant};

use chromiumoxide::Page;
use chromiumoxide::cdp::browser_protocol::{inspector, target};
use chromiumoxide::listeners::EventStream;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::watch;

use crate::capture::browser::crash::crash_cause;
use crate::capture::browser::devtools::{evaluate, inspect};
use crate::capture::browser::hang_detector::ProcessActivity;
use crate::capture::browser::page::{self, PageState};
use crate::capture::browser::page_health::{self, PageHealth, PageStep};
use crate::capture::rig_failure::RigFailure;
use crate::codes;
use crate::process::output::OutputTail;
use crate::process::tree::ProcessTree;

/// Interval between an answer of the page and the next inspection.
const INSPECT_POLL: Duration = Duration::from_secs(1);
/// The same while it does not show the meeting: a dialog that it shows instead is in the recording.
const AWAY_POLL: Duration = Duration::from_millis(100);
/// Time limit for a script in the page.
const SCRIPT_LIMIT: Duration = Duration::from_secs(5);
/// Interval of checks of Chrome's processes while an answer is missing.
const ACTIVITY_POLL: Duration = Duration::from_millis(500);
/// Time until an unanswered inspection is sent again: it may be lost where the page is replaced.
const ASK_AGAIN: Duration = Duration::from_millis(1500);

/// How long after a page's crash Chrome may take to report its cause: the page's session gets its event first.
const CRASH_LIMIT: Duration = Duration::from_millis(500);

/// How long before the event of a crash Chrome may begin to show its own page of it, which is cut off.
const CRASH_PAGE: Duration = Duration::from_millis(100);

/// How a page ended, or that it left the meeting.
#[derive(Clone, Debug)]
pub struct PageEnd {
    pub failure: RigFailure,
    /// When the error page, or Chrome's own page of a crash, replaced the meeting, if it did: the earliest possible
    /// time.
    pub left_at: Option<Instant>,
    /// The page was closed, by itself or with its window.
    pub is_closed: bool,
}

impl From<RigFailure> for PageEnd {
    fn from(failure: RigFailure) -> Self {
        Self { failure, left_at: None, is_closed: false }
    }
}

/// When the error page replaced the meeting, by the `state` of an inspection sent at `asked`. The page answered later,
/// so the result may be too early, never too late.
pub fn left_at(asked: Instant, state: &PageState) -> Option<Instant> {
    let since = Duration::try_from_secs_f64(state.error.as_ref()?.since_ms? / 1e3).ok()?;
    asked.checked_sub(since)
}

/// Crash events of all pages, with status and code.
pub type Crashes = EventStream<target::EventTargetCrashed>;

/// Chrome's reason where the process of a page has ended, by itself or not.
const PROCESS_GONE: &str = "Render process gone.";

/// Waits until the page crashes or is closed. `log`: the last output of Chrome.
pub async fn monitor_page(
    page: Page,
    reports: Option<Crashes>,
    log: OutputTail,
    ended: watch::Sender<Option<PageEnd>>,
) {
    let crashed = async { page.event_listener::<inspector::EventTargetCrashed>().await.ok()?.next().await };
    let detached = async { page.event_listener::<inspector::EventDetached>().await.ok()?.next().await };
    let mut is_closed = false;
    let (cause, left_at) = tokio::select! {
        Some(_) = crashed => {
            let left_at = Instant::now().checked_sub(CRASH_PAGE);
            let crash = crash_report(&page, reports).await;
            (crash_cause(crash.as_ref().map(|crash| (crash.status.as_str(), crash.error_code)), &log.lines()), left_at)
        }
        event = detached => (match event {
            Some(event) if event.reason != "target_closed" => {
                // Also a page that has closed itself may leave so, if its process ended before Chrome told of its end.
                is_closed = event.reason == PROCESS_GONE && crash_report(&page, reports).await.is_none();
                format!("the meeting page was lost ({})", event.reason)
            }
            _ => {
                is_closed = true;
                "the meeting page was closed".to_owned()
            }
        }, None),
    };
    report_end(&ended, PageEnd { failure: RigFailure::of(cause), left_at, is_closed });
}

/// Chrome's report of this page's crash, which may already have arrived.
async fn crash_report(page: &Page, reports: Option<Crashes>) -> Option<target::EventTargetCrashed> {
    let mut ours = reports?.filter(|crash| std::future::ready(crash.target_id == *page.target_id()));
    let crash = tokio::time::timeout(CRASH_LIMIT, ours.next()).await.ok()??;
    Some((*crash).clone())
}

/// Reports the first end only: an error page may be closed afterwards.
pub(super) fn report_end(ended: &watch::Sender<Option<PageEnd>>, end: PageEnd) {
    ended.send_if_modified(|ended| {
        let is_first = ended.is_none();
        ended.get_or_insert(end);
        is_first
    });
}

/// Inspects the page once a second until it has left the meeting or has failed. `joined`: its state in the meeting. A
/// dialog that it shows again is joined.
pub async fn monitor_meeting(
    page: Page,
    processes: Option<ProcessTree>,
    joined: PageState,
    ended: watch::Sender<Option<PageEnd>>,
) {
    let began = Instant::now();
    let mut health = PageHealth::begin(Duration::ZERO, &joined);
    let end = loop {
        tokio::time::sleep(if health.is_away() { AWAY_POLL } else { INSPECT_POLL }).await;
        match inspect_until_answered(&page, processes, began, &mut health).await {
            Inspection::Nothing => {}
            Inspection::Join => {
                tracing::warn!(
                    code = %codes::PAGE_RELOADED,
                    "the meeting page was loaded anew and shows its dialog: joining again, in the same part"
                );
                // Where it is lost, so is its document, or the page is given up.
                let _ = evaluate::<()>(&page, page::JOIN, SCRIPT_LIMIT).await;
            }
            Inspection::Returned => {
                tracing::info!("in the meeting again");
                if evaluate::<()>(&page, page::NOTE_DEPARTURE, SCRIPT_LIMIT).await.is_none() {
                    tracing::debug!("the page does not note when it leaves: its error page may be recorded");
                }
            }
            Inspection::End(end) => break end,
        }
    };
    report_end(&ended, end);
}

/// The result of an inspection.
enum Inspection {
    Nothing,
    Join,
    Returned,
    End(PageEnd),
}

/// Inspects the page until it answers or has failed. A late answer counts like one in time.
async fn inspect_until_answered(
    page: &Page,
    processes: Option<ProcessTree>,
    began: Instant,
    health: &mut PageHealth,
) -> Inspection {
    let (asked, state) = match answered(|| inspect(page, page_health::ANSWER_LIMIT), processes, began, health).await {
        Ok(answer) => answer,
        Err(hangs) => return Inspection::End(hangs.into()),
    };
    match health.answer(asked.saturating_duration_since(began), began.elapsed(), &state) {
        PageStep::Nothing => Inspection::Nothing,
        PageStep::Join => Inspection::Join,
        PageStep::Returned => Inspection::Returned,
        PageStep::Left { failure, at } => {
            Inspection::End(PageEnd { failure, left_at: at.map(|at| began + at), is_closed: false })
        }
    }
}

/// Asks the page with `question` until it answers: when it was asked, and the answer. `began`: the zero of `health`'s
/// clock.
///
/// # Errors
/// Where the page or Chrome hangs.
pub(super) async fn answered<T, F: Future<Output = Option<T>>>(
    question: impl Fn() -> F,
    processes: Option<ProcessTree>,
    began: Instant,
    health: &mut PageHealth,
) -> Result<(Instant, T), RigFailure> {
    let ask = || {
        let (asked, answer) = (Instant::now(), question());
        async move { Some((asked, answer.await?)) }
    };
    let mut answers = FuturesUnordered::from_iter([ask()]);
    let mut asked = Instant::now();
    loop {
        tokio::select! {
            biased;
            Some(Some(answer)) = answers.next() => return Ok(answer),
            () = tokio::time::sleep(ACTIVITY_POLL) => {
                let activity = match processes {
                    // Not on this thread: a host may have thousands of processes, and this one is in trouble.
                    Some(tree) => {
                        tokio::task::spawn_blocking(move || ProcessActivity::of(&tree.members())).await.ok().flatten()
                    }
                    None => None,
                };
                if let Some(hangs) = health.no_answer(began.elapsed(), activity) {
                    return Err(hangs);
                }
                if asked.elapsed() >= ASK_AGAIN {
                    asked = Instant::now();
                    answers.push(ask());
                }
            }
        }
    }
}
