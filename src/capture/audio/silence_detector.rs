//! Decides when silence needs a warning. Pure: time is an argument, effects are return values.
//!
//! A recording may be silent because nobody has joined or nobody speaks. Something is wrong only where the page plays
//! sound and none is recorded. PulseAudio knows whether the page plays; it is asked once a silence is long enough, and
//! then at intervals.

use std::time::Duration;

/// Interval of questions to PulseAudio during a silence.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// What the caller must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SilenceNotice {
    /// Ask PulseAudio whether the page plays sound; pass the answer to [`SilenceDetector::answered`].
    Ask,
    /// Warn: the recording has been silent for this long although the page plays sound.
    Warn(Duration),
    /// After a warning: the recording has sound again.
    SoundIsBack,
}

/// Detects suspicious silences of one recording.
#[derive(Clone, Debug)]
pub struct SilenceDetector {
    limit: Duration,
    /// When PulseAudio was last asked in this silence.
    asked: Option<Duration>,
    /// When PulseAudio last answered in this silence that the page plays nothing: silence before it is as expected.
    idle: Option<Duration>,
    warned: bool,
}

impl SilenceDetector {
    /// `limit`: how long the recording may be silent.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self { limit, asked: None, idle: None, warned: false }
    }

    /// At `now` (any monotonic clock) the recording has been silent for `silent`.
    pub fn update(&mut self, now: Duration, silent: Duration) -> Option<SilenceNotice> {
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

    /// PulseAudio has answered [`SilenceNotice::Ask`] at `now`; the recording has been silent for `silent`.
    pub fn answered(&mut self, now: Duration, silent: Duration, page_plays: bool) -> Option<SilenceNotice> {
        // Sound may have returned since the question.
        if self.asked.is_none() || self.warned || silent < self.limit {
            return None;
        }
        if !page_plays {
            self.idle = Some(now);
            return None;
        }
        let suspicious = self.idle.map_or(silent, |idle| silent.min(now.saturating_sub(idle)));
        self.warned = suspicious >= self.limit;
        self.warned.then_some(SilenceNotice::Warn(suspicious))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    /// A recording of whole seconds, silent or not, with a page that plays or not. Returns each notice with its time.
    fn run(
        seconds: u64,
        is_silent: impl Fn(u64) -> bool,
        page_plays: impl Fn(u64) -> bool,
    ) -> Vec<(u64, SilenceNotice)> {
        let (mut detector, mut done, mut silent) = (SilenceDetector::new(LIMIT), Vec::new(), 0);
        for second in 1..=seconds {
            silent = if is_silent(second) { silent + 1 } else { 0 };
            let (now, length) = (Duration::from_secs(second), Duration::from_secs(silent));
            let mut next = detector.update(now, length);
            while let Some(step) = next {
                done.push((second, step));
                next =
                    if step == SilenceNotice::Ask { detector.answered(now, length, page_plays(second)) } else { None };
            }
        }
        done
    }

    #[test]
    fn each_silence_has_one_warning_and_one_end() {
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
    fn short_silences_cause_no_question() {
        assert_eq!(run(1000, |second| second % 60 != 0, |_| true), []);
    }

    #[test]
    fn a_page_that_plays_nothing_may_be_silent_and_is_asked_every_5_s() {
        let done = run(80, |_| true, |_| false);
        assert_eq!(done, [60, 65, 70, 75, 80].map(|second| (second, SilenceNotice::Ask)));
        // There was no warning, so there is no end of one.
        assert_eq!(run(80, |second| second < 62, |_| false), [(60, SilenceNotice::Ask)]);
    }

    #[test]
    fn only_silence_while_the_page_plays_counts() {
        let done = run(200, |_| true, |second| second >= 100);
        let warned: Vec<_> = done.iter().filter(|(_, detector)| *detector != SilenceNotice::Ask).collect();
        // Last idle answer: at 95 s.
        assert_eq!(warned, [&(155, SilenceNotice::Warn(LIMIT))]);
    }

    #[test]
    fn an_answer_after_the_silence_causes_no_warning() {
        let mut detector = SilenceDetector::new(LIMIT);
        assert_eq!(detector.update(LIMIT, LIMIT), Some(SilenceNotice::Ask));
        assert_eq!(detector.answered(LIMIT, Duration::ZERO, true), None);
        assert_eq!(detector.update(LIMIT, Duration::ZERO), None);
        assert_eq!(detector.answered(LIMIT, LIMIT, true), None, "an answer nobody asked for");
    }
}
