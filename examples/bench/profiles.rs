//! What each of `ffmpeg_settings.profile` makes of a raw file: processor time, size, and how near its picture is.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use plugnmeet_recorder::config::{FfmpegOptions, Profile};
use plugnmeet_recorder::media::ffmpeg_arguments::FfmpegArguments;
use plugnmeet_recorder::media::ffprobe;
use serde::Serialize;

use crate::transcode::{Encoded, encode, megabytes};

#[derive(Debug, Serialize)]
pub struct Row {
    profile: &'static str,
    encoded: Encoded,
    /// Decibels over all planes of all frames, each frame counting once; infinite where nothing differs.
    psnr: f64,
    /// 0…1, over all planes.
    ssim: f64,
}

/// The defaults, then each profile; `part` is written over.
pub async fn measure(raw: &Path, part: &Path, rounds: usize) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    let media = ffprobe::measure(raw).await?;
    for profile in std::iter::once(None).chain(Profile::ALL.map(Some)) {
        let arguments = FfmpegArguments::convert(&FfmpegOptions::post_recording(profile), &media);
        let name = profile.map_or("(none)", Profile::as_str);
        let encoded = encode(&arguments, raw, part, rounds).await.context(name)?;
        let (psnr, ssim) = likeness(part, raw).context(name)?;
        rows.push(Row { profile: name, encoded, psnr, ssim });
    }
    Ok(rows)
}

/// PSNR and SSIM of what `made` shows at the time of each frame of `raw`: repetitions may be left out, and times differ by the
/// rounding of the containers.
pub fn likeness(made: &Path, raw: &Path) -> anyhow::Result<(f64, f64)> {
    let graph = "[1:v]split[a][b];[0:v]setpts=PTS-0.002/TB,split[c][d];[a][c]psnr[x];[b][d]ssim[y]";
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-hide_banner", "-nostats", "-i"])
        .arg(made)
        .arg("-i")
        .arg(raw)
        .args(["-filter_complex", graph, "-map", "[x]", "-map", "[y]", "-f", "null", "-"])
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ffmpeg cannot compare: {said}");
    let after = |line: &str, key: &str| {
        let line = said.lines().find(|said| said.contains(line))?;
        line.split_once(key)?.1.split_whitespace().next()?.parse::<f64>().ok()
    };
    let psnr = after(" PSNR y:", "average:").context("ffmpeg tells no PSNR")?;
    let ssim = after(" SSIM Y:", "All:").context("ffmpeg tells no SSIM")?;
    Ok((psnr, ssim))
}

pub fn print(scene: &str, seconds: f64, rows: &[Row]) {
    println!("Profiles: {scene}, {seconds:.0} s, on our raw file\n");
    println!("| profile    | CPU-s  | times real time | MB an hour | PSNR, dB |   SSIM |");
    println!("| ---------- | -----: | --------------: | ---------: | -------: | -----: |");
    for Row { profile, encoded, psnr, ssim } in rows {
        println!(
            "| {profile:10} | {:6.2} | {:15.0} | {:10.1} | {psnr:8.2} | {ssim:6.4} |",
            encoded.cpu,
            seconds / encoded.wall,
            megabytes(encoded.size) * 3600.0 / seconds,
        );
    }
    println!();
}
