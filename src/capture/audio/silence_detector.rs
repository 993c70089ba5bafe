//! When a silence is worth a warning. Pure: time is an argument, what is to be done is the answer.
//!
//! A recording may well be silent: nobody has joined yet, or nobody speaks. It is odd where the page plays sound and
//! none of it is recorded. Only the sound server knows whether the page plays; it is asked once a silence is long
//! enough, and from then on now and then.

use std::time::Duration;

/// How often the sound server is asked while it is silent.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SilenceNotice {
    /// Ask whether the page plays sound; the answer goes to [`SilenceDetector::answered`].
    Ask,
    /// Warn: it has been silent for so long although the page plays sound.
    Warn(Duration),
    /// After a warning: there is sound again.
    SoundIsBack,
}

/// Watches the silences of one recording.
#[derive(Clone, Debug)]
pub struct SilenceDetector {
    limit: Duration,
    /// When the server was last asked in this silence.
    asked: Option<Duration>,
    /// When it last said in this silence that the page plays nothing: what was silent until then was rightly so.
    idle: Option<Duration>,
    warned: bool,
}

impl SilenceDetector {
    /// `limit`: how long it may be silent.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self { limit, asked: None, idle: None, warned: false }
    }

    /// At `now` (any monotonic clock) it has been silent for `silent`.
    pub fn heard(&mut self, now: Duration, silent: Duration) -> Option<SilenceNotice> {
        if silent < self.limit {
            let back = self.warned;
            (self.asked, self.idle, self.warned) = (None, None, false);
            return back.then_some(SilenceNotice::SoundIsBack);
        }
        if self.warned || self.asked.is_some_and(|asked| now.saturating_sub(asked) < ASK_EVERY) {
            return None;
        }
        self.asked = Some(now);
        Some(SilenceNotice::Ask)
    }

    /// The answer to [`SilenceNotice::Ask`] is there at `now`, when it has been silent for `silent`.
    pub fn answered(&mut self, now: Duration, silent: Duration, page_plays: bool) -> Option<SilenceNotice> {
        // Sound may have come back while the server was asked.
        if self.asked.is_none() || self.warned || silent < self.limit {
            return None;
        }
        if !page_plays {
            self.idle = Some(now);
            return None;
        }
        let odd = self.idle.map_or(silent, |idle| silent.min(now.saturating_sub(idle)));
        self.warned = odd >= self.limit;
        self.warned.then_some(SilenceNotice::Warn(odd))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    /// A recording of whole seconds, each of which is silent or not, with a page that plays or not; what was done when.
    fn run(
        seconds: u64,
        is_silent: impl Fn(u64) -> bool,
        page_plays: impl Fn(u64) -> bool,
    ) -> Vec<(u64, SilenceNotice)> {
        let (mut alarm, mut done, mut silent) = (SilenceDetector::new(LIMIT), Vec::new(), 0);
        for second in 1..=seconds {
            silent = if is_silent(second) { silent + 1 } else { 0 };
            let (now, length) = (Duration::from_secs(second), Duration::from_secs(silent));
            let mut next = alarm.heard(now, length);
            while let Some(step) = next {
                done.push((second, step));
                next = if step == SilenceNotice::Ask { alarm.answered(now, length, page_plays(second)) } else { None };
            }
        }
        done
    }

    #[test]
    fn one_warning_a_silence_and_one_line_when_it_is_over() {
        let done = run(1000, |second| !matches!(second, 400 | 900), |_| true);
        let warn = SilenceNotice::Warn(LIMIT);
        let expected = [
            (60, SilenceNotice::Ask),
            (60, warn),
            (400, SilenceNotice::SoundIsBack),
            (460, SilenceNotice::Ask),
            (460, warn),
            (900, SilenceNotice::SoundIsBack),
            (960, SilenceNotice::Ask),
            (960, warn),
        ];
        assert_eq!(done, expected);
    }

    #[test]
    fn sound_now_and_then_asks_nothing() {
        assert_eq!(run(1000, |second| second % 60 != 0, |_| true), []);
    }

    #[test]
    fn a_page_that_plays_nothing_may_be_silent_and_is_asked_every_5_s() {
        let done = run(80, |_| true, |_| false);
        assert_eq!(done, [60, 65, 70, 75, 80].map(|second| (second, SilenceNotice::Ask)));
        // Nothing was warned of, so nothing is over.
        assert_eq!(run(80, |second| second < 62, |_| false), [(60, SilenceNotice::Ask)]);
    }

    #[test]
    fn only_silence_while_the_page_plays_counts() {
        let done = run(200, |_| true, |second| second >= 100);
        let warned: Vec<_> = done.iter().filter(|(_, alarm)| *alarm != SilenceNotice::Ask).collect();
        // Last heard to be idle at 95.
        assert_eq!(warned, [&(155, SilenceNotice::Warn(LIMIT))]);
    }

    #[test]
    fn an_answer_that_comes_when_the_silence_is_over_warns_of_nothing() {
        let mut alarm = SilenceDetector::new(LIMIT);
        assert_eq!(alarm.heard(LIMIT, LIMIT), Some(SilenceNotice::Ask));
        assert_eq!(alarm.answered(LIMIT, Duration::ZERO, true), None);
        assert_eq!(alarm.heard(LIMIT, Duration::ZERO), None);
        assert_eq!(alarm.answered(LIMIT, LIMIT, true), None, "an answer nobody asked for");
    }
}
