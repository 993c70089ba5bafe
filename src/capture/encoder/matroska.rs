//! A live Matroska stream of one video track (raw I420) and one audio track (PCM) (RFC 9559).
//!
//! A pipe cannot seek, so the segment and its clusters have the unknown size and there are no cues. Timestamps are in
//! milliseconds. Pure: returns bytes that the caller writes.

use std::time::Duration;

/// Track number of the video.
const VIDEO: u8 = 1;
/// Track number of the audio.
const AUDIO: u8 = 2;
/// Longest cluster: a block's offset in it fits 16 bits (±32.767 s).
const CLUSTER_SPAN_MS: u64 = 5_000;
/// The unknown size in eight bytes (RFC 8794).
const UNKNOWN_SIZE: [u8; 8] = [0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];

/// Parameters of the two tracks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracks {
    /// Size in pixels, even.
    pub width: u32,
    pub height: u32,
    /// Highest frame rate; written as default duration, so that an encoder can plan.
    pub framerate: u32,
    /// Samples per second.
    pub sample_rate: u32,
    pub channels: u8,
}

impl Tracks {
    /// Bytes of one I420 frame.
    #[must_use]
    pub fn frame_len(&self) -> usize {
        self.width as usize * self.height as usize * 3 / 2
    }
}

/// Writes the headers of blocks and opens clusters.
#[derive(Clone, Debug, Default)]
pub struct MatroskaStream {
    cluster_ms: Option<u64>,
}

/// The bytes before the first block: EBML header, segment, info and tracks.
#[must_use]
pub fn header(tracks: &Tracks) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    master(&mut out, &[0x1a, 0x45, 0xdf, 0xa3], |ebml| {
        uint(ebml, &[0x42, 0x86], 1); // EBMLVersion
        uint(ebml, &[0x42, 0xf7], 1); // EBMLReadVersion
        uint(ebml, &[0x42, 0xf2], 4); // EBMLMaxIDLength
        uint(ebml, &[0x42, 0xf3], 8); // EBMLMaxSizeLength
        bytes(ebml, &[0x42, 0x82], b"matroska"); // DocType
        uint(ebml, &[0x42, 0x87], 4); // DocTypeVersion
        uint(ebml, &[0x42, 0x85], 2); // DocTypeReadVersion
    });
    out.extend_from_slice(&[0x18, 0x53, 0x80, 0x67]); // Segment
    out.extend_from_slice(&UNKNOWN_SIZE);
    master(&mut out, &[0x15, 0x49, 0xa9, 0x66], |info| {
        uint(info, &[0x2a, 0xd7, 0xb1], 1_000_000); // TimestampScale: 1 ms
        bytes(info, &[0x4d, 0x80], b"plugnmeet-recorder"); // MuxingApp
        bytes(info, &[0x57, 0x41], b"plugnmeet-recorder"); // WritingApp
    });
    master(&mut out, &[0x16, 0x54, 0xae, 0x6b], |all| {
        master(all, &[0xae], |track| video_track(track, tracks));
        master(all, &[0xae], |track| audio_track(track, tracks));
    });
    out
}

fn video_track(out: &mut Vec<u8>, tracks: &Tracks) {
    uint(out, &[0xd7], VIDEO.into()); // TrackNumber
    uint(out, &[0x73, 0xc5], VIDEO.into()); // TrackUID
    uint(out, &[0x83], 1); // TrackType: video
    uint(out, &[0x9c], 0); // FlagLacing
    uint(out, &[0x23, 0xe3, 0x83], 1_000_000_000 / u64::from(tracks.framerate.max(1))); // DefaultDuration, ns
    bytes(out, &[0x86], b"V_UNCOMPRESSED"); // CodecID
    master(out, &[0xe0], |video| {
        uint(video, &[0x9a], 2); // FlagInterlaced: progressive
        uint(video, &[0xb0], tracks.width.into()); // PixelWidth
        uint(video, &[0xba], tracks.height.into()); // PixelHeight
        bytes(video, &[0x2e, 0xb5, 0x24], b"I420"); // UncompressedFourCC
        master(video, &[0x55, 0xb0], |colour| {
            uint(colour, &[0x55, 0xb1], 1); // MatrixCoefficients: BT.709
            uint(colour, &[0x55, 0xb9], 1); // Range: limited
            uint(colour, &[0x55, 0xba], 1); // TransferCharacteristics: BT.709
            uint(colour, &[0x55, 0xbb], 1); // Primaries: BT.709
        });
    });
}

fn audio_track(out: &mut Vec<u8>, tracks: &Tracks) {
    uint(out, &[0xd7], AUDIO.into()); // TrackNumber
    uint(out, &[0x73, 0xc5], AUDIO.into()); // TrackUID
    uint(out, &[0x83], 2); // TrackType: audio
    uint(out, &[0x9c], 0); // FlagLacing
    bytes(out, &[0x86], b"A_PCM/INT/LIT"); // CodecID: little-endian integers
    master(out, &[0xe1], |audio| {
        bytes(audio, &[0xb5], &f64::from(tracks.sample_rate).to_be_bytes()); // SamplingFrequency
        uint(audio, &[0x9f], tracks.channels.into()); // Channels
        uint(audio, &[0x62, 0x64], 16); // BitDepth
    });
}

impl MatroskaStream {
    /// The bytes before a frame of `len` bytes captured at `at` (since the stream's start).
    pub fn frame_header(&mut self, at: Duration, len: usize) -> Vec<u8> {
        self.block(VIDEO, at, len)
    }

    /// The bytes before `len` bytes of audio whose first sample is of `at`.
    pub fn audio_header(&mut self, at: Duration, len: usize) -> Vec<u8> {
        self.block(AUDIO, at, len)
    }

    fn block(&mut self, track: u8, at: Duration, len: usize) -> Vec<u8> {
        let at_ms = u64::try_from((at + Duration::from_micros(500)).as_millis()).unwrap_or(u64::MAX);
        let mut out = Vec::with_capacity(40);
        // Audio may be a little older than the cluster, which the signed offset allows; much older audio needs a new
        // cluster.
        let cluster_ms = match self.cluster_ms {
            Some(start) if at_ms < start + CLUSTER_SPAN_MS && at_ms + CLUSTER_SPAN_MS > start => start,
            _ => {
                out.extend_from_slice(&[0x1f, 0x43, 0xb6, 0x75]); // Cluster
                out.extend_from_slice(&UNKNOWN_SIZE);
                uint(&mut out, &[0xe7], at_ms); // Timestamp
                self.cluster_ms = Some(at_ms);
                at_ms
            }
        };
        #[expect(clippy::cast_possible_wrap, clippy::cast_possible_truncation, reason = "within ±CLUSTER_SPAN_MS")]
        let offset = (at_ms as i64 - cluster_ms as i64) as i16;
        out.push(0xa3); // SimpleBlock
        size(&mut out, len + 4);
        out.push(0x80 | track);
        out.extend_from_slice(&offset.to_be_bytes());
        out.push(0x80); // keyframe, as raw media always is
        out
    }
}

fn master(out: &mut Vec<u8>, id: &[u8], fill: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    fill(&mut inner);
    bytes(out, id, &inner);
}

fn bytes(out: &mut Vec<u8>, id: &[u8], payload: &[u8]) {
    out.extend_from_slice(id);
    size(out, payload.len());
    out.extend_from_slice(payload);
}

fn uint(out: &mut Vec<u8>, id: &[u8], value: u64) {
    let all = value.to_be_bytes();
    let skip = all.iter().take(7).take_while(|byte| **byte == 0).count();
    bytes(out, id, &all[skip..]);
}

/// An element's size in the fewest bytes (RFC 8794, 4.4); all ones means the unknown size.
fn size(out: &mut Vec<u8>, len: usize) {
    let len = len as u64;
    let width = (1..8).find(|width| len < (1 << (7 * width)) - 1).unwrap_or(8);
    let marked = len | (1 << (7 * width));
    out.extend_from_slice(&marked.to_be_bytes()[8 - width..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_use_the_fewest_bytes() {
        let encoded = |len| {
            let mut out = Vec::new();
            size(&mut out, len);
            hex::encode(out)
        };
        assert_eq!(encoded(0), "80");
        assert_eq!(encoded(126), "fe");
        assert_eq!(encoded(127), "407f");
        assert_eq!(encoded(16_382), "7ffe");
        assert_eq!(encoded(16_383), "203fff");
        assert_eq!(encoded(3_110_404), "102f7604");
    }

    #[test]
    fn blocks_hold_their_offset_in_a_cluster() {
        let mut stream = MatroskaStream::default();
        let ms = Duration::from_millis;
        assert_eq!(hex::encode(stream.frame_header(ms(7), 2)), "1f43b67501ffffffffffffffe78107a38681000080");
        assert_eq!(hex::encode(stream.audio_header(ms(0), 2)), "a38682fff980");
        assert_eq!(hex::encode(stream.frame_header(ms(40), 2)), "a38681002180");
        assert!(hex::encode(stream.frame_header(ms(5_007), 2)).starts_with("1f43b675"));
        assert!(hex::encode(stream.audio_header(ms(5_000), 2)).starts_with("a386"));
    }

    #[test]
    fn time_is_rounded_to_the_nearest_millisecond() {
        let mut stream = MatroskaStream::default();
        stream.frame_header(Duration::ZERO, 0);
        assert_eq!(hex::encode(stream.frame_header(Duration::from_micros(33_333), 0)), "a38481002180");
        assert_eq!(hex::encode(stream.frame_header(Duration::from_micros(66_666), 0)), "a38481004380");
    }
}
