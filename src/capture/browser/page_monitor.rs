//! Watches a page for as long as it lives, and is to be in the meeting: what ends first is the cause.

use std::time::{Duration, Instant};

use chromiumoxide::Page;
use chromiumoxide::cdp::browser_protocol::{inspector, target};
use chromiumoxide::listeners::EventStream;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::watch;

use crate::capture::browser::crash::crash_cause;
use crate::capture::browser::devtools::inspect;
use crate::capture::browser::hang_detector::ProcessActivity;
use crate::capture::browser::page::PageState;
use crate::capture::browser::page_health::{self, PageHealth};
use crate::capture::rig_failure::RigFailure;
use crate::process::child::OutputTail;
use crate::process::tree::ProcessTree;

/// How long after its answer the page is looked at again.
const WATCH_POLL: Duration = Duration::from_secs(1);
/// How often Chrome's processes are looked at while the page owes an answer…
const PULSE_POLL: Duration = Duration::from_millis(500);
/// …and after how long it is asked again: a question may get lost where the page is exchanged for another.
const ASK_AGAIN: Duration = Duration::from_millis(1500);

/// How long after a crash Chrome may take to say what of: it tells the page first, and then everybody.
const CRASH_LIMIT: Duration = Duration::from_millis(500);

/// How a page ended, or that it left the meeting.
#[derive(Clone, Debug)]
pub struct PageEnd {
    pub found: RigFailure,
    /// When the error page took the meeting's place, where it did: at the latest then.
    pub left_at: Option<Instant>,
}

impl From<RigFailure> for PageEnd {
    fn from(found: RigFailure) -> Self {
        Self { found, left_at: None }
    }
}

/// When the error page took the meeting's place, as a page says that was asked at this time. (It looked a moment later, and
/// so may have left a moment later: what is cut off is never too little.)
pub fn left_at(asked: Instant, state: &PageState) -> Option<Instant> {
    let since = Duration::try_from_secs_f64(state.error.as_ref()?.since_ms? / 1e3).ok()?;
    asked.checked_sub(since)
}

/// Crashes of all pages, with what each died of.
pub type Crashes = EventStream<target::EventTargetCrashed>;

/// Waits for the page to crash or to be closed. `log`: what Chrome has said last.
pub async fn watch_life(page: Page, reports: Option<Crashes>, log: OutputTail, found: watch::Sender<Option<PageEnd>>) {
    let crashed = async {
        match page.event_listener::<inspector::EventTargetCrashed>().await {
            Ok(mut events) => events.next().await.is_some(),
            Err(_) => false,
        }
    };
    let detached = async {
        match page.event_listener::<inspector::EventDetached>().await {
            Ok(mut events) => events.next().await.map(|event| event.reason.clone()),
            Err(_) => None,
        }
    };
    let cause = tokio::select! {
        true = crashed => {
            let crash = died_of(&page, reports).await;
            crash_cause(crash.as_ref().map(|crash| (crash.status.as_str(), crash.error_code)), &log.lines())
        }
        reason = detached => match reason.as_deref() {
            Some(reason) if reason != "target_closed" => format!("the meeting page was lost ({reason})"),
            _ => "the meeting page was closed".to_owned(),
        },
    };
    tell(&found, RigFailure::of(cause).into());
}

/// What Chrome says of this page's crash, which it may have said already.
async fn died_of(page: &Page, reports: Option<Crashes>) -> Option<target::EventTargetCrashed> {
    let mut reports = reports?;
    let ours = async {
        while let Some(crash) = reports.next().await {
            if crash.target_id == *page.target_id() {
                return Some((*crash).clone());
            }
        }
        None
    };
    tokio::time::timeout(CRASH_LIMIT, ours).await.ok().flatten()
}

/// What was found first is the cause: an error page may be closed as well.
fn tell(found: &watch::Sender<Option<PageEnd>>, news: PageEnd) {
    found.send_if_modified(|found| {
        let is_first = found.is_none();
        found.get_or_insert(news);
        is_first
    });
}

/// Looks at the page once a second for as long as it is in the meeting.
pub async fn watch_meeting(page: Page, family: Option<ProcessTree>, found: watch::Sender<Option<PageEnd>>) {
    let began = Instant::now();
    let mut presence = PageHealth::begin(Duration::ZERO);
    let left = loop {
        tokio::time::sleep(WATCH_POLL).await;
        if let Some(left) = look(&page, family, began, &mut presence).await {
            break left;
        }
    };
    tell(&found, left);
}

/// Asks the page until it answers, or it is clear that it will not. A late answer counts as well as one in time.
async fn look(page: &Page, family: Option<ProcessTree>, began: Instant, presence: &mut PageHealth) -> Option<PageEnd> {
    let ask = || {
        let asked = Instant::now();
        async move { Some((asked, inspect(page, page_health::ANSWER_LIMIT).await?)) }
    };
    let mut answers = FuturesUnordered::from_iter([ask()]);
    let mut asked = Instant::now();
    loop {
        tokio::select! {
            biased;
            Some(Some((asked, state))) = answers.next() => {
                let found = presence.look(began.elapsed(), &state)?;
                return Some(PageEnd { found, left_at: left_at(asked, &state) });
            }
            () = tokio::time::sleep(PULSE_POLL) => {
                let pulse = match family {
                    // A host may have thousands of processes, and this one is in trouble.
                    Some(family) => tokio::task::spawn_blocking(move || ProcessActivity::of(&family.members())).await.ok().flatten(),
                    None => None,
                };
                if let Some(hangs) = presence.wait(began.elapsed(), pulse) {
                    return Some(hangs.into());
                }
                if asked.elapsed() >= ASK_AGAIN {
                    asked = Instant::now();
                    answers.push(ask());
                }
            }
        }
    }
}
