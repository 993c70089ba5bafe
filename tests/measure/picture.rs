//! Measurements on decoded pixels.

use std::path::Path;

use anyhow::{Context, ensure};

use super::{Crop, ffmpeg, probe};

/// Luma halfway between black and white: what counts as a flash.
const HALF_WHITE: f64 = 126.0;
/// How far back the frame may be that is still shown; recorders send one at least every second.
const LONGEST_FRAME: f64 = 3.0;

/// The instants (seconds) at which the area turned from dark to bright: the timestamp of the first bright frame.
pub fn flashes(path: &Path, crop: Crop) -> anyhow::Result<Vec<f64>> {
    let mut onsets = Vec::new();
    let mut bright = false;
    for (at, luma) in luma(path, crop)? {
        if luma >= HALF_WHITE && !bright {
            onsets.push(at);
        }
        bright = luma >= HALF_WHITE;
    }
    Ok(onsets)
}

/// Timestamp (seconds) and mean luma (0–255) of the area, for every frame there is.
pub fn luma(path: &Path, crop: Crop) -> anyhow::Result<Vec<(f64, f64)>> {
    let filter = format!("{},signalstats,metadata=mode=print:key=lavfi.signalstats.YAVG:file=-", crop.filter());
    let printed = ffmpeg(path, ["-an", "-vf", &filter, "-fps_mode", "passthrough", "-f", "null", "/dev/null"])?;
    let mut frames = Vec::new();
    let mut at = None;
    for line in String::from_utf8(printed)?.lines() {
        if let Some((_, time)) = line.split_once("pts_time:") {
            at = Some(time.trim().parse::<f64>().with_context(|| line.to_owned())?);
        } else if let Some(luma) = line.strip_prefix("lavfi.signalstats.YAVG=") {
            frames.push((at.take().with_context(|| line.to_owned())?, luma.parse()?));
        }
    }
    ensure!(!frames.is_empty(), "no frames in {}", path.display());
    Ok(frames)
}

/// The mean colour of the area in the frame that is on the screen `at` seconds from the start.
pub fn mean_colour(path: &Path, at: f64, crop: Crop) -> anyhow::Result<[u8; 3]> {
    let pixels = shown_at(path, at, &format!("{},format=rgb24", crop.filter()), &["-f", "rawvideo", "-"])?;
    let size = (crop.w * crop.h * 3) as usize;
    ensure!(pixels.len() >= size, "nothing is shown at {at} s of {}", path.display());
    let frame = &pixels[pixels.len() - pixels.len() % size - size..][..size];
    let mut sums = [0u64; 3];
    for pixel in frame.chunks_exact(3) {
        sums.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += u64::from(*value));
    }
    Ok(sums.map(|sum| u8::try_from(sum / (size as u64 / 3)).expect("a mean of bytes")))
}

/// Writes the frame that is on the screen `at` seconds as a PNG.
pub fn save_frame(path: &Path, at: f64, png: &Path) -> anyhow::Result<()> {
    let png = png.to_str().context("the path is no text")?;
    shown_at(path, at, "null", &["-update", "1", png])?;
    Ok(())
}

/// How like a picture (a PNG of the whole screen) the frame is that is shown at `at`, within the area: structural similarity of red,
/// green and blue, 1 where they are the same.
pub fn ssim(path: &Path, at: f64, png: &Path, crop: Crop) -> anyhow::Result<f64> {
    let frame = tempfile::Builder::new().prefix("pnm-frame-").suffix(".png").tempfile()?;
    save_frame(path, at, frame.path())?;
    let crop = crop.filter();
    let filter = format!("[0:v]{crop},format=gbrp[a];[1:v]{crop},format=gbrp[b];[a][b]ssim=stats_file=-");
    let png = png.to_str().context("the path is no text")?;
    let said = ffmpeg(frame.path(), ["-i", png, "-lavfi", &filter, "-f", "null", "/dev/null"])?;
    let said = String::from_utf8(said)?;
    let all = said.split_whitespace().find_map(|word| word.strip_prefix("All:")).with_context(|| said.clone())?;
    Ok(all.parse()?)
}

/// Frames of a film that should show nothing but one of two colours at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mixture {
    /// How many frames are wholly in the one and in the other colour.
    pub whole: [usize; 2],
    /// Which frames are neither, counted from 0.
    pub mixed: Vec<usize>,
}

/// Looks at all of the area in every frame, in 64×36 blocks: a frame is whole where each is of the same of the two colours.
pub fn mixed_frames(path: &Path, crop: Crop, colours: [[u8; 3]; 2]) -> anyhow::Result<Mixture> {
    const BLOCKS: usize = 64 * 36;
    /// What the encoder may change in a channel of a block.
    const TOLERANCE: u8 = 8;
    // Without these flags the mean of a block is off by up to 6.
    let filter = format!("{},scale=64:36:flags=area+accurate_rnd+full_chroma_int,format=rgb24", crop.filter());
    let bytes = ffmpeg(path, ["-an", "-vf", &filter, "-fps_mode", "passthrough", "-f", "rawvideo", "-"])?;
    let mut mixture = Mixture { whole: [0; 2], mixed: Vec::new() };
    for (n, frame) in bytes.chunks_exact(BLOCKS * 3).enumerate() {
        let is = |colour: &[u8; 3]| {
            frame.chunks_exact(3).all(|block| block.iter().zip(colour).all(|(a, b)| a.abs_diff(*b) <= TOLERANCE))
        };
        match colours.iter().position(is) {
            Some(which) => mixture.whole[which] += 1,
            None => mixture.mixed.push(n),
        }
    }
    Ok(mixture)
}

/// Every frame up to `at` from a little before; the last one is what is shown.
fn shown_at(path: &Path, at: f64, filter: &str, output: &[&str]) -> anyhow::Result<Vec<u8>> {
    let from = (at - LONGEST_FRAME).max(0.0);
    let filter = format!("trim=start={from}:end={end},{filter}", end = at + 0.0005);
    let mut arguments = vec!["-an", "-vf", &filter, "-fps_mode", "passthrough"];
    arguments.extend_from_slice(output);
    ffmpeg(path, arguments)
}

/// How much the area moves: the mean absolute change of luma (0–255) from one fifth of a second to the next. A still picture is well under 0.5,
/// a webcam tile well over 2. Returned is the quietest of the steps after the first second, so that a tile that froze is found.
pub fn movement(path: &Path, crop: Crop) -> anyhow::Result<f64> {
    let filter = format!("fps=5,{},format=gray", crop.filter());
    let bytes = ffmpeg(path, ["-an", "-vf", &filter, "-f", "rawvideo", "-"])?;
    let frames: Vec<&[u8]> = bytes.chunks_exact((crop.w * crop.h) as usize).skip(5).collect();
    ensure!(frames.len() >= 3, "{} is too short to see movement", path.display());
    let changes = frames.windows(2).map(|pair| {
        let sum: u64 = pair[0].iter().zip(pair[1]).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        sum as f64 / f64::from(crop.w * crop.h)
    });
    Ok(changes.fold(f64::INFINITY, f64::min))
}

/// Twelve thumbnails of the whole film in one PNG, four beside each other.
pub fn contact_sheet(path: &Path, png: &Path) -> anyhow::Result<()> {
    let duration = probe(path)?.duration;
    // The first thumbnail is half a step in, so that all twelve lie inside.
    let filter = format!(
        "fps=fps={rate}:start_time=0:round=near,scale=480:-2:flags=area,tile=4x3:margin=8:padding=8",
        rate = 12.0 / duration
    );
    ffmpeg(
        path,
        [
            "-an".as_ref(),
            "-vf".as_ref(),
            filter.as_ref(),
            "-frames:v".as_ref(),
            "1".as_ref(),
            "-update".as_ref(),
            "1".as_ref(),
            png.as_os_str(),
        ],
    )?;
    Ok(())
}
