//! What the meeting page shows, and what that means (PROTOCOL 4): pure.

use std::time::Duration;

use serde::Deserialize;

use super::error_page::{ErrorPage, Meaning};
use super::pulse::{Pulse, Vigil};

/// The longest the page may take to reach the meeting.
pub const JOIN_LIMIT: Duration = Duration::from_secs(30);
/// The longest that is waited for the meeting's video elements once the meeting is on.
pub const VIDEO_LIMIT: Duration = Duration::from_secs(3);
/// A page that has not answered for this long is taken for dead, whatever its processes do. On an overloaded host an
/// answer may take seconds; but a recording of it is worth little by then, and a new start costs few seconds.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// Where nobody has looked for this long, the recorder itself stood still (a container was paused, a machine is beyond
/// its limits): time in which Chrome could not answer either.
const UNWATCHED: Duration = Duration::from_secs(3);
/// A meeting that has not been on the page for this long was left: the page was reloaded or went elsewhere.
const AWAY_LIMIT: Duration = Duration::from_secs(20);
/// How Chrome numbers the end of a process that nothing but the kernel or an operator ends so.
const SIGKILL: i64 = 9;
/// The longest cause taken from a page, in characters.
const CAUSE_LIMIT: usize = 300;

/// Asks the page for everything at once; its answer is a [`PageState`].
pub const INSPECT: &str = r"(() => {
    const find = (selector) => document.querySelector(selector);
    const error = find('div#errorPage');
    const button = find('button#listenOnlyJoin');
    const left = document[Symbol.for('plugnmeet-recorder')]?.left ?? null;
    return {
        failed: location.protocol === 'chrome-error:',
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

/// Has the page remember when it left the meeting for its error page, to the millisecond: [`INSPECT`] comes by once a second,
/// and until then the error page is recorded. The note is kept under a symbol, where no code of the page looks.
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

/// Joins, as a listener; the pointer stays where it is.
pub const JOIN: &str = "document.querySelector('button#listenOnlyJoin').click()";

/// Resolves when what the page shows now has been painted.
pub const PAINTED: &str = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))";

/// What the page shows.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is an element that is there or not")]
pub struct PageState {
    /// Chrome shows its own error page.
    pub failed: bool,
    /// The meeting's error page.
    pub error: Option<ErrorPage>,
    pub dialog: bool,
    pub button: bool,
    pub enabled: bool,
    pub main: bool,
    /// Every video element has a frame to show.
    pub videos: bool,
}

/// Why a capture does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Break {
    /// For the operator, and as the cause for the user.
    pub cause: String,
    /// The page shows its error page, which means this. `None`: a part of the capture has failed.
    pub page: Option<Meaning>,
}

impl Break {
    /// The meeting goes on without us.
    pub fn of(cause: impl std::fmt::Display) -> Self {
        Self { cause: cause.to_string(), page: None }
    }

    /// By the error page.
    #[must_use]
    pub fn by(page: &ErrorPage) -> Self {
        Self { cause: page.cause(), page: Some(page.meaning()) }
    }
}

/// What to do next on the way into the meeting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Wait,
    Join,
    /// The meeting is on and can be recorded.
    Ready,
    /// Give up.
    Fail(Break),
}

/// Decides how to go on. `waited`: since the page was asked for; `in_meeting`: since `#main-area` was first seen.
#[must_use]
pub fn step(state: &PageState, joined: bool, waited: Duration, in_meeting: Option<Duration>) -> Step {
    if let Some(page) = &state.error {
        return Step::Fail(Break::by(page));
    }
    if let Some(since) = in_meeting.filter(|_| state.main) {
        return if state.videos || since >= VIDEO_LIMIT { Step::Ready } else { Step::Wait };
    }
    if waited >= JOIN_LIMIT {
        return Step::Fail(Break::of(format_args!(
            "the meeting page was not ready after {} s: {}",
            JOIN_LIMIT.as_secs(),
            missing(state, joined)
        )));
    }
    if state.enabled && !joined { Step::Join } else { Step::Wait }
}

/// What a page that never got ready lacks.
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

/// Whether a page that is in the meeting still is.
#[derive(Clone, Copy, Debug)]
pub struct Presence {
    /// When the page last answered, and when it last showed the meeting; any monotonic clock.
    answered: Duration,
    seen: Duration,
    /// When it was last looked at, with an answer or without.
    looked: Duration,
    vigil: Vigil,
}

impl Presence {
    /// The meeting is on at `now`.
    #[must_use]
    pub fn begin(now: Duration) -> Self {
        Self { answered: now, seen: now, looked: now, vigil: Vigil::default() }
    }

    /// Takes what the page shows at `now`. Why it is not in the meeting any more.
    pub fn look(&mut self, now: Duration, state: &PageState) -> Option<Break> {
        (self.answered, self.looked) = (now, now);
        self.vigil.answered();
        if let Some(page) = &state.error {
            return Some(Break::by(page));
        }
        if state.main {
            self.seen = now;
        }
        let away = now.saturating_sub(self.seen);
        (away >= AWAY_LIMIT)
            .then(|| Break::of(format_args!("the page left the meeting (no #main-area for {} s)", away.as_secs())))
    }

    /// The page was asked and has not answered by `now`; meanwhile Chrome's processes do this. How it hangs, once that
    /// is clear. To be called every second or more often.
    pub fn wait(&mut self, now: Duration, pulse: Option<Pulse>) -> Option<Break> {
        let since = now.saturating_sub(std::mem::replace(&mut self.looked, now));
        if since >= UNWATCHED {
            self.answered += since;
        }
        let hangs = self.vigil.feel(now, self.answered, pulse).map(Break::of);
        let silent = now.saturating_sub(self.answered);
        let is_dead = || Break::of(format_args!("the meeting page has not answered for {} s", silent.as_secs()));
        hangs.or_else(|| (silent >= ANSWER_LIMIT).then(is_dead))
    }
}

/// What a page died of, as far as Chrome tells: the status and number of its process's end (`Target.targetCrashed` of the
/// `DevTools` protocol), and the last lines of Chrome's log, the latest of which that speaks of memory counts.
#[must_use]
pub fn crash_cause(end: Option<(&str, i64)>, last_lines: &[String]) -> String {
    // A line with an address is the page's own, and may hold the token.
    let of_memory = |line: &&String| {
        (line.contains(" OOM ") || line.to_ascii_lowercase().contains("out of memory")) && !line.contains("://")
    };
    if let Some(line) = last_lines.iter().rfind(of_memory) {
        // Before it are process, time and source file, in brackets.
        let said: String =
            line.rsplit_once("] ").map_or(line.as_str(), |(_, said)| said).chars().take(CAUSE_LIMIT).collect();
        return format!("the meeting page crashed: it ran out of memory (Chrome says: {said})");
    }
    match end {
        Some(("killed", SIGKILL)) => {
            "the meeting page crashed: its process was killed (signal 9), as the kernel does where \
             the host or the container runs out of memory (dmesg tells)"
                .to_owned()
        }
        Some((status, code)) => format!("the meeting page crashed ({status}, code {code})"),
        None => "the meeting page crashed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::family::Process;

    const SECOND: Duration = Duration::from_secs(1);

    fn state() -> PageState {
        PageState { videos: true, ..PageState::default() }
    }

    #[test]
    fn the_way_into_a_meeting() {
        let loading = state();
        assert_eq!(step(&loading, false, SECOND, None), Step::Wait);
        let disabled = PageState { dialog: true, button: true, ..state() };
        assert_eq!(step(&disabled, false, SECOND, None), Step::Wait);
        let enabled = PageState { enabled: true, ..disabled };
        assert_eq!(step(&enabled, false, SECOND, None), Step::Join);
        assert_eq!(step(&enabled, true, SECOND, None), Step::Wait);
        let meeting = PageState { main: true, ..state() };
        assert_eq!(step(&meeting, true, SECOND, Some(Duration::ZERO)), Step::Ready);
    }

    #[test]
    fn videos_without_data_are_waited_for_three_seconds_at_the_most() {
        let meeting = PageState { main: true, videos: false, ..state() };
        assert_eq!(step(&meeting, true, SECOND, Some(SECOND)), Step::Wait);
        assert_eq!(step(&meeting, true, SECOND, Some(VIDEO_LIMIT)), Step::Ready);
    }

    fn error(text: &str) -> ErrorPage {
        ErrorPage { text: text.into(), ..ErrorPage::default() }
    }

    #[test]
    fn an_error_page_ends_it_in_its_own_words() {
        let refused = PageState { error: Some(error("Session ended\nThe room was closed.")), main: true, ..state() };
        let found = Break { cause: "Session ended: The room was closed.".into(), page: Some(Meaning::Unclear) };
        assert_eq!(step(&refused, true, SECOND, Some(SECOND)), Step::Fail(found));
    }

    #[test]
    fn a_crash_is_told_with_what_is_known_of_it() {
        let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        let v8 = lines(&[
            "<--- Last few GCs --->",
            "[7:7:1121/210534.757551:ERROR:third_party/blink/renderer/bindings/core/v8/v8_oom.cc:49] V8 javascript OOM (Reached heap limit).",
            "[1121/210535.148050:ERROR:file_io_posix.cc:145] open /sys/x: No such file or directory (2)",
        ]);
        assert_eq!(
            crash_cause(Some(("crashed", 5)), &v8),
            "the meeting page crashed: it ran out of memory (Chrome says: V8 javascript OOM (Reached heap limit).)"
        );
        assert!(crash_cause(None, &lines(&["Out of memory"])).contains("ran out of memory"));
        let of_the_page =
            lines(&["[7:7:ERROR:CONSOLE(1)] out of memory, source: https://host/?access_token=s3cret (1)"]);
        assert!(!crash_cause(None, &of_the_page).contains("s3cret"));
        let killed = crash_cause(Some(("killed", 9)), &v8[2..]);
        assert!(killed.contains("signal 9") && killed.contains("runs out of memory"), "{killed}");
        assert_eq!(crash_cause(Some(("crashed", 11)), &[]), "the meeting page crashed (crashed, code 11)");
        assert_eq!(crash_cause(None, &[]), "the meeting page crashed");
    }

    #[test]
    fn a_page_that_left_the_meeting_or_fell_silent_is_noticed() {
        let at = Duration::from_secs;
        let meeting = PageState { main: true, ..state() };
        let mut presence = Presence::begin(at(0));
        let says =
            |found: Option<Break>, text| found.is_some_and(|found| found.page.is_none() && found.cause.contains(text));
        assert_eq!(presence.look(at(5), &meeting), None);
        // A short absence is a reconnect, and a late answer an overloaded host.
        assert_eq!(presence.look(at(24), &state()), None);
        assert_eq!(presence.look(at(25), &meeting), None);
        assert!((26..=39).all(|now| presence.wait(at(now), None).is_none()));
        assert_eq!(presence.look(at(39), &meeting), None);
        assert!((40..=53).all(|now| presence.wait(at(now), None).is_none()));
        assert!(says(presence.wait(at(54), None), "has not answered for 15 s"));
        let mut presence = Presence::begin(at(0));
        assert!(says(presence.look(at(20), &state()), "left the meeting (no #main-area for 20 s)"));
        let ended = PageState { error: Some(error("Disconnected\nThe meeting has ended.")), ..meeting };
        let over = Break { cause: "Disconnected: The meeting has ended.".into(), page: Some(Meaning::Ended) };
        assert_eq!(Presence::begin(at(0)).look(at(1), &ended), Some(over));
    }

    #[test]
    fn time_in_which_nobody_looked_does_not_count() {
        let at = Duration::from_secs;
        let mut presence = Presence::begin(at(0));
        assert_eq!(presence.wait(at(1), None), None);
        // Paused for an hour.
        assert!((3600..3614).all(|now| presence.wait(at(now), None).is_none()));
        assert!(presence.wait(at(3614), None).is_some());
    }

    #[test]
    fn a_chrome_that_hangs_is_noticed_sooner_than_one_that_is_held_up() {
        let process = |state, ticks| Process { state, ticks, ..Process::default() };
        let noticed = |pulse: &dyn Fn(u64) -> Option<Pulse>| {
            let mut presence = Presence::begin(Duration::ZERO);
            (1..).find_map(|s| presence.wait(Duration::from_secs(s), pulse(s)).map(|found| (s, found.page))).unwrap()
        };
        assert_eq!(noticed(&|_| Pulse::of(&[process('T', 9)])), (1, None));
        assert_eq!(noticed(&|_| Pulse::of(&[process('S', 9)])), (4, None));
        assert_eq!(noticed(&|s| Pulse::of(&[process('S', s)])), (ANSWER_LIMIT.as_secs(), None));
    }

    #[test]
    fn a_page_that_never_gets_there_says_what_it_lacks() {
        let fail = |state: PageState, joined| match step(&state, joined, JOIN_LIMIT, None) {
            Step::Fail(Break { cause, page: None }) => cause,
            other => panic!("{other:?}"),
        };
        assert!(fail(state(), false).contains("shows no #startupJoinModal"));
        assert!(fail(PageState { button: true, dialog: true, ..state() }, false).contains("stayed disabled"));
        assert!(fail(state(), true).contains("no #main-area appeared"));
        assert!(fail(PageState { failed: true, ..state() }, false).contains("cannot be loaded"));
    }
}
