//! Checks a measured result against its raw file: pure; [`crate::media::ffprobe`] measures.

use std::time::Duration;

use crate::media::ffprobe::{MediaInfo, MediaStream};

/// A result may be a second or [`SHARE`] shorter or longer than its raw file (issue: "duration within max(1 s, 0.5
/// %)").
const SLACK: Duration = Duration::from_secs(1);
const SHARE: f64 = 0.005;

/// Required content of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpectedMedia {
    pub duration: Duration,
    pub video: bool,
    pub audio: bool,
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
}

/// Allowed difference of two durations of the same recording.
#[must_use]
pub fn tolerance(duration: Duration) -> Duration {
    SLACK.max(duration.mul_f64(SHARE))
}

/// Whether two durations can be of the same recording.
#[must_use]
pub fn same_duration(made: Duration, raw: Duration) -> bool {
    made.abs_diff(raw) <= tolerance(raw)
}

/// # Errors
/// The first thing in which `made` is not what was `expected`.
pub fn compare(made: &MediaInfo, expected: &ExpectedMedia) -> Result<(), MediaMismatch> {
    if expected.video && made.video().is_none() {
        return Err(MediaMismatch::NoVideo);
    }
    if expected.audio && made.audio().is_none() {
        return Err(MediaMismatch::NoAudio);
    }
    if made.video().is_some_and(|MediaStream { width, height, .. }| *width == 0 || *height == 0) {
        return Err(MediaMismatch::NoPixels);
    }
    if !same_duration(made.duration, expected.duration) {
        return Err(MediaMismatch::Duration { made: made.duration, raw: expected.duration });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::ffprobe::StreamKind;

    fn media(seconds: f64, kinds: &[StreamKind]) -> MediaInfo {
        let stream = |kind: &StreamKind| MediaStream {
            kind: *kind,
            codec: "x".into(),
            width: 2,
            height: 2,
            ..MediaStream::default()
        };
        MediaInfo { duration: Duration::from_secs_f64(seconds), streams: kinds.iter().map(stream).collect() }
    }

    #[test]
    fn a_second_or_half_a_percent_is_within_tolerance() {
        let seconds = Duration::from_secs_f64;
        assert!(same_duration(seconds(9.0), seconds(10.0)) && same_duration(seconds(11.0), seconds(10.0)));
        assert!(!same_duration(seconds(8.9), seconds(10.0)) && !same_duration(seconds(11.1), seconds(10.0)));
        assert!(same_duration(seconds(3582.1), seconds(3600.0)) && !same_duration(seconds(3581.0), seconds(3600.0)));
        assert!(same_duration(Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn all_streams_of_the_raw_file_must_be_in_the_result() {
        let expected = ExpectedMedia { duration: Duration::from_secs(10), video: true, audio: true };
        let both = [StreamKind::Video, StreamKind::Audio];
        assert_eq!(compare(&media(10.2, &both), &expected), Ok(()));
        assert_eq!(compare(&media(10.2, &both[..1]), &expected), Err(MediaMismatch::NoAudio));
        assert_eq!(compare(&media(10.2, &both[1..]), &expected), Err(MediaMismatch::NoVideo));
        assert!(matches!(compare(&media(2.0, &both), &expected), Err(MediaMismatch::Duration { .. })));
        assert_eq!(compare(&media(10.0, &both[..1]), &ExpectedMedia { audio: false, ..expected }), Ok(()));
        let mut flat = media(10.0, &both);
        flat.streams[0].height = 0;
        assert_eq!(compare(&flat, &expected), Err(MediaMismatch::NoPixels));
    }
}
