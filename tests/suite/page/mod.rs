//! The node's page: who may see it, what it shows, and what it does when an operator says so.

mod access;
mod standin_page;
mod viewing;

use std::path::PathBuf;
use std::time::Instant;

use chromiumoxide::cdp::browser_protocol::emulation::{
    MediaFeature, SetDeviceMetricsOverrideParams, SetEmulatedMediaParams, SetFocusEmulationEnabledParams,
};
use chromiumoxide::cdp::browser_protocol::page::CaptureScreenshotFormat;
use chromiumoxide::cdp::browser_protocol::page::SetBypassCspParams;
use chromiumoxide::page::ScreenshotParams;
use chromiumoxide::{Browser, BrowserConfig, Page};
use futures::StreamExt as _;
use plugnmeet_recorder::capture::browser::chrome_arguments;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use crate::recorder::SOON;

const TOKEN: &str = "the-page-token-of-this-test";

/// The answer to a request, as it is on the wire.
#[derive(Debug)]
struct Raw {
    status: u16,
    /// In lower case.
    head: String,
    body: Vec<u8>,
}

impl Raw {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The value of a header.
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// Sends a request with these lines of headers, and reads to the end of the connection.
async fn ask(port: u16, method: &str, path: &str, headers: &[&str]) -> Raw {
    let host = headers.iter().any(|line| line.starts_with("Host:"));
    let own = if host { String::new() } else { format!("Host: 127.0.0.1:{port}\r\n") };
    let lines: String = headers.iter().flat_map(|line| [*line, "\r\n"]).collect();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    // The answer may come, and the connection end, before all of it was sent.
    let _ = stream.write_all(format!("{method} {path} HTTP/1.1\r\n{own}{lines}\r\n").as_bytes()).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.expect("no answer");
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_else(|| panic!("no head: {answer:?}"));
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Raw { status, head: head.to_lowercase(), body: answer[end + 4..].to_vec() }
}

/// What the page itself sends with its requests.
fn own(port: u16) -> [String; 2] {
    [format!("Origin: http://127.0.0.1:{port}"), "Sec-Fetch-Site: same-origin".to_owned()]
}

/// `Cookie: …` of a session.
async fn session(port: u16) -> String {
    let [origin, site] = own(port);
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let answer = ask(port, "POST", "/page/login", &[&origin, &site, &bearer]).await;
    assert_eq!(answer.status, 204, "{answer:?}");
    let cookie = answer.header("set-cookie").unwrap_or_else(|| panic!("{answer:?}"));
    format!("Cookie: {}", cookie.split(';').next().unwrap())
}

/// An operator's Chromium.
struct Operator {
    browser: Browser,
    _events: AbortOnDropHandle<()>,
    _profile: TempDir,
}

/// Notes what a page must not do.
const WATCH: &str = "window.faults = [];
    addEventListener('error', (event) => faults.push(String(event.message ?? event.target?.src)));
    addEventListener('unhandledrejection', (event) => faults.push(String(event.reason)));
    addEventListener('securitypolicyviolation', (event) => faults.push(`${event.violatedDirective} ${event.blockedURI}`));";

impl Operator {
    async fn start() -> Self {
        let profile = tempfile::Builder::new().prefix("pnm-test-").tempdir().unwrap();
        let config = BrowserConfig::builder()
            .chrome_executable(chrome_arguments::find_chrome(None).unwrap())
            .user_data_dir(profile.path().join("chrome"))
            .new_headless_mode()
            .no_sandbox()
            .env("TMPDIR", profile.path().to_str().unwrap())
            .args(["--mute-audio", "--disable-dev-shm-usage", "--autoplay-policy=no-user-gesture-required"])
            .viewport(None)
            .window_size(1280, 900)
            .launch_timeout(SOON)
            .request_timeout(SOON)
            .build()
            .unwrap();
        let (browser, mut handler) = Browser::launch(config).await.unwrap();
        let events = tokio::spawn(async move { while handler.next().await.is_some() {} });
        Self { browser, _events: AbortOnDropHandle::new(events), _profile: profile }
    }

    /// The page of the node at this port, in a tab that stays visible: a hidden one looks at nothing.
    async fn open(&self, port: u16) -> Tab {
        let page = self.browser.new_page("about:blank").await.unwrap();
        page.execute(SetFocusEmulationEnabledParams::new(true)).await.unwrap();
        page.evaluate_on_new_document(WATCH).await.unwrap();
        page.goto(format!("http://127.0.0.1:{port}/")).await.unwrap();
        Tab(page)
    }

    async fn close(mut self) {
        let _ = self.browser.close().await;
        let _ = self.browser.wait().await;
    }
}

struct Tab(Page);

impl Tab {
    /// The value of an expression, which may be a promise.
    async fn value(&self, expression: &str) -> Value {
        let result = self.0.evaluate(expression).await.unwrap_or_else(|error| panic!("{expression}: {error}"));
        result.value().cloned().unwrap_or_default()
    }

    /// Waits until the expression is true.
    async fn until(&self, expression: &str) {
        let end = Instant::now() + SOON;
        loop {
            // Between two documents there is nothing to ask.
            let seen = self.0.evaluate(format!("Boolean({expression})")).await.ok();
            if seen.is_some_and(|seen| seen.value() == Some(&Value::Bool(true))) {
                return;
            }
            if Instant::now() > end {
                let shown = self.value("`hidden: ${document.hidden}, connected: ${typeof connected === 'undefined' ? '' : connected}\\n${document.body.innerText}\\n${faults.join()}`").await;
                self.keep("failed").await;
                panic!("never: {expression}\n{}", shown.as_str().unwrap_or_default());
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Clicks a button as somebody at a keyboard does: focus, Enter.
    async fn press(&self, selector: &str) {
        self.until(&format!("document.querySelector({selector:?})?.checkVisibility()")).await;
        let element = self.0.find_element(selector).await.unwrap();
        element.focus().await.unwrap();
        element.press_key("Enter").await.unwrap();
    }

    /// Presses a button and says yes.
    async fn order(&self, selector: &str) {
        self.press(selector).await;
        self.until("document.querySelector('#ask').open").await;
        self.press("#ask-yes").await;
        self.until("!document.querySelector('#ask').open").await;
    }

    /// What it must not have done.
    async fn faults(&self) -> Value {
        self.value("faults").await
    }

    /// Writes a picture of it into the directory `PNM_PICTURES`, if that is set.
    async fn keep(&self, name: &str) {
        let Some(dir) = std::env::var_os("PNM_PICTURES").map(PathBuf::from) else { return };
        let params = ScreenshotParams::builder().format(CaptureScreenshotFormat::Png).full_page(true).build();
        self.0.save_screenshot(params, dir.join(format!("{name}.png"))).await.unwrap();
    }

    /// As wide as a phone, or as before.
    async fn on_phone(&self, phone: bool) {
        let (width, scale) = if phone { (390, 2.0) } else { (1280, 1.0) };
        let params = SetDeviceMetricsOverrideParams::new(width, 844, scale, phone);
        self.0.execute(params).await.unwrap();
    }

    async fn dark(&self, dark: bool) {
        let scheme = MediaFeature::new("prefers-color-scheme", if dark { "dark" } else { "light" });
        self.0.execute(SetEmulatedMediaParams { features: Some(vec![scheme]), media: None }).await.unwrap();
    }

    /// What axe-core finds wrong with what is shown now.
    async fn axe(&self, axe: &str) -> Vec<String> {
        self.0.execute(SetBypassCspParams::new(true)).await.unwrap();
        if self.value("typeof axe").await != "object" {
            self.0.evaluate(format!("{axe}; 0")).await.unwrap();
        }
        let run = "axe.run().then(({ violations }) => violations.map(({ id, help, nodes }) =>
            `${id}: ${help}: ${nodes.map((one) => one.target.join(' ') + ' ' + one.failureSummary).join('; ')}`))";
        let found = self.value(run).await;
        found.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
    }
}
