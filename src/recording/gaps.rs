//! The gaps of a recording: pure.

use std::time::Duration;

use serde::Serialize;

use crate::recording::journal::RecordingPart;

/// What a piece says that the archive lacks.
const LACKING: &str = "the archive of the fleet lacks this piece";

/// A time without capture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gap {
    /// Where it is in the recording, in seconds from its start.
    pub at_s: f64,
    /// How much of the meeting is missing, in seconds of the wall clock.
    pub length_s: f64,
    pub cause: String,
}

impl Gap {
    fn new(at: Duration, length_ms: u64, cause: String) -> Self {
        let seconds = |duration: Duration| (duration.as_secs_f64() * 1e3).round() / 1e3;
        Self { at_s: seconds(at), length_s: seconds(Duration::from_millis(length_ms)), cause }
    }
}

/// The gaps between parts of these measured lengths (`None`: the part is not in the recording), and those within parts of
/// which the archive lacks a piece.
#[must_use]
pub fn gaps(parts: &[RecordingPart], lengths: &[Option<Duration>]) -> Vec<Gap> {
    let mut gaps = Vec::new();
    let mut at = Duration::ZERO;
    let mut previous: Option<(&RecordingPart, Duration)> = None;
    for (part, length) in parts.iter().zip(lengths) {
        let Some(length) = length else { continue };
        if let Some((last, lasted)) = previous {
            let end = last.began_at.map(|began| began + u64::try_from(lasted.as_millis()).unwrap_or(0));
            let missing = part.began_at.zip(end).map_or(0, |(began, end)| began.saturating_sub(end));
            gaps.push(Gap::new(at, missing, cause(last, part)));
        }
        for (from, to) in part.taken.iter().flat_map(|taken| &taken.files).flat_map(|file| &file.lacks_ms) {
            if Duration::from_millis(*from) < *length {
                let cause = LACKING.to_owned();
                gaps.push(Gap::new(at + Duration::from_millis(*from), to.saturating_sub(*from), cause));
            }
        }
        at += *length;
        previous = Some((part, *length));
    }
    gaps
}

/// Why a part ended before the next one.
fn cause(part: &RecordingPart, next: &RecordingPart) -> String {
    let same_node = |node: &str| next.taken.as_ref().is_some_and(|next| next.node == node);
    match (&part.ended, &part.taken) {
        (Some(end), _) => end.cause.clone().unwrap_or_else(|| "the capture was ended".to_owned()),
        (None, Some(taken)) if same_node(&taken.node) => format!("the capture by {} broke", taken.node),
        (None, Some(taken)) => format!("its recorder {} was gone or cut off", taken.node),
        (None, None) => "the recorder itself ended (killed, or the host went down)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::rig::CaptureReport;
    use crate::recording::journal::PartEnd;
    use crate::recording::taken_part::{TakenFile, TakenPart};

    fn part(began_at: u64, cause: Option<&str>) -> RecordingPart {
        let end = |cause: &str| PartEnd { at: 0, cause: Some(cause.into()), report: CaptureReport::default() };
        RecordingPart { began_at: Some(began_at), ended: cause.map(end), ..RecordingPart::default() }
    }

    #[test]
    fn gaps_lie_between_the_parts_that_are_in_it() {
        let seconds = |n| Some(Duration::from_secs(n));
        let parts = [part(1_000, Some("Chrome ended")), part(12_000, None), part(14_000, None), part(40_000, None)];
        let found = gaps(&parts, &[seconds(10), None, seconds(20), seconds(5)]);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].at_s, found[0].length_s, found[0].cause.as_str()), (10.0, 3.0, "Chrome ended"));
        assert_eq!((found[1].at_s, found[1].length_s), (30.0, 6.0));
        // A clock that was set back makes no negative gap.
        assert!(gaps(&[part(9_000, None), part(1_000, None)], &[seconds(1), seconds(1)])[0].length_s.abs() < 1e-9);
    }

    #[test]
    fn what_the_archive_lacks_of_another_nodes_part_is_a_gap_in_it() {
        let file = TakenFile { place: "a-1".into(), goes_on: false, pieces: 3, lacks_ms: vec![(4_000, 8_000)] };
        let taken = |number| {
            let (node, files) = ("node_a".to_owned(), vec![file.clone()]);
            Some(TakenPart { node, lease: 0, number, first_ms: 0, used_ms: None, files })
        };
        let parts = [
            RecordingPart { taken: taken(1), ..part(0, None) },
            RecordingPart { taken: taken(2), ..part(20_000, None) },
            part(40_000, None),
        ];
        let found = gaps(&parts, &[20, 3, 5].map(|n| Some(Duration::from_secs(n))));
        let told: Vec<_> = found.iter().map(|gap| (gap.at_s, gap.length_s, gap.cause.as_str())).collect();
        assert_eq!(
            told,
            [
                (4.0, 4.0, LACKING),
                (20.0, 0.0, "the capture by node_a broke"),
                (23.0, 17.0, "its recorder node_a was gone or cut off"),
            ]
        );
    }
}
