//! Content of media files, read by ffprobe.
//!
//! A path is always passed as `file:PATH`, so that no name is taken for an option or a protocol, and a file's content
//! cannot make ffprobe open another file.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use crate::media::error_text::condense;
use crate::process::child::{self, Child, ChildSpec};

/// Time limit for a file's headers, and for each line of its packets.
const PROBE_DEADLINE: Duration = Duration::from_secs(60);
/// Limit of ffprobe's answer in bytes, far above any file with a handful of streams.
const ANSWER_LIMIT: u64 = 4 << 20;
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
/// Time limit for an ffprobe to end on SIGTERM.
const GRACE: Duration = Duration::from_secs(2);

/// Content of a media file.
#[derive(Clone, Debug, PartialEq)]
pub struct MediaInfo {
    /// From the start of the first packet to the end of the last one; never zero.
    pub duration: Duration,
    pub streams: Vec<MediaStream>,
}

/// One stream of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// Number of packets; known only if they were read ([`measure`]).
    pub packets: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamKind {
    /// Moving pictures (a cover image is [`Self::Other`]).
    Video,
    Audio,
    #[default]
    Other,
}

impl MediaInfo {
    /// The first video stream.
    #[must_use]
    pub fn video(&self) -> Option<&MediaStream> {
        self.streams.iter().find(|stream| stream.kind == StreamKind::Video)
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
    #[error("{path} cannot be read as media: {cause}", path = path.display())]
    Unreadable { path: PathBuf, cause: String },
    #[error("{path} holds nothing that could be played", path = .0.display())]
    Empty(PathBuf),
    #[error("{path} has no {missing}", path = path.display())]
    Missing { path: PathBuf, missing: &'static str },
}

/// The content of `path`. The duration is the header's, or that of the packets where the header has none (the writer
/// was killed).
///
/// # Errors
/// Where the file is missing, is no media file, or is empty.
pub async fn probe(path: &Path) -> Result<MediaInfo, ProbeError> {
    let (streams, duration) = headers(path).await?;
    let duration = match duration {
        Some(duration) => duration,
        None => packets(path, &streams).await?.0,
    };
    Ok(MediaInfo { duration, streams })
}

/// Like [`probe`], but the duration is always that of the packets: reads the whole file. The header of a cut-off file
/// may be wrong.
///
/// # Errors
/// As [`probe`].
pub async fn measure(path: &Path) -> Result<MediaInfo, ProbeError> {
    let (mut streams, _) = headers(path).await?;
    let (duration, counts) = packets(path, &streams).await?;
    for (index, stream) in streams.iter_mut().enumerate() {
        stream.packets = Some(counts.get(index).copied().unwrap_or_default());
    }
    Ok(MediaInfo { duration, streams })
}

/// Checks that a raw file can become a recording: it opens, has picture and sound, and a duration.
///
/// # Errors
/// As [`probe`], and where picture or sound are missing.
pub async fn verify_raw(path: &Path) -> Result<MediaInfo, ProbeError> {
    let media = probe(path).await?;
    let missing = |missing| ProbeError::Missing { path: path.to_owned(), missing };
    media.video().ok_or_else(|| missing("picture"))?;
    media.audio().ok_or_else(|| missing("sound"))?;
    Ok(media)
}

/// `path` as an argument that ffmpeg and ffprobe can only take for a file.
#[must_use]
pub fn file_url(path: &Path) -> OsString {
    let mut url = OsString::from("file:");
    url.push(path);
    url
}

fn ffprobe(path: &Path, show: &[&str]) -> ChildSpec {
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
async fn finish(mut child: Child, path: &Path) -> Result<(), ProbeError> {
    let tail = child.tail();
    if child.end_within(PROBE_DEADLINE).await.success() {
        return Ok(());
    }
    let cause = condense(&tail.lines()).unwrap_or_else(|| "ffprobe does not say why".to_owned());
    Err(ProbeError::Unreadable { path: path.to_owned(), cause })
}

/// Ends an ffprobe that has not answered in time.
async fn give_up(mut child: Child, path: &Path) -> ProbeError {
    child.stop(Signal::TERM, GRACE).await;
    ProbeError::Deadline { path: path.to_owned() }
}

/// The streams, and the duration if the header has one.
async fn headers(path: &Path) -> Result<(Vec<MediaStream>, Option<Duration>), ProbeError> {
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
    disposition: FfprobeDisposition,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct FfprobeDisposition {
    attached_pic: u8,
}

fn parse(answer: &[u8]) -> Result<(Vec<MediaStream>, Option<Duration>), serde_json::Error> {
    let answer: FfprobeAnswer = serde_json::from_slice(answer)?;
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
            packets: None,
        })
        .collect();
    let duration = answer.format.duration.as_deref().and_then(|text| text.parse().ok()).and_then(positive_duration);
    Ok((streams, duration))
}

/// A positive, finite duration.
fn positive_duration(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok().filter(|duration| !duration.is_zero())
}

/// The duration of the packets of `streams`, and the number of packets of each stream.
async fn packets(path: &Path, streams: &[MediaStream]) -> Result<(Duration, Vec<u64>), ProbeError> {
    let show = ["-show_entries", "packet=stream_index,pts_time,dts_time,duration_time", "-of", "csv=p=0"];
    let mut child = child::spawn(&ffprobe(path, &show)).await?;
    let mut spans = Spans::default();
    if let Some(stdout) = child.stdout.take() {
        let mut lines = BufReader::with_capacity(64 << 10, stdout).lines();
        loop {
            match tokio::time::timeout(PROBE_DEADLINE, lines.next_line()).await {
                Ok(Ok(Some(line))) => spans.packet(&line),
                // A read error ends the output early; the exit code reports it.
                Ok(Ok(None) | Err(_)) => break,
                Err(_) => return Err(give_up(child, path).await),
            }
        }
    }
    let ended = finish(child, path).await;
    let kinds: Vec<_> = streams.iter().map(|stream| stream.kind).collect();
    // A file that is cut off within a packet can still be played up to there.
    match (spans.seconds(&kinds).and_then(positive_duration), ended) {
        (Some(duration), _) => Ok((duration, spans.counts())),
        (None, Err(error)) => Err(error),
        (None, Ok(())) => Err(ProbeError::Empty(path.to_owned())),
    }
}

/// Limit of streams; the packets of further ones are not counted.
const STREAMS_LIMIT: usize = 64;

/// The packets of all streams.
#[derive(Default)]
struct Spans(Vec<Span>);

/// The packets of one stream, in seconds.
#[derive(Clone, Copy, Default)]
struct Span {
    count: u64,
    /// Start of the first packet, start of the last one, end of the last one.
    times: Option<(f64, f64, f64)>,
}

impl Spans {
    /// Reads a line `stream_index,pts_time,dts_time,duration_time`, each a number or `N/A`.
    fn packet(&mut self, line: &str) {
        let (stream, line) = line.split_once(',').unwrap_or((line, ""));
        let Some(stream) = stream.trim().parse::<usize>().ok().filter(|stream| *stream < STREAMS_LIMIT) else { return };
        if self.0.len() <= stream {
            self.0.resize(stream + 1, Span::default());
        }
        let span = &mut self.0[stream];
        span.count += 1;
        let mut fields = line.trim().split(',').map(|field| field.parse::<f64>().ok().filter(|time| time.is_finite()));
        let (pts, dts, duration) = (fields.next().flatten(), fields.next().flatten(), fields.next().flatten());
        let Some(begin) = pts.or(dts) else { return };
        let end = begin + duration.unwrap_or(0.0).max(0.0);
        let (first, last, ends) = span.times.unwrap_or((begin, begin, end));
        span.times = Some((first.min(begin), last.max(begin), ends.max(end)));
    }

    /// Seconds from the first packet to the end of the last one, for streams of these kinds. In a file with sound,
    /// video lasts to the start of its last frame: the declared duration of that frame may be wrong in a cut-off file.
    fn seconds(&self, kinds: &[StreamKind]) -> Option<f64> {
        let kind = |index: usize| kinds.get(index).copied().unwrap_or(StreamKind::Other);
        let times = |(index, span): (usize, &Span)| span.times.map(|times| (kind(index), times));
        let all: Vec<_> = self.0.iter().enumerate().filter_map(times).collect();
        let has_audio = all.iter().any(|(kind, _)| *kind == StreamKind::Audio);
        let ends = all.iter().map(|(kind, (_, last, ends))| match kind {
            StreamKind::Video if has_audio => *last,
            _ => *ends,
        });
        let first = all.iter().map(|(_, (first, ..))| *first).reduce(f64::min)?;
        Some(ends.reduce(f64::max)? - first)
    }

    fn counts(&self) -> Vec<u64> {
        self.0.iter().map(|span| span.count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_duration_is_parsed() {
        let answer = br#"{"streams":[{"codec_type":"video","codec_name":"h264","width":1920,"height":1080,
                "pix_fmt":"yuv420p","extradata_hash":"SHA256:87dd"},
            {"codec_type":"audio","codec_name":"pcm_s16le","sample_fmt":"s16","sample_rate":"48000","channels":2},
            {"codec_type":"video","codec_name":"png","width":1,"height":1,"disposition":{"attached_pic":1}},
            {"codec_type":"data"}],"format":{"duration":"0.000000"}}"#;
        let (streams, duration) = parse(answer).unwrap();
        assert_eq!(duration, None);
        let kinds: Vec<_> = streams.iter().map(|stream| stream.kind).collect();
        assert_eq!(kinds, [StreamKind::Video, StreamKind::Audio, StreamKind::Other, StreamKind::Other]);
        assert_eq!((streams[0].width, streams[0].height, streams[0].codec.as_str()), (1920, 1080, "h264"));
        assert_eq!((streams[0].format.as_str(), streams[0].setup.as_str()), ("yuv420p", "SHA256:87dd"));
        assert_eq!((streams[1].format.as_str(), streams[1].sample_rate, streams[1].channels), ("s16", 48_000, 2));
        assert!(parse(b"{}").unwrap().0.is_empty());
        assert!(parse(b"").is_err());
    }

    #[test]
    fn only_positive_finite_durations_count() {
        assert_eq!(positive_duration(1.5), Some(Duration::from_millis(1500)));
        for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300] {
            assert_eq!(positive_duration(seconds), None);
        }
    }

    #[test]
    fn packets_span_from_the_first_start_to_the_last_end() {
        let mut spans = Spans::default();
        for line in [
            "0,N/A,N/A,N/A",
            "1,0.500000,0.4,0.040000",
            "1,1.0,N/A,1.000000",
            "3,N/A,1.5,N/A",
            "garbage",
            "",
            "99,inf,1,1",
        ] {
            spans.packet(line);
        }
        let (video, audio) = (StreamKind::Video, StreamKind::Audio);
        assert_eq!(spans.seconds(&[]), Some(1.5));
        assert_eq!(spans.seconds(&[audio, video]), Some(1.5), "no sound is in it");
        assert_eq!(
            spans.seconds(&[video, video, audio, audio]),
            Some(1.0),
            "its last frame begins at 1.0, the sound ends at 1.5"
        );
        assert_eq!(spans.seconds(&[video, audio]), Some(1.5));
        assert_eq!(spans.counts(), [1, 2, 0, 1]);
        assert_eq!(Spans::default().seconds(&[video]), None);
    }
}
