//! When a sample of sound was heard, on the clock that stamps the picture: pure.
//!
//! The sound server delivers samples that follow each other without gaps and now and then says how old they are. That
//! age jitters by some milliseconds, so it is not used as it is: samples are stamped by counting them, and the count
//! is compared with the ages over a window. Where the two drift apart, silence is put in or samples are left out, so
//! that sound and picture stay together however long a recording runs. (They do drift: PulseAudio's null sink, which
//! cuts the length of each block to whole microseconds, runs some 100 ppm fast: 20 ms in 200 s, measured.)

use std::collections::VecDeque;
use std::time::Duration;

/// Comparisons that are looked at together; with chunks of 50 ms, two and a half seconds.
const WINDOW: usize = 50;
/// Counting and age may differ by this much before it is corrected…
const TOLERANCE_MS: i64 = 4;
/// …and drift is corrected by this much at a time, too little to be heard.
const STEP_MS: i64 = 1;
/// A difference beyond this did not come of drift and is corrected as a whole.
const DRIFT_MS: i64 = 40;
/// A jump of this size is a gap (a stalled server, a suspended sink) and is corrected at once.
const JUMP_MS: i64 = 150;

/// What is to be done before a chunk is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncCorrection {
    None,
    /// Write this many samples of silence first.
    Silence(u64),
    /// Leave out this many samples of the chunk.
    Skip(u64),
}

/// What was done since the start to keep sound and picture together. The stream's beginning does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncCorrections {
    /// Times at which sound was missing, and how much silence stands in for it, in milliseconds.
    pub gaps: u64,
    pub gaps_ms: u64,
    /// Times at which the two had drifted apart or sound came twice, and what was put in and left out for it, in
    /// milliseconds.
    pub offsets: u64,
    pub put_in_ms: u64,
    pub left_out_ms: u64,
}

impl std::ops::AddAssign for SyncCorrections {
    fn add_assign(&mut self, other: Self) {
        self.gaps += other.gaps;
        self.gaps_ms += other.gaps_ms;
        self.offsets += other.offsets;
        self.put_in_ms += other.put_in_ms;
        self.left_out_ms += other.left_out_ms;
    }
}

/// Counts the samples of one recording.
#[derive(Clone, Debug)]
pub struct AvSync {
    rate: u32,
    written: u64,
    /// How far the count was behind the age, in samples, for the latest chunks.
    errors: VecDeque<i64>,
    /// Samples still to be left out: a chunk may be shorter than the correction.
    owed: u64,
    /// Silence put in and samples left out since the start, in samples.
    filled: u64,
    skipped: u64,
    /// Of what was put in, in samples: what stands in for missing sound.
    in_gaps: u64,
    /// Gaps, and corrections that are none.
    gaps: u64,
    offsets: u64,
    /// No chunk has come since silence was last written in its place: what is written now is of the same gap.
    in_gap: bool,
}

impl AvSync {
    /// `rate`: samples a second. The first sample written is that of time zero.
    #[must_use]
    pub fn new(rate: u32) -> Self {
        Self {
            rate,
            written: 0,
            errors: VecDeque::with_capacity(WINDOW),
            owed: 0,
            filled: 0,
            skipped: 0,
            in_gaps: 0,
            gaps: 0,
            offsets: 0,
            in_gap: false,
        }
    }

    /// A chunk of `len` samples is there, the first of which was heard at `heard` (since the start; negative before).
    /// The caller writes what the answer says, from [`Self::position`] on.
    pub fn chunk(&mut self, heard_us: i64, len: u64) -> SyncCorrection {
        // What follows silence that stood in for sound still belongs to that gap.
        let in_gap = std::mem::take(&mut self.in_gap);
        if self.owed > 0 {
            return self.leave_out(self.owed, len);
        }
        let rate = i64::from(self.rate);
        let due = heard_us * rate / 1_000_000;
        let error = due - i64::try_from(self.written).unwrap_or(i64::MAX);
        let samples = |ms: i64| ms * rate / 1000;
        if self.errors.len() == WINDOW {
            self.errors.pop_front();
        }
        self.errors.push_back(error);
        let correction = if self.written == 0 || error.abs() > samples(JUMP_MS) {
            error
        } else if self.errors.len() == WINDOW {
            match median(&self.errors) {
                error if error.abs() > samples(DRIFT_MS) => error,
                error if error.abs() > samples(TOLERANCE_MS) => samples(STEP_MS) * error.signum(),
                _ => 0,
            }
        } else {
            0
        };
        if correction == 0 {
            self.written += len;
            return SyncCorrection::None;
        }
        self.errors.clear();
        let by = correction.unsigned_abs();
        if self.written > 0 && correction > samples(DRIFT_MS) {
            self.gaps += u64::from(!in_gap);
            self.in_gaps += by;
        } else if self.written > 0 {
            self.offsets += 1;
        }
        if correction > 0 {
            // Before the first chunk there is nothing to mend: the silence is only the stream's beginning.
            self.filled += if self.written == 0 { 0 } else { by };
            self.written += by + len;
            SyncCorrection::Silence(by)
        } else {
            self.leave_out(by, len)
        }
    }

    /// Leaves out up to `by` samples of a chunk, and the rest of the following ones.
    fn leave_out(&mut self, by: u64, len: u64) -> SyncCorrection {
        let now = by.min(len);
        self.owed = by - now;
        // Before the first chunk there is nothing to mend: what is left out came before the stream's beginning.
        self.skipped += if self.written == 0 { 0 } else { now };
        self.written += len - now;
        SyncCorrection::Skip(now)
    }

    /// No chunk has come for long: how much silence to write so that the sound reaches `until`.
    pub fn fill(&mut self, until: Duration) -> u64 {
        let due = u64::try_from(until.as_micros() * u128::from(self.rate) / 1_000_000).unwrap_or(u64::MAX);
        let by = due.saturating_sub(self.written);
        self.written += by;
        self.filled += by;
        self.in_gaps += by;
        self.gaps += u64::from(by > 0 && !self.in_gap);
        self.in_gap |= by > 0;
        self.owed = 0;
        self.errors.clear();
        by
    }

    /// The time of the next sample to be written.
    #[must_use]
    pub fn position(&self) -> Duration {
        let whole = self.written / u64::from(self.rate);
        let rest = self.written % u64::from(self.rate);
        Duration::from_secs(whole) + Duration::from_nanos(rest * 1_000_000_000 / u64::from(self.rate))
    }

    /// What was done since the start.
    #[must_use]
    pub fn corrections(&self) -> SyncCorrections {
        let ms = |samples: u64| samples * 1000 / u64::from(self.rate);
        SyncCorrections {
            gaps: self.gaps,
            gaps_ms: ms(self.in_gaps),
            offsets: self.offsets,
            put_in_ms: ms(self.filled - self.in_gaps),
            left_out_ms: ms(self.skipped),
        }
    }
}

fn median(values: &VecDeque<i64>) -> i64 {
    let mut sorted: Vec<i64> = values.iter().copied().collect();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 48_000;
    /// 20 ms.
    const CHUNK: u64 = 960;

    /// Feeds `chunks` chunks whose age is off by `offset_us(i)`; returns the corrections that were not `None`.
    fn feed(clock: &mut AvSync, chunks: std::ops::Range<i64>, offset_us: impl Fn(i64) -> i64) -> Vec<SyncCorrection> {
        chunks
            .map(|i| clock.chunk(i * 20_000 + offset_us(i), CHUNK))
            .filter(|correction| *correction != SyncCorrection::None)
            .collect()
    }

    #[test]
    fn the_stream_begins_at_time_zero() {
        let mut clock = AvSync::new(RATE);
        assert_eq!(clock.chunk(100_000, CHUNK), SyncCorrection::Silence(4_800));
        assert_eq!(clock.position(), Duration::from_millis(120));
        let mut clock = AvSync::new(RATE);
        assert_eq!(clock.chunk(-5_000, CHUNK), SyncCorrection::Skip(240));
        assert_eq!(clock.position(), Duration::from_millis(15));
        assert_eq!(clock.corrections(), SyncCorrections::default());
    }

    #[test]
    fn jitter_of_the_age_is_not_followed() {
        let mut clock = AvSync::new(RATE);
        let corrections = feed(&mut clock, 0..5_000, |i| if i == 0 { 0 } else { (i * 7_919 % 6_000) - 3_000 });
        assert_eq!(corrections, []);
        assert_eq!(clock.position(), Duration::from_secs(100));
    }

    #[test]
    fn drift_is_corrected_in_steps_too_small_to_be_heard() {
        // A sound card that runs 200 ppm slow or fast: 12 ms a minute.
        for ppm in [200, -200] {
            let mut clock = AvSync::new(RATE);
            let chunks = 30 * 60 * 50;
            let corrections = feed(&mut clock, 0..chunks, |i| i * 20_000 * ppm / 1_000_000);
            assert!(corrections.len() > 300, "{}", corrections.len());
            let step = u64::try_from(STEP_MS).unwrap() * 48;
            let small =
                |c: &SyncCorrection| matches!(c, SyncCorrection::Silence(n) | SyncCorrection::Skip(n) if *n == step);
            assert!(corrections.iter().all(small));
            let (count, done) = (corrections.len() as u64, clock.corrections());
            let (put_in_ms, left_out_ms) = if ppm > 0 { (count, 0) } else { (0, count) };
            assert_eq!(done, SyncCorrections { offsets: count, put_in_ms, left_out_ms, ..SyncCorrections::default() });
            let due = Duration::from_micros(u64::try_from(chunks * (20_000 + 20_000 * ppm / 1_000_000)).unwrap());
            assert!(due.abs_diff(clock.position()) < Duration::from_millis(6), "{:?}", clock.position());
        }
    }

    #[test]
    fn a_correction_longer_than_a_chunk_goes_on_in_the_next() {
        let mut clock = AvSync::new(RATE);
        feed(&mut clock, 0..100, |_| 0);
        // Half a second too much, in chunks of 20 ms.
        let corrections = feed(&mut clock, 100..200, |_| -500_000);
        assert_eq!(corrections, [SyncCorrection::Skip(CHUNK); 25]);
        assert_eq!(clock.corrections(), SyncCorrections { offsets: 1, left_out_ms: 500, ..SyncCorrections::default() });
    }

    #[test]
    fn a_gap_is_filled_at_once_and_only_once() {
        let mut clock = AvSync::new(RATE);
        assert_eq!(feed(&mut clock, 0..100, |_| 0), []);
        let corrections = feed(&mut clock, 100..400, |_| 2_000_000);
        assert_eq!(corrections, [SyncCorrection::Silence(96_000)]);
        assert_eq!(clock.corrections(), SyncCorrections { gaps: 1, gaps_ms: 2000, ..SyncCorrections::default() });
    }

    #[test]
    fn silence_stands_in_for_a_server_that_says_nothing() {
        let mut clock = AvSync::new(RATE);
        feed(&mut clock, 0..50, |_| 0);
        assert_eq!(clock.fill(Duration::from_secs(3)), 96_000);
        assert_eq!(clock.fill(Duration::from_secs(2)), 0);
        assert_eq!(clock.position(), Duration::from_secs(3));
        // As it goes on, it is the same gap.
        assert_eq!(clock.fill(Duration::from_secs(4)), 48_000);
        assert_eq!(clock.corrections(), SyncCorrections { gaps: 1, gaps_ms: 3000, ..SyncCorrections::default() });
        // The server comes back and delivers what it had kept: it is left out, it was replaced by silence.
        assert!(matches!(clock.chunk(1_000_000, CHUNK), SyncCorrection::Skip(CHUNK)));
    }

    /// A sound server that plays without an end, the thread of `sound.rs` before it, and what that writes.
    struct World {
        clock: AvSync,
        /// The sample of the source at each place that was written; `None`: silence.
        written: Vec<Option<u64>>,
        /// The next sample of the source.
        next: u64,
        /// How much later than at its place a sample of the source is heard, in samples: what a gap leaves behind.
        shift: u64,
    }

    impl World {
        fn new() -> Self {
            Self { clock: AvSync::new(RATE), written: Vec::new(), next: 0, shift: 0 }
        }

        /// When the next sample of the source is heard, in samples since the start.
        fn due(&self) -> u64 {
            self.next + self.shift
        }

        /// A chunk whose age is told wrong by `error_ms`; as `send` of `sound.rs`.
        fn chunk(&mut self, len: u64, error_ms: i64) {
            let heard_us = i64::try_from(self.due() * 1_000_000 / u64::from(RATE)).unwrap() + error_ms * 1000;
            let mut samples = self.next..self.next + len;
            self.next += len;
            assert_eq!(self.clock.position(), length(self.written.len()));
            match self.clock.chunk(heard_us, len) {
                SyncCorrection::None => {}
                SyncCorrection::Silence(count) => self.silence(count),
                SyncCorrection::Skip(count) => samples.start += count,
            }
            self.written.extend(samples.map(Some));
        }

        /// That many seconds of sound in chunks of 20 ms.
        fn play(&mut self, seconds: u64) {
            (0..seconds * 50).for_each(|_| self.chunk(CHUNK, 0));
        }

        /// Nothing comes until then (in ms); from 700 ms on, silence is put in up to 400 ms ago.
        fn hear_nothing_until(&mut self, end_ms: u64) {
            let since_ms = self.due() * 1000 / u64::from(RATE);
            for now_ms in (since_ms + 700..=end_ms).step_by(100) {
                let count = self.clock.fill(Duration::from_millis(now_ms - 400));
                self.silence(count);
            }
        }

        fn silence(&mut self, count: u64) {
            self.written.extend((0..count).map(|_| None));
        }

        /// How far what is written has come is how far the source has; no sample of it is written twice or before an
        /// earlier one. Returned are the seconds whose beep, of 100 ms, is not there in full within 5 ms of its time;
        /// `moved` tells when that is, in samples, of a beep that sets in at the one given.
        fn beeps_lost(&self, moved: impl Fn(u64) -> u64) -> Vec<u64> {
            let (position, due) = (self.clock.position(), length(usize::try_from(self.due()).unwrap()));
            assert!(position.abs_diff(due) < Duration::from_millis(5), "written {position:?}, heard {due:?}");
            let played: Vec<u64> = self.written.iter().flatten().copied().collect();
            assert!(played.is_sorted_by(|a, b| a < b), "a sample was written twice or out of order");
            let second = u64::from(RATE);
            let place = |sample: u64| self.written.iter().position(|written| *written == Some(sample));
            let is_lost = |beep: &u64| {
                let onset = beep * second;
                let Some(at) = place(onset) else { return true };
                let whole = self.written[at..].iter().take(4_800).copied().eq((onset..onset + 4_800).map(Some));
                !whole || (at as u64).abs_diff(moved(onset)) > second / 200
            };
            (1..self.next / second).filter(is_lost).collect()
        }
    }

    fn length(samples: usize) -> Duration {
        Duration::from_nanos(samples as u64 % 48_000 * 1_000_000_000 / 48_000)
            + Duration::from_secs(samples as u64 / 48_000)
    }

    const NOTHING_LOST: [u64; 0] = [];

    #[test]
    fn an_age_that_is_wrong_once_changes_nothing() {
        for error_ms in [80, -80, 140, -140] {
            let mut world = World::new();
            world.play(5);
            world.chunk(CHUNK, error_ms);
            world.play(10);
            assert_eq!(world.beeps_lost(|onset| onset), NOTHING_LOST);
            assert_eq!(world.clock.corrections(), SyncCorrections::default());
        }
    }

    #[test]
    fn sound_that_comes_later_from_now_on_is_put_back_in_its_place_by_one_silence() {
        // The smaller jump is believed after half a second: here, before the next beep.
        for jump_ms in [60, 500] {
            let mut world = World::new();
            world.play(5);
            (0..15).for_each(|_| world.chunk(CHUNK, 0));
            let from = world.next;
            world.shift = jump_ms * 48;
            world.play(20);
            let moved = |onset| if onset < from { onset } else { onset + jump_ms * 48 };
            assert_eq!(world.beeps_lost(moved), NOTHING_LOST, "{jump_ms} ms");
            let expected = SyncCorrections { gaps: 1, gaps_ms: jump_ms, ..SyncCorrections::default() };
            assert_eq!(world.clock.corrections(), expected);
        }
    }

    #[test]
    fn a_reader_that_stands_still_for_two_seconds_loses_nothing_of_what_was_kept_for_it() {
        let mut world = World::new();
        world.play(5);
        world.chunk(2 * u64::from(RATE), 0);
        world.play(10);
        assert_eq!(world.beeps_lost(|onset| onset), NOTHING_LOST);
        assert_eq!(world.clock.corrections(), SyncCorrections::default());
    }

    #[test]
    fn a_server_that_stands_still_and_then_delivers_all_at_once_loses_what_silence_stood_in_for() {
        let mut world = World::new();
        world.play(5);
        world.hear_nothing_until(7_000);
        // At 7.0 s silence is written up to 6.6 s: of what comes now, only the rest has a place.
        world.chunk(2 * u64::from(RATE), 0);
        world.play(10);
        assert_eq!(world.beeps_lost(|onset| onset), [5, 6]);
        let expected = SyncCorrections { gaps: 1, gaps_ms: 1_600, offsets: 1, left_out_ms: 1_600, put_in_ms: 0 };
        assert_eq!(world.clock.corrections(), expected);
    }

    #[test]
    fn a_sink_that_is_suspended_for_five_seconds_is_one_gap_and_then_everything_is_in_its_place() {
        let mut world = World::new();
        world.play(5);
        world.hear_nothing_until(10_000);
        // What was not played is not lost: it is heard five seconds later.
        world.shift = 5 * u64::from(RATE);
        world.play(10);
        let from = 5 * u64::from(RATE);
        assert_eq!(world.beeps_lost(|onset| if onset < from { onset } else { onset + from }), NOTHING_LOST);
        assert_eq!(
            world.clock.corrections(),
            SyncCorrections { gaps: 1, gaps_ms: 5_000, ..SyncCorrections::default() }
        );
    }
}
