//! The pictures of a finished MP4: its poster and its thumbnails ([`super::thumbnail_plan`]).
//!
//! Each is the keyframe before its moment, which an ffmpeg of its own seeks: little is read and decoded of a long file. All
//! of it has the lowest priority and a time limit.

use std::path::Path;
use std::time::Duration;

use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use tokio::io::AsyncReadExt as _;
use tokio_util::sync::CancellationToken;

use crate::media::error_text::condense;
use crate::media::ffprobe::{self, FILES_ONLY, ProbeError, file_url};
use crate::media::thumbnail_plan::{PictureSize, ThumbnailPlan, deviation};
use crate::process::child::{self, ChildSpec, SpawnError};

/// Of ffmpeg: recordings and transcodings go first.
const NICENESS: u8 = 19;
/// Time limit for one picture, on a machine whose processors are busy with recordings.
const PICTURE_LIMIT: Duration = Duration::from_secs(60);
/// Time limit for all pictures of a file.
const LIMIT: Duration = Duration::from_secs(10 * 60);
/// How long an ffmpeg may take to end once its picture has come.
const END_LIMIT: Duration = Duration::from_secs(5);
/// Qualities of JPEG, of 100: text of slides can be read on the poster.
const POSTER_QUALITY: u8 = 82;
const SPRITE_QUALITY: u8 = 70;

/// The pictures of a file, ready to be stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Thumbnails {
    /// JPEG.
    pub poster: Vec<u8>,
    /// JPEG.
    pub sprite: Vec<u8>,
    /// `WebVTT`.
    pub index: String,
}

impl std::fmt::Debug for Thumbnails {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Thumbnails({} and {} bytes)", self.poster.len(), self.sprite.len())
    }
}

/// Why there are no pictures.
#[derive(Debug, thiserror::Error)]
pub enum ThumbnailError {
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error(transparent)]
    Start(#[from] SpawnError),
    #[error("ffmpeg gave no picture at {} s: {cause}", .at.as_secs())]
    NoPicture { at: Duration, cause: String },
    #[error("ffmpeg gave no picture at {} s within {} s", .at.as_secs(), .limit.as_secs())]
    Late { at: Duration, limit: Duration },
    #[error("they were not made within {} min", LIMIT.as_secs() / 60)]
    AllLate,
    #[error("the program ends")]
    Stopped,
    #[error("JPEG: {0}")]
    Jpeg(#[from] jpeg_encoder::EncodingError),
}

/// Makes the pictures of an MP4. `sprite`: the address of the sprite relative to its index. `None`: the file has no picture.
/// Once cancelled, its ffmpeg has ended when this returns.
///
/// # Errors
/// See [`ThumbnailError`].
pub async fn make(mp4: &Path, sprite: &str, cancel: &CancellationToken) -> Result<Option<Thumbnails>, ThumbnailError> {
    tokio::time::timeout(LIMIT, make_unlimited(mp4, sprite, cancel)).await.unwrap_or(Err(ThumbnailError::AllLate))
}

async fn make_unlimited(
    mp4: &Path,
    sprite: &str,
    cancel: &CancellationToken,
) -> Result<Option<Thumbnails>, ThumbnailError> {
    let media = ffprobe::probe(mp4).await?;
    let plan = media.video().and_then(|video| ThumbnailPlan::new(media.duration, video.width, video.height));
    let Some(plan) = plan else { return Ok(None) };
    let mut canvas = Canvas::new(plan.sprite());
    let mut deviations = Vec::new();
    for index in 0..plan.count {
        let tile = picture(mp4, plan.time(index), plan.tile, PICTURE_LIMIT, cancel).await?;
        deviations.push(deviation(&tile));
        canvas.put(&tile, plan.tile, plan.corner(index));
    }
    let poster = picture(mp4, plan.time(plan.poster_index(&deviations)), plan.poster, PICTURE_LIMIT, cancel).await?;
    let (poster, sprite_jpeg) = encoded(poster, plan.poster, canvas).await?;
    Ok(Some(Thumbnails { poster, sprite: sprite_jpeg, index: plan.web_vtt(sprite) }))
}

/// The keyframe at or before this moment, else the first one, in this size as 8-bit RGB.
async fn picture(
    mp4: &Path,
    at: Duration,
    size: PictureSize,
    limit: Duration,
    cancel: &CancellationToken,
) -> Result<Vec<u8>, ThumbnailError> {
    let PictureSize { width, height } = size;
    let mut spec = ChildSpec::new("ffmpeg", "ffmpeg")
        .args(["-nostdin", "-hide_banner", "-nostats", "-v", "error", "-threads", "1", "-skip_frame", "nokey"])
        .args(FILES_ONLY)
        .args(["-noaccurate_seek".into(), "-ss".into(), format!("{:.3}", at.as_secs_f64())])
        .args(["-i".into(), file_url(mp4)])
        // The keyframe lies before the moment, and frames before the beginning would be left out.
        .args(["-map", "0:V:0", "-fps_mode", "passthrough", "-frames:v", "1", "-vf"])
        .args([format!("scale={width}:{height}")])
        .args(["-pix_fmt", "rgb24", "-f", "rawvideo", "pipe:1"])
        .nice(NICENESS);
    spec.pipe_stdout = true;
    spec.log_level = tracing::Level::DEBUG;
    let mut child = child::spawn(&spec).await?;
    let mut bytes = vec![0; size.rgb_bytes()];
    let read = async {
        match &mut child.stdout {
            Some(stdout) => stdout.read_exact(&mut bytes).await.is_ok(),
            None => false,
        }
    };
    let Some(read) = cancel.run_until_cancelled(tokio::time::timeout(limit, read)).await else {
        child.stop(rustix::process::Signal::KILL, END_LIMIT).await;
        return Err(ThumbnailError::Stopped);
    };
    match read {
        Ok(true) => {
            child.end_within(END_LIMIT).await;
            Ok(bytes)
        }
        Ok(false) => {
            let exit = child.end_within(END_LIMIT).await;
            let cause = condense(&child.tail().lines()).unwrap_or_else(|| format!("it says nothing ({exit})"));
            Err(ThumbnailError::NoPicture { at, cause })
        }
        Err(_) => {
            // One that was stopped does not hear a softer signal.
            child.stop(rustix::process::Signal::KILL, END_LIMIT).await;
            Err(ThumbnailError::Late { at, limit })
        }
    }
}

/// Some 50 ms of a processor, which would hold up a runtime thread.
async fn encoded(poster: Vec<u8>, size: PictureSize, canvas: Canvas) -> Result<(Vec<u8>, Vec<u8>), ThumbnailError> {
    let encode = move || {
        let poster = jpeg(&poster, size, POSTER_QUALITY)?;
        Ok((poster, jpeg(&canvas.rgb, canvas.size, SPRITE_QUALITY)?))
    };
    let late = |_| ThumbnailError::AllLate;
    tokio::task::spawn_blocking(encode).await.map_err(late)?
}

fn jpeg(rgb: &[u8], size: PictureSize, quality: u8) -> Result<Vec<u8>, jpeg_encoder::EncodingError> {
    let mut jpeg = Vec::with_capacity(rgb.len() / 8);
    let mut encoder = Encoder::new(&mut jpeg, quality);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    let [width, height] = [size.width, size.height].map(|side| u16::try_from(side).unwrap_or(u16::MAX));
    encoder.encode(rgb, width, height, ColorType::Rgb)?;
    Ok(jpeg)
}

/// The sprite in 8-bit RGB, black where no tile is.
struct Canvas {
    size: PictureSize,
    rgb: Vec<u8>,
}

impl Canvas {
    fn new(size: PictureSize) -> Self {
        Self { size, rgb: vec![0; size.rgb_bytes()] }
    }

    fn put(&mut self, tile: &[u8], size: PictureSize, (x, y): (u32, u32)) {
        let [stride, width, x, y] = [self.size.width, size.width, x, y].map(|pixels| pixels as usize);
        for (row, line) in tile.chunks_exact(3 * width).enumerate() {
            let at = 3 * ((y + row) * stride + x);
            if let Some(target) = self.rgb.get_mut(at..at + line.len()) {
                target.copy_from_slice(line);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_lie_where_the_index_says() {
        let tile = PictureSize { width: 2, height: 2 };
        let mut canvas = Canvas::new(PictureSize { width: 4, height: 4 });
        canvas.put(&[9; 12], tile, (2, 2));
        let lit: Vec<usize> = (0..16).filter(|pixel| canvas.rgb[3 * pixel] == 9).collect();
        assert_eq!(lit, [10, 11, 14, 15]);
    }

    #[tokio::test]
    async fn an_ffmpeg_that_hangs_is_killed_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("a.mp4");
        // Opening a FIFO for reading waits for a writer, which never comes.
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let size = PictureSize { width: 160, height: 90 };
        let never = CancellationToken::new();
        let made = picture(&fifo, Duration::ZERO, size, Duration::from_millis(300), &never);
        let made = tokio::time::timeout(Duration::from_secs(20), made).await.unwrap();
        assert!(matches!(made, Err(ThumbnailError::Late { .. })), "{made:?}");
    }
}
