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
    /// Seconds.
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
        duration: number(&format["duration"]).context("no duration")?,
        size: number(&format["size"]).unwrap_or_default(),
        streams: streams.iter().map(stream).collect(),
    })
}

/// The timestamps (seconds) of all frames, in order.
pub fn frame_times(path: &Path) -> anyhow::Result<Vec<f64>> {
    let listed = run("ffprobe", path, |command| {
        command.args(["-v", "error", "-select_streams", "v", "-show_entries", "packet=pts_time", "-of", "csv=p=0"]);
        command.arg(path);
    })?;
    let times = String::from_utf8(listed.stdout)?;
    Ok(times.lines().filter_map(|line| line.trim_end_matches(',').parse().ok()).collect())
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
