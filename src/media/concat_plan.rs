//! How several files become one: pure, the doing is [`crate::media::concat`]'s.
//!
//! Each part gets a slot of whole milliseconds (Matroska's own step), a little longer than what it holds: so all its
//! times are moved by the same amount, picture and sound stay in step, and the last frame of a part never has the time
//! of the next one's first.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::media::ffprobe::{MediaInfo, MediaStream};

/// What measured times may be off by: they went through decimals.
const ROUNDING: Duration = Duration::from_micros(1);
/// The sound of parts that differ, before it is encoded: that of the capture (DESIGN, "Capture").
const SOUND: &str = "aresample=48000:async=1:min_hard_comp=0.01:first_pts=0,\
                     aformat=sample_fmts=s16:channel_layouts=stereo";
/// A raw file of parts that differ: nearly as they were, with their own times to the millisecond, and a keyframe every 4 s
/// as in any raw file.
const RAW_PICTURE: &str = "-fps_mode vfr -enc_time_base:v 1:1000 -c:v libx264 -preset ultrafast -crf 18 -bf 0 \
                           -force_key_frames expr:gte(t,n_forced*4)";
const RAW_SOUND: &str = "-c:a pcm_s16le -ar 48000 -ac 2";
/// An MP4 of MP4s that differ: for every player, a little better than they were made with, since it is their second loss.
const MP4_PICTURE: &str = "-fps_mode vfr -enc_time_base:v 1:90000 -c:v libx264 -preset veryfast -crf 20 \
                           -profile:v baseline -pix_fmt yuv420p";
const MP4_SOUND: &str = "-c:a aac -b:a 128k -ar 48000 -ac 2";

/// What the joined file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// A raw file: Matroska.
    Raw,
    /// A result: MP4 that begins to play before it is loaded.
    Mp4,
}

impl Container {
    /// ffmpeg's options for the file itself.
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

/// A part that can be played, measured.
#[derive(Clone, Debug, PartialEq)]
pub struct ConcatInput {
    /// Absolute.
    pub path: PathBuf,
    pub media: MediaInfo,
}

/// What is done to the parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConcatMethod {
    /// Packet by packet, without loss.
    Copied,
    /// The parts differ: encoded anew, in the size of the first one.
    Encoded,
}

impl ConcatMethod {
    /// For the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Copied => "copied",
            Self::Encoded => "encoded anew",
        }
    }
}

/// A file name that the list of parts cannot hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} has a line break in its name, which ffmpeg's list of files cannot hold; rename it")]
pub struct UnlistablePath(pub PathBuf);

impl ConcatInput {
    /// Its moving picture, if there is anything of it.
    fn picture(&self) -> Option<&MediaStream> {
        self.media.video().filter(|stream| stream.packets != Some(0) && stream.width > 0 && stream.height > 0)
    }

    /// Whether any sound is in it, not only announced.
    fn has_sound(&self) -> bool {
        self.media.audio().is_some_and(|stream| stream.packets != Some(0))
    }

    /// How long it lasts in the joined file: whole milliseconds, more than what was measured, by one at the most.
    #[must_use]
    pub fn slot(&self) -> Duration {
        let millis = (self.media.duration + ROUNDING).as_millis() + 1;
        Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
    }
}

/// Copied, if the decoder of the first part can go on with each of the others without being told anything new, and all
/// their names can stand in a list.
#[must_use]
pub fn how(pieces: &[ConcatInput]) -> ConcatMethod {
    let alike = |a: &[MediaStream], b: &[MediaStream]| {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| MediaStream { packets: b.packets, ..a.clone() } == *b)
    };
    let listed = pieces.iter().all(|piece| !has_line_break(&piece.path));
    let all = listed && pieces.windows(2).all(|pair| alike(&pair[0].media.streams, &pair[1].media.streams));
    if all { ConcatMethod::Copied } else { ConcatMethod::Encoded }
}

/// Whether the joined file must have a picture, and sound.
#[must_use]
pub fn holds(pieces: &[ConcatInput]) -> (bool, bool) {
    (pieces.iter().any(|piece| piece.picture().is_some()), pieces.iter().any(ConcatInput::has_sound))
}

/// The pieces as ffmpeg's concat demuxer reads them. Each has its duration: the header of a file that was cut off has
/// none, or that of the whole file.
///
/// # Errors
/// For a name with a line break: the list is read by lines, whatever the quotes.
pub fn list(pieces: &[ConcatInput]) -> Result<Vec<u8>, UnlistablePath> {
    let mut list = b"ffconcat version 1.0\n".to_vec();
    for piece in pieces {
        let path = piece.path.as_os_str().as_bytes();
        if has_line_break(&piece.path) {
            return Err(UnlistablePath(piece.path.clone()));
        }
        list.extend_from_slice(b"file 'file:");
        for byte in path {
            match byte {
                // Within quotes nothing has a meaning but their end.
                b'\'' => list.extend_from_slice(br"'\''"),
                byte => list.push(*byte),
            }
        }
        list.extend_from_slice(format!("'\nduration {}\n", seconds(piece.slot())).as_bytes());
    }
    Ok(list)
}

fn has_line_break(path: &Path) -> bool {
    path.as_os_str().as_bytes().iter().any(|byte| matches!(byte, b'\n' | b'\r' | b'\0'))
}

/// ffmpeg's options to copy what stands in `list`. `whitelist`: the formats that a part may have.
#[must_use]
pub fn copy_arguments(list: &Path, whitelist: &str) -> Vec<OsString> {
    // Without `-auto_convert 0` each H.264 packet would be taken apart and put together again, with the parameter sets
    // within: it is for parts that differ.
    let mut args = words("-protocol_whitelist file -format_whitelist");
    args.push(format!("concat,{whitelist}").into());
    args.extend(words("-f concat -safe 0 -auto_convert 0 -i"));
    args.push(crate::media::ffprobe::file_url(list));
    args.extend(words("-map 0:V? -map 0:a? -c copy"));
    args
}

/// ffmpeg's options to encode the pieces anew, one behind the other. `files_only`: the options that keep an input from
/// opening further files.
///
/// The concat filter only joins the sound: for the picture it would guess where a part ends from the mean time between
/// its frames, which may be seconds off here. Each picture is moved to its part's slot instead.
#[must_use]
pub fn encode_arguments(pieces: &[ConcatInput], container: Container, files_only: &[&str]) -> Vec<OsString> {
    // Times as they are in the files: else ffmpeg moves each file's by its first one, which its versions tell differently
    // where the sound has a codec delay (tried: 7.0 and 7.1, 23 ms with AAC in Matroska).
    let mut args = words("-copyts");
    // Each file twice, for its picture and for its sound: ffmpeg 7.0 stands still for ever where two graphs read one file.
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

/// Every picture in the size of the first one, at its own time; black where a part has none. `None`: no part has one.
fn picture_graph(pieces: &[ConcatInput]) -> Option<String> {
    let first = pieces.iter().find_map(ConcatInput::picture)?;
    // H.264 with 4:2:0 colours has even sides.
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
            // A frame a second, as of a page on which nothing moves.
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

/// All sound, each part's as long as its slot to the sample; silence where a part has none. `None`: no part has any.
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

/// A slot as ffmpeg takes it, in seconds.
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
        let media = MediaInfo { duration: Duration::from_millis(millis), streams: streams.to_vec() };
        ConcatInput { path: path.into(), media }
    }

    #[test]
    fn a_slot_is_whole_milliseconds_and_longer_than_its_part() {
        for (micros, millis) in [(1_500_000, 1501), (1_499_999, 1501), (1_500_300, 1501), (1, 1), (999, 2)] {
            let mut piece = piece("/a", 0, &[]);
            piece.media.duration = Duration::from_micros(micros);
            assert_eq!(piece.slot(), Duration::from_millis(millis), "{micros}");
        }
    }

    #[test]
    fn only_parts_that_are_alike_are_copied() {
        let first = piece("/a", 10, &[video(640, 360), audio(48_000)]);
        let silent = MediaStream { packets: Some(0), ..audio(48_000) };
        let with = |streams: &[MediaStream]| how(&[first.clone(), piece("/b", 20, streams)]);
        assert_eq!(how(std::slice::from_ref(&first)), ConcatMethod::Copied);
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
    fn what_a_name_holds_stays_a_name() {
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
            assert_eq!(how(&[piece(name, 1500, &[])]), ConcatMethod::Encoded, "{name:?}");
            let refused = list(&[piece(name, 1500, &[])]).unwrap_err();
            assert!(refused.to_string().contains("rename it") && !refused.to_string().contains('\n'), "{refused}");
        }
    }

    #[test]
    fn what_a_part_lacks_is_black_and_silent() {
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
        assert_eq!(holds(&pieces), (true, true));
        assert_eq!(holds(&pieces[..1]), (true, false));
        let silent = encode_arguments(&pieces[..1], Container::Raw, &[]);
        assert!(!silent.iter().any(|arg| arg == "[a]" || arg == "pcm_s16le"), "{silent:?}");
    }
}
