//! The scripts and decisions of a visit to any page, which is no meeting: pure.

use std::time::Duration;

use serde::Deserialize;

/// Time limit for a page to load.
pub const LOAD_LIMIT: Duration = Duration::from_secs(30);
/// From then on a page is taken as it is where only pictures and the like are still loading: some never end.
const LOAD_ENOUGH: Duration = Duration::from_secs(10);
/// From then on a loaded error page of Chrome is taken as it is where it names no error.
const ERROR_WRITTEN: Duration = Duration::from_secs(3);
/// Time limit for an element that is waited for.
pub const ELEMENT_LIMIT: Duration = Duration::from_secs(30);

/// Reads how far the page has loaded; the result is a [`LoadState`]. Chrome hides the name of a certificate's error.
pub const LOADING: &str = r"({
    failed: location.protocol === 'chrome-error:',
    error: location.protocol === 'chrome-error:'
        ? (document.body?.innerText.match(/ERR_[A-Z_]+/)
            || document.documentElement?.textContent.match(/ERR_CERT_[A-Z_]+/) || [null])[0] : null,
    status: performance.getEntriesByType('navigation')[0]?.responseStatus || null,
    ready: document.readyState,
    blank: location.href === 'about:blank' || location.href === 'data:,',
})";

/// How far a page has loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct LoadState {
    /// Chrome shows its own error page.
    pub failed: bool,
    /// Chrome's name of the error on it (`ERR_NAME_NOT_RESOLVED`).
    pub error: Option<String>,
    /// HTTP status of the document; `None` where there is none.
    pub status: Option<u16>,
    /// `document.readyState`.
    pub ready: String,
    /// Chrome's first page is still shown.
    pub blank: bool,
}

/// What is to be done about a page that loads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadStep {
    Wait,
    Ready,
    /// It cannot be recorded; why, and what to do.
    Fail(String),
}

/// Decides about a page `waited` after its navigation. `url` is only named; `wants_blank`: it is itself an empty page.
#[must_use]
pub fn load_step(state: &LoadState, url: &str, wants_blank: bool, waited: Duration) -> LoadStep {
    if state.failed {
        // Chrome's page of a certificate's error writes its text when it has loaded.
        let is_written = state.ready == "complete" && waited >= ERROR_WRITTEN;
        if state.error.is_none() && !is_written && waited < LOAD_LIMIT {
            return LoadStep::Wait;
        }
        return LoadStep::Fail(load_failure(state.error.as_deref().unwrap_or("ERR_FAILED"), url));
    }
    let shown = !state.blank || wants_blank;
    if let Some(status) = state.status.filter(|status| shown && *status >= 400) {
        return LoadStep::Fail(refusal(status, url));
    }
    let loaded = state.ready == "complete" || (state.ready == "interactive" && waited >= LOAD_ENOUGH);
    if shown && loaded {
        return LoadStep::Ready;
    }
    if waited >= LOAD_LIMIT {
        let limit = LOAD_LIMIT.as_secs();
        return LoadStep::Fail(format!("{url} has not loaded after {limit} s; look whether its server answers"));
    }
    LoadStep::Wait
}

/// What Chrome's name of a network error means, and what to do.
#[must_use]
pub fn load_failure(error: &str, url: &str) -> String {
    let error = error.trim_start_matches("net::");
    let advice = match error {
        "ERR_NAME_NOT_RESOLVED" => "its host name is not known; look for a slip, and whether this machine has DNS",
        "ERR_CONNECTION_REFUSED" => "nothing listens there; look whether the server runs, and at the port",
        "ERR_CONNECTION_TIMED_OUT" | "ERR_TIMED_OUT" | "ERR_ADDRESS_UNREACHABLE" | "ERR_NETWORK_CHANGED" => {
            "its server does not answer; look at the network and at firewalls"
        }
        "ERR_INTERNET_DISCONNECTED" => "this machine has no network",
        "ERR_CERT_AUTHORITY_INVALID" => {
            "nobody that Chrome trusts vouches for its certificate; name the certificate of your CA by --ca-file"
        }
        "ERR_CERT_COMMON_NAME_INVALID" => "its certificate is for another name; use a name that is in the certificate",
        "ERR_CERT_DATE_INVALID" => {
            "its certificate has expired or is not valid yet; compare the clocks of both machines"
        }
        "ERR_FILE_NOT_FOUND" => "there is no such file",
        "ERR_ABORTED" => "it is no page but a download, or it was left before it had loaded",
        "ERR_TOO_MANY_REDIRECTS" => "it redirects for ever; it may need a cookie (--cookie)",
        "ERR_INVALID_URL" => "it is no valid address",
        "ERR_UNSAFE_PORT" => "Chrome refuses this port for web pages",
        other if other.starts_with("ERR_CERT") || other.starts_with("ERR_SSL") => {
            "the TLS connection fails; look at it with `openssl s_client`"
        }
        _ => "try it in a browser on this machine",
    };
    format!("{url} cannot be loaded: {advice} (net::{error})")
}

fn refusal(status: u16, url: &str) -> String {
    let advice = match status {
        401 | 403 | 407 => "; give what it asks for by --cookie or --header",
        404 | 410 => "; look for a slip in the address",
        429 => "; it has been asked too often, try again later",
        500.. => "; look at the server, or try again later",
        _ => "",
    };
    format!("{url} answers HTTP {status}{advice}")
}

/// Looks for the first element of a CSS selector; the result is an [`ElementState`].
#[must_use]
pub fn look(selector: &str) -> String {
    let selector = literal(selector);
    format!(
        "(() => {{
    const state = {{ invalid: false, shown: false, enabled: false, x: 0, y: 0 }};
    let element;
    try {{ element = document.querySelector({selector}); }} catch {{ return {{ ...state, invalid: true }}; }}
    const box = element?.getClientRects()[0];
    if (!box || getComputedStyle(element).visibility !== 'visible') return state;
    const enabled = !element.matches(':disabled');
    return {{ ...state, shown: true, enabled, x: box.x + box.width / 2, y: box.y + box.height / 2 }};
}})()"
    )
}

/// Brings the first element of a CSS selector into view.
#[must_use]
pub fn bring_into_view(selector: &str) -> String {
    let selector = literal(selector);
    format!(
        "document.querySelector({selector})?.scrollIntoView({{ block: 'nearest', inline: 'nearest', behavior: 'instant' }})"
    )
}

/// A text as JavaScript: its JSON is that since ECMAScript 2019.
fn literal(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The first element of a selector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
pub struct ElementState {
    /// The text is no CSS selector.
    pub invalid: bool,
    /// It is there and takes place on the page.
    pub shown: bool,
    /// It is not disabled.
    pub enabled: bool,
    /// Its middle in CSS pixels from the upper left corner of the window.
    pub x: f64,
    pub y: f64,
}

/// What is done with an element once it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementUse {
    /// It is only waited for.
    Wait,
    Click,
}

/// What is to be done about an element that is waited for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ElementStep {
    Wait,
    /// It is there, and its middle at these CSS pixels.
    Found {
        x: f64,
        y: f64,
    },
    Fail(ElementFailure),
}

/// Why an element cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementFailure {
    Invalid,
    Disabled,
    Missing,
}

/// Decides about an element `waited` after the begin of the wait. `before`: its state at the look before; what is to be
/// clicked must stand still.
#[must_use]
pub fn element_step(state: ElementState, before: ElementState, used: ElementUse, waited: Duration) -> ElementStep {
    let rests = state.shown && state.enabled && state == before;
    if state.invalid {
        ElementStep::Fail(ElementFailure::Invalid)
    } else if rests || (used == ElementUse::Wait && state.shown) {
        ElementStep::Found { x: state.x, y: state.y }
    } else if waited < ELEMENT_LIMIT {
        ElementStep::Wait
    } else if state.shown && state.enabled {
        // It moves for ever; where it is now is as good as any other place.
        ElementStep::Found { x: state.x, y: state.y }
    } else if state.shown {
        ElementStep::Fail(ElementFailure::Disabled)
    } else {
        ElementStep::Fail(ElementFailure::Missing)
    }
}

impl ElementFailure {
    /// The cause for the operator. `option`: the command line's name of the selector.
    #[must_use]
    pub fn cause(self, option: &str, selector: &str) -> String {
        let limit = ELEMENT_LIMIT.as_secs();
        match self {
            Self::Invalid => {
                format!("{option} {selector:?} is no CSS selector; try it with document.querySelector in a browser")
            }
            Self::Disabled => format!("the element of {option} {selector:?} stays disabled for {limit} s"),
            Self::Missing => format!(
                "no element of {option} {selector:?} is shown after {limit} s; look for a slip, and whether the page shows it \
                 without a login (elements in frames are not found)"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "https://example.org";

    fn loading(ready: &str) -> LoadState {
        LoadState { ready: ready.into(), status: Some(200), ..LoadState::default() }
    }

    fn step(state: &LoadState, seconds: u64) -> LoadStep {
        load_step(state, URL, false, Duration::from_secs(seconds))
    }

    fn failure(step: LoadStep) -> String {
        match step {
            LoadStep::Fail(why) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_page_is_ready_when_it_has_loaded_or_only_pictures_are_missing() {
        assert_eq!(step(&loading("loading"), 9), LoadStep::Wait);
        assert_eq!(step(&loading("interactive"), 9), LoadStep::Wait);
        assert_eq!(step(&loading("interactive"), 10), LoadStep::Ready);
        assert_eq!(step(&loading("complete"), 0), LoadStep::Ready);
        assert_eq!(step(&loading("loading"), 29), LoadStep::Wait);
        assert!(failure(step(&loading("loading"), 30)).contains("has not loaded after 30 s"));
        let blank = LoadState { blank: true, ..loading("complete") };
        assert_eq!(step(&blank, 5), LoadStep::Wait, "Chrome's first page is not the one that was asked for");
        assert_eq!(load_step(&blank, "about:blank", true, Duration::ZERO), LoadStep::Ready);
    }

    #[test]
    fn a_page_that_cannot_be_recorded_says_why_and_what_to_do() {
        let status = |status| failure(step(&LoadState { status: Some(status), ..loading("complete") }, 0));
        assert_eq!(status(404), "https://example.org answers HTTP 404; look for a slip in the address");
        assert!(status(401).contains("--header") && status(503).contains("HTTP 503; look at the server"));
        let failed = LoadState { failed: true, error: Some("ERR_NAME_NOT_RESOLVED".into()), ..LoadState::default() };
        assert!(failure(step(&failed, 0)).contains("host name is not known"), "at once");
        for (error, wanted) in [
            ("net::ERR_CONNECTION_REFUSED", "nothing listens there"),
            ("ERR_CERT_DATE_INVALID", "expired"),
            ("ERR_CERT_WEAK_KEY", "openssl"),
            ("ERR_SOMETHING", "(net::ERR_SOMETHING)"),
        ] {
            let found = load_failure(error, URL);
            assert!(found.contains(wanted), "{found}");
        }
    }

    #[test]
    fn what_is_clicked_stands_still_and_what_is_waited_for_need_not() {
        let at = |x: f64| ElementState { shown: true, enabled: true, x, ..ElementState::default() };
        let (second, found) = (Duration::from_secs(1), ElementStep::Found { x: 2.0, y: 0.0 });
        assert_eq!(element_step(at(2.0), at(1.0), ElementUse::Click, second), ElementStep::Wait);
        assert_eq!(element_step(at(2.0), at(2.0), ElementUse::Click, second), found);
        assert_eq!(element_step(at(2.0), at(1.0), ElementUse::Click, ELEMENT_LIMIT), found, "it moves for ever");
        assert_eq!(element_step(at(2.0), ElementState::default(), ElementUse::Wait, second), found);
        let disabled = ElementState { enabled: false, ..at(2.0) };
        assert_eq!(element_step(disabled, disabled, ElementUse::Click, second), ElementStep::Wait);
        assert_eq!(element_step(disabled, disabled, ElementUse::Wait, second), found);
        let fail = |state, waited| match element_step(state, state, ElementUse::Click, waited) {
            ElementStep::Fail(failure) => failure.cause("--click", "a > b"),
            other => panic!("{other:?}"),
        };
        assert!(fail(disabled, ELEMENT_LIMIT).contains("stays disabled"));
        assert!(fail(ElementState::default(), ELEMENT_LIMIT).starts_with("no element of --click \"a > b\" is shown"));
        let invalid = ElementState { invalid: true, ..ElementState::default() };
        assert!(fail(invalid, Duration::ZERO).contains("no CSS selector"), "at once");
    }

    #[test]
    fn a_selector_cannot_leave_its_quotes() {
        let script = look("a\"); alert('x') //\n\u{2028}");
        assert!(script.contains(r#"querySelector("a\"); alert('x') //\n"#), "{script}");
    }
}
