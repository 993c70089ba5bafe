//! Checks whether a result can be decoded at its start, where its picture begins, in its middle and at its end.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::codes;
use crate::media::error_text::condense;
use crate::media::ffprobe::{FILES_ONLY, MediaInfo, file_url};
use crate::process::child::{self, ChildSpec};

/// Length that is decoded at the start and in the middle.
const CHECK_LENGTH: Duration = Duration::from_secs(2);
/// How far behind the start of the picture it is looked for: a seek goes back to the keyframe before.
const INTO_PICTURE: Duration = Duration::from_millis(50);
/// Distance of the last check from the end.
const TAIL: Duration = Duration::from_secs(3);
/// Time limit for one check: seconds of media, from a keyframe that may be minutes before, on a busy machine or a slow
/// share.
const DEADLINE: Duration = Duration::from_secs(300);

/// The place at the end.
const END: &str = "end";

/// Why a result is not usable.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error(transparent)]
    Start(#[from] child::SpawnError),
    #[error("it cannot be decoded at its {place}: {cause}")]
    Undecodable { place: &'static str, cause: String },
    #[error("no picture comes out of it where its picture begins")]
    NoPicture,
}

/// Decodes `path`, measured as `media`, in some places. `nice`: 0…19, see [`ChildSpec::nice`].
///
/// # Errors
/// The first place at which decoding fails.
pub async fn check(path: &Path, media: &MediaInfo, nice: u8) -> Result<(), DecodeError> {
    let end = media.duration.saturating_sub(TAIL);
    let mut frames = decode(path, "start", Duration::ZERO, Some(CHECK_LENGTH), nice).await?;
    // Unmeasured: at the start. Measured, but without times: there is nothing of it that can be decoded.
    let picture = media.video().filter(|stream| stream.packets.is_none() || stream.times.is_some());
    let begin = picture.and_then(|stream| stream.times).unwrap_or_default().begin;
    if picture.is_some() && frames == 0 && !begin.is_zero() {
        frames = decode(path, "start of the picture", begin + INTO_PICTURE, Some(CHECK_LENGTH), nice).await?;
    }
    if picture.is_some() && frames == 0 {
        return Err(DecodeError::NoPicture);
    }
    // Two checks cover a short file, the first one a very short file.
    if media.duration > CHECK_LENGTH + TAIL {
        decode(path, "middle", media.duration / 2, Some(CHECK_LENGTH), nice).await?;
    }
    if media.duration > CHECK_LENGTH {
        decode(path, END, end, None, nice).await?;
    }
    Ok(())
}

/// [`check`] of a result made from `raw`. A raw file that was cut off ends within a packet, and so does a copy of it:
/// an error that the raw file has at the same place is accepted.
///
/// # Errors
/// The first place at which decoding fails, but not in the raw file.
pub async fn check_result(made: &Path, media: &MediaInfo, raw: &Path, nice: u8) -> Result<(), DecodeError> {
    accept_errors_of(raw, check(made, media, nice).await, media, nice).await
}

/// [`check_result`] of a copy that is in the place of an encoding: that would play over what is damaged, so only the end
/// may have the raw file's error.
///
/// # Errors
/// As [`check_result`].
pub async fn check_copy(made: &Path, media: &MediaInfo, raw: &Path, nice: u8) -> Result<(), DecodeError> {
    let checked = check(made, media, nice).await;
    match &checked {
        Err(DecodeError::Undecodable { place: END, .. }) => accept_errors_of(raw, checked, media, nice).await,
        _ => checked,
    }
}

async fn accept_errors_of(
    raw: &Path,
    checked: Result<(), DecodeError>,
    media: &MediaInfo,
    nice: u8,
) -> Result<(), DecodeError> {
    let Err(error) = &checked else { return checked };
    let same = match (error, check(raw, media, nice).await) {
        (DecodeError::Undecodable { place, .. }, Err(DecodeError::Undecodable { place: in_raw, .. })) => {
            *place == in_raw
        }
        (DecodeError::NoPicture, Err(DecodeError::NoPicture)) => true,
        _ => false,
    };
    if same {
        tracing::warn!(
            code = %codes::RAW_NOT_DECODABLE, cause = %error,
            "the result cannot be decoded everywhere; neither can its raw file"
        );
        return Ok(());
    }
    checked
}

/// Decodes `path` for a second before and after `at`, from the keyframe before that on.
///
/// # Errors
/// Where decoding fails, or gives no picture.
pub async fn check_at(path: &Path, place: &'static str, at: Duration, nice: u8) -> Result<(), DecodeError> {
    let from = at.saturating_sub(CHECK_LENGTH / 2);
    match decode(path, place, from, Some(CHECK_LENGTH), nice).await? {
        0 => Err(DecodeError::Undecodable { place, cause: "no picture comes out of it".to_owned() }),
        _ => Ok(()),
    }
}

/// Decodes from the keyframe before `at` on. Returns the number of frames.
async fn decode(
    path: &Path,
    place: &'static str,
    at: Duration,
    most: Option<Duration>,
    nice: u8,
) -> Result<u64, DecodeError> {
    let mut spec = ChildSpec::new("ffmpeg", "ffmpeg")
        // The first decoder error ends ffmpeg with an exit code.
        .args(["-nostdin", "-hide_banner", "-nostats", "-v", "error", "-xerror", "-progress", "pipe:1"])
        .args(FILES_ONLY)
        .args(["-noaccurate_seek".into(), "-ss".into(), at.as_secs_f64().to_string()])
        .args(["-i".into(), file_url(path)]);
    if let Some(most) = most {
        spec = spec.args(["-t".into(), most.as_secs_f64().to_string()]);
    }
    let mut spec =
        spec.args(["-map", "0:V?", "-map", "0:a?", "-fps_mode", "passthrough", "-f", "null", "-"]).nice(nice);
    spec.pipe_stdout = true;
    spec.log_level = tracing::Level::DEBUG;
    let mut child = child::spawn(&spec).await?;
    let mut frames = 0;
    if let Some(stdout) = child.stdout.take() {
        let mut lines = BufReader::new(stdout).lines();
        let read = async {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some(count) = line.strip_prefix("frame=") {
                    frames = count.trim().parse().unwrap_or(frames);
                }
            }
        };
        // The exit is waited for below, with the same limit.
        let _ = tokio::time::timeout(DEADLINE, read).await;
    }
    let exit = child.end_within(DEADLINE).await;
    if exit.success() {
        return Ok(frames);
    }
    let cause = condense(&child.tail().lines()).unwrap_or_else(|| format!("ffmpeg failed ({exit})"));
    Err(DecodeError::Undecodable { place, cause })
}
