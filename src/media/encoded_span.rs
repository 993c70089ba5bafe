//! The beginning of a joined raw file that was encoded as its MP4 shall be, while the rest was encoded fast: pure.
//!
//! It is told by a tag of the picture, `<seconds> <packets> <mark>`. It is another tag than that of a track that is
//! marked as a whole ([`crate::media::final_encoding::TAG`]), so that whoever knows only that one copies nothing.

use std::fmt;
use std::time::Duration;

/// Name of the tag.
pub const TAG: &str = "ENCODED_FOR_UNTIL";

/// The beginning of a picture that is encoded as an MP4 shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedSpan {
    /// Its end, in whole milliseconds from the start of the file; what follows begins with a keyframe.
    pub until: Duration,
    /// The number of packets up to there.
    pub packets: u64,
    /// What it is encoded for, as in the tag of a whole track.
    pub mark: String,
}

impl EncodedSpan {
    /// Reads the tag's value. `None`: it is no such value.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let mut words = value.splitn(3, ' ');
        let mut next = || words.next().filter(|word| !word.is_empty());
        let (until, packets, mark) = (next()?, next()?, next()?);
        let until = until.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())?;
        let span = Self { until, packets: packets.parse().ok()?, mark: mark.to_owned() };
        (!span.until.is_zero() && span.packets > 0).then_some(span)
    }

    /// Its end in seconds, for ffmpeg.
    #[must_use]
    pub fn until_seconds(&self) -> String {
        format!("{}.{:03}", self.until.as_secs(), self.until.subsec_millis())
    }
}

impl fmt::Display for EncodedSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.until_seconds(), self.packets, self.mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_read_as_it_was_written() {
        let span = EncodedSpan {
            until: Duration::from_millis(40_007),
            packets: 1001,
            mark: "1 -c:v libx264 -preset veryfast".to_owned(),
        };
        assert_eq!(span.to_string(), "40.007 1001 1 -c:v libx264 -preset veryfast");
        assert_eq!(EncodedSpan::parse(&span.to_string()), Some(span));
        for value in ["", "1", "1 2", "1 2 ", "0 2 x", "1 0 x", "-1 2 x", "nan 2 x", "1e300 2 x", "1 -2 x", "x y z"] {
            assert_eq!(EncodedSpan::parse(value), None, "{value:?}");
        }
    }
}
