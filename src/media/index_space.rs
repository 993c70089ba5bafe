//! The place of an MP4's index: pure.
//!
//! An MP4 that plays while it is loaded has its index (`moov`) before its media. With `-movflags +faststart` ffmpeg writes
//! the index last, and then reads and writes the whole file once more to make room for it. Where the number of packets is
//! known, the room is left free from the beginning (`-moov_size`), and the media are written once. What the index does
//! not take of it stays free: less than 2 % of a meeting's file.

use std::time::Duration;

use crate::media::ffprobe::MediaStream;

/// ffmpeg's option for an index in front.
const IN_FRONT: [&str; 2] = ["+faststart", "faststart"];
/// Bytes of an index for each packet: its size (`stsz`), and its duration (`stts`).
const PACKET: u64 = 4 + 8;
/// For each picture besides: the time between decoding and showing (`ctts`), and that it is a keyframe (`stss`).
const PICTURE: u64 = 8 + 4;
/// For each chunk, which is a run of packets of one track: its place (`co64`), and how many packets it has (`stsc`).
const CHUNK: u64 = 8 + 12;
/// A chunk ends at a mebibyte. A packet of sound has a fiftieth of that at most, and two chunks have more than one.
const SOUNDS_IN_CHUNK: u64 = 25;
/// Samples of a packet of ffmpeg's encoder `aac`.
const AAC_SAMPLES: f64 = 1024.0;
/// Its lead-in, its last packet, and what filters hold back.
const AAC_MORE: u64 = 64;
/// For the headers of the file and of its tracks.
const HEADERS: u64 = 16 * 1024;

/// How many packets the tracks of a result will have at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketCount {
    pub pictures: u64,
    pub sounds: u64,
}

impl PacketCount {
    /// Of a result that copies these streams. `None`: not known.
    #[must_use]
    pub fn of(picture: Option<&MediaStream>, sound: Option<&MediaStream>) -> Option<Self> {
        let count = |stream: Option<&MediaStream>| stream.map_or(Some(0), |stream| stream.packets);
        Some(Self { pictures: count(picture)?, sounds: count(sound)? })
    }

    /// Of a result whose sound is encoded as AAC, lasts for so long, and has so many samples in a second.
    #[must_use]
    pub fn with_aac(self, lasts: Duration, sample_rate: f64) -> Self {
        Self { sounds: aac_packets(lasts, sample_rate), ..self }
    }

    /// Bytes that the index takes at most.
    fn index(self) -> u64 {
        let Self { pictures, sounds } = self;
        let chunks = pictures + sounds.min(pictures + 1 + sounds / SOUNDS_IN_CHUNK);
        HEADERS + (pictures + sounds) * PACKET + pictures * PICTURE + chunks * CHUNK
    }
}

/// The most packets of AAC that a sound has which lasts for so long, with so many samples in a second.
#[must_use]
pub fn aac_packets(lasts: Duration, sample_rate: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and it saturates")]
    let packets = (lasts.as_secs_f64() * sample_rate / AAC_SAMPLES) as u64;
    packets.saturating_add(AAC_MORE)
}

/// The options for the container, with room for the index in front instead of a second pass.
#[must_use]
pub fn reserve(mut container: Vec<String>, packets: Option<PacketCount>) -> Vec<String> {
    let at = container.windows(2).position(|pair| pair[0] == "-movflags" && IN_FRONT.contains(&pair[1].as_str()));
    // ffmpeg reads a number of 32 bits.
    let bytes = packets.and_then(|packets| i32::try_from(packets.index()).ok());
    if let Some((at, bytes)) = at.zip(bytes) {
        container.splice(at..at + 2, ["-moov_size".to_owned(), bytes.to_string()]);
    }
    container
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn only_what_asks_for_an_index_in_front_and_nothing_else_gets_room_for_it() {
        let packets = PacketCount { pictures: 10, sounds: 10 };
        for asked in ["-movflags +faststart", "-movflags faststart"] {
            let line = reserve(words(&format!("{asked} -f mp4")), Some(packets)).join(" ");
            assert_eq!(line, format!("-moov_size {} -f mp4", HEADERS + 20 * 12 + 10 * 12 + 20 * 20), "{asked}");
            assert_eq!(reserve(words(asked), None), words(asked));
        }
        for other in ["-movflags +faststart+write_colr", "-movflags +frag_keyframe", "-f mp4", ""] {
            assert_eq!(reserve(words(other), Some(packets)), words(other));
        }
        // More than ffmpeg can be told.
        let many = PacketCount { pictures: u64::from(u32::MAX), sounds: 0 };
        assert_eq!(reserve(words("-movflags faststart"), Some(many)), words("-movflags faststart"));
    }

    #[test]
    fn a_meeting_of_two_hours_gets_a_few_megabytes() {
        for (fps, megabytes) in [(1, 4..6), (30, 17..20)] {
            let packets = PacketCount { pictures: 7200 * fps, sounds: 0 };
            let packets = packets.with_aac(Duration::from_secs(7200), 48_000.0);
            assert!(megabytes.contains(&(packets.index() / 1_000_000)), "{fps}: {}", packets.index());
        }
    }

    #[test]
    fn a_count_that_is_not_known_reserves_nothing() {
        let stream = |packets| MediaStream { packets, ..MediaStream::default() };
        let (known, unknown) = (stream(Some(7)), stream(None));
        assert_eq!(PacketCount::of(Some(&known), None), Some(PacketCount { pictures: 7, sounds: 0 }));
        assert_eq!(PacketCount::of(Some(&known), Some(&unknown)), None);
        assert_eq!(PacketCount::of(None, None), Some(PacketCount::default()));
    }
}
