//! Whether sound and picture are in step.

use std::fmt;

/// Beep and flash belong together if they are not further apart than this (seconds); they come once a second.
const REACH: f64 = 0.45;

/// Beeps come whole seconds apart; where they are further off than this (seconds), the sound did not go on as it was.
const STUMBLE: f64 = 0.005;

/// Beeps against flashes.
#[derive(Debug, Clone)]
pub struct Sync {
    /// When each beep that has its flash set in (seconds), in order.
    pub times: Vec<f64>,
    /// Beep minus flash in milliseconds, for each of them: positive where the sound is late.
    pub offsets: Vec<f64>,
    pub beeps: usize,
    pub flashes: usize,
    /// How many of each there should have been.
    pub expected: usize,
}

/// Puts every beep with the flash nearest to it.
pub fn pair(beeps: &[f64], flashes: &[f64], expected: usize) -> Sync {
    let pairs = beeps.iter().filter_map(|beep| {
        let offset = flashes.iter().map(|flash| beep - flash).min_by(|a, b| a.abs().total_cmp(&b.abs()))?;
        (offset.abs() <= REACH).then_some((*beep, offset * 1000.0))
    });
    let (times, offsets) = pairs.unzip();
    Sync { times, offsets, beeps: beeps.len(), flashes: flashes.len(), expected }
}

/// How many beeps a film of `duration` seconds should have, given that they come once a second from the first one that was found.
/// Chrome may take seconds to open the sound card, so the start of the film says nothing.
pub fn expected(beeps: &[f64], duration: f64) -> usize {
    let (Some(first), Some(last)) = (beeps.first(), beeps.last()) else { return duration as usize };
    // One that sets in within the last tenth need not be there, but may; a beep may be some milliseconds off its second.
    let must = (duration - 0.1 - first).max(0.0) as usize;
    must.max((last - first).round() as usize) + 1
}

impl Sync {
    /// Milliseconds; NaN without a pair.
    pub fn mean(&self) -> f64 {
        self.offsets.iter().sum::<f64>() / self.offsets.len() as f64
    }

    /// The offset furthest from zero, in milliseconds.
    pub fn worst(&self) -> f64 {
        self.offsets.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or(f64::NAN)
    }

    /// The offset, in milliseconds, that only a fifth of the pairs exceed; NaN without a pair. A flash is seen with the next frame, so
    /// this is nearer to the truth than the mean is, and it is the same whether the page's frames and the recorder's keep step or not.
    pub fn late(&self) -> f64 {
        let mut sorted = self.offsets.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted.get(sorted.len() * 4 / 5).copied().unwrap_or(f64::NAN)
    }

    /// The same without the page's own share: what the recorder put between them. A busy machine lets Chrome show a flash
    /// later than it should, and Chrome says when it did. `shown`: when each flash was on the screen, in seconds by
    /// any clock, and how much later its beep was, in milliseconds. Pairs of which nothing is known are left out.
    pub fn without_page(&self, shown: &[(f64, f64)]) -> Self {
        let flashes: Vec<f64> = self.times.iter().zip(&self.offsets).map(|(at, offset)| at - offset / 1000.0).collect();
        let near = |flash: f64, shift: f64| {
            shown.iter().find(|(at, _)| (at + shift - flash).abs() < REACH).map(|(_, offset)| *offset)
        };
        // The shift between the clocks is the one by which most flashes find each other.
        let shifts = flashes.iter().take(1).flat_map(|flash| shown.iter().map(move |(at, _)| flash - at));
        let found = |shift: &f64| flashes.iter().filter(|flash| near(**flash, *shift).is_some()).count();
        let shift = shifts.max_by_key(found).unwrap_or(0.0);
        let pairs = self.times.iter().zip(&self.offsets).zip(&flashes);
        let (times, offsets) =
            pairs.filter_map(|((at, offset), flash)| Some((*at, offset - near(*flash, shift)?))).unzip();
        Self { times, offsets, ..self.clone() }
    }

    /// The largest distance of an offset from the mean of them all, in milliseconds.
    pub fn spread(&self) -> f64 {
        let mean = self.mean();
        self.offsets.iter().map(|offset| (offset - mean).abs()).fold(0.0, f64::max)
    }

    /// How the offset changes with time, in milliseconds a minute; NaN for less than two spans of ten beeps.
    ///
    /// A flash is seen with the next frame: each offset is too early by a part of a frame's time, and that part moves up
    /// and down over many seconds as the page's frames and the recorder's pass each other. So it is the latest offset of
    /// each span that counts. And where a player of sound stumbles, it is late from then on, by a step that is no
    /// drift: only spans without a stumble between them are compared. Of all these slopes it is the median (Theil–Sen).
    pub fn drift(&self) -> f64 {
        const SPAN: usize = 10;
        let points: Vec<(f64, f64)> = self.times.iter().copied().zip(self.offsets.iter().copied()).collect();
        let stumbles = |a: &(f64, f64), b: &(f64, f64)| ((b.0 - a.0) - (b.0 - a.0).round()).abs() > STUMBLE;
        let mut slopes = Vec::new();
        for smooth in points.chunk_by(|a, b| !stumbles(a, b)) {
            let latest = |span: &[(f64, f64)]| {
                let offset = span.iter().map(|(_, offset)| *offset).fold(f64::NEG_INFINITY, f64::max);
                (span.iter().map(|(at, _)| at).sum::<f64>() / span.len() as f64, offset)
            };
            let spans: Vec<(f64, f64)> = smooth.chunks_exact(SPAN).map(latest).collect();
            for (n, (at, offset)) in spans.iter().enumerate() {
                slopes.extend(spans[n + 1..].iter().map(|(a, o)| (o - offset) / (a - at) * 60.0));
            }
        }
        slopes.sort_unstable_by(f64::total_cmp);
        slopes.get(slopes.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// The same for offsets without the page's share (see [`Self::without_page`]), in which no sawtooth is left: what a busy machine does to
    /// some of them for seconds counts for nothing, as it is the median of the slopes between all that lie half a minute apart (Theil–Sen).
    pub fn steady_drift(&self) -> f64 {
        const APART: f64 = 30.0;
        let points: Vec<(f64, f64)> = self.times.iter().copied().zip(self.offsets.iter().copied()).collect();
        let pairs = points.iter().enumerate().flat_map(|(n, a)| points[n + 1..].iter().map(move |b| (a, b)));
        let far = pairs.filter(|(a, b)| b.0 - a.0 >= APART);
        let mut slopes: Vec<f64> = far.map(|(a, b)| (b.1 - a.1) / (b.0 - a.0) * 60.0).collect();
        slopes.sort_unstable_by(f64::total_cmp);
        slopes.get(slopes.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// Share of the offsets that are at most `limit` milliseconds from their mean, 0 to 1.
    pub fn within_of_mean(&self, limit: f64) -> f64 {
        let mean = self.mean();
        let near = self.offsets.iter().filter(|offset| (**offset - mean).abs() <= limit).count();
        near as f64 / self.offsets.len().max(1) as f64
    }

    /// Those of its pairs whose beep lies in this part of the film (seconds).
    pub fn within(&self, part: std::ops::Range<f64>) -> Self {
        let pairs = self.times.iter().zip(&self.offsets).filter(|(at, _)| part.contains(at));
        let (times, offsets) = pairs.map(|(at, offset)| (*at, *offset)).unzip();
        Self { times, offsets, ..self.clone() }
    }

    /// Share of the expected beeps that were found, 0 to 1.
    pub fn found(&self) -> f64 {
        (self.beeps as f64 / self.expected.max(1) as f64).min(1.0)
    }
}

impl fmt::Display for Sync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "beep − flash: mean {:+.1} ms, worst {:+.1} ms", self.mean(), self.worst())?;
        if self.drift().is_finite() {
            write!(f, ", {:+.1} ms a minute", self.drift())?;
        }
        let (pairs, beeps, expected) = (self.offsets.len(), self.beeps, self.expected);
        write!(f, " over {pairs} pairs; beeps found {beeps}/{expected}, flashes {}", self.flashes)
    }
}

#[test]
fn what_the_page_did_is_told_from_what_the_recorder_did() {
    let page = |n: u32| if n.is_multiple_of(3) { -16.0 } else { 2.0 };
    let beeps: Vec<f64> = (0..20).map(f64::from).collect();
    let flashes: Vec<f64> = (0..20).map(|n| f64::from(n) - (page(n) + 5.0) / 1000.0).collect();
    // The page's clock is another one, its first flashes came before the film, and one of its reports is missing.
    let shown: Vec<_> =
        (0..23).filter(|n| *n != 9).map(|n| (f64::from(n) + 70.0, if n < 3 { 0.0 } else { page(n - 3) })).collect();
    let sync = pair(&beeps, &flashes, 20);
    let own = sync.without_page(&shown);
    assert_eq!(own.offsets.len(), 19, "{own}");
    assert!(own.offsets.iter().all(|offset| (offset - 5.0).abs() < 1e-6), "{:?}", own.offsets);
    assert!(sync.without_page(&[]).offsets.is_empty());
}

#[test]
fn drift_is_found_beneath_what_a_busy_machine_does_for_seconds() {
    for per_minute in [6.0, 0.0, -1.0] {
        let held_up = |n: u32| {
            if (12..20).contains(&n) {
                30.0
            } else if (62..70).contains(&n) {
                -15.0
            } else {
                0.0
            }
        };
        let offsets = (0..120).map(|n| f64::from(n) / 60.0 * per_minute + held_up(n)).collect();
        let sync = Sync { times: (0..120).map(f64::from).collect(), offsets, beeps: 120, flashes: 120, expected: 120 };
        assert!((sync.steady_drift() - per_minute).abs() < 0.3, "{per_minute}: {}", sync.steady_drift());
    }
}

#[test]
fn drift_is_found_beneath_frames_that_wait_and_players_that_stumble() {
    // A hundred ppm, under a sawtooth of a frame's time that repeats itself every seven seconds.
    let film = |per_minute: f64, stumble: f64| {
        let late = |n: u32| if n > 70 { stumble } else { 0.0 };
        let beeps: Vec<f64> = (0..120).map(|n| f64::from(n) + late(n)).collect();
        let waits = |n: u32| f64::from(n % 7) * 0.033 / 7.0;
        let flashes: Vec<f64> = (0..120).map(|n| f64::from(n) * (1.0 - per_minute / 60_000.0) + waits(n)).collect();
        pair(&beeps, &flashes, 120)
    };
    for per_minute in [6.0, 0.0, -6.0] {
        for stumble in [0.0, 0.012, -0.02, 0.04] {
            let sync = film(per_minute, stumble);
            assert!((sync.drift() - per_minute).abs() < 0.5, "{per_minute} {stumble}: {sync}");
        }
    }
    let sync = film(0.0, 0.0);
    assert_eq!((sync.within(0.0..60.0).offsets.len(), sync.within(60.0..60.0).offsets.len()), (60, 0));
    assert!(sync.within(0.0..19.0).drift().is_nan());
    assert!(
        (sync.within_of_mean(10.0) - 5.0 / 7.0).abs() < 0.02 && sync.within_of_mean(sync.spread()) > 0.99,
        "{sync}"
    );
}
