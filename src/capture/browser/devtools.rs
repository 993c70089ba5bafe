//! The DevTools protocol: the connection to a Chrome, and requests to its page, each with a time limit.

use std::time::{Duration, Instant};

use chromiumoxide::Page;
use chromiumoxide::cdp::browser_protocol::inspector;
use chromiumoxide::cdp::browser_protocol::page::NavigateParams;
use chromiumoxide::cdp::js_protocol::runtime::EvaluateParams;
use chromiumoxide::error::CdpError;
use chromiumoxide::handler::HandlerConfig;
use futures::StreamExt as _;
use tokio::net::unix::pipe;
use tokio_util::task::AbortOnDropHandle;

use crate::capture::browser::devtools_pipe::DevtoolsPipe;
use crate::capture::browser::joining::JOIN_LIMIT;
use crate::capture::browser::page::{self, PageState};
use crate::codes;

/// Time limit for Chrome's answer to a message.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// Interval of looks for the first page of a starting Chrome.
const START_POLL: Duration = Duration::from_millis(20);
/// Time limit for the first page's answer; then Chrome is asked for its pages again.
const PAGE_LIMIT: Duration = Duration::from_secs(5);

/// A connection to Chrome.
pub(super) struct DevtoolsConnection {
    pub browser: chromiumoxide::Browser,
    /// Chrome's first page.
    pub page: Page,
    /// Reads Chrome's messages.
    pub handler: AbortOnDropHandle<()>,
    /// The way to Chrome.
    pub pipe: DevtoolsPipe,
}

/// Connects to a starting Chrome and to its first page. `requests`: what Chrome reads; `messages`: what it writes.
///
/// # Errors
/// Where that does not succeed within `limit`.
pub(super) async fn connect_within(
    limit: Duration,
    requests: pipe::Sender,
    messages: pipe::Receiver,
) -> Result<DevtoolsConnection, String> {
    let mut why = "it does not answer".to_owned();
    match tokio::time::timeout(limit, connect(requests, messages, &mut why)).await {
        Ok(connected) => connected.map_err(|error| format!("cannot be steered: {error}")),
        Err(_) => Err(format!("cannot be steered {} s after its start: {why}", limit.as_secs())),
    }
}

/// `why`: the last error of what is tried again.
async fn connect(
    requests: pipe::Sender,
    messages: pipe::Receiver,
    why: &mut String,
) -> Result<DevtoolsConnection, CdpError> {
    let pipe = DevtoolsPipe::serve(requests, messages).await?;
    let config = HandlerConfig {
        viewport: None,
        request_timeout: ANSWER_LIMIT,
        // With chromiumoxide's default, Chrome would accept any certificate and send the token to a forged server.
        ignore_https_errors: false,
        ..HandlerConfig::default()
    };
    let (browser, mut handler) = chromiumoxide::Browser::connect_with_config(&pipe.address, config).await?;
    let handler = AbortOnDropHandle::new(tokio::spawn(async move {
        // Errors are messages that chromiumoxide does not know; they are ignored.
        while handler.next().await.is_some() {}
    }));
    // Chrome tells of its pages by itself. `Browser::fetch_targets` would attach to each of them a second time, in a
    // way that takes no requests, and the order of the answers decides which of the two the page's handle uses.
    loop {
        // A starting Chrome may replace its first page.
        match tokio::time::timeout(PAGE_LIMIT, first_page(&browser)).await {
            Ok(Ok(Some(page))) => return Ok(DevtoolsConnection { browser, page, handler, pipe }),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, "Chrome cannot be steered yet");
                *why = error.to_string();
            }
            Err(_) => "its page does not answer".clone_into(why),
        }
        tokio::time::sleep(START_POLL).await;
    }
}

/// Chrome's first page, once it answers. `None`: there is no page yet.
async fn first_page(browser: &chromiumoxide::Browser) -> Result<Option<Page>, CdpError> {
    let Some(page) = browser.pages().await?.into_iter().next() else { return Ok(None) };
    page.execute(inspector::EnableParams::default()).await?;
    Ok(Some(page))
}

/// Repeats the navigation until the page loads or [`JOIN_LIMIT`] is near. Returns the last error, if any.
pub(super) async fn navigate(page: Page, url: String, started: Instant) -> Option<String> {
    while let Err(error) = page
        .execute(NavigateParams::new(url.clone()))
        .await
        .and_then(|answer| answer.result.error_text.map_or(Ok(()), |text| Err(CdpError::ChromeMessage(text))))
    {
        // The page is loading slowly; `inspect` follows its progress.
        if matches!(error, CdpError::Timeout) {
            return None;
        }
        tracing::warn!(code = %codes::PAGE_NOT_LOADED_YET, %error, "the meeting page cannot be loaded yet");
        if started.elapsed() + Duration::from_secs(2) >= JOIN_LIMIT {
            return Some(error.to_string());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    None
}

/// The state of the page. `None` where it does not answer in time or with an error.
pub(super) async fn inspect(page: &Page, limit: Duration) -> Option<PageState> {
    evaluate(page, page::INSPECT, limit).await
}

/// The value of a JavaScript expression in the page. `None` where it does not answer in time or with an error.
pub(super) async fn evaluate<T: serde::de::DeserializeOwned>(
    page: &Page,
    expression: &str,
    limit: Duration,
) -> Option<T> {
    let mut params = EvaluateParams::new(expression);
    params.return_by_value = Some(true);
    params.await_promise = Some(true);
    let answer = tokio::time::timeout(limit, page.execute(params)).await.ok()?.ok()?;
    serde_json::from_value(answer.result.result.value.unwrap_or_default()).ok()
}
