//! What a joined picture is encoded for, by the marks of its parts: pure.

use std::ffi::OsString;
use std::time::Duration;

use crate::media::concat_plan::ConcatInput;
use crate::media::encoded_span::{self, EncodedSpan};
use crate::media::ffprobe::MediaStream;
use crate::media::final_encoding;

/// What a joined picture is encoded for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinedMark {
    /// All parts for the same, with the same parameters.
    Whole(String),
    /// The first parts only.
    Beginning(EncodedSpan),
    /// Nothing, as far as is known.
    None,
}

impl JoinedMark {
    /// The mark of what these parts become, joined by copying.
    #[must_use]
    pub fn of(pieces: &[ConcatInput]) -> Self {
        fn mark(stream: &MediaStream) -> Option<&str> {
            stream.encoded_for.as_deref()
        }
        let pictures: Vec<_> = pieces.iter().map(ConcatInput::picture).collect();
        let Some(first) = pictures.iter().flatten().next().and_then(|picture| mark(picture)) else { return Self::None };
        // A track of an MP4 has the parameters of its header only. So what has others is not of the beginning.
        let setup = pictures.iter().flatten().next().map(|stream| &stream.setup);
        let same = |picture: Option<&MediaStream>| {
            picture.is_none_or(|picture| mark(picture) == Some(first) && Some(&picture.setup) == setup)
        };
        let count = pictures.iter().take_while(|picture| same(**picture)).count();
        if count == pictures.len() {
            return Self::Whole(first.to_owned());
        }
        let until: Duration = pieces[..count].iter().map(ConcatInput::slot).sum();
        let packets: Option<u64> = pictures[..count].iter().flatten().map(|picture| picture.packets).sum();
        match packets {
            Some(packets) if packets > 0 => Self::Beginning(EncodedSpan { until, packets, mark: first.to_owned() }),
            _ => Self::None,
        }
    }

    /// ffmpeg's options for the tags of a joined raw file, which otherwise are those of its first part. An empty tag is
    /// left out.
    #[must_use]
    pub fn tags(&self) -> Vec<OsString> {
        let (whole, beginning) = match self {
            Self::Whole(mark) => (mark.clone(), String::new()),
            Self::Beginning(span) => (String::new(), span.to_string()),
            Self::None => Default::default(),
        };
        let tag = |track: &str, name, value: &str| [format!("-metadata:s:{track}"), format!("{name}={value}")];
        let tags = [
            tag("v", final_encoding::TAG, &whole),
            tag("v", encoded_span::TAG, &beginning),
            tag("a", final_encoding::TAG, ""),
        ];
        tags.into_iter().flatten().map(OsString::from).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::ffprobe::{MediaInfo, StreamKind};

    const MARK: &str = "1 -crf 23";

    fn part(setup: &str, mark: Option<&str>, seconds: u64, goes_on: bool) -> ConcatInput {
        let picture = MediaStream {
            kind: StreamKind::Video,
            codec: "h264".into(),
            width: 2,
            height: 2,
            setup: setup.into(),
            encoded_for: mark.map(str::to_owned),
            packets: Some(10 * seconds),
            ..MediaStream::default()
        };
        let media =
            MediaInfo { duration: Duration::from_secs(seconds), streams: vec![picture], ..MediaInfo::default() };
        ConcatInput { path: "/a".into(), media, goes_on }
    }

    fn beginning(millis: u64, packets: u64) -> JoinedMark {
        JoinedMark::Beginning(EncodedSpan { until: Duration::from_millis(millis), packets, mark: MARK.to_owned() })
    }

    #[test]
    fn the_beginning_goes_as_far_as_its_parts_are_encoded_alike() {
        let final_part = || part("x", Some(MARK), 4, true);
        let fast = || part("y", None, 9, false);
        let whole = JoinedMark::Whole(MARK.to_owned());
        for (parts, expected) in [
            (vec![final_part(), final_part()], whole),
            // Another version of ffmpeg has recorded on.
            (vec![final_part(), part("z", Some(MARK), 1, false)], beginning(4000, 40)),
            (vec![final_part(), fast()], beginning(4000, 40)),
            // A crash, and a part that is encoded so as well: what follows the fast part is not copied.
            (vec![final_part(), fast(), final_part()], beginning(4000, 40)),
            (vec![part("x", Some(MARK), 4, false), final_part(), fast()], beginning(8001, 80)),
            (vec![final_part(), part("z", Some(MARK), 1, false), fast()], beginning(4000, 40)),
            (vec![final_part(), part("x", Some("1 -crf 20"), 1, false)], beginning(4000, 40)),
            (vec![fast(), final_part()], JoinedMark::None),
            (vec![fast(), fast()], JoinedMark::None),
            (vec![], JoinedMark::None),
        ] {
            assert_eq!(JoinedMark::of(&parts), expected, "{parts:?}");
        }
        // Without a picture before it.
        let silent = ConcatInput { path: "/b".into(), media: MediaInfo::default(), goes_on: false };
        assert_eq!(JoinedMark::of(&[silent, final_part(), fast()]), beginning(4001, 40));
        let unmeasured = MediaStream { packets: None, ..final_part().media.streams.remove(0) };
        let media = MediaInfo { streams: vec![unmeasured], ..final_part().media };
        assert_eq!(JoinedMark::of(&[ConcatInput { media, ..final_part() }, fast()]), JoinedMark::None);
    }

    #[test]
    fn no_tag_of_the_first_part_is_left() {
        let line = |mark: JoinedMark| {
            mark.tags().iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            line(JoinedMark::Whole(MARK.into())),
            "-metadata:s:v ENCODED_FOR=1 -crf 23 -metadata:s:v ENCODED_FOR_UNTIL= -metadata:s:a ENCODED_FOR="
        );
        assert_eq!(
            line(beginning(4000, 40)),
            "-metadata:s:v ENCODED_FOR= -metadata:s:v ENCODED_FOR_UNTIL=4.000 40 1 -crf 23 -metadata:s:a ENCODED_FOR="
        );
        assert_eq!(
            line(JoinedMark::None),
            "-metadata:s:v ENCODED_FOR= -metadata:s:v ENCODED_FOR_UNTIL= -metadata:s:a ENCODED_FOR="
        );
    }
}
