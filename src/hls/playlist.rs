//! The playlists (RFC 8216): pure. Every URL in them is relative and of the same directory, so that they may lie anywhere.

use std::fmt::Write as _;
use std::time::Duration;

use crate::hls::segments::{Segment, durations};

/// Of fragmented MP4 with an `EXT-X-MAP` (RFC 8216, 7).
pub(super) const VERSION: u32 = 7;
/// The group of the sound.
const SOUND_GROUP: &str = "sound";

/// One track as a playlist shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaylistTrack {
    /// The name of its playlist and of its media file.
    pub playlist: String,
    pub media: String,
    /// Length of the beginning of the media file that a player needs for each segment, in bytes.
    pub header_bytes: u64,
    pub segments: Vec<Segment>,
    /// Its name in `CODECS`.
    pub codec: String,
    /// Pixels; 0 of a sound.
    pub width: u32,
    pub height: u32,
    /// Of a sound; 0 of a picture.
    pub channels: u32,
}

/// `EXT-X-TARGETDURATION` of all playlists, in seconds: no segment is longer, once rounded.
#[must_use]
pub fn target_duration(tracks: &[PlaylistTrack]) -> u64 {
    let all = tracks.iter().flat_map(|track| durations(&track.segments));
    all.map(|duration| (duration + Duration::from_millis(500)).as_secs()).max().unwrap_or_default().max(1)
}

/// The playlist of one track. `target`: [`target_duration`] of all of them.
#[must_use]
pub fn media_playlist(track: &PlaylistTrack, target: u64) -> String {
    let PlaylistTrack { media, header_bytes, segments, .. } = track;
    let mut text = format!(
        "#EXTM3U\n#EXT-X-VERSION:{VERSION}\n#EXT-X-TARGETDURATION:{target}\n#EXT-X-PLAYLIST-TYPE:VOD\n\
         #EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-MAP:URI=\"{media}\",BYTERANGE=\"{header_bytes}@0\"\n"
    );
    for (segment, duration) in segments.iter().zip(durations(segments)) {
        let Segment { at, bytes, .. } = segment;
        let seconds = duration.as_secs_f64();
        let _ = write!(text, "#EXTINF:{seconds:.6},\n#EXT-X-BYTERANGE:{bytes}@{at}\n{media}\n");
    }
    text + "#EXT-X-ENDLIST\n"
}

/// What a master playlist states of tracks that are played together, in bits a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatedRates {
    pub peak: u64,
    /// `None`: not known yet.
    pub average: Option<u64>,
}

/// The master playlist. `pictures`: from the highest to the lowest, each of which may be played with the sound. `segment`:
/// the length of a segment as it is configured.
#[must_use]
pub fn master_playlist(pictures: &[PlaylistTrack], sound: Option<&PlaylistTrack>, segment: Duration) -> String {
    master_playlist_of(pictures, sound, |tracks| measured_rates(tracks, segment))
}

/// [`master_playlist`] with these rates.
#[must_use]
pub fn master_playlist_of(
    pictures: &[PlaylistTrack],
    sound: Option<&PlaylistTrack>,
    rates: impl Fn(&[&PlaylistTrack]) -> StatedRates,
) -> String {
    let mut text = format!("#EXTM3U\n#EXT-X-VERSION:{VERSION}\n#EXT-X-INDEPENDENT-SEGMENTS\n");
    let stream = |tracks: &[&PlaylistTrack]| stream(tracks, rates(tracks));
    let Some(sound) = sound else {
        for picture in pictures {
            let _ = write!(text, "{}\n{}\n", stream(&[picture]), picture.playlist);
        }
        return text;
    };
    if pictures.is_empty() {
        let _ = write!(text, "{}\n{}\n", stream(&[sound]), sound.playlist);
        return text;
    }
    let _ = writeln!(
        text,
        "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{SOUND_GROUP}\",NAME=\"Sound\",DEFAULT=YES,AUTOSELECT=YES,\
         CHANNELS=\"{}\",URI=\"{}\"",
        sound.channels, sound.playlist
    );
    for picture in pictures {
        let line = stream(&[picture, sound]);
        let _ = write!(text, "{line},AUDIO=\"{SOUND_GROUP}\"\n{}\n", picture.playlist);
    }
    text
}

/// The `EXT-X-STREAM-INF` of what is played together.
fn stream(tracks: &[&PlaylistTrack], rates: StatedRates) -> String {
    let mut line = format!("#EXT-X-STREAM-INF:BANDWIDTH={}", rates.peak.max(1));
    if let Some(average) = rates.average {
        let _ = write!(line, ",AVERAGE-BANDWIDTH={}", average.max(1));
    }
    let codecs: Vec<&str> = tracks.iter().map(|track| track.codec.as_str()).collect();
    let _ = write!(line, ",CODECS=\"{}\"", codecs.join(","));
    if let Some(picture) = tracks.iter().find(|track| track.width > 0) {
        let _ = write!(line, ",RESOLUTION={}x{}", picture.width, picture.height);
    }
    line
}

/// Those of all their segments.
fn measured_rates(tracks: &[&PlaylistTrack], segment: Duration) -> StatedRates {
    let target =
        Duration::from_secs(tracks.iter().map(|track| target_duration(&[(*track).clone()])).max().unwrap_or(1));
    let peak: u64 =
        tracks.iter().map(|track| peak_rate(&track.segments, segment.min(target) / 2, target * 3 / 2)).sum();
    let average: u64 = tracks.iter().map(|track| average_rate(&track.segments)).sum();
    StatedRates { peak: peak.max(average), average: Some(average) }
}

/// Bits a second of all segments together.
fn average_rate(segments: &[Segment]) -> u64 {
    rate(segments.iter().map(|segment| segment.bytes).sum(), durations(segments).iter().sum())
}

/// The most bits a second of segments in a row that last together for at least `shortest` and at most `longest` (RFC 8216,
/// 4.3.4.2: from a half to one and a half of the target duration); of all, where none do.
fn peak_rate(segments: &[Segment], shortest: Duration, longest: Duration) -> u64 {
    let durations = durations(segments);
    let mut peak = None;
    for from in 0..segments.len() {
        let (mut bytes, mut lasts) = (0, Duration::ZERO);
        for (segment, duration) in segments[from..].iter().zip(&durations[from..]) {
            (bytes, lasts) = (bytes + segment.bytes, lasts + *duration);
            if lasts > longest {
                break;
            }
            if lasts >= shortest {
                peak = peak.max(Some(rate(bytes, lasts)));
            }
        }
    }
    peak.unwrap_or_else(|| average_rate(segments))
}

fn rate(bytes: u64, lasts: Duration) -> u64 {
    let rate = u128::from(bytes) * 8 * 1_000_000 / lasts.as_micros().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Segments of so many milliseconds and bytes.
    fn track(name: &str, parts: &[(u64, u64)]) -> PlaylistTrack {
        let (mut begin, mut at, mut segments) = (Duration::ZERO, 700, Vec::new());
        for (lasts, bytes) in parts {
            let end = begin + Duration::from_millis(*lasts);
            segments.push(Segment { begin, end, at, bytes: *bytes });
            (begin, at) = (end, at + bytes);
        }
        let is_sound = name == "audio";
        PlaylistTrack {
            playlist: format!("{name}.m3u8"),
            media: format!("{name}-0a.mp4"),
            header_bytes: 700,
            segments,
            codec: if is_sound { "mp4a.40.2" } else { "avc1.64001f" }.to_owned(),
            width: if is_sound { 0 } else { 1280 },
            height: if is_sound { 0 } else { 720 },
            channels: if is_sound { 2 } else { 0 },
        }
    }

    const EVERY: Duration = Duration::from_secs(4);

    #[test]
    fn a_playlist_names_each_segment_with_its_length_and_place() {
        let track = track("720p", &[(4033, 1000), (3967, 500), (250, 9)]);
        assert_eq!(
            media_playlist(&track, target_duration(std::slice::from_ref(&track))),
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:4\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-INDEPENDENT-SEGMENTS\n\
             #EXT-X-MAP:URI=\"720p-0a.mp4\",BYTERANGE=\"700@0\"\n\
             #EXTINF:4.033000,\n#EXT-X-BYTERANGE:1000@700\n720p-0a.mp4\n\
             #EXTINF:3.967000,\n#EXT-X-BYTERANGE:500@1700\n720p-0a.mp4\n\
             #EXTINF:0.250000,\n#EXT-X-BYTERANGE:9@2200\n720p-0a.mp4\n#EXT-X-ENDLIST\n"
        );
    }

    #[test]
    fn the_target_is_the_longest_of_all_rounded() {
        assert_eq!(target_duration(&[track("a", &[(4499, 1)]), track("b", &[(4010, 1)])]), 4);
        assert_eq!(target_duration(&[track("a", &[(4500, 1)])]), 5);
        assert_eq!((target_duration(&[track("a", &[(9, 1)])]), target_duration(&[])), (1, 1));
    }

    #[test]
    fn bandwidths_are_those_of_picture_and_sound_together() {
        // 1 Mbit/s at most, half of it on average; a last segment of a moment is no peak.
        let picture = track("720p", &[(4000, 500_000), (4000, 62_500), (4000, 187_500), (10, 62_500)]);
        let sound = track("audio", &[(4000, 50_000), (8010, 100_125)]);
        let text = master_playlist(&[picture], Some(&sound), EVERY);
        assert_eq!(
            text,
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n\
             #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"sound\",NAME=\"Sound\",DEFAULT=YES,AUTOSELECT=YES,CHANNELS=\"2\",\
             URI=\"audio.m3u8\"\n\
             #EXT-X-STREAM-INF:BANDWIDTH=1100000,AVERAGE-BANDWIDTH=641215,CODECS=\"avc1.64001f,mp4a.40.2\",\
             RESOLUTION=1280x720,AUDIO=\"sound\"\n720p.m3u8\n"
        );
    }

    #[test]
    fn a_recording_may_have_no_sound_or_no_picture() {
        let silent = master_playlist(&[track("720p", &[(4000, 500_000)])], None, EVERY);
        assert!(silent.ends_with("CODECS=\"avc1.64001f\",RESOLUTION=1280x720\n720p.m3u8\n"), "{silent}");
        let blind = master_playlist(&[], Some(&track("audio", &[(4000, 50_000)])), EVERY);
        assert!(
            blind.contains("BANDWIDTH=100000,") && blind.ends_with("CODECS=\"mp4a.40.2\"\naudio.m3u8\n"),
            "{blind}"
        );
    }
}
