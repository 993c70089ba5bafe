//! The steps of the page into the meeting (PROTOCOL 4): pure.

use std::time::Duration;

use crate::capture::browser::page::PageState;
use crate::capture::rig_failure::RigFailure;

/// Time limit for the page to reach the meeting.
pub const JOIN_LIMIT: Duration = Duration::from_secs(30);
/// Time limit for the data of video elements once the page is in the meeting.
pub const VIDEO_LIMIT: Duration = Duration::from_secs(3);

/// No page is loaded again later than this before [`JOIN_LIMIT`]: it would not be ready in time.
const LAST_LOAD: Duration = Duration::from_secs(2);
/// How long an error page is shown before the page is loaded again: one of the network or of a proxy whose server is
/// away; one of a status that some servers give to pages that do work; and a page that lacks a script.
const RELOAD_AFTER: Duration = Duration::from_secs(1);
const RELOAD_CLIENT_ERROR_AFTER: Duration = Duration::from_secs(5);
const RELOAD_INCOMPLETE_AFTER: Duration = Duration::from_secs(10);

/// A page whose button is still enabled so long after a click has not taken it: its script was not there yet.
const CLICK_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// The next step towards the meeting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinStep {
    Wait,
    /// The page could not be loaded, for this reason: load it again.
    Load(String),
    Join,
    /// The meeting is shown and can be recorded.
    Ready,
    /// Joining has failed.
    Fail(RigFailure),
}

/// Decides the next step. `clicked`: since the join button was last clicked; `waited`: since the navigation; `in_meeting`:
/// since `#main-area` was first seen.
#[must_use]
pub fn join_step(
    state: &PageState,
    clicked: Option<Duration>,
    waited: Duration,
    in_meeting: Option<Duration>,
) -> JoinStep {
    if let Some(page) = &state.error {
        return JoinStep::Fail(RigFailure::by(page));
    }
    if let Some(since) = in_meeting.filter(|_| state.main) {
        return if state.videos || since >= VIDEO_LIMIT { JoinStep::Ready } else { JoinStep::Wait };
    }
    if waited >= JOIN_LIMIT {
        return JoinStep::Fail(RigFailure::of(format_args!(
            "the meeting page was not ready after {} s: {}",
            JOIN_LIMIT.as_secs(),
            missing(state, clicked.is_some())
        )));
    }
    if waited + LAST_LOAD < JOIN_LIMIT
        && let Some(why) = reload(state)
    {
        return JoinStep::Load(why);
    }
    let is_due = clicked.is_none_or(|since| since >= CLICK_AGAIN_AFTER);
    if state.enabled && is_due { JoinStep::Join } else { JoinStep::Wait }
}

/// Why the page is to be loaded again, if it is.
fn reload(state: &PageState) -> Option<String> {
    let age = Duration::try_from_secs_f64(state.age_ms / 1e3).unwrap_or_default();
    if let Some(why) = state.load_error() {
        let client_error = !state.failed && state.status.is_some_and(|status| status < 500);
        let after = if client_error { RELOAD_CLIENT_ERROR_AFTER } else { RELOAD_AFTER };
        return (age >= after).then_some(why);
    }
    let incomplete = incomplete(state).filter(|_| !state.is_client());
    incomplete.filter(|_| age >= RELOAD_INCOMPLETE_AFTER)
}

fn incomplete(state: &PageState) -> Option<String> {
    Some(format!("the server answers HTTP {} for a script of the page", state.script_status?))
}

/// What a page lacks that did not get ready.
fn missing(state: &PageState, clicked: bool) -> String {
    if let Some(why) = state.load_error() {
        return why;
    }
    let missing = if clicked && state.enabled {
        "its join button (#listenOnlyJoin) does nothing"
    } else if clicked {
        "it was joined, but no #main-area appeared"
    } else if state.button {
        "its join button (#listenOnlyJoin) stayed disabled"
    } else if state.dialog {
        "its dialog (#startupJoinModal) has no join button"
    } else {
        "it shows no #startupJoinModal"
    };
    let incomplete = incomplete(state).map(|why| format!(" ({why})")).unwrap_or_default();
    format!("{missing}{incomplete}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::browser::error_page::{ErrorPage, ErrorPageMeaning};

    const SECOND: Duration = Duration::from_secs(1);

    fn state() -> PageState {
        PageState { videos: true, ..PageState::default() }
    }

    fn error(text: &str) -> ErrorPage {
        ErrorPage { text: text.into(), ..ErrorPage::default() }
    }

    #[test]
    fn the_steps_into_a_meeting() {
        let loading = state();
        assert_eq!(join_step(&loading, None, SECOND, None), JoinStep::Wait);
        let disabled = PageState { dialog: true, button: true, ..state() };
        assert_eq!(join_step(&disabled, None, SECOND, None), JoinStep::Wait);
        let enabled = PageState { enabled: true, ..disabled };
        assert_eq!(join_step(&enabled, None, SECOND, None), JoinStep::Join);
        assert_eq!(join_step(&enabled, Some(Duration::ZERO), SECOND, None), JoinStep::Wait);
        assert_eq!(join_step(&enabled, Some(CLICK_AGAIN_AFTER), SECOND, None), JoinStep::Join);
        let connecting = PageState { enabled: false, button: false, ..enabled };
        assert_eq!(join_step(&connecting, Some(CLICK_AGAIN_AFTER), SECOND, None), JoinStep::Wait);
        let meeting = PageState { main: true, ..state() };
        assert_eq!(join_step(&meeting, Some(SECOND), SECOND, Some(Duration::ZERO)), JoinStep::Ready);
    }

    #[test]
    fn videos_without_data_are_waited_for_three_seconds_at_the_most() {
        let meeting = PageState { main: true, videos: false, ..state() };
        assert_eq!(join_step(&meeting, Some(SECOND), SECOND, Some(SECOND)), JoinStep::Wait);
        assert_eq!(join_step(&meeting, Some(SECOND), SECOND, Some(VIDEO_LIMIT)), JoinStep::Ready);
    }

    #[test]
    fn an_error_page_fails_the_join_with_its_text() {
        let refused = PageState { error: Some(error("Session ended\nThe room was closed.")), main: true, ..state() };
        let found =
            RigFailure { cause: "Session ended: The room was closed.".into(), page: Some(ErrorPageMeaning::Unclear) };
        assert_eq!(join_step(&refused, Some(SECOND), SECOND, Some(SECOND)), JoinStep::Fail(found));
    }

    #[test]
    fn the_cause_of_a_timeout_names_what_the_page_lacks() {
        let fail = |state: PageState, clicked| match join_step(&state, clicked, JOIN_LIMIT, None) {
            JoinStep::Fail(RigFailure { cause, page: None }) => cause,
            other => panic!("{other:?}"),
        };
        assert!(fail(state(), None).contains("shows no #startupJoinModal"));
        assert!(fail(PageState { button: true, dialog: true, ..state() }, None).contains("stayed disabled"));
        assert!(fail(state(), Some(SECOND)).contains("no #main-area appeared"));
        let dead = PageState { button: true, enabled: true, dialog: true, ..state() };
        assert!(fail(dead, Some(SECOND)).contains("does nothing"));
        assert!(fail(PageState { failed: true, ..state() }, None).contains("cannot be loaded"));
        let proxy = PageState { status: Some(502), ..state() };
        assert!(fail(proxy, None).ends_with("not ready after 30 s: the server answers HTTP 502"));
        let incomplete = PageState { status: Some(200), script_status: Some(503), ..state() };
        assert!(fail(incomplete, None).contains("no #startupJoinModal (the server answers HTTP 503 for a script"));
    }

    #[test]
    fn an_error_page_of_network_or_server_is_loaded_again_until_the_time_is_over() {
        let aged = |seconds: f64, state: PageState| PageState { age_ms: seconds * 1e3, ..state };
        let step = |state: &PageState, waited| join_step(state, None, Duration::from_secs(waited), None);
        let status = |status| PageState { status: Some(status), ..state() };
        for (age, state, why) in [
            (1.0, PageState { failed: true, ..state() }, "the page cannot be loaded"),
            (1.0, status(502), "the server answers HTTP 502"),
            (5.0, status(404), "the server answers HTTP 404"),
            (10.0, PageState { script_status: Some(502), ..status(200) }, "the server answers HTTP 502 for a script"),
        ] {
            assert_eq!(step(&aged(age - 0.1, state.clone()), 20), JoinStep::Wait, "{why}");
            let state = aged(age, state);
            assert!(matches!(step(&state, 20), JoinStep::Load(found) if found.starts_with(why)), "{why}");
            assert_eq!(step(&state, 28), JoinStep::Wait, "{why}: too late");
            assert!(matches!(step(&state, 30), JoinStep::Fail(found) if found.cause.contains(why)), "{why}");
        }
        assert_eq!(step(&aged(20.0, status(200)), 20), JoinStep::Wait);
        // A page that works is not asked for its status.
        let dialog = PageState { dialog: true, button: true, enabled: true, ..status(404) };
        assert_eq!(step(&aged(20.0, dialog), 20), JoinStep::Join);
    }
}
