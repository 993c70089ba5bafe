//! A visit to any page, which is no meeting: opened with cookies and headers, made ready by clicks, and watched until it
//! is closed, or an element is gone.
//!
//! The decisions and scripts are in [`crate::capture::browser::visit_step`].

use std::time::{Duration, Instant};

use chromiumoxide::Page;
use chromiumoxide::cdp::browser_protocol::input::{DispatchMouseEventParams, DispatchMouseEventType, MouseButton};
use chromiumoxide::cdp::browser_protocol::network::{
    CookieParam, Headers, SetCookiesParams, SetExtraHttpHeadersParams,
};
use chromiumoxide::cdp::browser_protocol::page::{NavigateParams, ResetNavigationHistoryParams};
use chromiumoxide::error::CdpError;
use tokio::sync::watch;

use crate::capture::browser::devtools::evaluate;
use crate::capture::browser::error_page::ErrorPageMeaning;
use crate::capture::browser::page::{PAINTED, PageState};
use crate::capture::browser::page_health::{ANSWER_LIMIT, PageHealth};
use crate::capture::browser::page_monitor::{PageEnd, answered, report_end};
use crate::capture::browser::visit_step::{
    ElementFailure, ElementState, ElementStep, ElementUse, LOADING, LoadState, LoadStep, bring_into_view, element_step,
    load_failure, load_step, look,
};
use crate::capture::rig_failure::RigFailure;
use crate::process::tree::ProcessTree;

/// Interval of looks at a page that loads, or for an element.
const POLL: Duration = Duration::from_millis(100);
/// Interval of looks at the page while it is recorded.
const WATCH_POLL: Duration = Duration::from_millis(250);
/// Time limit for a script in the page.
const SCRIPT_LIMIT: Duration = Duration::from_secs(5);
/// Time limit for the page to say that it has painted.
const PAINT_LIMIT: Duration = Duration::from_millis(500);

/// What is done on a page before it is recorded, and what ends its recording.
#[derive(Clone, Debug, Default)]
pub struct PageVisit {
    /// Names and values of cookies for the page's host: secrets.
    pub cookies: Vec<(String, String)>,
    /// Names and values of HTTP headers, which are sent with every request of the page: secrets.
    pub headers: Vec<(String, String)>,
    /// CSS selectors, clicked in this order; each is waited for.
    pub clicks: Vec<String>,
    /// CSS selector of what must be shown before the recording begins.
    pub wait_for: Option<String>,
    /// The same; when it is shown no more, the recording ends.
    pub until_gone: Option<String>,
}

/// The page was closed, which is the end of its recording.
pub(super) fn closed() -> RigFailure {
    RigFailure { cause: "the page was closed".to_owned(), page: Some(ErrorPageMeaning::Ended) }
}

/// The page cannot be recorded; it is not the host's fault.
fn refused(cause: impl Into<String>) -> RigFailure {
    RigFailure { cause: cause.into(), page: Some(ErrorPageMeaning::Refused) }
}

/// The address without what may be secret: user, query and fragment.
fn shown(url: &str) -> String {
    let Ok(mut url) = url::Url::parse(url) else { return "the page".to_owned() };
    if !matches!(url.scheme(), "http" | "https" | "file") {
        return format!("{}:…", url.scheme());
    }
    // They fail where the kind of address has none.
    let _ = (url.set_username(""), url.set_password(None));
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

/// Opens the page and does what the visit asks for. Returns when it is painted.
pub(super) async fn open(page: &Page, url: &str, visit: &PageVisit) -> Result<(), RigFailure> {
    let begun = Instant::now();
    prepare(page, url, visit).await?;
    load(page, url).await?;
    for selector in &visit.clicks {
        let (x, y) = element(page, "--click", selector, ElementUse::Click).await?;
        let clicked = click(page, x, y).await;
        clicked.map_err(|error| refused(format!("--click {selector:?}: Chrome does not click it: {error}")))?;
    }
    for (option, selector) in [("--wait-for", &visit.wait_for), ("--until-gone", &visit.until_gone)] {
        if let Some(selector) = selector {
            element(page, option, selector, ElementUse::Wait).await?;
        }
    }
    // Chrome lets only a page close itself that nothing was shown before.
    if let Err(error) = page.execute(ResetNavigationHistoryParams::default()).await {
        tracing::debug!(%error, "the page cannot close itself");
    }
    if evaluate::<bool>(page, PAINTED, PAINT_LIMIT).await.is_none() {
        tracing::debug!("the page does not say that it has painted");
    }
    tracing::info!(after_ms = begun.elapsed().as_millis(), "the page is ready");
    Ok(())
}

/// Sets cookies and headers.
async fn prepare(page: &Page, url: &str, visit: &PageVisit) -> Result<(), RigFailure> {
    if !visit.cookies.is_empty() {
        let cookies = visit.cookies.iter().map(|(name, value)| {
            let mut cookie = CookieParam::new(name.as_str(), value.as_str());
            cookie.url = Some(url.to_owned());
            cookie.path = Some("/".to_owned());
            cookie.secure = Some(url.starts_with("https:"));
            cookie
        });
        let set = page.execute(SetCookiesParams::new(cookies.collect::<Vec<_>>())).await;
        set.map_err(|_| refused("--cookie: Chrome does not take one of the cookies; look at names and values"))?;
    }
    if !visit.headers.is_empty() {
        let headers: serde_json::Map<_, _> =
            visit.headers.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
        let set = page.execute(SetExtraHttpHeadersParams::new(Headers::new(headers))).await;
        set.map_err(|_| refused("--header: Chrome does not take one of the headers; look at names and values"))?;
    }
    Ok(())
}

/// Waits until the page has loaded.
async fn load(page: &Page, url: &str) -> Result<(), RigFailure> {
    let (begun, name) = (Instant::now(), shown(url));
    let mut navigation = Box::pin(page.execute(NavigateParams::new(url)));
    let mut answered = false;
    loop {
        let state = tokio::select! {
            biased;
            answer = &mut navigation, if !answered => {
                answered = true;
                match answer.map(|answer| answer.result.error_text) {
                    // Chrome's page of a certificate says more; what it says here depends on its version.
                    Ok(Some(error)) if !error.contains("ERR_CERT") && error != "net::ERR_FAILED" => return Err(refused(load_failure(&error, &name))),
                    // A slow page: its state is looked at.
                    Ok(_) | Err(CdpError::Timeout) => {}
                    Err(error) => return Err(refused(format!("{name} cannot be opened: {error}"))),
                }
                continue;
            }
            state = evaluate::<LoadState>(page, LOADING, SCRIPT_LIMIT) => state.unwrap_or_default(),
        };
        match load_step(&state, &name, url == "about:blank", begun.elapsed()) {
            LoadStep::Ready if answered => return Ok(()),
            LoadStep::Ready | LoadStep::Wait => tokio::time::sleep(POLL).await,
            LoadStep::Fail(why) => return Err(refused(why)),
        }
    }
}

/// Waits for an element; returns its middle in CSS pixels.
async fn element(page: &Page, option: &str, selector: &str, used: ElementUse) -> Result<(f64, f64), RigFailure> {
    let (begun, script) = (Instant::now(), look(selector));
    let mut before = ElementState::default();
    loop {
        let state = evaluate::<ElementState>(page, &script, SCRIPT_LIMIT).await.unwrap_or_default();
        match element_step(state, before, used, begun.elapsed()) {
            ElementStep::Wait => {
                if used == ElementUse::Click && state.shown && !before.shown {
                    // Where that fails, the next look shows it.
                    let _ = evaluate::<()>(page, &bring_into_view(selector), SCRIPT_LIMIT).await;
                }
                before = state;
                tokio::time::sleep(POLL).await;
            }
            ElementStep::Found { x, y } => return Ok((x, y)),
            ElementStep::Fail(failure) => return Err(refused(ElementFailure::cause(failure, option, selector))),
        }
    }
}

/// Clicks as a mouse does, and takes the mouse away, so that nothing is shown as under it.
async fn click(page: &Page, x: f64, y: f64) -> Result<(), CdpError> {
    let mouse = |kind, pressed: bool| {
        let mut event = DispatchMouseEventParams::new(kind, x, y);
        if pressed {
            (event.button, event.click_count) = (Some(MouseButton::Left), Some(1));
        }
        event
    };
    page.execute(mouse(DispatchMouseEventType::MouseMoved, false)).await?;
    page.execute(mouse(DispatchMouseEventType::MousePressed, true)).await?;
    page.execute(mouse(DispatchMouseEventType::MouseReleased, true)).await?;
    page.execute(DispatchMouseEventParams::new(DispatchMouseEventType::MouseMoved, 0.0, 0.0)).await?;
    Ok(())
}

/// Watches the page until it hangs, shows an error page of Chrome, or no longer shows the element.
pub(super) async fn monitor(
    page: Page,
    processes: Option<ProcessTree>,
    until_gone: Option<String>,
    ended: watch::Sender<Option<PageEnd>>,
) {
    let began = Instant::now();
    // A page that is no meeting is well as long as it answers.
    let well = PageState { main: true, ..PageState::default() };
    let mut health = PageHealth::begin(Duration::ZERO, &well);
    let script = until_gone.as_deref().map(look);
    let failure = loop {
        tokio::time::sleep(WATCH_POLL).await;
        let question = || async {
            let load = evaluate::<LoadState>(&page, LOADING, ANSWER_LIMIT).await?;
            let element = match &script {
                Some(script) => Some(evaluate::<ElementState>(&page, script, ANSWER_LIMIT).await?),
                None => None,
            };
            Some((load, element))
        };
        let (load, element) = match answered(question, processes, began, &mut health).await {
            Ok((asked, answer)) => {
                health.answer(asked.saturating_duration_since(began), began.elapsed(), &well);
                answer
            }
            Err(hangs) => break hangs,
        };
        if load.failed {
            let error = load.error.as_deref().unwrap_or("ERR_FAILED");
            break RigFailure::of(load_failure(error, "what the page went to"));
        }
        // A page that loads anew shows nothing for a moment.
        if let (Some(selector), Some(ElementState { shown: false, .. }), "complete") =
            (&until_gone, element, load.ready.as_str())
        {
            let cause = format!("{selector:?} is shown no more");
            break RigFailure { cause, page: Some(ErrorPageMeaning::Ended) };
        }
    };
    report_end(&ended, failure.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_named_without_its_secrets() {
        assert_eq!(shown("https://me:pw@example.org:8443/a?token=1#x"), "https://example.org:8443/a");
        assert_eq!(shown("data:text/html,<p>"), "data:…");
        assert_eq!(shown("no address"), "the page");
    }
}
