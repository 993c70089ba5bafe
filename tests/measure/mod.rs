//! What is really in a media file: streams, colours, movement, beeps and flashes. Measured by ffprobe and ffmpeg, on the file's own
//! timestamps (`-copyts`), so that a variable frame rate and a stream that starts late are seen as a player would show them.
#![allow(dead_code, reason = "the suite and the demo each use a part")]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of frames and samples are far from the limits"
)]

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde_json::Value;

pub mod cost;
pub mod picture;
pub mod sound;
pub mod sync;

/// A rectangle of the picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crop {
    pub x: u32,
    pub y: u32,
    pub w: u32,
    pub h: u32,
}

impl Crop {
    pub const fn new(x: u32, y: u32, w: u32, h: u32) -> Self {
        Self { x, y, w, h }
    }

    /// Without its outermost pixels, which scaling and chroma subsampling mix with what is beside.
    pub const fn inner(self, margin: u32) -> Self {
        Self::new(self.x + margin, self.y + margin, self.w - 2 * margin, self.h - 2 * margin)
    }

    /// The same part of a picture that is `width` wide, given for one that is 1920 wide.
    pub const fn at_width(self, width: u32) -> Self {
        Self::new(self.x * width / 1920, self.y * width / 1920, self.w * width / 1920, self.h * width / 1920)
    }

    fn filter(self) -> String {
        let Self { x, y, w, h } = self;
        format!("crop={w}:{h}:{x}:{y}")
    }
}

/// What ffprobe says of a file.
#[derive(Debug, Clone)]
pub struct MediaInfo {
    /// ffprobe's `format_name`, a comma-separated list.
    pub format: String,
    /// Seconds; where the file does not say, because it was never ended: up to its last packet.
    pub duration: f64,
    /// Bytes.
    pub size: u64,
    pub streams: Vec<MediaStream>,
}

#[derive(Debug, Clone)]
pub struct MediaStream {
    /// `video` or `audio`.
    pub kind: String,
    pub codec: String,
    pub profile: Option<String>,
    pub width: u32,
    pub height: u32,
    pub pix_fmt: Option<String>,
    pub color_range: Option<String>,
    pub color_space: Option<String>,
    pub color_transfer: Option<String>,
    pub color_primaries: Option<String>,
    pub sample_rate: u32,
    pub channels: u32,
    /// Packets: frames of video.
    pub packets: u64,
    /// Seconds, from the stream itself or, in Matroska, from its DURATION tag.
    pub duration: Option<f64>,
    pub start_time: Option<f64>,
}

impl MediaInfo {
    pub fn video(&self) -> anyhow::Result<&MediaStream> {
        self.stream("video")
    }

    pub fn audio(&self) -> anyhow::Result<&MediaStream> {
        self.stream("audio")
    }

    fn stream(&self, kind: &str) -> anyhow::Result<&MediaStream> {
        self.streams.iter().find(|stream| stream.kind == kind).with_context(|| format!("no {kind} stream"))
    }
}

/// Opens the file as a player would.
pub fn probe(path: &Path) -> anyhow::Result<MediaInfo> {
    let json = run("ffprobe", path, |command| {
        command.args(["-v", "error", "-count_packets", "-show_streams", "-show_format", "-of", "json"]).arg(path);
    })?;
    let found: Value = serde_json::from_slice(&json.stdout)?;
    let format = &found["format"];
    let streams = found["streams"].as_array().context("no streams")?;
    Ok(MediaInfo {
        format: text(&format["format_name"]).unwrap_or_default(),
        duration: match number(&format["duration"]) {
            Some(duration) => duration,
            None => packets(path)?.iter().map(|packet| packet.at).fold(0.0, f64::max),
        },
        size: number(&format["size"]).unwrap_or_default(),
        streams: streams.iter().map(stream).collect(),
    })
}

/// One packet as it lies in the file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Packet {
    pub is_video: bool,
    /// Decoding can begin here.
    pub is_key: bool,
    /// Seconds.
    pub at: f64,
    /// Where in the file it is said to be, in bytes: for Matroska, where its block begins.
    pub pos: u64,
    /// Bytes.
    pub size: u64,
}

/// Every packet of a file, also of one that was cut off.
pub fn packets(path: &Path) -> anyhow::Result<Vec<Packet>> {
    let json = run("ffprobe", path, |command| {
        let entries = "packet=codec_type,flags,pts_time,pos,size";
        command.args(["-v", "error", "-show_packets", "-show_entries", entries, "-of", "json"]).arg(path);
    })?;
    let found: Value = serde_json::from_slice(&json.stdout)?;
    let packet = |packet: &Value| {
        Some(Packet {
            is_video: packet["codec_type"] == "video",
            is_key: packet["flags"].as_str().is_some_and(|flags| flags.starts_with('K')),
            at: number(&packet["pts_time"])?,
            pos: number(&packet["pos"])?,
            size: number(&packet["size"])?,
        })
    };
    let packets = found["packets"].as_array().context("no packets")?.iter();
    packets.map(|one| packet(one).with_context(|| format!("a packet without time or place: {one}"))).collect()
}

/// Decodes all of the file. What the decoders said is returned, but for the end of a file that was cut off.
pub fn decode(path: &Path) -> anyhow::Result<Vec<String>> {
    let output = run("ffprobe", path, |command| {
        command.args(["-v", "error", "-count_frames", "-show_entries", "stream=nb_read_frames"]).arg(path);
    })?;
    let said = String::from_utf8_lossy(&output.stderr);
    Ok(said.lines().filter(|line| !line.contains("File ended prematurely")).map(str::to_owned).collect())
}

fn stream(found: &Value) -> MediaStream {
    MediaStream {
        kind: text(&found["codec_type"]).unwrap_or_default(),
        codec: text(&found["codec_name"]).unwrap_or_default(),
        profile: text(&found["profile"]),
        width: number(&found["width"]).unwrap_or_default(),
        height: number(&found["height"]).unwrap_or_default(),
        pix_fmt: text(&found["pix_fmt"]),
        color_range: text(&found["color_range"]),
        color_space: text(&found["color_space"]),
        color_transfer: text(&found["color_transfer"]),
        color_primaries: text(&found["color_primaries"]),
        sample_rate: number(&found["sample_rate"]).unwrap_or_default(),
        channels: number(&found["channels"]).unwrap_or_default(),
        packets: number(&found["nb_read_packets"]).unwrap_or_default(),
        duration: number(&found["duration"]).or_else(|| clock(found["tags"]["DURATION"].as_str()?)),
        start_time: number(&found["start_time"]),
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// ffprobe writes numbers now as text, now as numbers.
fn number<T: std::str::FromStr>(value: &Value) -> Option<T> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

/// Seconds of `00:00:15.023000000`.
fn clock(text: &str) -> Option<f64> {
    text.split(':').try_fold(0.0, |sum, part| Some(sum * 60.0 + part.parse::<f64>().ok()?))
}

/// Runs ffmpeg on one file; `set` adds everything after the input.
fn ffmpeg<I: AsRef<OsStr>>(path: &Path, arguments: impl IntoIterator<Item = I>) -> anyhow::Result<Vec<u8>> {
    let output = run("ffmpeg", path, |command| {
        command.args(["-v", "error", "-nostdin", "-y", "-copyts", "-i"]).arg(path).args(arguments);
    })?;
    Ok(output.stdout)
}

fn run(program: &str, path: &Path, set: impl FnOnce(&mut Command)) -> anyhow::Result<std::process::Output> {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    set(&mut command);
    let output = command.output().with_context(|| format!("cannot run {program}"))?;
    ensure!(
        output.status.success(),
        "{program} on {}: {}\n{}",
        path.display(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output)
}

/// Names of an MP4's top-level boxes, in order (ISO/IEC 14496-12, 4.2).
pub fn boxes(path: &Path) -> Vec<String> {
    let bytes = std::fs::read(path).unwrap();
    let (mut at, mut names) = (0, Vec::new());
    while at + 8 <= bytes.len() {
        names.push(String::from_utf8_lossy(&bytes[at + 4..at + 8]).into_owned());
        let size = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        assert!(size >= 8, "{names:?}");
        at += size;
    }
    names
}

/// The boxes of an MP4 whose index is in front because its place was left free: faststart, which writes all of it again,
/// has one `free`.
pub const ROOM_WAS_LEFT: [&str; 5] = ["ftyp", "moov", "free", "free", "mdat"];
