//! Holds a measured result against what its raw file shows, whatever the shape of that: pure; [`crate::media::ffprobe`]
//! measures.
//!
//! A result must play each track for as long as the raw file does, and hold as much of its sound. Sound is the measure
//! of what is there: its packets are short and follow each other. Frames last up to a second in a raw file and up to ten
//! in a result, from which repetitions are left out; so only a frame that stands for longer than that is a gap.

use std::time::Duration;

use crate::media::ffprobe::{MediaInfo, MediaStream};
use crate::media::packet_times::TrackTimes;

/// How far a result may be from its raw file: a frame, the lead-in of an audio codec, a packet at either end.
const SLACK: Duration = Duration::from_secs(1);
/// What is allowed where that is more and the raw file is of another kind of recorder: the times in it may be wrong.
const SHARE: f64 = 0.005;

/// Required content of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpectedMedia {
    pub duration: Duration,
    /// Allowed difference of all times.
    pub tolerance: Duration,
    /// `None`: no picture is needed.
    pub video: Option<ExpectedTrack>,
    /// `None`: no sound is needed.
    pub audio: Option<ExpectedTrack>,
    /// The longest time for which one frame may stand; `None`: any.
    pub longest_frame: Option<Duration>,
}

/// A required track.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpectedTrack {
    /// When it plays in the raw file; `None` where that was not measured.
    pub times: Option<TrackTimes>,
}

/// How a result differs from its raw file.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum MediaMismatch {
    #[error("the result has no picture, its raw file has one")]
    NoVideo,
    #[error("the result has no sound, its raw file has some")]
    NoAudio,
    #[error("the result has a picture of 0×0 pixels")]
    NoPixels,
    #[error("the result lasts {made:.1?}, its raw file {raw:.1?}")]
    Duration { made: Duration, raw: Duration },
    #[error("the {what} of the result begins at {made:.1?}, that of its raw file at {raw:.1?}")]
    Begin { what: &'static str, made: Duration, raw: Duration },
    #[error("the {what} of the result ends at {made:.1?}, that of its raw file at {raw:.1?}")]
    End { what: &'static str, made: Duration, raw: Duration },
    #[error("the result holds {made:.1?} of sound, its raw file {raw:.1?}")]
    SoundGap { made: Duration, raw: Duration },
    #[error("a frame of the result stands for {made:.1?}, which is longer than {limit:.1?}")]
    VideoGap { made: Duration, limit: Duration },
}

/// Allowed difference between the lengths of a raw file and of what is made from it.
#[must_use]
pub fn tolerance(raw: &MediaInfo) -> Duration {
    if raw.is_matroska() { SLACK } else { SLACK.max(raw.duration.mul_f64(SHARE)) }
}

/// Whether two durations can be of the same recording, of which one was copied from the other.
#[must_use]
pub fn same_duration(made: Duration, raw: Duration) -> bool {
    made.abs_diff(raw) <= SLACK
}

/// Whether the duration can be that of a file that was joined from `parts` parts, which last `total` together.
#[must_use]
pub fn same_joined_duration(made: Duration, total: Duration, parts: usize) -> bool {
    /// Each part may begin with the lead-in of a codec and end within a frame.
    const PER_PART: Duration = Duration::from_millis(200);
    made.abs_diff(total) <= SLACK + PER_PART * u32::try_from(parts).unwrap_or(u32::MAX)
}

/// The track that a result must have because of this stream of its raw file: none for a stream of which nothing can be
/// decoded.
#[must_use]
pub fn expected_track(raw: Option<&MediaStream>) -> Option<ExpectedTrack> {
    let raw = raw?;
    // Unmeasured: believed to be there.
    (raw.packets.is_none() || raw.times.is_some()).then_some(ExpectedTrack { times: raw.times })
}

/// # Errors
/// The first thing in which `made` is not what was `expected`.
pub fn compare<'a>(made: &'a MediaInfo, expected: &ExpectedMedia) -> Result<(), MediaMismatch> {
    let filled = |stream: Option<&'a MediaStream>| stream.filter(|stream| stream.packets != Some(0));
    let (video, audio) = (filled(made.video()), filled(made.audio()));
    if expected.video.is_some() && video.is_none() {
        return Err(MediaMismatch::NoVideo);
    }
    if expected.audio.is_some() && audio.is_none() {
        return Err(MediaMismatch::NoAudio);
    }
    if video.is_some_and(|MediaStream { width, height, .. }| *width == 0 || *height == 0) {
        return Err(MediaMismatch::NoPixels);
    }
    let tolerance = expected.tolerance;
    if made.duration.abs_diff(expected.duration) > tolerance {
        return Err(MediaMismatch::Duration { made: made.duration, raw: expected.duration });
    }
    let times = |track: Option<ExpectedTrack>, stream: Option<&MediaStream>| {
        Some((track?.times?, stream.and_then(|stream| stream.times)?))
    };
    if let Some((raw, made)) = times(expected.video, video) {
        // The raw file's last frame lasts for an unknown time.
        compare_span("picture", (made.begin, made.end), (raw.begin, raw.last), tolerance)?;
        if let Some(limit) = expected.longest_frame.filter(|limit| made.longest > *limit) {
            return Err(MediaMismatch::VideoGap { made: made.longest, limit });
        }
    }
    if let Some((raw, made)) = times(expected.audio, audio) {
        compare_span("sound", (made.begin, made.end), (raw.begin, raw.end), tolerance)?;
        // Where packets overlap, there is less to be played than they hold.
        let there = raw.covered.min(raw.end.saturating_sub(raw.begin));
        if made.covered + tolerance < there {
            return Err(MediaMismatch::SoundGap { made: made.covered, raw: there });
        }
    }
    Ok(())
}

/// A track may begin earlier and end later, as an encoder may repeat frames; not the other way round.
fn compare_span(
    what: &'static str,
    (begin, end): (Duration, Duration),
    (raw_begin, raw_end): (Duration, Duration),
    tolerance: Duration,
) -> Result<(), MediaMismatch> {
    if begin > raw_begin + tolerance {
        return Err(MediaMismatch::Begin { what, made: begin, raw: raw_begin });
    }
    if end + tolerance < raw_end {
        return Err(MediaMismatch::End { what, made: end, raw: raw_end });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::packet_times::StreamKind;

    const HOURS_10: f64 = 36_000.0;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    /// A track that plays from `begin` to `end`.
    fn track(kind: StreamKind, begin: f64, end: f64) -> MediaStream {
        let times = TrackTimes {
            begin: seconds(begin),
            last: seconds(end - 0.02),
            end: seconds(end),
            covered: seconds(end - begin),
            longest: seconds(1.0),
        };
        MediaStream { kind, width: 2, height: 2, packets: Some(9), times: Some(times), ..MediaStream::default() }
    }

    fn picture(begin: f64, end: f64) -> MediaStream {
        track(StreamKind::Video, begin, end)
    }

    fn sound(begin: f64, end: f64) -> MediaStream {
        track(StreamKind::Audio, begin, end)
    }

    fn media(streams: Vec<MediaStream>) -> MediaInfo {
        let end = streams.iter().filter_map(|stream| Some(stream.times?.end)).max().unwrap_or_default();
        MediaInfo { duration: end, streams, container: "matroska,webm".into(), incomplete: None }
    }

    fn expected(raw: &MediaInfo) -> ExpectedMedia {
        ExpectedMedia {
            duration: raw.duration,
            tolerance: tolerance(raw),
            video: expected_track(raw.video()),
            audio: expected_track(raw.audio()),
            longest_frame: Some(seconds(12.0)),
        }
    }

    fn with_times(mut media: MediaInfo, kind: StreamKind, change: impl Fn(&mut TrackTimes)) -> MediaInfo {
        for stream in media.streams.iter_mut().filter(|stream| stream.kind == kind) {
            stream.times.iter_mut().for_each(&change);
        }
        media
    }

    #[test]
    fn a_result_of_any_shape_is_held_against_a_raw_file_of_that_shape() {
        for raw in [
            media(vec![picture(0.0, 10.0), sound(0.0, 10.0)]),
            media(vec![picture(3.0, 10.0), sound(0.0, 10.0)]),
            media(vec![picture(0.0, 10.0), sound(3.0, 10.0)]),
            media(vec![picture(0.0, 4.0), sound(0.0, 10.0)]),
            media(vec![picture(0.0, 10.0), sound(0.0, 4.0)]),
            media(vec![picture(0.0, 10.0)]),
            media(vec![sound(0.0, 10.0)]),
        ] {
            let expected = expected(&raw);
            assert_eq!(compare(&raw, &expected), Ok(()), "{raw:?}");
            for kind in [StreamKind::Video, StreamKind::Audio] {
                let late = with_times(raw.clone(), kind, |times| times.begin += seconds(1.5));
                let early = with_times(raw.clone(), kind, |times| times.end -= seconds(1.5));
                let has = raw.streams.iter().any(|stream| stream.kind == kind);
                assert_eq!(matches!(compare(&late, &expected), Err(MediaMismatch::Begin { .. })), has, "{raw:?}");
                assert_eq!(matches!(compare(&early, &expected), Err(MediaMismatch::End { .. })), has, "{raw:?}");
            }
        }
        // At a constant frame rate the first frame is repeated from the start, and the last one to the end.
        let raw = expected(&media(vec![picture(3.0, 4.0), sound(0.0, 10.0)]));
        assert_eq!(compare(&media(vec![picture(0.0, 10.0), sound(0.0, 10.0)]), &raw), Ok(()));
    }

    #[test]
    fn minutes_that_are_missing_from_ten_hours_are_noticed_wherever_they_are() {
        let whole = || media(vec![picture(0.0, HOURS_10), sound(0.0, HOURS_10)]);
        let expected = expected(&whole());
        let hole = seconds(170.0);
        assert_eq!(compare(&whole(), &expected), Ok(()));
        // At the end, or somewhere and what follows moved up.
        let short = media(vec![picture(0.0, HOURS_10 - 170.0), sound(0.0, HOURS_10 - 170.0)]);
        assert!(matches!(compare(&short, &expected), Err(MediaMismatch::Duration { .. })));
        // In the middle of one track, while the first and the last packet are where they belong.
        let silent = with_times(whole(), StreamKind::Audio, |times| times.covered -= hole);
        assert!(matches!(compare(&silent, &expected), Err(MediaMismatch::SoundGap { .. })));
        let frozen = with_times(whole(), StreamKind::Video, |times| times.longest = hole);
        assert!(matches!(compare(&frozen, &expected), Err(MediaMismatch::VideoGap { .. })));
        assert_eq!(compare(&frozen, &ExpectedMedia { longest_frame: None, ..expected }), Ok(()));
    }

    #[test]
    fn what_the_raw_file_lacks_too_is_no_fault_of_the_result() {
        let raw = media(vec![picture(0.0, HOURS_10), sound(0.0, HOURS_10)]);
        let silent = with_times(raw, StreamKind::Audio, |times| times.covered -= seconds(600.0));
        assert_eq!(compare(&silent, &expected(&silent)), Ok(()));
        // Packets that overlap hold more than can be played.
        let overlapping =
            with_times(silent.clone(), StreamKind::Audio, |times| times.covered = seconds(HOURS_10 + 60.0));
        let played = with_times(silent, StreamKind::Audio, |times| times.covered = seconds(HOURS_10));
        assert_eq!(compare(&played, &expected(&overlapping)), Ok(()));
    }

    #[test]
    fn only_another_recorders_raw_file_may_differ_by_half_a_percent() {
        let ours = media(vec![sound(0.0, HOURS_10)]);
        let theirs = MediaInfo { container: "mov,mp4".into(), ..ours.clone() };
        assert_eq!((tolerance(&ours), tolerance(&theirs)), (seconds(1.0), seconds(180.0)));
        assert!(same_duration(seconds(9.0), seconds(10.0)) && !same_duration(seconds(3598.0), seconds(3600.0)));
        assert!(same_joined_duration(seconds(3598.5), seconds(3600.0), 5));
    }

    #[test]
    fn all_streams_of_the_raw_file_that_can_be_decoded_must_be_in_the_result() {
        let raw = media(vec![picture(0.0, 10.0), sound(0.0, 10.0)]);
        let both = expected(&raw);
        assert_eq!(compare(&media(vec![picture(0.0, 10.0)]), &both), Err(MediaMismatch::NoAudio));
        assert_eq!(compare(&media(vec![sound(0.0, 10.0)]), &both), Err(MediaMismatch::NoVideo));
        let mut empty = raw.clone();
        (empty.streams[0].packets, empty.streams[0].times) = (Some(0), None);
        assert_eq!(compare(&empty, &both), Err(MediaMismatch::NoVideo));
        let mut flat = raw.clone();
        flat.streams[0].height = 0;
        assert_eq!(compare(&flat, &both), Err(MediaMismatch::NoPixels));
        // A track that is announced and has no packets, or no keyframe.
        for packets in [0, 9] {
            let mut lost = raw.clone();
            (lost.streams[0].packets, lost.streams[0].times) = (Some(packets), None);
            assert_eq!(compare(&media(vec![sound(0.0, 10.0)]), &expected(&lost)), Ok(()));
        }
        let unmeasured = MediaStream { packets: None, times: None, ..picture(0.0, 1.0) };
        assert!(expected_track(Some(&unmeasured)).is_some() && expected_track(None).is_none());
    }
}
