//! What was encoded while recording may be copied into the MP4 while the raw file is still being measured, which takes as
//! long: of a meeting of hours its users wait for seconds less.
//!
//! Nothing is believed because of it. The copy is taken only where the measured raw file asks for the same one, and it is
//! checked as any other.

use std::path::Path;
use std::time::Duration;

use crate::config::FfmpegOptions;
use crate::media::ffmpeg_arguments::FfmpegArguments;
use crate::media::ffprobe::{FileHeaders, MediaInfo, MediaStream, StreamKind};
use crate::media::final_encoding::FinalEncoding;
use crate::media::index_space;
use crate::storage::files;
use crate::transcode::summary;

/// How long the recorder's count of frames is looked for.
const COUNT_LIMIT: Duration = Duration::from_secs(2);
/// How far the stated duration may be from the measured one: the last frame is shown until the stated one.
const SAME: Duration = Duration::from_millis(100);

/// The most frames in a second that are recorded.
const MOST_A_SECOND: u64 = 120;

/// A copy of a raw file whose packets are not counted yet.
#[derive(Debug)]
pub struct CopyAhead {
    pub arguments: FfmpegArguments,
    /// The raw file as its headers state it, with the most packets that its tracks may have.
    pub raw: MediaInfo,
}

/// The copy of the raw file with these headers. `None`: it must be measured first.
pub(super) async fn plan(options: &FfmpegOptions, headers: &FileHeaders, raw: &Path) -> Option<CopyAhead> {
    let stated = headers.stated()?;
    let tracks = FinalEncoding::read(options).ok()?.tracks_of(&stated);
    // A sound that is encoded first takes longer than measuring.
    tracks.video.and(tracks.sound)?;
    let path = raw.to_owned();
    let frames = files::on_disk_within(COUNT_LIMIT, move || Ok(summary::frames(&path))).await.ok()??;
    CopyAhead::new(options, stated, frames)
}

impl CopyAhead {
    /// `frames`: how many the recorder has sent to the encoder, which leaves out those that come at one moment. `None`: the
    /// picture was not encoded with these options.
    #[must_use]
    pub fn new(options: &FfmpegOptions, stated: MediaInfo, frames: u64) -> Option<Self> {
        let mut raw = stated;
        // Another program may have written the count.
        let frames = frames.min(raw.duration.as_secs().saturating_add(1).saturating_mul(MOST_A_SECOND));
        for stream in &mut raw.streams {
            stream.packets = match stream.kind {
                StreamKind::Video => Some(frames + 1),
                StreamKind::Audio => Some(index_space::aac_packets(raw.duration, f64::from(stream.sample_rate))),
                StreamKind::Other => None,
            };
        }
        Some(Self { arguments: FfmpegArguments::finish(options, &raw)?, raw })
    }

    /// Whether this is the copy of the file that was measured so.
    #[must_use]
    pub fn is_of(&self, measured: &MediaInfo) -> bool {
        let stated = |stream: &MediaStream| MediaStream { packets: None, times: None, ..stream.clone() };
        self.raw.duration.abs_diff(measured.duration) <= SAME
            && self.raw.streams.iter().map(stated).eq(measured.streams.iter().map(stated))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(video: &str, sound: &str) -> MediaInfo {
        let stream = |kind, codec: &str, format: &str, tag: &str| MediaStream {
            kind,
            codec: codec.to_owned(),
            format: format.to_owned(),
            sample_rate: 48_000,
            encoded_for: Some(tag.to_owned()).filter(|tag| !tag.is_empty()),
            ..MediaStream::default()
        };
        let streams = vec![
            stream(StreamKind::Video, "h264", "yuv420p", video),
            stream(StreamKind::Audio, "pcm_s16le", "s16", ""),
            stream(StreamKind::Audio, "aac", "fltp", sound),
        ];
        MediaInfo { duration: Duration::from_secs(7200), streams, ..MediaInfo::default() }
    }

    #[test]
    fn room_is_left_for_the_frames_that_were_sent() {
        let options = FfmpegOptions::post_recording(None);
        let encoding = FinalEncoding::read(&options).unwrap();
        let (video, sound) = (encoding.video_mark(), encoding.sound_mark());
        let room = |frames| {
            let copy = CopyAhead::new(&options, raw(&video, &sound), frames).unwrap();
            let words = copy.arguments.post_input;
            let at = words.iter().position(|word| word == "-moov_size").unwrap();
            words[at + 1].parse::<u64>().unwrap()
        };
        let (few, many) = (room(7200), room(216_000));
        assert!((4_000_000..6_000_000).contains(&few) && many - few > 208_800 * 24, "{few} {many}");
        assert!(CopyAhead::new(&options, raw("another", &sound), 1).is_none());
    }

    #[test]
    fn only_the_copy_of_what_was_measured_is_taken() {
        let options = FfmpegOptions::post_recording(None);
        let encoding = FinalEncoding::read(&options).unwrap();
        let stated = raw(&encoding.video_mark(), &encoding.sound_mark());
        let copy = CopyAhead::new(&options, stated.clone(), 9).unwrap();
        let mut measured = stated;
        measured.streams[0].packets = Some(12);
        measured.duration += Duration::from_millis(40);
        assert!(copy.is_of(&measured));
        measured.duration += Duration::from_millis(400);
        assert!(!copy.is_of(&measured), "the file is not as long as its header says");
        measured.duration = copy.raw.duration;
        measured.streams[0].setup = "SHA256:1".to_owned();
        assert!(!copy.is_of(&measured), "another file is there now");
    }
}
