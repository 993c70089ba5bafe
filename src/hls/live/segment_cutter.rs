//! Cuts the tracks of a recording that runs into segments: pure.
//!
//! The rule is that of finished recordings (`hls/segments.rs`): a segment begins with the first fragment in each span of
//! the configured length, in all tracks at the same times. Fragments of all tracks come in any order; a segment is there
//! as soon as all tracks have it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::hls::live::fragments::MediaFragment;
use crate::hls::segments::{SAME_TIME, is_same, next_span};

/// Media that wait for those of another track, in bytes at most.
const WAITING: usize = 256 << 20;

/// Cuts tracks that begin together.
#[derive(Clone, Debug)]
pub struct SegmentCutter {
    every: Duration,
    /// When the recording begins, in the times of its fragments.
    origin: Duration,
    /// When the next segment begins.
    begin: Duration,
    /// The fragments that are in no segment yet, of each track; the first track says where it is cut.
    waiting: Vec<VecDeque<MediaFragment>>,
    /// When the latest fragment of each track ends.
    ends: Vec<Option<Duration>>,
}

impl SegmentCutter {
    /// `tracks`: their number, at least one. `origin`: when the first segment begins, whose media may begin later.
    #[must_use]
    pub fn new(tracks: usize, every: Duration, origin: Duration) -> Self {
        let (waiting, ends) = (vec![VecDeque::new(); tracks.max(1)], vec![None; tracks.max(1)]);
        Self { every, origin, begin: origin, waiting, ends }
    }

    /// The segments that are complete with this fragment: each is one of each track.
    ///
    /// # Errors
    /// Why the tracks cannot be cut at the same times.
    pub fn take(&mut self, track: usize, fragment: MediaFragment) -> Result<Vec<Vec<MediaFragment>>, &'static str> {
        let (Some(end), Some(waiting)) = (self.ends.get_mut(track), self.waiting.get_mut(track)) else {
            return Err("there is no such track");
        };
        if end.is_some_and(|end| !is_same(end, fragment.begin)) {
            return Err("a fragment does not begin when the one before it ends");
        }
        *end = Some(fragment.end);
        waiting.push_back(fragment);
        let mut found = Vec::new();
        while let Some(lengths) = self.next_cut()? {
            found.push(self.cut(&lengths));
        }
        let bytes: usize = self.waiting.iter().flatten().map(|fragment| fragment.bytes.len()).sum();
        if bytes > WAITING { Err("a track is far behind the others") } else { Ok(found) }
    }

    /// When the latest media end.
    #[must_use]
    pub fn latest(&self) -> Option<Duration> {
        self.ends.iter().flatten().max().copied()
    }

    /// The last segment; `None`: all media are in others.
    ///
    /// # Errors
    /// Where some of the tracks have no media for it.
    pub fn end(&mut self) -> Result<Option<Vec<MediaFragment>>, &'static str> {
        let lengths: Vec<usize> = self.waiting.iter().map(VecDeque::len).collect();
        if lengths.iter().all(|length| *length == 0) {
            return Ok(None);
        }
        if lengths.contains(&0) {
            return Err("a track ends before the others");
        }
        Ok(Some(self.cut(&lengths)))
    }

    /// Of how many fragments of each track the next segment is; `None`: it is not complete.
    fn next_cut(&self) -> Result<Option<Vec<usize>>, &'static str> {
        let due = self.origin + next_span((self.begin + SAME_TIME).saturating_sub(self.origin), self.every);
        let Some(lead) = self.waiting[0].iter().find(|fragment| fragment.end + SAME_TIME >= due) else {
            return Ok(None);
        };
        let mut lengths = Vec::with_capacity(self.waiting.len());
        for track in &self.waiting {
            let Some(last) = track.iter().position(|fragment| fragment.end + SAME_TIME >= lead.end) else {
                return Ok(None);
            };
            if !is_same(track[last].end, lead.end) {
                return Err("a rendition has no keyframe where the others have one");
            }
            lengths.push(last + 1);
        }
        Ok(Some(lengths))
    }

    fn cut(&mut self, lengths: &[usize]) -> Vec<MediaFragment> {
        let begin = self.begin;
        let join = |(track, length): (&mut VecDeque<MediaFragment>, &usize)| {
            let mut segment = MediaFragment { begin, end: begin, bytes: Vec::new() };
            for fragment in track.drain(..*length) {
                segment.end = fragment.end;
                segment.bytes.extend(fragment.bytes);
            }
            segment
        };
        let segments: Vec<MediaFragment> = self.waiting.iter_mut().zip(lengths).map(join).collect();
        self.begin = segments.first().map_or(begin, |segment| segment.end);
        segments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(4);

    fn fragment(begin: u64, end: u64) -> MediaFragment {
        MediaFragment { begin: Duration::from_millis(begin), end: Duration::from_millis(end), bytes: vec![1; 10] }
    }

    /// Begin, end and bytes of the segments of the first track.
    fn cut(cutter: &mut SegmentCutter, times: &[u64]) -> Vec<(u128, u128, usize)> {
        let pairs = times.windows(2).flat_map(|pair| cutter.take(0, fragment(pair[0], pair[1])).unwrap());
        pairs.map(|all| (all[0].begin.as_millis(), all[0].end.as_millis(), all[0].bytes.len())).collect()
    }

    #[test]
    fn a_segment_is_complete_as_soon_as_the_next_one_begins_in_another_span() {
        let mut one = SegmentCutter::new(1, EVERY, Duration::ZERO);
        // The first frame comes a moment late, keyframes between, one by rounding early, one that stands for long.
        let segments = cut(&mut one, &[40, 1000, 4100, 4500, 7999, 12_000, 17_000, 18_000]);
        assert_eq!(segments, [(0, 4100, 20), (4100, 7999, 20), (7999, 12_000, 10), (12_000, 17_000, 10)]);
        let last = one.end().unwrap().unwrap();
        assert_eq!((last[0].begin.as_millis(), last[0].end.as_millis()), (17_000, 18_000));
        assert_eq!(one.end().unwrap(), None);
    }

    #[test]
    fn times_that_do_not_begin_at_zero_are_counted_from_where_they_begin() {
        let mut one = SegmentCutter::new(1, EVERY, Duration::from_secs(9));
        assert_eq!(cut(&mut one, &[9000, 12_000, 13_100]), [(9000, 13_100, 20)]);
    }

    #[test]
    fn a_segment_waits_for_the_slowest_track_and_all_are_cut_alike() {
        let mut two = SegmentCutter::new(2, EVERY, Duration::ZERO);
        assert_eq!(two.take(0, fragment(0, 2000)).unwrap().len(), 0);
        assert_eq!(two.take(0, fragment(2000, 4000)).unwrap().len(), 0);
        assert_eq!(two.take(0, fragment(4000, 8000)).unwrap().len(), 0);
        let segments = two.take(1, fragment(0, 4001)).unwrap();
        assert_eq!(segments.iter().map(|all| [all[0].bytes.len(), all[1].bytes.len()]).collect::<Vec<_>>(), [[20, 10]]);
        assert!(two.clone().end().unwrap_err().contains("ends before"));
        let error = two.take(1, fragment(4001, 9000)).unwrap_err();
        assert!(error.contains("no keyframe"), "{error}");
        assert!(two.take(0, fragment(8100, 9000)).unwrap_err().contains("does not begin"));
    }
}
