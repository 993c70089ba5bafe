//! Whether the page still answers, and still shows the meeting: pure; time is an argument.

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
/// A page that has not shown the meeting for this long has left it: it was reloaded or has navigated away.
const AWAY_LIMIT: Duration = Duration::from_secs(20);

/// Health of a page that has joined the meeting.
#[derive(Clone, Copy, Debug)]
pub struct PageHealth {
    /// When the page last answered, and when it last showed the meeting; any monotonic clock.
    answered: Duration,
    meeting_seen: Duration,
    /// When the page was last checked, with an answer or without.
    checked: Duration,
    hang_detector: HangDetector,
}

impl PageHealth {
    /// The page shows the meeting at `now`.
    #[must_use]
    pub fn begin(now: Duration) -> Self {
        Self { answered: now, meeting_seen: now, checked: now, hang_detector: HangDetector::default() }
    }

    /// The page has answered at `now` with `state`. Returns the cause once it has left the meeting.
    pub fn answer(&mut self, now: Duration, state: &PageState) -> Option<RigFailure> {
        (self.answered, self.checked) = (now, now);
        self.hang_detector.answered();
        if let Some(page) = &state.error {
            return Some(RigFailure::by(page));
        }
        if state.main {
            self.meeting_seen = now;
        }
        let away = now.saturating_sub(self.meeting_seen);
        (away >= AWAY_LIMIT)
            .then(|| RigFailure::of(format_args!("the page left the meeting (no #main-area for {} s)", away.as_secs())))
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

    #[test]
    fn a_page_that_left_the_meeting_or_does_not_answer_is_noticed() {
        let at = Duration::from_secs;
        let meeting = PageState { main: true, ..state() };
        let mut health = PageHealth::begin(at(0));
        let has_cause = |found: Option<RigFailure>, text| {
            found.is_some_and(|found| found.page.is_none() && found.cause.contains(text))
        };
        assert_eq!(health.answer(at(5), &meeting), None);
        // A short absence is a reconnect; a late answer comes from an overloaded host.
        assert_eq!(health.answer(at(24), &state()), None);
        assert_eq!(health.answer(at(25), &meeting), None);
        assert!((26..=39).all(|now| health.no_answer(at(now), None).is_none()));
        assert_eq!(health.answer(at(39), &meeting), None);
        assert!((40..=53).all(|now| health.no_answer(at(now), None).is_none()));
        assert!(has_cause(health.no_answer(at(54), None), "has not answered for 15 s"));
        let mut health = PageHealth::begin(at(0));
        assert!(has_cause(health.answer(at(20), &state()), "left the meeting (no #main-area for 20 s)"));
        let ended = PageState { error: Some(error("Disconnected\nThe meeting has ended.")), ..meeting };
        let over =
            RigFailure { cause: "Disconnected: The meeting has ended.".into(), page: Some(ErrorPageMeaning::Ended) };
        assert_eq!(PageHealth::begin(at(0)).answer(at(1), &ended), Some(over));
    }

    #[test]
    fn time_without_checks_does_not_count() {
        let at = Duration::from_secs;
        let mut health = PageHealth::begin(at(0));
        assert_eq!(health.no_answer(at(1), None), None);
        // The recorder was paused for an hour.
        assert!((3600..3614).all(|now| health.no_answer(at(now), None).is_none()));
        assert!(health.no_answer(at(3614), None).is_some());
    }

    #[test]
    fn a_hanging_chrome_is_noticed_sooner_than_a_slow_one() {
        let process = |state, ticks| Process { state, ticks, ..Process::default() };
        let noticed = |activity: &dyn Fn(u64) -> Option<ProcessActivity>| {
            let mut health = PageHealth::begin(Duration::ZERO);
            (1..)
                .find_map(|s| health.no_answer(Duration::from_secs(s), activity(s)).map(|found| (s, found.page)))
                .unwrap()
        };
        assert_eq!(noticed(&|_| ProcessActivity::of(&[process('T', 9)])), (1, None));
        assert_eq!(noticed(&|_| ProcessActivity::of(&[process('S', 9)])), (4, None));
        assert_eq!(noticed(&|s| ProcessActivity::of(&[process('S', s)])), (ANSWER_LIMIT.as_secs(), None));
    }
}
