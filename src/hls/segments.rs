//! Which fragments make a segment: pure.
//!
//! A fragment of a picture begins with a keyframe. A segment begins with the first fragment in each span of the
//! configured length, counted from the beginning: keyframes that an encoder has added between do not make short segments,
//! and a picture that stands still for longer makes a longer one. All pictures are cut at the same times, so that a player
//! may change from one to another at each segment.

use std::time::Duration;

/// By how much two tracks may state the same time differently: one may count in milliseconds.
pub(super) const SAME_TIME: Duration = Duration::from_millis(1);

/// A fragment in the file of its track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    pub begin: Duration,
    pub end: Duration,
    /// Where it begins in the file, and its length, in bytes.
    pub at: u64,
    pub bytes: u64,
}

/// One or more fragments that lie one behind the other.
pub type Segment = Fragment;

/// The times at which segments begin. Every track in `tracks` has a fragment that begins then; of several such times in a
/// span of length `every`, it is the first.
#[must_use]
pub fn starts(tracks: &[&[Fragment]], every: Duration) -> Vec<Duration> {
    let Some((first, others)) = tracks.split_first() else { return Vec::new() };
    let mut starts: Vec<Duration> = Vec::new();
    let mut due = Duration::ZERO;
    for (index, fragment) in first.iter().enumerate() {
        let begin = fragment.begin;
        let in_all = || others.iter().all(|track| begins_at(track, begin));
        if index == 0 || (begin + SAME_TIME >= due && in_all()) {
            starts.push(begin);
            due = next_span(begin + SAME_TIME, every);
        }
    }
    starts
}

/// The segments of a track that begin at these times, the first one with its first fragment; `None`: at one of the times
/// no fragment begins.
#[must_use]
pub fn segments(fragments: &[Fragment], starts: &[Duration]) -> Option<Vec<Segment>> {
    let mut found: Vec<Segment> = Vec::with_capacity(starts.len());
    let mut starts = starts.iter().skip(1).peekable();
    for fragment in fragments {
        let begins = starts.next_if(|start| is_same(**start, fragment.begin)).is_some();
        match found.last_mut().filter(|_| !begins) {
            Some(segment) => (segment.end, segment.bytes) = (fragment.end, segment.bytes + fragment.bytes),
            None => found.push(*fragment),
        }
    }
    starts.peek().is_none().then_some(found)
}

/// How long each segment plays: from the begin of the first one, which stands for what is before it as well, to the next.
#[must_use]
pub fn durations(segments: &[Segment]) -> Vec<Duration> {
    let mut begin = Duration::ZERO;
    let ends = segments.iter().skip(1).map(|next| next.begin).chain(segments.last().map(|last| last.end));
    ends.map(|end| end.saturating_sub(std::mem::replace(&mut begin, end))).collect()
}

/// The longest of them.
#[must_use]
pub fn longest(segments: &[Segment]) -> Duration {
    durations(segments).into_iter().max().unwrap_or_default()
}

/// The begin of the span behind the one of `at`.
pub(super) fn next_span(at: Duration, every: Duration) -> Duration {
    let every_ns = every.as_nanos().max(1);
    let spans = u32::try_from(at.as_nanos() / every_ns).unwrap_or(u32::MAX - 1) + 1;
    every.saturating_mul(spans)
}

pub(super) fn is_same(a: Duration, b: Duration) -> bool {
    a.abs_diff(b) <= SAME_TIME
}

fn begins_at(track: &[Fragment], time: Duration) -> bool {
    let from = track.partition_point(|fragment| fragment.begin + SAME_TIME < time);
    track.get(from).is_some_and(|fragment| is_same(fragment.begin, time))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(4);

    /// Fragments of ten bytes that begin at these times, in milliseconds, and the end of the last one.
    fn track(times: &[u64]) -> Vec<Fragment> {
        let ms = Duration::from_millis;
        let pairs = times.windows(2).enumerate();
        pairs
            .map(|(index, pair)| Fragment { begin: ms(pair[0]), end: ms(pair[1]), at: 10 * index as u64, bytes: 10 })
            .collect()
    }

    fn cut(times: &[u64], others: &[&[Fragment]]) -> Vec<u128> {
        let first = track(times);
        let all: Vec<&[Fragment]> = std::iter::once(first.as_slice()).chain(others.iter().copied()).collect();
        starts(&all, EVERY).iter().map(Duration::as_millis).collect()
    }

    #[test]
    fn a_segment_begins_in_each_span_of_the_length() {
        assert_eq!(cut(&[0, 4033, 8000, 12_001, 15_000], &[]), [0, 4033, 8000, 12_001]);
        // Keyframes between, a picture that stands still, one that begins a little early by rounding.
        assert_eq!(cut(&[0, 1000, 3900, 4500, 7999, 9000, 9100], &[]), [0, 4500, 7999]);
        assert_eq!(cut(&[0, 10_000, 11_000, 20_000, 21_000], &[]), [0, 10_000, 20_000]);
        assert_eq!(cut(&[300, 3000, 4000, 5000], &[]), [300, 4000]);
        assert_eq!(cut(&[], &[]), [0; 0]);
    }

    #[test]
    fn all_tracks_are_cut_at_the_same_times() {
        let other = track(&[0, 4034, 8500, 12_000, 15_000]);
        assert_eq!(cut(&[0, 4033, 8000, 8500, 12_000, 15_000], &[&other]), [0, 4033, 8500, 12_000]);
        let times = starts(&[&track(&[0, 4033, 8000, 8500, 12_000, 15_000]), &other], EVERY);
        let segments = segments(&other, &times).unwrap();
        assert_eq!(segments.len(), 4);
        assert_eq!(segments[1], Fragment { at: 10, bytes: 10, ..other[1] });
        assert_eq!(super::segments(&track(&[0, 8500, 9000]), &times), None);
    }

    #[test]
    fn nothing_is_left_out_and_nothing_is_counted_twice() {
        let fragments = track(&[200, 1000, 4100, 5000, 9000, 9500]);
        let times = starts(&[&fragments], EVERY);
        let segments = segments(&fragments, &times).unwrap();
        let ranges: Vec<_> = segments.iter().map(|segment| (segment.at, segment.bytes)).collect();
        assert_eq!(ranges, [(0, 20), (20, 20), (40, 10)]);
        let durations: Vec<_> = durations(&segments).iter().map(Duration::as_millis).collect();
        assert_eq!(durations, [4100, 4900, 500]);
        assert_eq!(longest(&segments).as_millis(), 4900);
        assert_eq!(super::segments(&[], &[]), Some(Vec::new()));
    }
}
