//! What a media file holds, as ffprobe sees it.
//!
//! A path is always handed over as `file:PATH`, so that no name is taken for an option or a protocol, and a file's
//! content cannot make ffprobe open any other file.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use crate::process::{self, Child, Spec};

/// The longest ffprobe may take for a file's headers, and the longest it may be silent while it reads packets.
const PROBE_DEADLINE: Duration = Duration::from_secs(60);
/// Far above the description of any file with a handful of streams, in bytes.
const ANSWER_LIMIT: u64 = 4 << 20;
/// What keeps a file's content from making ffmpeg or ffprobe open anything else: only the file protocol, and none of
/// the formats that are lists of further files (HLS, concat, image sequences).
pub(super) const FILES_ONLY: [&str; 4] = [
    "-protocol_whitelist",
    "file",
    "-format_whitelist",
    "matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mpegts,mpeg,flv,avi,nut,ogg,asf",
];
/// For a child that was told to end.
const GRACE: Duration = Duration::from_secs(2);

/// What a file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Media {
    /// From its first to its last moment; never zero.
    pub duration: Duration,
    pub streams: Vec<Stream>,
}

/// One stream of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    pub kind: StreamKind,
    /// ffmpeg's name: `h264`, `pcm_s16le`; empty where it knows none.
    pub codec: String,
    /// Pixels; 0 where it is no picture.
    pub width: u32,
    pub height: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// A moving picture (a cover image is [`Self::Other`]).
    Video,
    Audio,
    Other,
}

impl Media {
    /// The first moving picture.
    #[must_use]
    pub fn video(&self) -> Option<&Stream> {
        self.streams.iter().find(|stream| stream.kind == StreamKind::Video)
    }

    /// The first sound.
    #[must_use]
    pub fn audio(&self) -> Option<&Stream> {
        self.streams.iter().find(|stream| stream.kind == StreamKind::Audio)
    }
}

/// Why nothing is known of a file.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error(transparent)]
    Start(#[from] process::SpawnError),
    #[error("ffprobe said nothing about {path} within {seconds} s", path = path.display(), seconds = PROBE_DEADLINE.as_secs())]
    Deadline { path: PathBuf },
    #[error("{path} cannot be read as media: {cause}", path = path.display())]
    Unreadable { path: PathBuf, cause: String },
    #[error("{path} holds nothing that could be played", path = .0.display())]
    Empty(PathBuf),
    #[error("{path} has no {missing}", path = path.display())]
    Missing { path: PathBuf, missing: &'static str },
}

/// What `path` holds. The duration is the header's; where the header has none (the file of a writer that was killed),
/// it is found as [`measure`] does.
///
/// # Errors
/// Where the file is missing, is no media, or has no moment to play.
pub async fn probe(path: &Path) -> Result<Media, ProbeError> {
    let (streams, duration) = headers(path).await?;
    let duration = match duration {
        Some(duration) => duration,
        None => packets(path).await?,
    };
    Ok(Media { duration, streams })
}

/// As [`probe`], but the duration is that of the packets that are really there: the whole file is read. A file that
/// was cut off keeps a header that says otherwise.
///
/// # Errors
/// As [`probe`].
pub async fn measure(path: &Path) -> Result<Media, ProbeError> {
    let (streams, _) = headers(path).await?;
    Ok(Media { duration: packets(path).await?, streams })
}

/// That a raw file can become a recording: it opens, has picture and sound, and lasts.
///
/// # Errors
/// As [`probe`], and where picture or sound are missing.
pub async fn verify_raw(path: &Path) -> Result<Media, ProbeError> {
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

fn ffprobe(path: &Path, show: &[&str]) -> Spec {
    let mut spec = Spec::new("ffprobe", "ffprobe")
        .args(["-v", "error"])
        .args(FILES_ONLY)
        .args(show.iter().copied())
        .args([OsString::from("-i"), file_url(path)]);
    spec.pipe_stdout = true;
    spec.log_level = tracing::Level::DEBUG;
    spec
}

/// The end of an ffprobe, within the deadline; what it said where it failed.
async fn finish(mut child: Child, path: &Path) -> Result<(), ProbeError> {
    let tail = child.tail();
    if child.end_within(PROBE_DEADLINE).await.success() {
        return Ok(());
    }
    let cause = super::ffmpeg::condense(&tail.lines()).unwrap_or_else(|| "ffprobe does not say why".to_owned());
    Err(ProbeError::Unreadable { path: path.to_owned(), cause })
}

/// Ends an ffprobe that has not answered in time.
async fn give_up(mut child: Child, path: &Path) -> ProbeError {
    child.stop(Signal::TERM, GRACE).await;
    ProbeError::Deadline { path: path.to_owned() }
}

/// The streams, and the duration if the header knows it.
async fn headers(path: &Path) -> Result<(Vec<Stream>, Option<Duration>), ProbeError> {
    let mut child = process::spawn(&ffprobe(path, &["-show_format", "-show_streams", "-of", "json"])).await?;
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

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    streams: Vec<AnswerStream>,
    #[serde(default)]
    format: AnswerFormat,
}

#[derive(Deserialize, Default)]
struct AnswerFormat {
    duration: Option<String>,
}

#[derive(Deserialize)]
struct AnswerStream {
    codec_type: Option<String>,
    codec_name: Option<String>,
    #[serde(default)]
    width: u32,
    #[serde(default)]
    height: u32,
    #[serde(default)]
    disposition: Disposition,
}

#[derive(Deserialize, Default)]
struct Disposition {
    #[serde(default)]
    attached_pic: u8,
}

fn parse(answer: &[u8]) -> Result<(Vec<Stream>, Option<Duration>), serde_json::Error> {
    let answer: Answer = serde_json::from_slice(answer)?;
    let streams = answer
        .streams
        .into_iter()
        .map(|stream| Stream {
            kind: match stream.codec_type.as_deref() {
                Some("video") if stream.disposition.attached_pic == 0 => StreamKind::Video,
                Some("audio") => StreamKind::Audio,
                _ => StreamKind::Other,
            },
            codec: stream.codec_name.unwrap_or_default(),
            width: stream.width,
            height: stream.height,
        })
        .collect();
    let duration = answer.format.duration.as_deref().and_then(|text| text.parse().ok()).and_then(lasting);
    Ok((streams, duration))
}

/// Seconds that are a duration: more than nothing, less than for ever.
fn lasting(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok().filter(|duration| !duration.is_zero())
}

/// From the first packet's start to the last one's end.
async fn packets(path: &Path) -> Result<Duration, ProbeError> {
    let show = ["-show_entries", "packet=pts_time,dts_time,duration_time", "-of", "csv=p=0"];
    let mut child = process::spawn(&ffprobe(path, &show)).await?;
    let mut span = Span::default();
    if let Some(stdout) = child.stdout.take() {
        let mut lines = BufReader::with_capacity(64 << 10, stdout).lines();
        loop {
            match tokio::time::timeout(PROBE_DEADLINE, lines.next_line()).await {
                Ok(Ok(Some(line))) => span.packet(&line),
                // What ffprobe cannot write down it cannot have read: its exit code tells.
                Ok(Ok(None) | Err(_)) => break,
                Err(_) => return Err(give_up(child, path).await),
            }
        }
    }
    let ended = finish(child, path).await;
    // A file that is cut off in the middle of a packet plays up to there all the same.
    match (span.seconds().and_then(lasting), ended) {
        (Some(duration), _) => Ok(duration),
        (None, Err(error)) => Err(error),
        (None, Ok(())) => Err(ProbeError::Empty(path.to_owned())),
    }
}

/// The time that a file's packets cover, in seconds.
#[derive(Default)]
struct Span(Option<(f64, f64)>);

impl Span {
    /// Takes a line `pts_time,dts_time,duration_time`, each a number or `N/A`.
    fn packet(&mut self, line: &str) {
        let mut fields = line.trim().split(',').map(|field| field.parse::<f64>().ok().filter(|time| time.is_finite()));
        let (pts, dts, duration) = (fields.next().flatten(), fields.next().flatten(), fields.next().flatten());
        let Some(start) = pts.or(dts) else { return };
        let end = start + duration.unwrap_or(0.0).max(0.0);
        let (first, last) = self.0.unwrap_or((start, end));
        self.0 = Some((first.min(start), last.max(end)));
    }

    fn seconds(&self) -> Option<f64> {
        self.0.map(|(first, last)| last - first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_a_duration_is_understood() {
        let answer = br#"{"streams":[{"codec_type":"video","codec_name":"h264","width":1920,"height":1080},
            {"codec_type":"audio","codec_name":"pcm_s16le"},
            {"codec_type":"video","codec_name":"png","width":1,"height":1,"disposition":{"attached_pic":1}},
            {"codec_type":"data"}],"format":{"duration":"0.000000"}}"#;
        let (streams, duration) = parse(answer).unwrap();
        assert_eq!(duration, None);
        let kinds: Vec<_> = streams.iter().map(|stream| stream.kind).collect();
        assert_eq!(kinds, [StreamKind::Video, StreamKind::Audio, StreamKind::Other, StreamKind::Other]);
        assert_eq!((streams[0].width, streams[0].height, streams[0].codec.as_str()), (1920, 1080, "h264"));
        assert!(parse(b"{}").unwrap().0.is_empty());
        assert!(parse(b"").is_err());
    }

    #[test]
    fn only_a_real_duration_counts() {
        assert_eq!(lasting(1.5), Some(Duration::from_millis(1500)));
        for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300] {
            assert_eq!(lasting(seconds), None);
        }
    }

    #[test]
    fn packets_span_from_the_first_start_to_the_last_end() {
        let mut span = Span::default();
        for line in
            ["N/A,N/A,N/A", "0.500000,0.4,0.040000", "1.0,N/A,1.000000", "N/A,1.5,N/A", "garbage", "", "inf,1,1"]
        {
            span.packet(line);
        }
        assert_eq!(span.seconds(), Some(1.5));
        assert_eq!(Span::default().seconds(), None);
    }
}
