//! What is tried, one after the other, for a recording that could not be encoded at its last delivery: pure. A recording
//! that is there is always delivered, if need be as much of it as can be read.

use crate::media::ffmpeg_arguments::FfmpegArguments;
use crate::media::ffprobe::MediaInfo;

/// One way to deliver a recording. The raw file is kept in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastResort {
    /// The streams as they were recorded.
    Remux,
    /// Encoded with plain options instead of the operator's.
    Encode,
    /// The streams as they were recorded, without what cannot be read.
    Salvage,
    /// The sound, encoded, of a picture that cannot be delivered.
    Sound,
    /// The picture, as it was recorded, of a sound that cannot be delivered.
    Picture,
}

impl LastResort {
    /// All, best first.
    pub const ALL: [Self; 5] = [Self::Remux, Self::Encode, Self::Salvage, Self::Sound, Self::Picture];

    /// Name for the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Remux => "remux",
            Self::Encode => "encode plainly",
            Self::Salvage => "copy what can be read",
            Self::Sound => "sound only",
            Self::Picture => "picture only",
        }
    }

    /// Whether the result must hold all of the raw file.
    #[must_use]
    pub fn is_whole(self) -> bool {
        matches!(self, Self::Remux | Self::Encode)
    }

    /// ffmpeg's options. `raw`: the content of the raw file, as far as it is known.
    #[must_use]
    pub fn arguments(self, raw: &MediaInfo) -> FfmpegArguments {
        match self {
            Self::Remux => FfmpegArguments::remux(raw),
            Self::Encode => FfmpegArguments::plain(),
            Self::Salvage => FfmpegArguments::remux(raw).tolerating_errors(),
            Self::Sound => FfmpegArguments::sound_only().tolerating_errors(),
            Self::Picture => FfmpegArguments::remux(raw).without_sound().tolerating_errors(),
        }
    }

    /// The ways that are left for a raw file with this content. `measured`: its content is known to its end, so that a
    /// result can be held against it. `remux_failed`: the streams could not be copied already.
    pub fn left(raw: &MediaInfo, measured: bool, remux_failed: bool) -> impl Iterator<Item = Self> {
        let (sound, picture) = (raw.audio().is_some(), raw.video().is_some());
        Self::ALL.into_iter().filter(move |way| match way {
            Self::Remux => measured && !remux_failed,
            Self::Encode => measured,
            Self::Salvage => true,
            Self::Sound | Self::Picture => sound && picture,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::ffprobe::{MediaStream, StreamKind};

    fn raw(kinds: &[StreamKind]) -> MediaInfo {
        let stream = |kind: &StreamKind| MediaStream { kind: *kind, ..MediaStream::default() };
        MediaInfo { streams: kinds.iter().map(stream).collect(), ..MediaInfo::default() }
    }

    #[test]
    fn whole_results_come_first_and_only_where_they_can_be_checked() {
        let both = raw(&[StreamKind::Video, StreamKind::Audio]);
        assert_eq!(LastResort::left(&both, true, false).collect::<Vec<_>>(), LastResort::ALL);
        let left: Vec<_> = LastResort::left(&both, false, false).collect();
        assert_eq!(left, [LastResort::Salvage, LastResort::Sound, LastResort::Picture]);
        let left: Vec<_> = LastResort::left(&raw(&[StreamKind::Audio]), true, true).collect();
        assert_eq!(left, [LastResort::Encode, LastResort::Salvage]);
        let first_partial = LastResort::ALL.iter().position(|way| !way.is_whole());
        assert!(LastResort::ALL.iter().rposition(|way| way.is_whole()) < first_partial);
    }

    #[test]
    fn a_way_that_takes_what_can_be_read_goes_on_over_errors() {
        let both = raw(&[StreamKind::Video, StreamKind::Audio]);
        for way in LastResort::ALL {
            let arguments = way.arguments(&both);
            let tolerates = arguments.pre_input.contains(&"ignore_err".to_owned());
            assert_eq!(tolerates, !way.is_whole(), "{way:?}");
            let expected = arguments.expected(&both);
            assert_eq!(
                (expected.video.is_some(), expected.audio.is_some()),
                (way != LastResort::Sound, way != LastResort::Picture)
            );
        }
    }
}
