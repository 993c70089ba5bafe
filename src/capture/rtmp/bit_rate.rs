//! Decides with which bit rate a broadcast goes on, from what waits for its far end (`rtmp.adaptive`). Pure.
//!
//! ```text
//! what waits grows ──▶ down, to three quarters of what the far end has taken
//! nothing waits for a while ──▶ up by half, at last to what the operator has set
//! what waits grows soon after ──▶ down again, and the next try comes twice as late
//! ```

use std::collections::VecDeque;
use std::time::Duration;

/// Milliseconds of media that wait when the far end takes too little: below where pictures are left out.
const CONGESTED_MS: u32 = 1200;
/// Milliseconds that wait at most when it takes all.
const CLEAR_MS: u32 = 400;
/// What the far end takes is measured over this time.
const WINDOW: Duration = Duration::from_secs(2);
/// After a change: what waits is sent, and the new rate shows.
const SETTLE: Duration = Duration::from_secs(6);
/// How long nothing must wait before a higher rate is tried, at first and at most.
const CLEAR_FOR: Duration = Duration::from_secs(20);
const CLEAR_FOR_MAX: Duration = Duration::from_secs(300);
/// A higher rate that has held for so long is no mistake.
const HOLDS_AFTER: Duration = Duration::from_secs(60);
/// Lowest rate of the picture, kbit/s: less is no picture.
const LOWEST: u32 = 100;
/// Rates are multiples of this.
const STEP: u32 = 10;

/// What was seen at one moment; bytes are counted from the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    pub at: Duration,
    /// Milliseconds of media that wait for the far end.
    pub waiting_ms: u32,
    /// Pictures and sound that ffmpeg has made.
    pub pictures: u64,
    pub sound: u64,
    /// Bytes that the far end has taken.
    pub taken: u64,
    /// Pictures that were left out.
    pub left_out: u64,
}

/// The rate of the picture in kbit/s; `None`: as the operator has set it.
pub type BitRate = Option<u32>;

/// The judgement over one broadcast.
#[derive(Debug)]
pub struct BitRateControl {
    rate: BitRate,
    /// What the operator has set, in kbit/s; or, where that is nothing, what ffmpeg made before the first change.
    full: Option<u32>,
    samples: VecDeque<Sample>,
    /// Since when nothing has waited.
    clear_since: Option<Duration>,
    clear_for: Duration,
    changed_at: Option<Duration>,
    /// When a higher rate was tried last.
    raised_at: Option<Duration>,
}

impl BitRateControl {
    /// `configured`: the operator's rate in kbit/s, where there is one.
    #[must_use]
    pub fn new(configured: Option<u32>) -> Self {
        Self {
            rate: None,
            full: configured,
            samples: VecDeque::new(),
            clear_since: None,
            clear_for: CLEAR_FOR,
            changed_at: None,
            raised_at: None,
        }
    }

    /// The far end was lost: what is seen now has nothing to do with what was seen before.
    pub fn restart(&mut self) {
        self.samples.clear();
        self.clear_since = None;
    }

    /// Takes a sample, about one each second. Returns the rate to go on with where that changes.
    pub fn look(&mut self, sample: Sample) -> Option<BitRate> {
        while self.samples.front().is_some_and(|first| sample.at.saturating_sub(first.at) > WINDOW) {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
        if sample.waiting_ms > CLEAR_MS {
            self.clear_since = None;
        } else {
            self.clear_since.get_or_insert(sample.at);
        }
        if self.raised_at.is_some_and(|raised| sample.at.saturating_sub(raised) >= HOLDS_AFTER) {
            (self.raised_at, self.clear_for) = (None, CLEAR_FOR);
        }
        if self.changed_at.is_some_and(|changed| sample.at.saturating_sub(changed) < SETTLE) {
            return None;
        }
        let rate = self.lower(&sample).or_else(|| self.higher(&sample))?;
        (self.rate, self.changed_at) = (rate, Some(sample.at));
        self.restart();
        Some(rate)
    }

    fn lower(&mut self, now: &Sample) -> Option<BitRate> {
        let first = *self.samples.front()?;
        let seconds = now.at.saturating_sub(first.at).as_secs_f64();
        let grows = now.waiting_ms >= CONGESTED_MS && now.waiting_ms >= first.waiting_ms;
        if seconds < 1.5 || !(grows || now.left_out > first.left_out) {
            return None;
        }
        let taken = rate_of(now.taken.saturating_sub(first.taken), seconds);
        let sound = rate_of(now.sound.saturating_sub(first.sound), seconds);
        let made = rate_of(now.pictures.saturating_sub(first.pictures), seconds);
        let full = *self.full.get_or_insert(made.max(LOWEST));
        let before = self.rate.unwrap_or(full);
        // A rate that did not help was too high, whatever was measured.
        let rate = (taken / 4 * 3).saturating_sub(sound).min(before / 4 * 3).max(LOWEST) / STEP * STEP;
        if self.raised_at.take().is_some() {
            self.clear_for = (self.clear_for * 2).min(CLEAR_FOR_MAX);
        }
        (rate < before).then_some(Some(rate))
    }

    fn higher(&mut self, now: &Sample) -> Option<BitRate> {
        let rate = self.rate?;
        let clear = now.at.saturating_sub(self.clear_since?);
        if clear < self.clear_for {
            return None;
        }
        self.raised_at = Some(now.at);
        let higher = (rate + rate / 2) / STEP * STEP;
        Some(Some(higher).filter(|higher| self.full.is_some_and(|full| *higher < full)))
    }
}

/// kbit/s.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "it saturates"
)]
fn rate_of(bytes: u64, seconds: f64) -> u32 {
    (bytes as f64 * 8.0 / 1000.0 / seconds) as u32
}

/// The rate in kbit/s that ffmpeg's options ask for: `-b:v` or `-maxrate`, whichever is lower.
#[must_use]
pub fn configured(options: &[String]) -> Option<u32> {
    let value = |names: &[&str]| {
        let at = options.iter().rposition(|word| names.contains(&word.as_str()))?;
        bits(options.get(at + 1)?).map(|bits| bits / 1000)
    };
    [value(&["-b:v", "-vb", "-b:v:0"]), value(&["-maxrate", "-maxrate:v", "-maxrate:v:0"])].into_iter().flatten().min()
}

/// A number as ffmpeg reads it: `2500k`, `2.5M`.
fn bits(value: &str) -> Option<u32> {
    let (number, unit) = match value.char_indices().last()? {
        (at, 'k' | 'K') => (&value[..at], 1000.0),
        (at, 'M') => (&value[..at], 1e6),
        _ => (value, 1.0),
    };
    let bits = number.parse::<f64>().ok()? * unit;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within its range")]
    (1000.0..4e9).contains(&bits).then_some(bits as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SOUND: u32 = 128;

    /// A far end that takes so many kbit/s, and an encoder that makes what it is told.
    struct Link {
        control: BitRateControl,
        full: u32,
        waiting: f64,
        sample: Sample,
        changes: Vec<(u64, BitRate)>,
    }

    impl Link {
        fn new(configured: Option<u32>, full: u32) -> Self {
            let control = BitRateControl::new(configured);
            Self { control, full, waiting: 0.0, sample: Sample::default(), changes: Vec::new() }
        }

        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
        fn run(&mut self, seconds: u64, capacity: u32) {
            for _ in 0..seconds {
                let picture = self.control.rate.unwrap_or(self.full);
                let made = f64::from(picture + SOUND);
                let taken = (self.waiting + made).min(f64::from(capacity));
                self.waiting += made - taken;
                // Pictures are left out where 2.5 s wait; the sound of that time waits on.
                if self.waiting / made > 2.5 {
                    self.waiting = f64::from(SOUND) * 2.5;
                    self.sample.left_out += 60;
                }
                self.sample.at += Duration::from_secs(1);
                self.sample.waiting_ms = (self.waiting / made * 1000.0) as u32;
                self.sample.pictures += u64::from(picture) * 125;
                self.sample.sound += u64::from(SOUND) * 125;
                self.sample.taken += (taken * 125.0) as u64;
                if let Some(rate) = self.control.look(self.sample) {
                    self.changes.push((self.sample.at.as_secs(), rate));
                }
            }
        }
    }

    #[test]
    fn a_far_end_that_takes_all_changes_nothing() {
        let mut link = Link::new(Some(2500), 2500);
        link.run(3600, 2700);
        assert_eq!(link.changes, []);
    }

    #[test]
    fn the_rate_falls_to_what_the_far_end_takes_and_is_the_operators_again_when_that_is_well() {
        let mut link = Link::new(Some(2500), 2500);
        link.run(30, 4000);
        link.run(60, 1000);
        let [(first, Some(rate)), ..] = link.changes[..] else { panic!("{:?}", link.changes) };
        assert!(first <= 34 && (500..800).contains(&rate), "{:?}", link.changes);
        let left_out = link.sample.left_out;
        link.run(200, 4000);
        assert_eq!(link.changes.last().unwrap().1, None, "{:?}", link.changes);
        assert_eq!(link.sample.left_out, left_out);
        let count = link.changes.len();
        link.run(600, 4000);
        assert_eq!(link.changes.len(), count);
    }

    #[test]
    fn a_far_end_that_stays_slow_is_tried_ever_more_seldom() {
        let mut link = Link::new(None, 3000);
        link.run(1800, 1000);
        let raised = link.changes.windows(2).filter(|pair| pair[1].1.is_none_or(|rate| Some(rate) > pair[0].1)).count();
        assert!((4..14).contains(&raised), "{:?}", link.changes);
        assert!(link.changes.iter().all(|(_, rate)| rate.is_none_or(|rate| rate >= 300)), "{:?}", link.changes);
    }

    #[test]
    fn the_operators_rate_is_read() {
        let of = |line: &str| configured(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(of("-c:v libx264 -b:v 2500k -crf 23"), Some(2500));
        assert_eq!(of("-b:v 4M -maxrate 3.5M -b:v 6M"), Some(3500));
        assert_eq!(of("-b:v 800000"), Some(800));
        assert_eq!(of("-crf 23 -b:a 128k"), None);
        assert_eq!(of("-b:v"), None);
        assert_eq!(of("-b:v lots"), None);
    }

    proptest! {
        #[test]
        fn whatever_the_link_does_the_rate_stays_within_its_bounds(
            configured in prop::option::of(300_u32..6000),
            stretches in prop::collection::vec((1_u64..90, 0_u32..8000), 1..20),
        ) {
            let full = configured.unwrap_or(3000);
            let mut link = Link::new(configured, full);
            for (seconds, takes) in stretches {
                link.run(seconds, takes);
            }
            let mut last = 0;
            for (at, rate) in &link.changes {
                prop_assert!(rate.is_none_or(|rate| (LOWEST..full).contains(&rate)), "{:?}", link.changes);
                prop_assert!(*at >= last + SETTLE.as_secs() || last == 0, "{:?}", link.changes);
                last = *at;
            }
        }
    }
}
