//! When the packets of a file are played, stream by stream, from ffprobe's list of them: pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What one packet adds at most to [`TrackTimes::covered`]: no packet of sound is longer. An MP4 has no gaps: the packet
/// before one is stated to last until its end.
const LONGEST_SOUND: f64 = 1.0;
/// Limit of streams; the packets of further ones are not counted.
const STREAMS_LIMIT: usize = 64;

/// What a stream holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamKind {
    /// Moving pictures (a cover image is [`Self::Other`]).
    Video,
    Audio,
    #[default]
    Other,
}

/// When a track plays. Times are counted from the first packet of the file that can be decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackTimes {
    /// Start of the first packet that can be decoded: of a picture, its first keyframe.
    pub begin: Duration,
    /// Start of the last packet.
    pub last: Duration,
    /// End of the last packet, or of the picture as the file's header states it, whichever is later: ffprobe cuts a last
    /// frame short where the picture begins late. Either may be wrong for the last frame of a cut-off file.
    pub end: Duration,
    /// The times from each packet to the next, summed, each counted for a second at most: what there is of a sound
    /// without its gaps.
    pub covered: Duration,
    /// The longest time from a packet to the next.
    pub longest: Duration,
}

/// What is known of one stream's packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrackPackets {
    pub count: u64,
    /// `None`: nothing of it can be decoded, as it has no packets with times, or pictures but no keyframe.
    pub times: Option<TrackTimes>,
}

/// The packets of all streams of a file.
#[derive(Debug, Default)]
pub struct FilePackets {
    tracks: Vec<Track>,
    /// Where the last packet in the file ends, in bytes.
    read_to: u64,
}

/// The packets of one stream; times in seconds.
#[derive(Clone, Copy, Debug, Default)]
struct Track {
    count: u64,
    /// Of all packets.
    whole: Option<Span>,
    /// From the first keyframe on.
    decodable: Option<Span>,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    begin: f64,
    last: f64,
    end: f64,
    covered: f64,
    longest: f64,
    /// When the latest packet is decoded, which unlike the time at which it is shown never decreases.
    decoded: f64,
    /// The latest packet's own length.
    length: f64,
}

impl Span {
    fn new(begin: f64, decoded: f64, length: f64) -> Self {
        Self { begin, last: begin, end: begin + length, covered: 0.0, longest: 0.0, decoded, length }
    }

    fn add(&mut self, begin: f64, decoded: f64, length: f64) {
        let step = (decoded - self.decoded).max(0.0);
        self.covered += step.min(LONGEST_SOUND);
        self.longest = self.longest.max(step);
        self.last = self.last.max(begin);
        self.end = self.end.max(begin + length);
        self.decoded = self.decoded.max(decoded);
        self.length = length;
    }
}

impl FilePackets {
    /// The fields of [`Self::add`]'s lines, in ffprobe's order.
    pub const FIELDS: &str = "packet=stream_index,pts_time,dts_time,duration_time,size,pos,flags";

    /// Reads a line with [`Self::FIELDS`], each a value or `N/A`.
    pub fn add(&mut self, line: &str) {
        let mut fields = line.trim().split(',');
        let stream = fields.next().and_then(|stream| stream.trim().parse::<usize>().ok());
        let Some(stream) = stream.filter(|stream| *stream < STREAMS_LIMIT) else { return };
        let mut number = || fields.next().and_then(|field| field.parse::<f64>().ok()).filter(|time| time.is_finite());
        let (pts, dts, length) = (number(), number(), number());
        let mut bytes = || fields.next().and_then(|field| field.parse::<u64>().ok());
        let (size, position) = (bytes(), bytes());
        let flags = fields.next().unwrap_or_default();
        if let (Some(position), Some(size)) = (position, size) {
            self.read_to = self.read_to.max(position.saturating_add(size));
        }
        if self.tracks.len() <= stream {
            self.tracks.resize(stream + 1, Track::default());
        }
        let track = &mut self.tracks[stream];
        track.count += 1;
        let keyframe = flags.contains('K');
        // The lead-in of a codec, which no player plays.
        let discarded = flags.contains('D');
        let Some(begin) = pts.or(dts).filter(|_| !discarded) else { return };
        let (decoded, length) = (dts.unwrap_or(begin), length.unwrap_or(0.0).max(0.0));
        for (span, begins) in [(&mut track.whole, true), (&mut track.decodable, keyframe)] {
            match span {
                Some(span) => span.add(begin, decoded, length),
                None if begins => *span = Some(Span::new(begin, decoded, length)),
                None => {}
            }
        }
    }

    /// How many packets this stream has.
    #[must_use]
    pub fn count(&self, stream: usize) -> u64 {
        self.tracks.get(stream).map_or(0, |track| track.count)
    }

    /// Where the last packet in the file ends, in bytes; 0 where no position is known.
    #[must_use]
    pub fn read_to(&self) -> u64 {
        self.read_to
    }

    /// How many bytes of an index may follow the last packet.
    #[must_use]
    pub fn index_limit(&self) -> u64 {
        // An MP4's index has some 20 bytes a packet, Matroska's some 30 a keyframe. A cut-off file ends within a packet.
        const FOR_THE_REST: u64 = 1 << 20;
        const PER_PACKET: u64 = 32;
        let packets: u64 = self.tracks.iter().map(|track| track.count).sum();
        FOR_THE_REST + PER_PACKET * packets
    }

    /// The length of the file: from the first packet that can be decoded to the end of the last one. `kinds`: the kind
    /// of each stream. In a file with sound, a picture lasts to the start of its last frame: the stated length of that
    /// frame may be wrong in a cut-off file. `None`: no packet has a time.
    #[must_use]
    pub fn duration(&self, kinds: &[StreamKind]) -> Option<Duration> {
        let spans = self.spans(kinds);
        let has_audio = spans.iter().any(|(kind, _)| *kind == StreamKind::Audio);
        let ends = spans.iter().map(|(kind, span)| match kind {
            StreamKind::Video if has_audio => span.last,
            _ => span.end,
        });
        positive(ends.reduce(f64::max)? - begin(&spans)?)
    }

    /// What is known of each stream. `stated`: the end of each stream's picture in seconds, as the header states it.
    #[must_use]
    pub fn tracks(&self, kinds: &[StreamKind], stated: &[Option<f64>]) -> Vec<TrackPackets> {
        let zero = begin(&self.spans(kinds)).unwrap_or_default();
        let at = |seconds: f64| positive(seconds - zero).unwrap_or_default();
        let stated =
            |index: usize, end: f64| stated.get(index).copied().flatten().map_or(end, |stated| stated.max(end));
        let tracks = self.tracks.iter().enumerate().map(|(index, track)| TrackPackets {
            count: track.count,
            times: track.decodable.map(|span| TrackTimes {
                begin: at(span.begin),
                last: at(span.last),
                end: at(stated(index, span.end)),
                covered: positive(span.covered + span.length.min(LONGEST_SOUND)).unwrap_or_default(),
                longest: positive(span.longest).unwrap_or_default(),
            }),
        });
        tracks.collect()
    }

    /// The streams with their kinds: what can be decoded of them, or all where nothing can.
    fn spans(&self, kinds: &[StreamKind]) -> Vec<(StreamKind, Span)> {
        let kind = |index: usize| kinds.get(index).copied().unwrap_or(StreamKind::Other);
        let of = |find: fn(&Track) -> Option<Span>| -> Vec<_> {
            let all = self.tracks.iter().enumerate();
            all.filter_map(|(index, track)| Some((kind(index), find(track)?))).collect()
        };
        let decodable = of(|track| track.decodable);
        if decodable.is_empty() { of(|track| track.whole) } else { decodable }
    }
}

/// Start of the first packet.
fn begin(spans: &[(StreamKind, Span)]) -> Option<f64> {
    spans.iter().map(|(_, span)| span.begin).reduce(f64::min)
}

/// A positive, finite duration.
pub(crate) fn positive(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok().filter(|duration| !duration.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIDEO: StreamKind = StreamKind::Video;
    const AUDIO: StreamKind = StreamKind::Audio;

    fn read(lines: &[&str]) -> FilePackets {
        let mut packets = FilePackets::default();
        for line in lines {
            packets.add(line);
        }
        packets
    }

    fn seconds(times: f64) -> Duration {
        Duration::from_secs_f64(times)
    }

    #[test]
    fn only_positive_finite_durations_count() {
        assert_eq!(positive(1.5), Some(Duration::from_millis(1500)));
        for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300] {
            assert_eq!(positive(seconds), None);
        }
    }

    #[test]
    fn a_file_lasts_from_the_first_packets_start_to_the_last_ones_end() {
        let packets = read(&[
            "0,N/A,N/A,N/A,N/A,N/A,K__",
            "1,0.500000,0.4,0.040000,10,100,K__",
            "1,1.0,N/A,1.000000,10,110,K__",
            "3,N/A,1.5,N/A,7,200,K_",
            "garbage",
            "",
            "99,1,1,1,1,1,K__",
        ]);
        let duration = |kinds: &[StreamKind]| packets.duration(kinds).unwrap().as_secs_f64();
        assert!((duration(&[]) - 1.5).abs() < 1e-9);
        assert!((duration(&[AUDIO, VIDEO]) - 1.5).abs() < 1e-9, "no sound is in it");
        assert!((duration(&[VIDEO, VIDEO, AUDIO, AUDIO]) - 1.0).abs() < 1e-9, "its last frame begins at 1.0");
        assert!((duration(&[VIDEO, AUDIO]) - 1.5).abs() < 1e-9);
        let counts: Vec<_> = packets.tracks(&[], &[]).iter().map(|track| track.count).collect();
        assert_eq!((counts, packets.read_to()), (vec![1, 2, 0, 1], 207));
        assert_eq!(FilePackets::default().duration(&[VIDEO]), None);
    }

    #[test]
    fn a_picture_begins_with_its_first_keyframe_and_a_lead_in_is_not_played() {
        let packets = read(&[
            "0,1.5,1.5,0.1,9,9,__",
            "1,-0.021333,-0.021333,0.021333,9,9,KD_",
            "1,0.000000,0.000000,1.000000,9,9,K__",
            "0,4.0,4.0,0.1,9,9,K__",
            "0,6.0,6.0,0.1,9,9,___",
        ]);
        let tracks = packets.tracks(&[VIDEO, AUDIO], &[Some(9.0), None]);
        let times = tracks[0].times.unwrap();
        assert_eq!(
            (tracks[0].count, times.begin, times.last, times.longest),
            (3, seconds(4.0), seconds(6.0), seconds(2.0))
        );
        assert_eq!(times.end, seconds(9.0), "the header's last frame is longer");
        assert_eq!(tracks[1].times.unwrap().begin, Duration::ZERO);
        // Pictures without any keyframe cannot be decoded, but they are not nothing.
        let lost = read(&["0,1.5,1.5,0.1,9,9,__", "0,2.5,2.5,0.5,9,9,__"]);
        assert_eq!(lost.tracks(&[VIDEO], &[Some(9.0)])[0], TrackPackets { count: 2, times: None });
        assert_eq!(lost.duration(&[VIDEO]), Some(seconds(1.5)));
    }

    #[test]
    fn a_gap_in_the_sound_is_not_covered() {
        let mut raw = FilePackets::default();
        for packet in (0..1000).filter(|packet| !(200..=600).contains(packet)) {
            let at = f64::from(packet) * 0.05;
            raw.add(&format!("0,{at:.3},{at:.3},0.049,9,9,K__"));
        }
        let times = raw.tracks(&[AUDIO], &[])[0].times.unwrap();
        // 20 s are missing, of which a second is counted. Lengths that are rounded do not add up.
        assert!((times.covered.as_secs_f64() - 30.8).abs() < 0.2, "{times:?}");
        assert!((times.end.as_secs_f64() - 50.0).abs() < 0.1 && times.longest > seconds(20.0), "{times:?}");
        // As an MP4 has it: no gap, but a packet that is stated to last for it.
        let mut mp4 = FilePackets::default();
        mp4.add("0,0,0,0.02,9,9,K__");
        mp4.add("0,0.02,0.02,180,9,9,K__");
        mp4.add("0,180.02,180.02,0.02,9,9,K__");
        assert!(mp4.tracks(&[AUDIO], &[])[0].times.unwrap().covered < seconds(1.1));
    }
}
