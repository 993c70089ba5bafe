//! Plans how several files are concatenated: pure; [`crate::media::concat`] carries it out.
//!
//! Each part gets a slot of whole milliseconds (Matroska's time unit), slightly longer than its content. So all times
//! of a part are moved by the same amount, picture and sound stay in step, and the last frame of a part never has the
//! time of the next part's first one.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::media::ffprobe::{MediaInfo, MediaStream};

/// Error of measured times, which are decimals.
const ROUNDING: Duration = Duration::from_micros(1);
/// Filters for the sound of parts that differ: the format of the capture (docs/sound-and-picture.md).
const SOUND: &str = "aresample=48000:async=1:min_hard_comp=0.01:first_pts=0,\
                     aformat=sample_fmts=s16:channel_layouts=stereo";
/// Encoding of a raw file from parts that differ: high quality, their own times to the millisecond, and a keyframe
/// every 4 s as in any raw file.
const RAW_PICTURE: &str = "-fps_mode vfr -enc_time_base:v 1:1000 -c:v libx264 -preset ultrafast -crf 18 -bf 0 \
                           -force_key_frames expr:gte(t,n_forced*4)";
const RAW_SOUND: &str = "-c:a pcm_s16le -ar 48000 -ac 2";
/// Encoding of an MP4 from MP4s that differ: for every player, in slightly better quality than usual, because it is
/// their second loss.
const MP4_PICTURE: &str = "-fps_mode vfr -enc_time_base:v 1:90000 -c:v libx264 -preset veryfast -crf 20 \
                           -profile:v baseline -pix_fmt yuv420p";
const MP4_SOUND: &str = "-c:a aac -b:a 128k -ar 48000 -ac 2";

/// Container of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// Matroska, for a raw file.
    Raw,
    /// MP4 that plays before it is fully loaded.
    Mp4,
}

impl Container {
    /// ffmpeg's options for the container.
    #[must_use]
    pub fn arguments(self) -> Vec<OsString> {
        words(match self {
            Self::Raw => "-f matroska",
            Self::Mp4 => "-f mp4 -movflags +faststart",
        })
    }

    fn picture(self) -> Vec<OsString> {
        words(match self {
            Self::Raw => RAW_PICTURE,
            Self::Mp4 => MP4_PICTURE,
        })
    }

    fn sound(self) -> Vec<OsString> {
        words(match self {
            Self::Raw => RAW_SOUND,
            Self::Mp4 => MP4_SOUND,
        })
    }
}

/// A playable part, measured.
#[derive(Clone, Debug, PartialEq)]
pub struct ConcatInput {
    /// Absolute path.
    pub path: PathBuf,
    pub media: MediaInfo,
    /// The next part goes on where this one ends: another encoder took over while the capture went on.
    pub goes_on: bool,
}

/// How the parts are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConcatMethod {
    /// Packet by packet, without loss.
    Copied,
    /// The same where only the parameters of the picture's encoder differ: each keyframe gets those that it needs.
    CopiedWithParameters,
    /// Encoded in the size of the first part, because the parts differ.
    Encoded,
}

impl ConcatMethod {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Copied => "copied",
            Self::CopiedWithParameters => "copied, with the parameters of each part",
            Self::Encoded => "encoded anew",
        }
    }

    /// Whether no packet is changed but for its parameters.
    #[must_use]
    pub fn is_lossless(self) -> bool {
        self != Self::Encoded
    }
}

/// A file name that the list of parts cannot hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} has a line break in its name, which ffmpeg's list of files cannot hold; rename it")]
pub struct UnlistablePath(pub PathBuf);

impl ConcatInput {
    /// The video stream, if it has packets.
    pub(super) fn picture(&self) -> Option<&MediaStream> {
        self.media.video().filter(|stream| stream.packets != Some(0) && stream.width > 0 && stream.height > 0)
    }

    /// Whether the audio stream has packets.
    fn has_sound(&self) -> bool {
        self.media.audio().is_some_and(|stream| stream.packets != Some(0))
    }

    /// Length of the slot: whole milliseconds, at most one more than the measured duration; the nearest one where the next
    /// part goes on, since encoders change at a whole millisecond.
    #[must_use]
    pub fn slot(&self) -> Duration {
        let millis = if self.goes_on {
            (self.media.duration + Duration::from_micros(500)).as_millis().max(1)
        } else {
            (self.media.duration + ROUNDING).as_millis() + 1
        };
        Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
    }
}

/// The streams of a part that go into the result. A raw file has one picture and one sound: what else was encoded while
/// a part was recorded ([`crate::media::final_encoding`]) has a seam where it is joined.
pub(super) fn joined_streams(piece: &ConcatInput, container: Container) -> Vec<&MediaStream> {
    let first = |stream: &MediaStream| {
        [piece.media.video(), piece.media.audio()].into_iter().flatten().any(|first| std::ptr::eq(first, stream))
    };
    piece.media.streams.iter().filter(|stream| container == Container::Mp4 || first(stream)).collect()
}

/// How long a measured part lasts. A sound that is left out ([`joined_streams`]) does not count: it ends later than the
/// others by the lead-in of its codec, by which what goes on would be late.
#[must_use]
pub fn joined_duration(media: &MediaInfo, container: Container) -> Duration {
    let times = |stream: Option<&MediaStream>| stream.and_then(|stream| stream.times);
    let Some(sound) = times(media.audio()).filter(|_| container == Container::Raw) else { return media.duration };
    // As a file with sound is measured.
    let end = times(media.video()).map_or(sound.end, |picture| picture.last.max(sound.end));
    if end.is_zero() { media.duration } else { end.min(media.duration) }
}

/// A lossless method if all parts have equal stream parameters and all their names can be listed.
#[must_use]
pub fn method(pieces: &[ConcatInput], container: Container) -> ConcatMethod {
    // `own_setups`: an H.264 decoder takes other parameters at any keyframe.
    let equal = |a: &MediaStream, b: &MediaStream, own_setups: bool| {
        let setup = if own_setups && a.codec == "h264" { &b.setup } else { &a.setup }.clone();
        let (encoded_for, encoded_span) = (b.encoded_for.clone(), b.encoded_span.clone());
        MediaStream { packets: b.packets, times: b.times, setup, encoded_for, encoded_span, ..a.clone() } == *b
    };
    let all = |own_setups| {
        pieces.windows(2).all(|pair| {
            let [a, b] = [0, 1].map(|n| joined_streams(&pair[n], container));
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b, own_setups))
        })
    };
    match pieces.iter().all(|piece| !has_line_break(&piece.path)) {
        true if all(false) => ConcatMethod::Copied,
        true if container == Container::Raw && all(true) => ConcatMethod::CopiedWithParameters,
        _ => ConcatMethod::Encoded,
    }
}

/// Whether the result must have a picture, and sound.
#[must_use]
pub fn has_video_and_audio(pieces: &[ConcatInput]) -> (bool, bool) {
    (pieces.iter().any(|piece| piece.picture().is_some()), pieces.iter().any(ConcatInput::has_sound))
}

/// The parts as a list for ffmpeg's concat demuxer. Durations are listed because the header of a cut-off file has none,
/// or that of the whole file.
///
/// # Errors
/// For a name with a line break: the list is read line by line, even within quotes.
pub fn list(pieces: &[ConcatInput]) -> Result<Vec<u8>, UnlistablePath> {
    let mut list = LIST_HEAD.to_vec();
    for piece in pieces {
        list.extend(listed(&piece.path)?);
        list.extend_from_slice(format!("duration {}\n", seconds(piece.slot())).as_bytes());
    }
    Ok(list)
}

/// The first line of a list for ffmpeg's concat demuxer.
pub const LIST_HEAD: &[u8] = b"ffconcat version 1.0\n";

/// The line of such a list that names this file; those about it follow.
///
/// # Errors
/// As [`list`].
pub fn listed(path: &Path) -> Result<Vec<u8>, UnlistablePath> {
    if has_line_break(path) {
        return Err(UnlistablePath(path.to_owned()));
    }
    let mut line = b"file 'file:".to_vec();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            // Within quotes only the closing quote has a meaning.
            b'\'' => line.extend_from_slice(br"'\''"),
            byte => line.push(*byte),
        }
    }
    line.extend_from_slice(b"'\n");
    Ok(line)
}

fn has_line_break(path: &Path) -> bool {
    path.as_os_str().as_bytes().iter().any(|byte| matches!(byte, b'\n' | b'\r' | b'\0'))
}

/// ffmpeg's options to copy the parts in `list`. `whitelist`: the formats that a part may have. `tags`: the options for
/// the tags of a raw file.
#[must_use]
pub fn copy_arguments(
    list: &Path,
    whitelist: &str,
    how: ConcatMethod,
    container: Container,
    tags: Vec<OsString>,
) -> Vec<OsString> {
    let mut args = words("-protocol_whitelist file -format_whitelist");
    args.push(format!("concat,{whitelist}").into());
    args.extend(words("-f concat -safe 0"));
    // Otherwise ffmpeg rewrites each H.264 packet, parameter sets included, which is needed for parts that differ only.
    if how == ConcatMethod::Copied {
        args.extend(words("-auto_convert 0"));
    }
    args.push("-i".into());
    args.push(crate::media::ffprobe::file_url(list));
    args.extend(match container {
        Container::Raw => words("-map 0:V:0? -map 0:a:0? -c copy"),
        Container::Mp4 => words("-map 0:V? -map 0:a? -c copy"),
    });
    if container == Container::Raw {
        args.extend(tags);
    }
    args
}

/// ffmpeg's options to encode the parts one after the other. `files_only`: the options that keep an input from opening
/// further files.
///
/// The concat filter joins the sound only: for the picture it would estimate the end of a part from the mean frame
/// interval, which may be seconds off. Each picture is moved to its part's slot instead.
#[must_use]
pub fn encode_arguments(pieces: &[ConcatInput], container: Container, files_only: &[&str]) -> Vec<OsString> {
    // Keeps the times of the files. Otherwise ffmpeg subtracts each file's first time, which its versions compute
    // differently for sound with a codec delay (tried: 7.0 and 7.1, 23 ms with AAC in Matroska).
    let mut args = words("-copyts");
    // Each file is opened twice, for picture and sound: ffmpeg 7.0 hangs where two graphs read one file.
    for piece in pieces.iter().chain(pieces) {
        args.extend(files_only.iter().map(OsString::from));
        args.push("-i".into());
        args.push(crate::media::ffprobe::file_url(&piece.path));
    }
    // Two graphs: neither waits for the other's streams to begin.
    if let Some(graph) = picture_graph(pieces) {
        args.extend(["-filter_complex", &graph, "-map", "[v]"].map(OsString::from));
        args.extend(container.picture());
    }
    if let Some(graph) = sound_graph(pieces) {
        args.extend(["-filter_complex", &graph, "-map", "[a]"].map(OsString::from));
        args.extend(container.sound());
    }
    args
}

/// All pictures in the size of the first one, each in its slot; black where a part has none. `None`: no part has a
/// picture.
fn picture_graph(pieces: &[ConcatInput]) -> Option<String> {
    let first = pieces.iter().find_map(ConcatInput::picture)?;
    // H.264 with 4:2:0 chroma needs even sizes.
    let (width, height) = ((first.width & !1).max(2), (first.height & !1).max(2));
    let (mut graph, mut ends) = (String::new(), String::new());
    let mut begin = Duration::ZERO;
    for (n, piece) in pieces.iter().enumerate() {
        let source = if piece.picture().is_some() {
            format!(
                "[{n}:V:0]scale={width}:{height}:force_original_aspect_ratio=decrease:force_divisible_by=2,\
                 pad={width}:{height}:(ow-iw)/2:(oh-ih)/2,"
            )
        } else {
            // One frame per second, as for a still page.
            format!("color=c=black:s={width}x{height}:r=1:d={},", seconds(piece.slot()))
        };
        let at = seconds(begin);
        // Writing to a String cannot fail.
        let _ = write!(graph, "{source}setsar=1,format=yuv420p,setpts=PTS+{at}/TB[v{n}];");
        let _ = write!(ends, "[v{n}]");
        begin += piece.slot();
    }
    Some(format!("{graph}{ends}interleave=n={}[v]", pieces.len()))
}

/// All sound, each part as long as its slot to the sample; silence where a part has none. `None`: no part has sound.
fn sound_graph(pieces: &[ConcatInput]) -> Option<String> {
    pieces.iter().any(ConcatInput::has_sound).then_some(())?;
    let (mut graph, mut ends) = (String::new(), String::new());
    for (n, piece) in pieces.iter().enumerate() {
        let slot = seconds(piece.slot());
        let _ = if piece.has_sound() {
            write!(graph, "[{}:a:0]{SOUND},apad=whole_dur={slot},atrim=end={slot}[a{n}];", pieces.len() + n)
        } else {
            write!(graph, "anullsrc=r=48000:cl=stereo:d={slot},aformat=sample_fmts=s16[a{n}];")
        };
        let _ = write!(ends, "[a{n}]");
    }
    Some(format!("{graph}{ends}concat=n={}:v=0:a=1[a]", pieces.len()))
}

/// A slot in seconds for ffmpeg.
fn seconds(slot: Duration) -> String {
    format!("{}.{:03}", slot.as_secs(), slot.subsec_millis())
}

fn words(words: &str) -> Vec<OsString> {
    words.split_whitespace().map(OsString::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::ffprobe::StreamKind;
    use crate::media::packet_times::TrackTimes;

    fn video(width: u32, height: u32) -> MediaStream {
        MediaStream {
            kind: StreamKind::Video,
            codec: "h264".into(),
            width,
            height,
            setup: "x".into(),
            ..MediaStream::default()
        }
    }

    fn audio(sample_rate: u32) -> MediaStream {
        MediaStream {
            kind: StreamKind::Audio,
            codec: "pcm_s16le".into(),
            sample_rate,
            channels: 2,
            packets: Some(9),
            ..MediaStream::default()
        }
    }

    fn piece(path: &str, millis: u64, streams: &[MediaStream]) -> ConcatInput {
        let media =
            MediaInfo { duration: Duration::from_millis(millis), streams: streams.to_vec(), ..MediaInfo::default() };
        ConcatInput { path: path.into(), media, goes_on: false }
    }

    #[test]
    fn a_slot_is_whole_milliseconds_and_longer_than_its_part() {
        for (micros, millis) in [(1_500_000, 1501), (1_499_999, 1501), (1_500_300, 1501), (1, 1), (999, 2)] {
            let mut piece = piece("/a", 0, &[]);
            piece.media.duration = Duration::from_micros(micros);
            assert_eq!(piece.slot(), Duration::from_millis(millis), "{micros}");
        }
        for (micros, millis) in [(1_500_400, 1500), (1_499_600, 1500), (100, 1)] {
            let mut piece = ConcatInput { goes_on: true, ..piece("/a", 0, &[]) };
            piece.media.duration = Duration::from_micros(micros);
            assert_eq!(piece.slot(), Duration::from_millis(millis), "{micros}");
        }
    }

    #[test]
    fn only_equal_parts_are_copied() {
        let first = piece("/a", 10, &[video(640, 360), audio(48_000)]);
        let silent = MediaStream { packets: Some(0), ..audio(48_000) };
        let with = |streams: &[MediaStream]| method(&[first.clone(), piece("/b", 20, streams)], Container::Mp4);
        assert_eq!(method(std::slice::from_ref(&first), Container::Mp4), ConcatMethod::Copied);
        assert_eq!(with(&[video(640, 360), audio(48_000)]), ConcatMethod::Copied);
        assert_eq!(with(&[video(640, 360), silent]), ConcatMethod::Copied, "it goes on with what comes next");
        for streams in [
            vec![video(640, 362), audio(48_000)],
            vec![video(640, 360), audio(44_100)],
            vec![video(640, 360)],
            vec![audio(48_000), video(640, 360)],
            vec![MediaStream { setup: "y".into(), ..video(640, 360) }, audio(48_000)],
            vec![MediaStream { codec: "vp8".into(), ..video(640, 360) }, audio(48_000)],
            vec![MediaStream { format: "yuv444p".into(), ..video(640, 360) }, audio(48_000)],
            vec![video(640, 360), MediaStream { channels: 1, ..audio(48_000) }],
        ] {
            assert_eq!(with(&streams), ConcatMethod::Encoded, "{streams:?}");
        }
    }

    #[test]
    fn parts_of_a_raw_file_may_differ_in_the_parameters_of_their_encoder() {
        let encoded = |setup: &str, mark: Option<&str>| MediaStream {
            setup: setup.into(),
            encoded_for: mark.map(str::to_owned),
            ..video(640, 360)
        };
        let aac = || MediaStream { codec: "aac".into(), ..audio(48_000) };
        let parts = |setup: &str, mark: Option<&str>| {
            [
                piece("/a", 10, &[encoded("x", Some("1 -crf 23")), audio(48_000), aac()]),
                piece("/b", 10, &[encoded(setup, mark), audio(48_000)]),
            ]
        };
        for (setup, mark, how) in [
            ("x", Some("1 -crf 23"), ConcatMethod::Copied),
            ("y", Some("1 -crf 23"), ConcatMethod::CopiedWithParameters),
            ("y", None, ConcatMethod::CopiedWithParameters),
            ("x", Some("1 -crf 20"), ConcatMethod::Copied),
        ] {
            assert_eq!(method(&parts(setup, mark), Container::Raw), how, "{setup} {mark:?}");
        }
        // A decoder of MP4s takes the parameters of the header only, and the sound that was left out would be missed.
        assert_eq!(method(&parts("x", None), Container::Mp4), ConcatMethod::Encoded);
        let line = |how| {
            let args = copy_arguments(Path::new("/l"), "matroska", how, Container::Raw, words("-metadata:s:v x=y"));
            args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ")
        };
        assert!(line(ConcatMethod::Copied).contains("-auto_convert 0"));
        let line = line(ConcatMethod::CopiedWithParameters);
        assert!(!line.contains("-auto_convert") && line.ends_with("-c copy -metadata:s:v x=y"), "{line}");
    }

    #[test]
    fn a_sound_that_is_left_out_does_not_lengthen_a_part() {
        let ends = |stream: MediaStream, millis: u64| {
            let end = Duration::from_millis(millis);
            MediaStream { times: Some(TrackTimes { last: end, end, ..TrackTimes::default() }), ..stream }
        };
        let streams = [ends(video(2, 2), 4360), ends(audio(48_000), 4400), ends(audio(48_000), 4437)];
        let media = piece("/a", 4437, &streams).media;
        assert_eq!(joined_duration(&media, Container::Raw), Duration::from_millis(4400));
        assert_eq!(joined_duration(&media, Container::Mp4), media.duration);
        let media = piece("/a", 4500, &[ends(video(2, 2), 4410), ends(audio(48_000), 4400)]).media;
        assert_eq!(joined_duration(&media, Container::Raw), Duration::from_millis(4410), "its last frame begins then");
        for unmeasured in [vec![video(2, 2), audio(48_000)], vec![ends(video(2, 2), 9)], vec![]] {
            let media = piece("/a", 4500, &unmeasured).media;
            assert_eq!(joined_duration(&media, Container::Raw), media.duration);
        }
    }

    #[test]
    fn names_are_escaped_in_the_list() {
        let names = ["/a b/it's.mkv", "/x' duration 9", r"/back\slash # %03d"];
        let pieces = names.map(|name| piece(name, 1500, &[]));
        assert_eq!(
            String::from_utf8(list(&pieces).unwrap()).unwrap(),
            "ffconcat version 1.0\n\
             file 'file:/a b/it'\\''s.mkv'\nduration 1.501\n\
             file 'file:/x'\\'' duration 9'\nduration 1.501\n\
             file 'file:/back\\slash # %03d'\nduration 1.501\n"
        );
        for name in ["/a\nfile 'file:/etc/passwd'", "/a\rb"] {
            assert_eq!(method(&[piece(name, 1500, &[])], Container::Raw), ConcatMethod::Encoded, "{name:?}");
            let refused = list(&[piece(name, 1500, &[])]).unwrap_err();
            assert!(refused.to_string().contains("rename it") && !refused.to_string().contains('\n'), "{refused}");
        }
    }

    #[test]
    fn a_missing_stream_is_black_or_silent() {
        let announced = MediaStream { packets: Some(0), ..audio(48_000) };
        let pieces = [
            piece("/a", 1499, &[announced, video(641, 361)]),
            piece("/b", 999, &[audio(44_100)]),
            piece("/c", 99, &[video(1280, 720), audio(48_000)]),
        ];
        let args = encode_arguments(&pieces, Container::Raw, &["-protocol_whitelist", "file"]);
        let line: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
        let line = line.join(" ");
        assert!(
            line.starts_with("-copyts -protocol_whitelist file -i file:/a -protocol_whitelist file -i file:/b"),
            "{line}"
        );
        for expected in [
            "[0:V:0]scale=640:360:",
            "color=c=black:s=640x360:r=1:d=1.000,setsar=1,format=yuv420p,setpts=PTS+1.500/TB[v1];",
            "setpts=PTS+2.500/TB[v2];[v0][v1][v2]interleave=n=3[v] -map [v]",
            "anullsrc=r=48000:cl=stereo:d=1.500,",
            "[4:a:0]aresample=",
            "apad=whole_dur=1.000,atrim=end=1.000[a1];",
            "[a0][a1][a2]concat=n=3:v=0:a=1[a] -map [a]",
        ] {
            assert!(line.contains(expected), "{expected}: {line}");
        }
        assert_eq!(has_video_and_audio(&pieces), (true, true));
        assert_eq!(has_video_and_audio(&pieces[..1]), (true, false));
        let silent = encode_arguments(&pieces[..1], Container::Raw, &[]);
        assert!(!silent.iter().any(|arg| arg == "[a]" || arg == "pcm_s16le"), "{silent:?}");
    }
}
