//! `--hls`: a directory with a playlist that grows, and its segments (RFC 8216).

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncReadExt as _;

use crate::media::ffprobe::{self, MediaInfo};
use crate::page_recording::outlet::raw_feed::STALL_LIMIT;
use crate::page_recording::summary::Tracks;
use crate::process::child::{self, ChildSpec};

/// The playlist, and what its segments are called: a prefix, a number, a suffix.
const PLAYLIST: &str = "index.m3u8";
const SEGMENT: (&str, &str) = ("segment", ".ts");
/// Length of a segment in seconds: that of the distance of keyframes.
const SEGMENT_SECONDS: &str = "4";
/// Frames last until the next one: the length of the last segment is the sum of what its frames last.
const STANDING: &str = "setts=pts=PTS:dts=DTS:duration=if(eq(NEXT_DTS\\,NOPTS)\\,DURATION\\,NEXT_DTS-DTS)";
/// How far the playlist may be from the raw file: its last frame may stand for a second, which its sound goes on.
const SLACK: Duration = Duration::from_secs(2);
/// Frames that a raw file may have more than what was made of it, where it was cut off.
const CUT_OFF: u64 = 2;
/// Time limit for counting the frames of all segments.
const COUNT_LIMIT: Duration = Duration::from_secs(300);

/// The playlist of this directory.
#[must_use]
pub fn playlist(dir: &Path) -> PathBuf {
    dir.join(PLAYLIST)
}

/// Makes the directory; an earlier recording in it is removed where it may be replaced.
///
/// # Errors
/// Why nothing can be written there, and what to do.
pub fn prepare(dir: &Path, force: bool) -> Result<(), String> {
    let failed =
        |error| format!("--hls: nothing can be written into {}: {error}; is it a directory of yours?", dir.display());
    fs::create_dir_all(dir).map_err(failed)?;
    for entry in fs::read_dir(dir).map_err(failed)?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let name = name.strip_suffix(".tmp").unwrap_or(&name);
        if name != PLAYLIST && !is_segment(name) {
            continue;
        }
        if !force {
            return Err(format!(
                "--hls: {} has a recording already; name another directory, or replace it with --force",
                dir.display()
            ));
        }
        match fs::remove_file(entry.path()) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    Ok(())
}

fn is_segment(name: &str) -> bool {
    let number = name.strip_prefix(SEGMENT.0).and_then(|name| name.strip_suffix(SEGMENT.1));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// ffmpeg's options behind the input. The playlist lists all segments, and is complete at the end.
#[must_use]
pub fn arguments(dir: &Path, tracks: Tracks) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    let picture: &[&str] = if tracks.picture { &["-c:v", "copy", "-bsf:v", STANDING] } else { &["-vn"] };
    let sound: &[&str] = if tracks.sound { &["-c:a", "aac", "-b:a", "160k"] } else { &["-an"] };
    let format = ["-f", "hls", "-hls_time", SEGMENT_SECONDS, "-hls_list_size", "0", "-hls_playlist_type", "event"];
    let flags = ["-hls_flags", "independent_segments+temp_file", "-y", "-hls_segment_filename"];
    arguments.extend([picture, sound, &format, &flags].concat().into_iter().map(OsString::from));
    // ffmpeg reads a % in the name of a segment as the begin of its number.
    let dir = PathBuf::from(dir.to_string_lossy().replace('%', "%%"));
    arguments.push(dir.join(format!("{}%05d{}", SEGMENT.0, SEGMENT.1)).into());
    arguments
}

/// Compares the playlist with the raw file: ffmpeg ends without an error where it could not write a segment.
///
/// # Errors
/// What is missing.
pub async fn check(dir: &Path, raw: &Path, tracks: Tracks) -> Result<(), String> {
    let raw = ffprobe::measure(raw).await.map_err(|error| error.to_string())?;
    let playlist = playlist(dir);
    let text = tokio::time::timeout(STALL_LIMIT, tokio::fs::read_to_string(&playlist)).await;
    let text = text.map_err(|_| {
        format!("{} is not read within {} s: its disk hangs", playlist.display(), STALL_LIMIT.as_secs())
    })?;
    let text = text.map_err(|error| format!("{} cannot be read: {error}", playlist.display()))?;
    if !text.trim_end().ends_with("#EXT-X-ENDLIST") {
        return Err(format!("{} has no end", playlist.display()));
    }
    let found = count(&playlist).await?;
    compare(&found, &raw, tracks)
}

/// What ffprobe says of the segments: frames of the picture, and the duration in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Found {
    frames: u64,
    duration: f64,
}

impl Found {
    fn read(answer: &Value) -> Self {
        let number = |value: &Value| value.as_str().and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
        let pictures = answer["streams"].as_array().into_iter().flatten().filter(|one| one["codec_type"] == "video");
        let frames = pictures.filter_map(|one| one["nb_read_packets"].as_str()?.parse().ok()).max();
        Self { frames: frames.unwrap_or_default(), duration: number(&answer["format"]["duration"]) }
    }
}

fn compare(found: &Found, raw: &MediaInfo, tracks: Tracks) -> Result<(), String> {
    let duration = Duration::try_from_secs_f64(found.duration).unwrap_or_default();
    if duration.abs_diff(raw.duration) > SLACK {
        return Err(format!("the segments last {duration:.1?}, what was recorded {:.1?}", raw.duration));
    }
    let frames = raw.video().and_then(|picture| picture.packets).unwrap_or_default();
    if tracks.picture && found.frames + CUT_OFF < frames {
        return Err(format!("the segments hold {} of {frames} frames", found.frames));
    }
    Ok(())
}

async fn count(playlist: &Path) -> Result<Found, String> {
    let mut spec = ChildSpec::new("ffprobe", "ffprobe").args(["-v", "error", "-protocol_whitelist", "file"]);
    let show = ["-count_packets", "-show_entries", "stream=codec_type,nb_read_packets:format=duration", "-of", "json"];
    spec = spec.args(show).args([OsString::from("-i"), ffprobe::file_url(playlist)]);
    (spec.pipe_stdout, spec.log_level) = (true, tracing::Level::DEBUG);
    let mut child = child::spawn(&spec).await.map_err(|error| error.to_string())?;
    let (mut answer, stdout) = (Vec::new(), child.stdout.take());
    let reading = async {
        if let Some(mut stdout) = stdout {
            let _ = stdout.read_to_end(&mut answer).await;
        }
    };
    let _ = tokio::time::timeout(COUNT_LIMIT, reading).await;
    let tail = child.tail();
    if !child.end_within(Duration::from_secs(1)).await.success() {
        return Err(format!("{} cannot be played: {}", playlist.display(), tail.last_lines(2)));
    }
    serde_json::from_slice(&answer).map(|answer| Found::read(&answer)).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_recording_is_replaced_only_with_force_and_nothing_else_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let hls = dir.path().join("new/hls");
        prepare(&hls, false).unwrap();
        for name in ["index.m3u8", "segment00000.ts", "segment100000.ts.tmp", "segments.ts", "index.html"] {
            fs::write(hls.join(name), "x").unwrap();
        }
        assert!(prepare(&hls, false).unwrap_err().contains("--force"));
        assert_eq!(fs::read_dir(&hls).unwrap().count(), 5);
        prepare(&hls, true).unwrap();
        let mut left: Vec<_> = fs::read_dir(&hls).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["index.html", "segments.ts"]);
        let file = hls.join("index.html");
        assert!(prepare(&file, true).unwrap_err().contains("index.html"));
    }

    #[test]
    fn a_percent_sign_in_the_directory_is_no_number() {
        let arguments = arguments(Path::new("/a/50%d"), Tracks { picture: true, sound: true });
        assert_eq!(arguments.last().unwrap(), "/a/50%%d/segment%05d.ts");
    }

    #[test]
    fn what_ffprobe_says_is_read() {
        let answer = serde_json::json!({
            "programs": [],
            "streams": [{"codec_type": "audio", "nb_read_packets": "90"}, {"codec_type": "video", "nb_read_packets": "50"}],
            "format": {"duration": "2.000000"}
        });
        assert_eq!(Found::read(&answer), Found { frames: 50, duration: 2.0 });
    }
}
