//! The DevTools protocol: the connection to a Chrome, and requests to its page, each with a time limit.

use std::path::Path;
use std::time::{Duration, Instant};

use chromiumoxide::Page;
use chromiumoxide::cdp::browser_protocol::inspector;
use chromiumoxide::cdp::browser_protocol::page::NavigateParams;
use chromiumoxide::cdp::js_protocol::runtime::EvaluateParams;
use chromiumoxide::error::CdpError;
use chromiumoxide::handler::HandlerConfig;
use futures::StreamExt as _;
use tokio_util::task::AbortOnDropHandle;

use crate::capture::browser::joining::JOIN_LIMIT;
use crate::capture::browser::page::{self, PageState};

/// Time limit for Chrome's answer to a message.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// Interval of connection attempts to a starting Chrome.
const START_POLL: Duration = Duration::from_millis(100);

/// A connection to Chrome.
pub(super) struct DevtoolsConnection {
    pub browser: chromiumoxide::Browser,
    /// Chrome's first page.
    pub page: Page,
    /// Reads Chrome's messages.
    pub handler: AbortOnDropHandle<()>,
}

/// Repeats [`connect`] until it succeeds: a starting Chrome may replace its first page during the connection.
pub(super) async fn connect_within(limit: Duration, profile: &Path) -> Result<DevtoolsConnection, String> {
    let began = Instant::now();
    let mut why = "it does not say where it listens".to_owned();
    loop {
        match tokio::time::timeout(limit.saturating_sub(began.elapsed()), connect(profile)).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => {
                tracing::debug!(%error, "Chrome cannot be steered yet");
                why = error.to_string();
            }
            Err(_) => return Err(format!("cannot be steered {} s after its start: {why}", limit.as_secs())),
        }
        tokio::time::sleep(START_POLL).await;
    }
}

/// Connects to the Chrome with this profile and to its first page.
async fn connect(profile: &Path) -> Result<DevtoolsConnection, CdpError> {
    let port_file = profile.join("DevToolsActivePort");
    // Chrome writes the file atomically, by renaming: port, newline, path.
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
        // With chromiumoxide's default, Chrome would accept any certificate and send the token to a forged server.
        ignore_https_errors: false,
        ..HandlerConfig::default()
    };
    let (mut browser, mut handler) = chromiumoxide::Browser::connect_with_config(address, config).await?;
    let handler = AbortOnDropHandle::new(tokio::spawn(async move {
        // Errors are messages that chromiumoxide does not know; they are ignored.
        while handler.next().await.is_some() {}
    }));
    browser.fetch_targets().await?;
    let page = loop {
        if let Some(page) = browser.pages().await?.into_iter().next() {
            break page;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    page.execute(inspector::EnableParams::default()).await?;
    Ok(DevtoolsConnection { browser, page, handler })
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
        tracing::warn!(%error, "the meeting page cannot be loaded yet");
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
