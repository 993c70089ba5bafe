//! Cuts off the end of a part that does not show the meeting any more: the page that took its place, which is recorded until
//! it is noticed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::media::ffmpeg;
use crate::media::ffprobe::{self, FILES_ONLY, MediaInfo};
use crate::media::unfinished_file::UnfinishedFile;
use crate::media::verification::tolerance;
use crate::storage::placement::{self, IfExists};
use crate::telemetry::seconds;

/// What is not worth writing the whole file once more: less than a frame, or a packet of the sound.
const NOT_WORTH_IT: Duration = Duration::from_millis(60);

/// Cuts a part, which lasts for `length`, after `until`, packet by packet. Its length then. What cannot be cut stays as it is,
/// with a warning: a second too much is better than none.
pub async fn cut_off(part: &Path, length: Duration, until: Duration) -> Duration {
    if until.is_zero() || length <= until + NOT_WORTH_IT {
        return length;
    }
    match cut(part, until).await {
        Ok(now) => {
            tracing::info!(
                part = %part.display(), from_s = seconds(length), to_s = seconds(now),
                "cut off what was recorded after the page had left the meeting"
            );
            now
        }
        Err(why) => {
            tracing::warn!(
                part = %part.display(), why,
                "what was recorded after the page had left the meeting cannot be cut off; it stays in the recording"
            );
            length
        }
    }
}

async fn cut(part: &Path, until: Duration) -> Result<Duration, String> {
    // Hidden, and always of the same name: what a crash leaves is replaced at the next try.
    let mut name = OsString::from(".");
    name.push(part.file_name().unwrap_or_default());
    name.push(".cut");
    let shorter = UnfinishedFile::new(part.with_file_name(name));
    let spec = ffmpeg::spec()
        .args(["-fflags", "+bitexact"])
        .args(FILES_ONLY)
        .args([OsString::from("-i"), ffprobe::file_url(part)])
        .args(["-map", "0", "-c", "copy", "-t", &format!("{:.3}", until.as_secs_f64())])
        .args(["-flags", "+bitexact", "-fflags", "+bitexact", "-f", "matroska", "-y"])
        .args([ffprobe::file_url(shorter.path())]);
    let run = ffmpeg::run_spec(&spec, shorter.path(), &CancellationToken::new()).await;
    run.map_err(|error| error.to_string())?;
    let read = async |path: PathBuf| ffprobe::measure(&path).await.map_err(|error| error.to_string());
    let (whole, made) = (read(part.to_owned()).await?, read(shorter.path().to_owned()).await?);
    compare(&whole, &made, until)?;
    placement::place(shorter.path(), part, IfExists::Replace).await.map_err(|error| error.to_string())?;
    Ok(made.duration)
}

/// Whether all is there up to the cut.
fn compare(whole: &MediaInfo, made: &MediaInfo, until: Duration) -> Result<(), String> {
    let kinds = |media: &MediaInfo| media.streams.iter().map(|stream| stream.kind).collect::<Vec<_>>();
    if kinds(whole) != kinds(made) {
        return Err("the shorter file lacks a track".to_owned());
    }
    if made.duration + tolerance(until) < until {
        return Err(format!("the shorter file lasts {} s, not {} s", seconds(made.duration), seconds(until)));
    }
    Ok(())
}
