//! Content of media files, read by ffprobe.
//!
//! A path is always passed as `file:PATH`, so that no name is taken for an option or a protocol, and a file's content
//! cannot make ffprobe open another file.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use crate::codes;
use crate::media::encoded_span::EncodedSpan;
use crate::media::error_text::condense;
pub use crate::media::packet_times::StreamKind;
use crate::media::packet_times::{FilePackets, TrackPackets, TrackTimes, positive};
use crate::process::child::{self, Child, ChildSpec};

/// Time limit for a file's headers, and for each line of its packets.
pub(super) const PROBE_DEADLINE: Duration = Duration::from_secs(60);
/// Limit of ffprobe's answer in bytes, far above any file with a handful of streams.
pub(super) const ANSWER_LIMIT: u64 = 4 << 20;
/// Options that keep a file's content from making ffmpeg or ffprobe open other files: only the file protocol, and no
/// format that lists further files (HLS, concat, image sequences).
pub(crate) const FILES_ONLY: [&str; 4] = [
    "-protocol_whitelist",
    "file",
    "-format_whitelist",
    "matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mpegts,mpeg,flv,avi,nut,ogg,asf",
];
/// Options to read the headers.
const HEADERS: [&str; 6] = ["-show_format", "-show_streams", "-show_data_hash", "sha256", "-of", "json"];
/// Options to list the packets.
const PACKET_LIST: [&str; 4] = ["-show_entries", FilePackets::FIELDS, "-of", "csv=p=0"];
/// How much of what ffprobe has not read is read to tell a failing disk from bytes that are no media.
const TAIL_LIMIT: u64 = 64 << 20;
/// Time limit for an ffprobe to end on SIGTERM.
const GRACE: Duration = Duration::from_secs(2);

/// Content of a media file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MediaInfo {
    /// From the start of the first packet to the end of the last one; never zero in a file that was read.
    pub duration: Duration,
    pub streams: Vec<MediaStream>,
    /// ffmpeg's names of the container's format (`matroska,webm`).
    pub container: String,
    /// Why [`measure`] may not know all of the file: ffprobe failed on the way, or made nothing of its end.
    pub incomplete: Option<String>,
}

/// One stream of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaStream {
    pub kind: StreamKind,
    /// ffmpeg's name (`h264`, `pcm_s16le`); empty where it has none.
    pub codec: String,
    /// Size in pixels; 0 if not video.
    pub width: u32,
    pub height: u32,
    /// ffmpeg's name of the pixel or sample format (`yuv420p`, `s16`); empty where it has none.
    pub format: String,
    /// Samples per second, and number of channels; 0 if not audio.
    pub sample_rate: u32,
    pub channels: u32,
    /// Hash of the decoder's configuration (ffmpeg's "extradata"); empty where there is none.
    pub setup: String,
    /// What a recording node has encoded it for ([`crate::media::final_encoding`]); `None`: it says nothing.
    pub encoded_for: Option<String>,
    /// The same of its beginning only, where the rest is encoded in another way.
    #[serde(skip)]
    pub encoded_span: Option<EncodedSpan>,
    /// Number of packets; known only if they were read ([`measure`]).
    pub packets: Option<u64>,
    /// When it plays; known only if its packets were read, and `None` too where nothing of it can be decoded.
    pub times: Option<TrackTimes>,
}

impl MediaInfo {
    /// The first video stream.
    #[must_use]
    pub fn video(&self) -> Option<&MediaStream> {
        self.streams.iter().find(|stream| stream.kind == StreamKind::Video)
    }

    /// Whether this program's recorder, or another of its kind, wrote the file.
    #[must_use]
    pub fn is_matroska(&self) -> bool {
        self.container.contains("matroska")
    }

    /// What of a measured file nobody knows: a result that was held against it may lack this.
    #[must_use]
    pub fn unknown_part(&self) -> Option<String> {
        let undecodable = |stream: &&MediaStream| {
            stream.kind == StreamKind::Video
                && stream.packets.is_some_and(|packets| packets > 0)
                && stream.times.is_none()
        };
        let no_keyframe = || self.streams.iter().find(undecodable).map(|_| "its picture has no keyframe".to_owned());
        self.incomplete.clone().or_else(no_keyframe)
    }

    /// The first audio stream.
    #[must_use]
    pub fn audio(&self) -> Option<&MediaStream> {
        self.streams.iter().find(|stream| stream.kind == StreamKind::Audio)
    }
}

/// Why a file's content is unknown.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error(transparent)]
    Start(#[from] child::SpawnError),
    #[error("ffprobe said nothing about {path} within {seconds} s", path = path.display(), seconds = PROBE_DEADLINE.as_secs())]
    Deadline { path: PathBuf },
    #[error("{path} cannot be read at byte {at}: {source}", path = path.display())]
    Io { path: PathBuf, at: u64, source: io::Error },
    #[error("{path} cannot be read as media: {cause}", path = path.display())]
    Unreadable { path: PathBuf, cause: String },
    #[error("{path} holds nothing that could be played", path = .0.display())]
    Empty(PathBuf),
    #[error("{path} has no {missing}", path = path.display())]
    Missing { path: PathBuf, missing: &'static str },
}

impl ProbeError {
    /// Whether this says nothing about the file's content: the disk, the share or this host failed, and another attempt
    /// may succeed.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Start(_) | Self::Deadline { .. } | Self::Io { .. } => true,
            Self::Unreadable { .. } | Self::Empty(_) | Self::Missing { .. } => false,
        }
    }
}

/// The content of `path`. The duration is the header's, or that of the packets where the header has none (the writer
/// was killed).
///
/// # Errors
/// Where the file is missing, is no media file, or is empty.
pub async fn probe(path: &Path) -> Result<MediaInfo, ProbeError> {
    let headers = headers(path).await?;
    match headers.stated() {
        Some(media) => Ok(media),
        None => measure_with(path, headers).await,
    }
}

/// Like [`probe`], but the duration is always that of the packets: reads the whole file. The header of a cut-off file
/// may be wrong. A file that is not read to its end is measured twice: a share may have failed for a moment.
///
/// # Errors
/// As [`probe`], and where a part of the file cannot be read.
pub async fn measure(path: &Path) -> Result<MediaInfo, ProbeError> {
    measure_with(path, headers(path).await?).await
}

/// [`measure`] of a file whose headers were read.
///
/// # Errors
/// As [`measure`].
pub async fn measure_with(path: &Path, known: FileHeaders) -> Result<MediaInfo, ProbeError> {
    let first = measure_once(path, known).await?;
    let Some(why) = &first.incomplete else { return Ok(first) };
    tracing::warn!(
        code = %codes::MEASURED_AGAIN, path = %path.display(), why,
        "a file was not measured to its end; measuring it again"
    );
    measure_once(path, headers(path).await?).await
}

async fn measure_once(path: &Path, known: FileHeaders) -> Result<MediaInfo, ProbeError> {
    let (packets, ended) = packets(path).await?;
    let Err(error) = ended else { return known.describe(path, &packets).await };
    match known.with_packets(&packets) {
        None => Err(error),
        Some(media) => Ok(MediaInfo { incomplete: Some(error.to_string()), ..media }),
    }
}

/// The content of a file that is still being written, as far as it can be read now: nothing is said of how it ends.
///
/// # Errors
/// As [`measure`].
pub async fn measure_growing(path: &Path, known: FileHeaders) -> Result<MediaInfo, ProbeError> {
    let (packets, _) = packets(path).await?;
    known.with_packets(&packets).ok_or_else(|| ProbeError::Empty(path.to_owned()))
}

/// What ffprobe made nothing of at the end of the file, if that is more than an index. It does not tell a read error
/// from the end of a file, so that end is read here.
async fn unread_end(path: &Path, packets: &FilePackets) -> Result<Option<String>, ProbeError> {
    let (file, from, limit) = (path.to_owned(), packets.read_to(), packets.index_limit());
    let read = move || {
        let size = std::fs::metadata(&file).map_err(|error| (0, error))?.len();
        if from == 0 || size.saturating_sub(from) <= limit {
            return Ok(None);
        }
        read_to_end(&file, from).map(|()| Some((from, size)))
    };
    // A file of a share that hangs: as long as ffprobe itself may be silent.
    let deadline = || ProbeError::Deadline { path: path.to_owned() };
    let read = tokio::time::timeout(PROBE_DEADLINE, tokio::task::spawn_blocking(read)).await.map_err(|_| deadline())?;
    let read = read.map_err(|_| deadline())?;
    match read {
        Ok(unread) => {
            Ok(unread.map(|(from, size)| format!("nothing of {} is media after byte {from} of {size}", path.display())))
        }
        Err((at, source)) => Err(ProbeError::Io { path: path.to_owned(), at, source }),
    }
}

/// Reads the file from this byte on, at most [`TAIL_LIMIT`]; where it fails, at which byte.
fn read_to_end(path: &Path, from: u64) -> Result<(), (u64, io::Error)> {
    let mut at = from;
    let mut read = || {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(from))?;
        let mut buffer = vec![0; 1 << 20];
        while at - from < TAIL_LIMIT {
            match file.read(&mut buffer)? {
                0 => break,
                bytes => at += bytes as u64,
            }
        }
        Ok(())
    };
    read().map_err(|error| (at, error))
}

/// Checks that a raw file can become a recording: it opens, has picture or sound, and a duration.
///
/// # Errors
/// As [`probe`], and where both picture and sound are missing.
pub async fn verify_raw(path: &Path) -> Result<MediaInfo, ProbeError> {
    let media = probe(path).await?;
    if media.video().is_none() && media.audio().is_none() {
        return Err(ProbeError::Missing { path: path.to_owned(), missing: "picture and no sound" });
    }
    Ok(media)
}

/// `path` as an argument that ffmpeg and ffprobe can only take for a file.
#[must_use]
pub fn file_url(path: &Path) -> OsString {
    let mut url = OsString::from("file:");
    url.push(path);
    url
}

pub(super) fn ffprobe(path: &Path, show: &[&str]) -> ChildSpec {
    let mut spec = ChildSpec::new("ffprobe", "ffprobe")
        .args(["-v", "error"])
        .args(FILES_ONLY)
        .args(show.iter().copied())
        .args([OsString::from("-i"), file_url(path)]);
    spec.pipe_stdout = true;
    spec.log_level = tracing::Level::DEBUG;
    spec
}

/// Waits for the end of an ffprobe within the deadline; returns its error output where it failed.
pub(super) async fn finish(mut child: Child, path: &Path) -> Result<(), ProbeError> {
    let tail = child.tail();
    if child.end_within(PROBE_DEADLINE).await.success() {
        return Ok(());
    }
    let cause = condense(&tail.lines()).unwrap_or_else(|| "ffprobe does not say why".to_owned());
    Err(ProbeError::Unreadable { path: path.to_owned(), cause })
}

/// Ends an ffprobe that has not answered in time.
pub(super) async fn give_up(mut child: Child, path: &Path) -> ProbeError {
    child.stop(Signal::TERM, GRACE).await;
    ProbeError::Deadline { path: path.to_owned() }
}

/// What the headers of a file say.
#[derive(Clone, Debug)]
pub struct FileHeaders {
    /// Without the duration.
    media: MediaInfo,
    /// If they have one.
    duration: Option<Duration>,
    /// The end of each stream in seconds; `None` for all but pictures, and where they have none.
    stated_ends: Vec<Option<f64>>,
}

impl FileHeaders {
    /// The content of the file `path`, whose packets were all listed.
    ///
    /// # Errors
    /// Where none of them has a time, or the file's end cannot be read.
    pub async fn describe(self, path: &Path, packets: &FilePackets) -> Result<MediaInfo, ProbeError> {
        let Some(media) = self.with_packets(packets) else { return Err(ProbeError::Empty(path.to_owned())) };
        Ok(MediaInfo { incomplete: unread_end(path, packets).await?, ..media })
    }

    /// `None`: no packet has a time.
    fn with_packets(self, packets: &FilePackets) -> Option<MediaInfo> {
        let Self { mut media, stated_ends, .. } = self;
        let kinds: Vec<_> = media.streams.iter().map(|stream| stream.kind).collect();
        let duration = packets.duration(&kinds)?;
        let tracks = packets.tracks(&kinds, &stated_ends);
        for (index, stream) in media.streams.iter_mut().enumerate() {
            let TrackPackets { count, times } = tracks.get(index).copied().unwrap_or_default();
            (stream.packets, stream.times) = (Some(count), times);
        }
        Some(MediaInfo { duration, ..media })
    }

    /// The streams; all else is unknown.
    #[must_use]
    pub fn streams(&self) -> &MediaInfo {
        &self.media
    }

    /// The content as the headers state it; `None` where they state no duration, as the writer was killed.
    #[must_use]
    pub fn stated(&self) -> Option<MediaInfo> {
        self.duration.map(|duration| MediaInfo { duration, ..self.media.clone() })
    }
}

/// Reads the headers of a file.
///
/// # Errors
/// Where the file is missing, or is no media file.
pub async fn headers(path: &Path) -> Result<FileHeaders, ProbeError> {
    let mut child = child::spawn(&ffprobe(path, &HEADERS)).await?;
    let mut answer = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        let read = tokio::time::timeout(PROBE_DEADLINE, stdout.take(ANSWER_LIMIT).read_to_end(&mut answer)).await;
        if read.is_err() {
            return Err(give_up(child, path).await);
        }
    }
    finish(child, path).await?;
    parse(&answer).map_err(|error| ProbeError::Unreadable {
        path: path.to_owned(),
        cause: format!("ffprobe's answer cannot be understood: {error}"),
    })
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct FfprobeAnswer {
    streams: Vec<FfprobeStream>,
    format: FfprobeFormat,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct FfprobeFormat {
    duration: Option<String>,
    format_name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct FfprobeStream {
    codec_type: Option<String>,
    codec_name: Option<String>,
    width: u32,
    height: u32,
    pix_fmt: Option<String>,
    sample_fmt: Option<String>,
    /// ffprobe writes it as a string.
    sample_rate: Option<String>,
    channels: u32,
    extradata_hash: Option<String>,
    start_time: Option<String>,
    duration: Option<String>,
    disposition: FfprobeDisposition,
    tags: FfprobeTags,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct FfprobeTags {
    #[serde(rename = "ENCODED_FOR")]
    encoded_for: Option<String>,
    #[serde(rename = "ENCODED_FOR_UNTIL")]
    encoded_for_until: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct FfprobeDisposition {
    attached_pic: u8,
}

fn parse(answer: &[u8]) -> Result<FileHeaders, serde_json::Error> {
    let answer: FfprobeAnswer = serde_json::from_slice(answer)?;
    let number = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<f64>().ok());
    let stated_end = |stream: &FfprobeStream| {
        let (start, length) = (number(&stream.start_time)?, number(&stream.duration)?);
        Some(start + length).filter(|end| end.is_finite() && stream.codec_type.as_deref() == Some("video"))
    };
    let stated_ends = answer.streams.iter().map(stated_end).collect();
    let streams = answer
        .streams
        .into_iter()
        .map(|stream| MediaStream {
            kind: match stream.codec_type.as_deref() {
                Some("video") if stream.disposition.attached_pic == 0 => StreamKind::Video,
                Some("audio") => StreamKind::Audio,
                _ => StreamKind::Other,
            },
            codec: stream.codec_name.unwrap_or_default(),
            width: stream.width,
            height: stream.height,
            format: stream.pix_fmt.or(stream.sample_fmt).unwrap_or_default(),
            sample_rate: stream.sample_rate.and_then(|rate| rate.parse().ok()).unwrap_or_default(),
            channels: stream.channels,
            setup: stream.extradata_hash.unwrap_or_default(),
            encoded_for: stream.tags.encoded_for,
            encoded_span: stream.tags.encoded_for_until.as_deref().and_then(EncodedSpan::parse),
            packets: None,
            times: None,
        })
        .collect();
    let duration = number(&answer.format.duration).and_then(positive);
    let container = answer.format.format_name;
    Ok(FileHeaders { media: MediaInfo { streams, container, ..MediaInfo::default() }, duration, stated_ends })
}

/// An ffprobe that lists the packets of the raw file in its standard input, each in a line for [`FilePackets::add`].
#[must_use]
pub(crate) fn list_of_piped_packets() -> ChildSpec {
    let mut spec = ChildSpec::new("ffprobe", "ffprobe")
        .args(["-v", "error", "-protocol_whitelist", "pipe", "-f", "matroska"])
        .args(PACKET_LIST)
        .args(["-i", "pipe:0"]);
    (spec.pipe_stdin, spec.pipe_stdout) = (true, true);
    spec.log_level = tracing::Level::DEBUG;
    spec
}

/// A file's packets, and how ffprobe ended.
async fn packets(path: &Path) -> Result<(FilePackets, Result<(), ProbeError>), ProbeError> {
    let mut child = child::spawn(&ffprobe(path, &PACKET_LIST)).await?;
    let mut packets = FilePackets::default();
    if let Some(stdout) = child.stdout.take() {
        let mut lines = BufReader::with_capacity(64 << 10, stdout).lines();
        loop {
            match tokio::time::timeout(PROBE_DEADLINE, lines.next_line()).await {
                Ok(Ok(Some(line))) => packets.add(&line),
                // A read error ends the output early; the exit code reports it.
                Ok(Ok(None) | Err(_)) => break,
                Err(_) => return Err(give_up(child, path).await),
            }
        }
    }
    let ended = finish(child, path).await;
    Ok((packets, ended))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_duration_is_parsed() {
        let answer = br#"{"streams":[{"codec_type":"video","codec_name":"h264","width":1920,"height":1080,
                "pix_fmt":"yuv420p","extradata_hash":"SHA256:87dd","start_time":"3.000000","duration":"17.000000","tags":{"ENCODED_FOR":"1 -crf 23",
                "ENCODED_FOR_UNTIL":"4.5 9 1 -crf 20","x":"y"}},
            {"codec_type":"audio","codec_name":"pcm_s16le","sample_fmt":"s16","sample_rate":"48000","channels":2},
            {"codec_type":"video","codec_name":"png","width":1,"height":1,"disposition":{"attached_pic":1}},
            {"codec_type":"data"}],"format":{"duration":"0.000000","format_name":"matroska,webm"}}"#;
        let FileHeaders { media: MediaInfo { streams, container, .. }, duration, stated_ends } = parse(answer).unwrap();
        assert_eq!((duration, container.as_str()), (None, "matroska,webm"));
        assert_eq!(stated_ends, [Some(20.0), None, None, None]);
        let kinds: Vec<_> = streams.iter().map(|stream| stream.kind).collect();
        assert_eq!(kinds, [StreamKind::Video, StreamKind::Audio, StreamKind::Other, StreamKind::Other]);
        assert_eq!((streams[0].width, streams[0].height, streams[0].codec.as_str()), (1920, 1080, "h264"));
        assert_eq!((streams[0].encoded_for.as_deref(), &streams[1].encoded_for), (Some("1 -crf 23"), &None));
        let span = streams[0].encoded_span.as_ref().map(ToString::to_string);
        assert_eq!((span.as_deref(), &streams[1].encoded_span), (Some("4.500 9 1 -crf 20"), &None));
        assert_eq!((streams[0].format.as_str(), streams[0].setup.as_str()), ("yuv420p", "SHA256:87dd"));
        assert_eq!((streams[1].format.as_str(), streams[1].sample_rate, streams[1].channels), ("s16", 48_000, 2));
        assert!(parse(b"{}").unwrap().media.streams.is_empty());
        assert!(parse(b"").is_err());
    }
}
