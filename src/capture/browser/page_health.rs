//! Whether the page still answers, and still shows the meeting: pure; time is an argument.
//!
//! A page may load itself anew in the middle of a meeting, as after an update of the client. It then shows its dialog
//! and is joined at once, in the same recording. Only a page that does not come back to the meeting has left it.

use std::time::Duration;

use crate::capture::browser::hang_detector::{HangDetector, ProcessActivity};
use crate::capture::browser::page::PageState;
use crate::capture::rig_failure::RigFailure;

/// A page that has not answered for this long has failed, whatever its processes do. On an overloaded host an answer
/// may take seconds; but after this time a restart costs less than is lost.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// If the recorder itself has not run for this long (paused container, overloaded machine), Chrome could not answer
/// either, and the time does not count.
const UNWATCHED: Duration = Duration::from_secs(3);
/// A page that has not shown the meeting for this long has left it.
const AWAY_LIMIT: Duration = Duration::from_secs(20);
/// The same where it shows something else that will not become the meeting: another site, or an error page of Chrome, a
/// server or a proxy. A redirect takes less.
const ELSEWHERE_LIMIT: Duration = Duration::from_secs(3);

/// What is to be done about the page.
#[derive(Clone, Debug, PartialEq)]
pub enum PageStep {
    Nothing,
    /// It shows its dialog: join.
    Join,
    /// The meeting is back, perhaps in another document.
    Returned,
    /// It has left the meeting, `at` this time where that is known: perhaps a moment too early, never too late.
    Left {
        failure: RigFailure,
        at: Option<Duration>,
    },
}

/// Health of a page that has joined the meeting.
#[derive(Clone, Debug)]
pub struct PageHealth {
    /// When the page last answered, and when it last answered that it shows the meeting; any monotonic clock.
    answered: Duration,
    meeting_seen: Duration,
    /// When it was asked that; it was in the meeting then, or later.
    meeting_asked: Duration,
    /// When the page was last checked, with an answer or without.
    checked: Duration,
    hang_detector: HangDetector,
    /// Document and site of the meeting.
    document: String,
    origin: String,
    /// When another document took the meeting's place, if one has.
    replaced: Option<Duration>,
    /// The document whose dialog was joined since the meeting was last seen.
    joined: Option<String>,
}

impl PageHealth {
    /// The page shows the meeting at `now`, in this `state`.
    #[must_use]
    pub fn begin(now: Duration, state: &PageState) -> Self {
        Self {
            answered: now,
            meeting_seen: now,
            meeting_asked: now,
            checked: now,
            hang_detector: HangDetector::default(),
            document: state.document.clone(),
            origin: state.origin.clone(),
            replaced: None,
            joined: None,
        }
    }

    /// Whether the latest answer did not show the meeting.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.meeting_seen < self.answered
    }

    /// The page has answered at `now` with `state`, of which it was asked at `asked`.
    pub fn answer(&mut self, asked: Duration, now: Duration, state: &PageState) -> PageStep {
        (self.answered, self.checked) = (now, now);
        self.hang_detector.answered();
        let is_new = state.document != self.document;
        if is_new && self.replaced.is_none() {
            let age = Duration::try_from_secs_f64(state.age_ms / 1e3).unwrap_or_default();
            self.replaced = Some(asked.saturating_sub(age).max(self.meeting_asked));
        }
        if let Some(page) = &state.error {
            let shown = page.since_ms.and_then(|since| Duration::try_from_secs_f64(since / 1e3).ok());
            let at = self.replaced.or_else(|| asked.checked_sub(shown?));
            return PageStep::Left { failure: RigFailure::by(page), at };
        }
        if state.main {
            (self.meeting_seen, self.meeting_asked) = (now, asked);
            let returned = is_new || self.joined.is_some();
            (self.replaced, self.joined) = (None, None);
            self.document.clone_from(&state.document);
            self.origin.clone_from(&state.origin);
            return if returned { PageStep::Returned } else { PageStep::Nothing };
        }
        let away = now.saturating_sub(self.meeting_seen);
        if let Some(cause) = self.lost(state, away) {
            return PageStep::Left { failure: RigFailure::left(cause), at: self.replaced };
        }
        if state.enabled && self.joined.as_ref() != Some(&state.document) {
            self.joined = Some(state.document.clone());
            return PageStep::Join;
        }
        PageStep::Nothing
    }

    /// Why a page that has not shown the meeting for `away` is given up, if it is.
    fn lost(&self, state: &PageState, away: Duration) -> Option<String> {
        if away >= AWAY_LIMIT {
            return Some(format!("no #main-area for {} s", away.as_secs()));
        }
        if away < ELSEWHERE_LIMIT || state.is_client() {
            return None;
        }
        state.load_error().or_else(|| (state.origin != self.origin).then(|| "it has gone to another site".to_owned()))
    }

    /// The page has not answered by `now`; `activity`: what Chrome's processes do. Returns the cause once the page or
    /// Chrome hangs. Must be called at least every second while an answer is missing.
    pub fn no_answer(&mut self, now: Duration, activity: Option<ProcessActivity>) -> Option<RigFailure> {
        let since = now.saturating_sub(std::mem::replace(&mut self.checked, now));
        if since >= UNWATCHED {
            self.answered += since;
        }
        let hangs = self.hang_detector.observe(now, self.answered, activity).map(RigFailure::of);
        let silent = now.saturating_sub(self.answered);
        let is_dead = || RigFailure::of(format_args!("the meeting page has not answered for {} s", silent.as_secs()));
        hangs.or_else(|| (silent >= ANSWER_LIMIT).then(is_dead))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::browser::error_page::{ErrorPage, ErrorPageMeaning};
    use crate::process::procfs::Process;

    fn state() -> PageState {
        PageState { videos: true, ..PageState::default() }
    }

    fn error(text: &str) -> ErrorPage {
        ErrorPage { text: text.into(), ..ErrorPage::default() }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn meeting() -> PageState {
        PageState { main: true, document: "1".into(), origin: "https://meet".into(), ..state() }
    }

    fn health() -> PageHealth {
        PageHealth::begin(at(0), &meeting())
    }

    /// What another document shows, which began to load so many milliseconds ago.
    fn reloaded(age_ms: f64) -> PageState {
        PageState { main: false, document: "2".into(), age_ms, ..meeting() }
    }

    /// An answer at once.
    fn answer(health: &mut PageHealth, now: Duration, state: &PageState) -> PageStep {
        health.answer(now, now, state)
    }

    fn left(step: PageStep) -> (String, Option<ErrorPageMeaning>, Option<Duration>) {
        match step {
            PageStep::Left { failure, at } => (failure.cause, failure.page, at),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_page_that_left_the_meeting_or_does_not_answer_is_noticed() {
        let gone = PageState { main: false, ..meeting() };
        let mut health = health();
        assert_eq!(answer(&mut health, at(5), &meeting()), PageStep::Nothing);
        // A short absence is a reconnect; a late answer comes from an overloaded host.
        assert_eq!(answer(&mut health, at(24), &gone), PageStep::Nothing);
        assert!(health.is_away());
        assert_eq!(answer(&mut health, at(25), &meeting()), PageStep::Nothing);
        assert!(!health.is_away());
        assert!((26..=39).all(|now| health.no_answer(at(now), None).is_none()));
        assert_eq!(answer(&mut health, at(39), &meeting()), PageStep::Nothing);
        assert!((40..=53).all(|now| health.no_answer(at(now), None).is_none()));
        let hangs = health.no_answer(at(54), None).unwrap();
        assert!(hangs.page.is_none() && hangs.cause.contains("has not answered for 15 s"), "{hangs:?}");
        let (cause, page, cut) = left(answer(&mut self::health(), at(20), &gone));
        assert_eq!(cause, "the page left the meeting (no #main-area for 20 s)");
        // Whether it has ended is asked of the server. The same document may still show something of the meeting.
        assert_eq!((page, cut), (Some(ErrorPageMeaning::Unclear), None));
        let error = ErrorPage { since_ms: Some(700.0), ..error("Disconnected\nThe meeting has ended.") };
        let ended = PageState { error: Some(error), ..meeting() };
        let over = ("Disconnected: The meeting has ended.".into(), Some(ErrorPageMeaning::Ended));
        let (cause, page, cut) = left(answer(&mut self::health(), at(1), &ended));
        assert_eq!(((cause, page), cut), (over, Some(Duration::from_millis(300))));
    }

    #[test]
    fn a_page_that_loads_itself_anew_is_joined_at_once_and_once() {
        let mut health = health();
        assert_eq!(answer(&mut health, at(5), &meeting()), PageStep::Nothing);
        let loading = reloaded(100.0);
        let dialog = PageState { dialog: true, button: true, ..reloaded(500.0) };
        let ready = PageState { enabled: true, ..dialog.clone() };
        assert_eq!(answer(&mut health, at(6), &loading), PageStep::Nothing);
        assert_eq!(answer(&mut health, at(6), &dialog), PageStep::Nothing);
        assert_eq!(answer(&mut health, at(7), &ready), PageStep::Join);
        assert_eq!(answer(&mut health, at(7), &ready), PageStep::Nothing);
        let back = PageState { document: "2".into(), ..meeting() };
        assert_eq!(answer(&mut health, at(8), &back), PageStep::Returned);
        assert_eq!(answer(&mut health, at(9), &back), PageStep::Nothing);
        // The dialog is back in the same document, and then in another one before it was joined.
        assert_eq!(answer(&mut health, at(20), &ready), PageStep::Join);
        assert_eq!(answer(&mut health, at(21), &PageState { document: "3".into(), ..ready.clone() }), PageStep::Join);
        // It is of no use.
        let (_, page, gone) =
            left(answer(&mut health, at(29), &PageState { document: "3".into(), age_ms: 19e3, ..ready.clone() }));
        assert_eq!((page, gone), (Some(ErrorPageMeaning::Unclear), Some(Duration::from_millis(20_500))));
    }

    #[test]
    fn a_page_that_is_elsewhere_is_given_up_soon_and_what_it_showed_instead_is_cut_off() {
        for (state, cause) in [
            (PageState { origin: "null".into(), ..reloaded(1e3) }, "it has gone to another site"),
            (PageState { origin: "https://elsewhere".into(), ..reloaded(1e3) }, "it has gone to another site"),
            (PageState { status: Some(502), ..reloaded(1e3) }, "the server answers HTTP 502"),
            (PageState { failed: true, origin: "null".into(), ..reloaded(1e3) }, "the page cannot be loaded"),
        ] {
            let mut health = health();
            answer(&mut health, at(10), &meeting());
            assert_eq!(answer(&mut health, at(12), &state), PageStep::Nothing, "{cause}");
            let (found, page, gone) = left(answer(&mut health, at(13), &PageState { age_ms: 2e3, ..state.clone() }));
            assert_eq!(found, format!("the page left the meeting ({cause})"));
            assert_eq!((page, gone), (Some(ErrorPageMeaning::Unclear), Some(at(11))));
            // Never before it was last asked and showed the meeting, however late it answered.
            let mut health = self::health();
            health.answer(at(9), at(10), &meeting());
            let (.., gone) = left(answer(&mut health, at(13), &PageState { age_ms: 9e3, ..state }));
            assert_eq!(gone, Some(at(9)));
        }
        // A redirect to another site of the same meeting.
        let mut health = health();
        let moved = PageState { origin: "https://other".into(), dialog: true, enabled: true, ..reloaded(2e3) };
        assert_eq!(answer(&mut health, at(5), &moved), PageStep::Join);
        assert_eq!(answer(&mut health, at(6), &PageState { main: true, ..moved }), PageStep::Returned);
    }

    #[test]
    fn the_error_page_of_a_reload_with_a_token_of_long_ago_is_cut_off_from_its_beginning() {
        let mut health = health();
        answer(&mut health, at(700), &meeting());
        let expired =
            PageState { error: Some(error("Verification Failed!\nYour session has expired")), ..reloaded(400.0) };
        let (_, page, gone) = left(answer(&mut health, at(701), &expired));
        assert_eq!((page, gone), (Some(ErrorPageMeaning::Unclear), Some(Duration::from_millis(700_600))));
    }

    #[test]
    fn time_without_checks_does_not_count() {
        let mut health = health();
        assert_eq!(health.no_answer(at(1), None), None);
        // The recorder was paused for an hour.
        assert!((3600..3614).all(|now| health.no_answer(at(now), None).is_none()));
        assert!(health.no_answer(at(3614), None).is_some());
    }

    #[test]
    fn a_hanging_chrome_is_noticed_sooner_than_a_slow_one() {
        let process = |state, ticks| Process { state, ticks, ..Process::default() };
        let noticed = |activity: &dyn Fn(u64) -> Option<ProcessActivity>| {
            let mut health = health();
            (1..)
                .find_map(|s| health.no_answer(Duration::from_secs(s), activity(s)).map(|found| (s, found.page)))
                .unwrap()
        };
        assert_eq!(noticed(&|_| ProcessActivity::of(&[process('T', 9)])), (1, None));
        assert_eq!(noticed(&|_| ProcessActivity::of(&[process('S', 9)])), (4, None));
        assert_eq!(noticed(&|s| ProcessActivity::of(&[process('S', s)])), (ANSWER_LIMIT.as_secs(), None));
    }
}
