//! The steps of the page into the meeting (PROTOCOL 4): pure.

use std::time::Duration;

use crate::capture::browser::page::PageState;
use crate::capture::rig_failure::RigFailure;

/// Time limit for the page to reach the meeting.
pub const JOIN_LIMIT: Duration = Duration::from_secs(30);
/// Time limit for the data of video elements once the page is in the meeting.
pub const VIDEO_LIMIT: Duration = Duration::from_secs(3);

/// The next step towards the meeting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinStep {
    Wait,
    Join,
    /// The meeting is shown and can be recorded.
    Ready,
    /// Joining has failed.
    Fail(RigFailure),
}

/// Decides the next step. `waited`: since the navigation; `in_meeting`: since `#main-area` was first seen.
#[must_use]
pub fn join_step(state: &PageState, joined: bool, waited: Duration, in_meeting: Option<Duration>) -> JoinStep {
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
            missing(state, joined)
        )));
    }
    if state.enabled && !joined { JoinStep::Join } else { JoinStep::Wait }
}

/// What a page lacks that did not get ready.
fn missing(state: &PageState, joined: bool) -> &'static str {
    if state.failed {
        "the page cannot be loaded"
    } else if joined {
        "it was joined, but no #main-area appeared"
    } else if state.button {
        "its join button (#listenOnlyJoin) stayed disabled"
    } else if state.dialog {
        "its dialog (#startupJoinModal) has no join button"
    } else {
        "it shows no #startupJoinModal"
    }
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
        assert_eq!(join_step(&loading, false, SECOND, None), JoinStep::Wait);
        let disabled = PageState { dialog: true, button: true, ..state() };
        assert_eq!(join_step(&disabled, false, SECOND, None), JoinStep::Wait);
        let enabled = PageState { enabled: true, ..disabled };
        assert_eq!(join_step(&enabled, false, SECOND, None), JoinStep::Join);
        assert_eq!(join_step(&enabled, true, SECOND, None), JoinStep::Wait);
        let meeting = PageState { main: true, ..state() };
        assert_eq!(join_step(&meeting, true, SECOND, Some(Duration::ZERO)), JoinStep::Ready);
    }

    #[test]
    fn videos_without_data_are_waited_for_three_seconds_at_the_most() {
        let meeting = PageState { main: true, videos: false, ..state() };
        assert_eq!(join_step(&meeting, true, SECOND, Some(SECOND)), JoinStep::Wait);
        assert_eq!(join_step(&meeting, true, SECOND, Some(VIDEO_LIMIT)), JoinStep::Ready);
    }

    #[test]
    fn an_error_page_fails_the_join_with_its_text() {
        let refused = PageState { error: Some(error("Session ended\nThe room was closed.")), main: true, ..state() };
        let found =
            RigFailure { cause: "Session ended: The room was closed.".into(), page: Some(ErrorPageMeaning::Unclear) };
        assert_eq!(join_step(&refused, true, SECOND, Some(SECOND)), JoinStep::Fail(found));
    }

    #[test]
    fn the_cause_of_a_timeout_names_what_the_page_lacks() {
        let fail = |state: PageState, joined| match join_step(&state, joined, JOIN_LIMIT, None) {
            JoinStep::Fail(RigFailure { cause, page: None }) => cause,
            other => panic!("{other:?}"),
        };
        assert!(fail(state(), false).contains("shows no #startupJoinModal"));
        assert!(fail(PageState { button: true, dialog: true, ..state() }, false).contains("stayed disabled"));
        assert!(fail(state(), true).contains("no #main-area appeared"));
        assert!(fail(PageState { failed: true, ..state() }, false).contains("cannot be loaded"));
    }
}
