//! The state of the meeting page, and the scripts that the recorder runs in it (PROTOCOL 4): pure.

use serde::Deserialize;

use crate::capture::browser::error_page::ErrorPage;

/// Reads the whole state of the page; the result is a [`PageState`].
pub const INSPECT: &str = r"(() => {
    const find = (selector) => document.querySelector(selector);
    const error = find('div#errorPage');
    const button = find('button#listenOnlyJoin');
    const left = document[Symbol.for('plugnmeet-recorder')]?.left ?? null;
    const entries = (type) => performance.getEntriesByType(type);
    const script = entries('resource').find((entry) => entry.initiatorType === 'script' && entry.responseStatus >= 500);
    return {
        failed: location.protocol === 'chrome-error:',
        status: entries('navigation')[0]?.responseStatus || null,
        script_status: script?.responseStatus ?? null,
        origin: location.origin,
        document: String(performance.timeOrigin),
        age_ms: performance.now(),
        error: error && {
            text: error.innerText,
            asks: error.querySelector('input') !== null,
            since_ms: left === null ? null : performance.now() - left,
        },
        dialog: find('div#startupJoinModal') !== null,
        button: button !== null,
        enabled: button !== null && !button.disabled,
        main: find('div#main-area') !== null,
        videos: [...document.querySelectorAll('video')].every((video) => video.readyState >= 2),
    };
})()";

/// Makes the page note when its error page replaced the meeting, to the millisecond: [`INSPECT`] runs once a second,
/// and the error page is recorded until then. The note is stored under a symbol that the page's own code does not use.
pub const NOTE_DEPARTURE: &str = r"(() => {
    const key = Symbol.for('plugnmeet-recorder');
    if (document[key]) return;
    const note = document[key] = { left: null, gone: null };
    const shown = (id) => document.getElementById(id) !== null;
    new MutationObserver(() => {
        note.gone = shown('main-area') ? null : note.gone ?? performance.now();
        note.left = shown('errorPage') ? note.left ?? note.gone ?? performance.now() : null;
    }).observe(document, { childList: true, subtree: true });
})()";

/// Joins as a listener, without moving the pointer.
pub const JOIN: &str = "document.querySelector('button#listenOnlyJoin').click()";

/// Resolves when the current content of the page has been painted.
pub const PAINTED: &str = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))";

/// The state of the meeting page.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is an element that is there or not")]
pub struct PageState {
    /// Chrome shows its own error page.
    pub failed: bool,
    /// HTTP status of the document; `None` where there is none.
    pub status: Option<u16>,
    /// HTTP status, 500 or more, of a script of the page that could not be loaded.
    pub script_status: Option<u16>,
    /// Scheme, host and port; `null` of a page that has none.
    pub origin: String,
    /// Tells documents apart: when this one began to load, in Unix milliseconds. Empty: the page has not answered.
    pub document: String,
    /// Time since then in milliseconds.
    pub age_ms: f64,
    /// The meeting client's error page.
    pub error: Option<ErrorPage>,
    pub dialog: bool,
    pub button: bool,
    pub enabled: bool,
    pub main: bool,
    /// Every video element has a frame to show.
    pub videos: bool,
}

impl PageState {
    /// Why this is not the meeting's page: Chrome's error page, or that of a server or proxy.
    #[must_use]
    pub fn load_error(&self) -> Option<String> {
        if self.failed {
            return Some("the page cannot be loaded".to_owned());
        }
        let status = self.status.filter(|status| *status >= 400 && !self.is_client())?;
        Some(format!("the server answers HTTP {status}"))
    }

    /// Whether something of the meeting's client is shown.
    #[must_use]
    pub fn is_client(&self) -> bool {
        self.error.is_some() || self.dialog || self.button || self.main
    }
}
