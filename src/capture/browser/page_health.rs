//! Whether the page still answers, and still shows the meeting: pure; time is an argument.

use std::time::Duration;

use crate::capture::browser::hang_detector::{HangDetector, ProcessActivity};
use crate::capture::browser::page::PageState;
use crate::capture::rig_failure::RigFailure;

/// A page that has not answered for this long is taken for dead, whatever its processes do. On an overloaded host an
/// answer may take seconds; but a recording of it is worth little by then, and a new start costs few seconds.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// Where nobody has looked for this long, the recorder itself stood still (a container was paused, a machine is beyond
/// its limits): time in which Chrome could not answer either.
const UNWATCHED: Duration = Duration::from_secs(3);
/// A meeting that has not been on the page for this long was left: the page was reloaded or went elsewhere.
const AWAY_LIMIT: Duration = Duration::from_secs(20);

/// Whether a page that is in the meeting still is.
#[derive(Clone, Copy, Debug)]
pub struct PageHealth {
    /// When the page last answered, and when it last showed the meeting; any monotonic clock.
    answered: Duration,
    seen: Duration,
    /// When it was last looked at, with an answer or without.
    looked: Duration,
    vigil: HangDetector,
}

impl PageHealth {
    /// The meeting is on at `now`.
    #[must_use]
    pub fn begin(now: Duration) -> Self {
        Self { answered: now, seen: now, looked: now, vigil: HangDetector::default() }
    }

    /// Takes what the page shows at `now`. Why it is not in the meeting any more.
    pub fn look(&mut self, now: Duration, state: &PageState) -> Option<RigFailure> {
        (self.answered, self.looked) = (now, now);
        self.vigil.answered();
        if let Some(page) = &state.error {
            return Some(RigFailure::by(page));
        }
        if state.main {
            self.seen = now;
        }
        let away = now.saturating_sub(self.seen);
        (away >= AWAY_LIMIT)
            .then(|| RigFailure::of(format_args!("the page left the meeting (no #main-area for {} s)", away.as_secs())))
    }

    /// The page was asked and has not answered by `now`; meanwhile Chrome's processes do this. How it hangs, once that
    /// is clear. To be called every second or more often.
    pub fn wait(&mut self, now: Duration, pulse: Option<ProcessActivity>) -> Option<RigFailure> {
        let since = now.saturating_sub(std::mem::replace(&mut self.looked, now));
        if since >= UNWATCHED {
            self.answered += since;
        }
        let hangs = self.vigil.feel(now, self.answered, pulse).map(RigFailure::of);
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
    fn a_page_that_left_the_meeting_or_fell_silent_is_noticed() {
        let at = Duration::from_secs;
        let meeting = PageState { main: true, ..state() };
        let mut presence = PageHealth::begin(at(0));
        let says = |found: Option<RigFailure>, text| {
            found.is_some_and(|found| found.page.is_none() && found.cause.contains(text))
        };
        assert_eq!(presence.look(at(5), &meeting), None);
        // A short absence is a reconnect, and a late answer an overloaded host.
        assert_eq!(presence.look(at(24), &state()), None);
        assert_eq!(presence.look(at(25), &meeting), None);
        assert!((26..=39).all(|now| presence.wait(at(now), None).is_none()));
        assert_eq!(presence.look(at(39), &meeting), None);
        assert!((40..=53).all(|now| presence.wait(at(now), None).is_none()));
        assert!(says(presence.wait(at(54), None), "has not answered for 15 s"));
        let mut presence = PageHealth::begin(at(0));
        assert!(says(presence.look(at(20), &state()), "left the meeting (no #main-area for 20 s)"));
        let ended = PageState { error: Some(error("Disconnected\nThe meeting has ended.")), ..meeting };
        let over =
            RigFailure { cause: "Disconnected: The meeting has ended.".into(), page: Some(ErrorPageMeaning::Ended) };
        assert_eq!(PageHealth::begin(at(0)).look(at(1), &ended), Some(over));
    }

    #[test]
    fn time_in_which_nobody_looked_does_not_count() {
        let at = Duration::from_secs;
        let mut presence = PageHealth::begin(at(0));
        assert_eq!(presence.wait(at(1), None), None);
        // Paused for an hour.
        assert!((3600..3614).all(|now| presence.wait(at(now), None).is_none()));
        assert!(presence.wait(at(3614), None).is_some());
    }

    #[test]
    fn a_chrome_that_hangs_is_noticed_sooner_than_one_that_is_held_up() {
        let process = |state, ticks| Process { state, ticks, ..Process::default() };
        let noticed = |pulse: &dyn Fn(u64) -> Option<ProcessActivity>| {
            let mut presence = PageHealth::begin(Duration::ZERO);
            (1..).find_map(|s| presence.wait(Duration::from_secs(s), pulse(s)).map(|found| (s, found.page))).unwrap()
        };
        assert_eq!(noticed(&|_| ProcessActivity::of(&[process('T', 9)])), (1, None));
        assert_eq!(noticed(&|_| ProcessActivity::of(&[process('S', 9)])), (4, None));
        assert_eq!(noticed(&|s| ProcessActivity::of(&[process('S', s)])), (ANSWER_LIMIT.as_secs(), None));
    }
}
