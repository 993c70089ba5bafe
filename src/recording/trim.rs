//! Cuts off the end of a part that does not show the meeting: the page that replaced it, which is recorded until that
//! is noticed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::codes;
use crate::media::ffmpeg;
use crate::media::ffprobe::{self, FILES_ONLY, MediaInfo};
use crate::media::unfinished_file::UnfinishedFile;
use crate::media::verification::same_duration;
use crate::storage::placement::{self, IfExists};
use crate::telemetry::seconds;

/// The shortest piece that is cut off. A file that was cut ends with the packet of sound, of 50 ms, in which the cut
/// falls: a later attempt must take it for cut, and not write a long file anew each time.
///
/// So of the 100 ms by which a cut is early (`NEWER_CONTENT` of `capture/capture_report.rs`), 60 ms may stay. That is
/// where the page left the meeting 40 ms or more after the capture was told to stop; all other captures end later than
/// that. Only a frame that was still fetched then, on a busy host, can show the page that came.
const MIN_CUT: Duration = Duration::from_millis(60);

/// Cuts a part that lasts for `length` at `until`, without re-encoding, and returns its new length. A part that cannot
/// be cut stays as it is, with a warning: too long a recording is better than none.
pub async fn cut_end(part: &Path, length: Duration, until: Duration) -> Duration {
    if until.is_zero() || length <= until + MIN_CUT {
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
                code = %codes::END_NOT_CUT,
                part = %part.display(), why,
                "what was recorded after the page had left the meeting cannot be cut off; it stays in the recording"
            );
            length
        }
    }
}

async fn cut(part: &Path, until: Duration) -> Result<Duration, String> {
    // A hidden file of a fixed name, so that the next attempt replaces what a crash leaves.
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
    let (whole, cut) = (read(part.to_owned()).await?, read(shorter.path().to_owned()).await?);
    compare(&whole, &cut, until)?;
    placement::place(shorter.path(), part, IfExists::Replace).await.map_err(|error| error.to_string())?;
    Ok(cut.duration)
}

/// Checks that everything up to the cut is there.
fn compare(whole: &MediaInfo, cut: &MediaInfo, until: Duration) -> Result<(), String> {
    let kinds = |media: &MediaInfo| media.streams.iter().map(|stream| stream.kind).collect::<Vec<_>>();
    if kinds(whole) != kinds(cut) {
        return Err("the shorter file lacks a track".to_owned());
    }
    if cut.duration < until && !same_duration(cut.duration, until) {
        return Err(format!("the shorter file lasts {} s, not {} s", seconds(cut.duration), seconds(until)));
    }
    Ok(())
}
