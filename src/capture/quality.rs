//! Quality of a recording, measured while it is captured: silence, level, frozen and black picture. Pure: input is the
//! data sent to ffmpeg; time is an argument.

use std::time::Duration;

use crate::capture::audio::av_sync::duration;

/// Length of the windows in which the audio level is measured: long enough to ignore pauses between words, short enough
/// that a click does not hide minutes of silence.
const WINDOW: Duration = Duration::from_millis(20);
/// A window whose highest sample is at most this is silent: -60 dBFS (32768 / 1000), below the noise of an open
/// microphone, above the dither of a muted one.
const SILENT_PEAK: u16 = 32;
/// 20 dB in 1.7 s (IEC 60268-10, type I), each 20 ms.
const METER_FALL: f32 = 0.973_3;
/// What the meter shows as silence, in dBFS.
const METER_FLOOR: f64 = -60.0;
/// 0 dBFS for 16-bit samples.
const FULL_SCALE: f64 = 32_768.0;
/// Stereo, 16 bits each.
const CHANNELS: u32 = 2;

/// Level and silence of a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AudioStats {
    /// Silent share of all audio, 0…1, inserted silence included.
    pub silence_share: f64,
    pub longest_silence: Duration,
    /// The highest sample, in dBFS. `None`: digital silence only, or no audio.
    pub peak_dbfs: Option<f64>,
    /// Root mean square of all audio, silence included, in dBFS: a full-scale sine has -3.01.
    pub mean_dbfs: Option<f64>,
}

/// Measures the audio of one recording. Lengths are counted in samples per channel.
#[derive(Clone, Debug)]
pub struct AudioQuality {
    rate: u32,
    /// Length of a window.
    window: u64,
    /// Samples in the current window.
    window_filled: u64,
    window_peak: u16,
    total: u64,
    silent: u64,
    /// Silence up to the start of the current window.
    current: u64,
    longest: u64,
    peak: u16,
    /// The highest sample of late, which sinks by [`METER_FALL`] each window: what a peak programme meter shows.
    meter: f32,
    /// Sum of all squares; a day at full scale does not fit into 64 bits.
    energy: u128,
}

impl AudioQuality {
    /// `rate`: samples per second.
    #[must_use]
    pub fn new(rate: u32) -> Self {
        let window = u64::from(rate) * u64::try_from(WINDOW.as_millis()).unwrap_or(1) / 1000;
        Self {
            rate: rate.max(1),
            window: window.max(1),
            window_filled: 0,
            window_peak: 0,
            total: 0,
            silent: 0,
            current: 0,
            longest: 0,
            peak: 0,
            meter: 0.0,
            energy: 0,
        }
    }

    /// Measures a chunk of 16-bit little-endian interleaved stereo samples.
    pub fn add_samples(&mut self, mut chunk: &[u8]) {
        const FRAME: usize = 2 * CHANNELS as usize;
        while chunk.len() >= FRAME {
            let remaining = usize::try_from(self.window - self.window_filled).unwrap_or(usize::MAX);
            let (piece, rest) = chunk.split_at(remaining.min(chunk.len() / FRAME) * FRAME);
            let (peak, energy) = measure(piece);
            self.window_peak = self.window_peak.max(peak);
            self.energy += u128::from(energy);
            self.window_filled += (piece.len() / FRAME) as u64;
            if self.window_filled == self.window {
                self.end_window();
            }
            chunk = rest;
        }
    }

    fn end_window(&mut self) {
        self.total += self.window_filled;
        if self.window_peak <= SILENT_PEAK {
            self.silent += self.window_filled;
            self.current += self.window_filled;
            self.longest = self.longest.max(self.current);
        } else {
            self.current = 0;
        }
        self.peak = self.peak.max(self.window_peak);
        self.meter = (self.meter * METER_FALL).max(f32::from(self.window_peak));
        (self.window_filled, self.window_peak) = (0, 0);
    }

    /// Length of the silence up to the last complete window.
    #[must_use]
    pub fn silent_for(&self) -> Duration {
        duration(self.current, self.rate)
    }

    /// The level of late in dBFS: peaks at once, and 20 dB less in 1.7 s. `None`: silence.
    #[must_use]
    pub fn level_dbfs(&self) -> Option<f64> {
        decibels(f64::from(self.meter)).filter(|level| *level > METER_FLOOR)
    }

    /// Statistics of all audio up to now.
    #[must_use]
    pub fn report(&self) -> AudioStats {
        let mut all = self.clone();
        all.end_window();
        let length = |samples| duration(samples, all.rate);
        AudioStats {
            silence_share: share(length(all.silent), length(all.total)),
            longest_silence: length(all.longest),
            peak_dbfs: decibels(f64::from(all.peak)),
            mean_dbfs: decibels(root_mean_square(all.energy, all.total * u64::from(CHANNELS))),
        }
    }
}

/// The highest magnitude and the sum of squares of at most one window. Written so that the compiler vectorises it:
/// minimum and maximum instead of a magnitude, wrapping sums instead of checked ones (they cannot overflow here).
fn measure(piece: &[u8]) -> (u16, u64) {
    let (mut low, mut high, mut energy) = (0i16, 0i16, 0u64);
    for bytes in piece.chunks_exact(4) {
        let (left, right) = (i16::from_le_bytes([bytes[0], bytes[1]]), i16::from_le_bytes([bytes[2], bytes[3]]));
        low = low.min(left).min(right);
        high = high.max(left).max(right);
        let (left, right) = (i32::from(left), i32::from(right));
        // Two squares of 2^30 each fit into 32 bits unsigned.
        let squares = left.wrapping_mul(left).wrapping_add(right.wrapping_mul(right)).cast_unsigned();
        energy = energy.wrapping_add(u64::from(squares));
    }
    (low.unsigned_abs().max(high.unsigned_abs()), energy)
}

#[expect(clippy::cast_precision_loss, reason = "a level is told with two decimals")]
fn root_mean_square(energy: u128, samples: u64) -> f64 {
    if samples == 0 { 0.0 } else { (energy as f64 / samples as f64).sqrt() }
}

fn decibels(amplitude: f64) -> Option<f64> {
    (amplitude > 0.0).then(|| 20.0 * (amplitude / FULL_SCALE).log10())
}

fn share(part: Duration, whole: Duration) -> f64 {
    if whole.is_zero() { 0.0 } else { part.as_secs_f64() / whole.as_secs_f64() }
}

/// Freezes and black picture of a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct VideoStats {
    /// The longest time without a change.
    pub longest_freeze: Duration,
    /// Black share of the time from the first frame to the last one, 0…1.
    pub black_share: f64,
}

/// Measures the video of one recording. A frame is shown until the next one.
#[derive(Clone, Debug, Default)]
pub struct VideoQuality {
    /// Times of the first and of the latest frame.
    span: Option<(Duration, Duration)>,
    /// Time of the last frame with new content.
    changed: Duration,
    freeze: Duration,
    /// Whether the latest frame is black, and the total time of black frames.
    is_black: bool,
    black: Duration,
}

impl VideoQuality {
    /// Records a frame sent at `at` (since the start). `is_black` is called only for frames with new content.
    pub fn add_frame(&mut self, at: Duration, is_new: bool, is_black: impl FnOnce() -> bool) {
        let (first, last) = self.span.unwrap_or((at, at));
        if self.is_black {
            self.black += at.saturating_sub(last);
        }
        if self.span.is_some() {
            self.freeze = self.freeze.max(at.saturating_sub(self.changed));
        }
        if is_new || self.span.is_none() {
            self.changed = at;
            self.is_black = is_black();
        }
        self.span = Some((first, at));
    }

    /// Time since the last frame with new content, at `now` (since the start); zero before the first frame.
    #[must_use]
    pub fn still_for(&self, now: Duration) -> Duration {
        self.span.map_or(Duration::ZERO, |_| now.saturating_sub(self.changed))
    }

    /// Statistics up to the latest frame.
    #[must_use]
    pub fn report(&self) -> VideoStats {
        let (first, last) = self.span.unwrap_or_default();
        VideoStats { longest_freeze: self.freeze, black_share: share(self.black, last.saturating_sub(first)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 48_000;

    /// The same samples on both channels.
    fn stereo(samples: impl Iterator<Item = i16>) -> Vec<u8> {
        samples.flat_map(|sample| [sample.to_le_bytes(), sample.to_le_bytes()].concat()).collect()
    }

    fn level(value: i16, ms: usize) -> Vec<u8> {
        stereo(std::iter::repeat_n(value, ms * RATE as usize / 1000))
    }

    /// A 1 kHz sine of this amplitude.
    #[expect(clippy::cast_possible_truncation, reason = "within 16 bits")]
    fn sine(amplitude: f64, seconds: u32) -> Vec<u8> {
        let at = |i: u32| (f64::from(i) / 48.0 * std::f64::consts::TAU).sin() * amplitude;
        stereo((0..seconds * RATE).map(|i| at(i).round() as i16))
    }

    fn near(found: Option<f64>, wanted: f64) -> bool {
        found.is_some_and(|found| (found - wanted).abs() < 0.01)
    }

    #[test]
    fn the_meter_shows_a_peak_at_once_and_sinks_by_20_db_in_1_7_s() {
        let mut watch = AudioQuality::new(RATE);
        assert_eq!(watch.level_dbfs(), None);
        watch.add_samples(&level(-32_768, 20));
        assert!(near(watch.level_dbfs(), 0.0));
        watch.add_samples(&level(0, 1_700));
        assert!((watch.level_dbfs().unwrap() + 20.0).abs() < 0.1, "{:?}", watch.level_dbfs());
        watch.add_samples(&level(0, 5_000));
        assert_eq!(watch.level_dbfs(), None, "silence");
    }

    #[test]
    fn a_sine_at_full_scale_peaks_at_0_and_has_a_mean_of_3_below() {
        let mut watch = AudioQuality::new(RATE);
        watch.add_samples(&sine(32_767.0, 2));
        let report = watch.report();
        assert!(near(report.peak_dbfs, 0.0) && near(report.mean_dbfs, -3.01), "{report:?}");
        assert!(report.silence_share.abs() < f64::EPSILON && report.longest_silence.is_zero(), "{report:?}");
        // An equal length of silence halves the energy and keeps the peak.
        watch.add_samples(&level(0, 2000));
        let report = watch.report();
        assert!(near(report.peak_dbfs, 0.0) && near(report.mean_dbfs, -6.02), "{report:?}");
        assert!((report.silence_share - 0.5).abs() < 1e-9, "{report:?}");
    }

    #[test]
    fn the_loudest_sample_there_is_does_not_overflow() {
        let mut watch = AudioQuality::new(RATE);
        watch.add_samples(&level(i16::MIN, 100));
        let report = watch.report();
        assert_eq!((report.peak_dbfs, report.mean_dbfs), (Some(0.0), Some(0.0)));
    }

    #[test]
    fn digital_silence_has_no_level() {
        let mut watch = AudioQuality::new(RATE);
        assert_eq!(watch.report(), AudioStats::default());
        watch.add_samples(&level(0, 3010));
        let report = watch.report();
        assert_eq!((report.peak_dbfs, report.mean_dbfs), (None, None));
        assert!((report.silence_share - 1.0).abs() < f64::EPSILON, "{report:?}");
        assert_eq!(report.longest_silence, Duration::from_millis(3010));
        assert_eq!(watch.silent_for(), Duration::from_secs(3), "up to the last whole window");
    }

    #[test]
    fn silence_is_what_stays_below_60_db() {
        for (value, silent) in [(32, true), (-32, true), (33, false), (-33, false)] {
            let mut watch = AudioQuality::new(RATE);
            watch.add_samples(&level(value, 1000));
            assert_eq!(watch.silent_for() == Duration::from_secs(1), silent, "{value}");
        }
    }

    #[test]
    fn silences_are_measured_however_the_chunks_are_cut() {
        let mut all = Vec::new();
        for (value, ms) in [(0, 1000), (9000, 500), (20, 2500), (-9000, 500), (0, 500)] {
            all.extend(level(value, ms));
        }
        for size in [4, 1000, 3840, 5000, 100_000, all.len()] {
            let mut watch = AudioQuality::new(RATE);
            // Chunks hold whole samples.
            all.chunks(size / 4 * 4).for_each(|chunk| watch.add_samples(chunk));
            let report = watch.report();
            assert_eq!(report.longest_silence, Duration::from_millis(2500), "{size}");
            assert!((report.silence_share - 0.8).abs() < 1e-9, "{size}: {report:?}");
            assert_eq!(watch.silent_for(), Duration::from_millis(500), "{size}");
            assert!(near(report.peak_dbfs, 20.0 * (9000.0f64 / 32_768.0).log10()), "{report:?}");
        }
    }

    #[test]
    fn the_longest_freeze_lies_between_two_changes_or_before_the_end() {
        let ms = Duration::from_millis;
        let mut watch = VideoQuality::default();
        assert_eq!(watch.report(), VideoStats::default());
        // The stream's first frame arrives some time after its start.
        for (at, is_new) in [(700, true), (740, true), (1740, false), (2740, false), (3000, true), (3040, true)] {
            watch.add_frame(ms(at), is_new, || false);
        }
        assert_eq!(watch.report().longest_freeze, ms(3000 - 740));
        for at in [4040, 5040, 6040] {
            watch.add_frame(ms(at), false, || false);
        }
        assert_eq!(watch.report().longest_freeze, ms(6040 - 3040));
    }

    #[test]
    fn a_picture_is_still_since_its_last_change() {
        let ms = Duration::from_millis;
        let mut watch = VideoQuality::default();
        assert_eq!(watch.still_for(ms(9000)), Duration::ZERO, "there is no picture yet");
        watch.add_frame(ms(700), true, || false);
        watch.add_frame(ms(1700), false, || false);
        assert_eq!(watch.still_for(ms(2500)), ms(2500 - 700), "a frame that repeats is no change");
        watch.add_frame(ms(2700), true, || false);
        assert_eq!(watch.still_for(ms(2700)), Duration::ZERO);
        assert_eq!(watch.still_for(ms(2600)), Duration::ZERO, "asked before, sent meanwhile");
        assert_eq!(watch.still_for(ms(3000)), ms(300));
    }

    #[test]
    fn black_is_weighted_by_time_and_judged_only_where_the_content_is_new() {
        let ms = Duration::from_millis;
        let mut watch = VideoQuality::default();
        let unasked = || -> bool { panic!("the content is not new") };
        watch.add_frame(ms(0), true, || true);
        watch.add_frame(ms(1000), false, unasked);
        watch.add_frame(ms(2000), true, || false);
        watch.add_frame(ms(3000), false, unasked);
        watch.add_frame(ms(7000), true, || true);
        watch.add_frame(ms(8000), false, unasked);
        assert!((watch.report().black_share - 3.0 / 8.0).abs() < 1e-9, "{:?}", watch.report());
    }
}
