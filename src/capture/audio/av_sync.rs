//! Timestamps of audio samples on the clock of the video: pure.
//!
//! PulseAudio delivers samples without gaps and from time to time their age. The age jitters by some milliseconds, so
//! samples are stamped by counting them, and the count is compared with the ages over a window. Where both drift apart,
//! silence is inserted or samples are skipped, so that audio and video stay in step in a recording of any length. (They
//! do drift: PulseAudio's null sink cuts the length of each block to whole microseconds and runs some 100 ppm fast: 20
//! ms in 200 s, measured.)

use std::collections::VecDeque;
use std::time::Duration;

/// Number of comparisons in the window: two and a half seconds with chunks of 50 ms.
const WINDOW: usize = 50;
/// Difference between count and age above which drift is corrected…
const TOLERANCE_MS: i64 = 4;
/// …by this much at a time, which is not audible.
const STEP_MS: i64 = 1;
/// A larger difference is not drift and is corrected as a whole.
const DRIFT_MS: i64 = 40;
/// A jump of this size is a gap (stalled server, suspended sink) and is corrected at once.
const JUMP_MS: i64 = 150;

/// What to do before a chunk is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncCorrection {
    None,
    /// Write this many samples of silence before the chunk.
    Silence(u64),
    /// Skip this many samples of the chunk.
    Skip(u64),
}

/// Corrections since the start that kept audio and video in step. The start of the stream does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncCorrections {
    /// Number of gaps, and the milliseconds of silence that fill them.
    pub gaps: u64,
    pub gaps_ms: u64,
    /// Number of other corrections (drift, repeated audio), and the milliseconds of silence inserted and of audio
    /// skipped by them.
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

/// Stamps the samples of one recording by counting them.
#[derive(Clone, Debug)]
pub struct AvSync {
    rate: u32,
    written: u64,
    /// Latest differences between age and count, in samples; positive: the count is behind.
    errors: VecDeque<i64>,
    /// Samples still to be skipped: a chunk may be shorter than the correction.
    to_skip: u64,
    /// Silence inserted and audio skipped since the start, in samples.
    inserted: u64,
    skipped: u64,
    /// The part of the inserted silence that fills gaps, in samples.
    inserted_in_gaps: u64,
    /// Number of gaps, and of other corrections.
    gaps: u64,
    offsets: u64,
    /// Silence was inserted by [`Self::fill`] and no chunk has arrived since: a correction now belongs to the same gap.
    in_gap: bool,
}

impl AvSync {
    /// `rate`: samples per second. The first sample written is that of time zero.
    #[must_use]
    pub fn new(rate: u32) -> Self {
        Self {
            rate,
            written: 0,
            errors: VecDeque::with_capacity(WINDOW),
            to_skip: 0,
            inserted: 0,
            skipped: 0,
            inserted_in_gaps: 0,
            gaps: 0,
            offsets: 0,
            in_gap: false,
        }
    }

    /// A chunk of `len` samples per channel has arrived, whose first sample was played at `heard_us` (microseconds
    /// since the start; negative before it). The caller applies the correction and writes the rest at
    /// [`Self::position`].
    pub fn chunk(&mut self, heard_us: i64, len: u64) -> SyncCorrection {
        // A correction after silence of `fill` belongs to the same gap.
        let in_gap = std::mem::take(&mut self.in_gap);
        if self.to_skip > 0 {
            return self.skip(self.to_skip, len);
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
            self.inserted_in_gaps += by;
        } else if self.written > 0 {
            self.offsets += 1;
        }
        if correction > 0 {
            // Silence before the first chunk is the start of the stream, not a correction.
            self.inserted += if self.written == 0 { 0 } else { by };
            self.written += by + len;
            SyncCorrection::Silence(by)
        } else {
            self.skip(by, len)
        }
    }

    /// Skips up to `by` samples of this chunk, and the remaining ones of the following chunks.
    fn skip(&mut self, by: u64, len: u64) -> SyncCorrection {
        let now = by.min(len);
        self.to_skip = by - now;
        // What is skipped before the first chunk was played before the stream's start: not a correction.
        self.skipped += if self.written == 0 { 0 } else { now };
        self.written += len - now;
        SyncCorrection::Skip(now)
    }

    /// No chunk has arrived for long. Returns the samples of silence to write so that the audio reaches `until`.
    pub fn fill(&mut self, until: Duration) -> u64 {
        let due = u64::try_from(until.as_micros() * u128::from(self.rate) / 1_000_000).unwrap_or(u64::MAX);
        let by = due.saturating_sub(self.written);
        self.written += by;
        self.inserted += by;
        self.inserted_in_gaps += by;
        self.gaps += u64::from(by > 0 && !self.in_gap);
        self.in_gap |= by > 0;
        self.to_skip = 0;
        self.errors.clear();
        by
    }

    /// Time of the next sample to be written.
    #[must_use]
    pub fn position(&self) -> Duration {
        duration(self.written, self.rate)
    }

    /// The corrections since the start.
    #[must_use]
    pub fn corrections(&self) -> SyncCorrections {
        let ms = |samples: u64| samples * 1000 / u64::from(self.rate);
        SyncCorrections {
            gaps: self.gaps,
            gaps_ms: ms(self.inserted_in_gaps),
            offsets: self.offsets,
            put_in_ms: ms(self.inserted - self.inserted_in_gaps),
            left_out_ms: ms(self.skipped),
        }
    }
}

/// How long `samples` of one channel last at `rate` samples per second.
#[must_use]
pub fn duration(samples: u64, rate: u32) -> Duration {
    let rate = u64::from(rate);
    Duration::from_secs(samples / rate) + Duration::from_nanos(samples % rate * 1_000_000_000 / rate)
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
    /// Length of a chunk: 20 ms.
    const CHUNK: u64 = 960;

    /// Passes `chunks` chunks whose age is wrong by `offset_us(i)`; returns the corrections that were not `None`.
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
    fn jitter_of_the_age_is_ignored() {
        let mut clock = AvSync::new(RATE);
        let corrections = feed(&mut clock, 0..5_000, |i| if i == 0 { 0 } else { (i * 7_919 % 6_000) - 3_000 });
        assert_eq!(corrections, []);
        assert_eq!(clock.position(), Duration::from_secs(100));
    }

    #[test]
    fn drift_is_corrected_in_steps_too_small_to_be_heard() {
        // A sound card that runs 200 ppm slow or fast: 12 ms per minute.
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
    fn a_correction_longer_than_a_chunk_continues_in_the_next() {
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
    fn silence_replaces_audio_that_does_not_arrive() {
        let mut clock = AvSync::new(RATE);
        feed(&mut clock, 0..50, |_| 0);
        assert_eq!(clock.fill(Duration::from_secs(3)), 96_000);
        assert_eq!(clock.fill(Duration::from_secs(2)), 0);
        assert_eq!(clock.position(), Duration::from_secs(3));
        // Silence that continues belongs to the same gap.
        assert_eq!(clock.fill(Duration::from_secs(4)), 48_000);
        assert_eq!(clock.corrections(), SyncCorrections { gaps: 1, gaps_ms: 3000, ..SyncCorrections::default() });
        // The server delivers the audio it had buffered: it is skipped, because silence has replaced it.
        assert!(matches!(clock.chunk(1_000_000, CHUNK), SyncCorrection::Skip(CHUNK)));
    }

    /// An endless source, the recorder thread (`recorder.rs`) that receives it, and the output.
    struct Simulation {
        clock: AvSync,
        /// For each written sample the sample of the source; `None`: silence.
        written: Vec<Option<u64>>,
        /// The next sample of the source.
        next: u64,
        /// Delay of the source against its place, in samples: the result of a gap.
        shift: u64,
    }

    impl Simulation {
        fn new() -> Self {
            Self { clock: AvSync::new(RATE), written: Vec::new(), next: 0, shift: 0 }
        }

        /// When the next sample of the source is played, in samples since the start.
        fn due(&self) -> u64 {
            self.next + self.shift
        }

        /// Delivers a chunk whose age is wrong by `error_ms`, as `send` in `recorder.rs` does.
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

        /// Plays this many seconds of audio in chunks of 20 ms.
        fn play(&mut self, seconds: u64) {
            (0..seconds * 50).for_each(|_| self.chunk(CHUNK, 0));
        }

        /// No audio arrives until `end_ms`; after 700 ms silence is inserted up to 400 ms ago.
        fn receive_nothing_until(&mut self, end_ms: u64) {
            let since_ms = self.due() * 1000 / u64::from(RATE);
            for now_ms in (since_ms + 700..=end_ms).step_by(100) {
                let count = self.clock.fill(Duration::from_millis(now_ms - 400));
                self.silence(count);
            }
        }

        fn silence(&mut self, count: u64) {
            self.written.extend((0..count).map(|_| None));
        }

        /// Checks that output and source have the same length and that no sample is written twice or out of order.
        /// Returns the seconds whose beep of 100 ms is not complete within 5 ms of its time. `moved`: the expected time
        /// of a beep, in samples, for its start in the source.
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
            let mut world = Simulation::new();
            world.play(5);
            world.chunk(CHUNK, error_ms);
            world.play(10);
            assert_eq!(world.beeps_lost(|onset| onset), NOTHING_LOST);
            assert_eq!(world.clock.corrections(), SyncCorrections::default());
        }
    }

    #[test]
    fn a_lasting_delay_is_corrected_by_one_silence() {
        // The smaller jump is corrected after half a second: here, before the next beep.
        for jump_ms in [60, 500] {
            let mut world = Simulation::new();
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
    fn a_reader_that_stalls_for_two_seconds_loses_no_buffered_audio() {
        let mut world = Simulation::new();
        world.play(5);
        world.chunk(2 * u64::from(RATE), 0);
        world.play(10);
        assert_eq!(world.beeps_lost(|onset| onset), NOTHING_LOST);
        assert_eq!(world.clock.corrections(), SyncCorrections::default());
    }

    #[test]
    fn late_audio_that_silence_has_replaced_is_skipped() {
        let mut world = Simulation::new();
        world.play(5);
        world.receive_nothing_until(7_000);
        // At 7.0 s silence is written up to 6.6 s: of the audio that arrives now, only the rest is written.
        world.chunk(2 * u64::from(RATE), 0);
        world.play(10);
        assert_eq!(world.beeps_lost(|onset| onset), [5, 6]);
        let expected = SyncCorrections { gaps: 1, gaps_ms: 1_600, offsets: 1, left_out_ms: 1_600, put_in_ms: 0 };
        assert_eq!(world.clock.corrections(), expected);
    }

    #[test]
    fn a_sink_suspended_for_five_seconds_is_one_gap() {
        let mut world = Simulation::new();
        world.play(5);
        world.receive_nothing_until(10_000);
        // Audio that was not played is not lost: it is played five seconds later.
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
