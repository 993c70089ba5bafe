//! Measurements on decoded sound.

use std::f64::consts::TAU;
use std::path::Path;

use super::ffmpeg;

const RATE: f64 = 48_000.0;
/// Samples from one look to the next: 1 ms.
const HOP: usize = 48;
/// Samples in one look: 10 ms. Tones 700 Hz apart do not touch each other in it.
const WINDOW: usize = 480;
/// Amplitude (1 is full scale) under which nothing is a beep.
const AUDIBLE: f64 = 0.03;
/// A click at some other pitch spreads over all of them, but no longer than a window.
const SHORTEST_BEEP: f64 = 0.04;

/// The instants (seconds) at which a tone of `hz` set in.
pub fn beeps(path: &Path, hz: f64) -> anyhow::Result<Vec<f64>> {
    Ok(onsets(&tone(&samples(path)?, hz)))
}

/// Root mean square of all samples; 1 is full scale.
pub fn loudness(path: &Path) -> anyhow::Result<f64> {
    let samples = samples(path)?;
    let sum: f64 = samples.iter().map(|sample| f64::from(*sample).powi(2)).sum();
    Ok((sum / samples.len().max(1) as f64).sqrt())
}

/// The first audio stream as mono at 48 kHz; sample n is at n/48000 s of the file's time, whatever was missing in between.
pub fn samples(path: &Path) -> anyhow::Result<Vec<f32>> {
    let filter = "aresample=48000:async=1:first_pts=0:min_hard_comp=0.005";
    let bytes = ffmpeg(path, ["-vn", "-af", filter, "-ac", "1", "-f", "f32le", "-"])?;
    Ok(bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect())
}

/// Amplitude of the tone in each look.
fn tone(samples: &[f32], hz: f64) -> Vec<f64> {
    let weights: Vec<(f64, f64)> = (0..WINDOW)
        .map(|n| {
            // Hann, scaled so that a steady tone gives its amplitude.
            let window = (1.0 - (TAU * (n as f64 + 0.5) / WINDOW as f64).cos()) * 2.0 / WINDOW as f64;
            let (sin, cos) = (TAU * hz * n as f64 / RATE).sin_cos();
            (window * cos, window * sin)
        })
        .collect();
    let looks = samples.len().checked_sub(WINDOW).map_or(0, |last| last / HOP + 1);
    (0..looks)
        .map(|look| {
            let (mut re, mut im) = (0.0, 0.0);
            for (sample, (cos, sin)) in samples[look * HOP..].iter().zip(&weights) {
                re += f64::from(*sample) * cos;
                im += f64::from(*sample) * sin;
            }
            re.hypot(im)
        })
        .collect()
}

/// Where the amplitude passes half of what it then reaches, the window lies half over the tone: its middle is the onset.
fn onsets(amplitudes: &[f64]) -> Vec<f64> {
    let shortest = (SHORTEST_BEEP * RATE) as usize / HOP;
    let mut onsets = Vec::new();
    let mut look = 0;
    while look + shortest < amplitudes.len() {
        let ahead = &amplitudes[look..look + shortest];
        if amplitudes[look] < AUDIBLE || ahead[WINDOW / HOP..].iter().any(|amplitude| *amplitude < AUDIBLE) {
            look += 1;
            continue;
        }
        let half = ahead.iter().copied().fold(0.0, f64::max) / 2.0;
        let over = look + ahead.iter().position(|amplitude| *amplitude >= half).unwrap_or(0);
        let before = over.checked_sub(1).map_or(0.0, |before| amplitudes[before]);
        let part =
            if over > 0 && amplitudes[over] > before { (half - before) / (amplitudes[over] - before) } else { 1.0 };
        onsets.push(((over as f64 - 1.0 + part) * HOP as f64 + WINDOW as f64 / 2.0) / RATE);
        look += amplitudes[look..].iter().position(|amplitude| *amplitude < AUDIBLE).unwrap_or(amplitudes.len());
    }
    onsets
}

#[test]
fn a_tone_is_found_where_it_sets_in_and_at_its_own_pitch_only() {
    let samples: Vec<f32> = (0..96_000)
        .map(|n| {
            let at = f64::from(n) / RATE;
            let on = (0.5003..0.6).contains(&at) || (1.5003..1.6).contains(&at);
            if on { (0.5 * (TAU * 1000.0 * at).sin()) as f32 } else { 0.0 }
        })
        .collect();
    let found = onsets(&tone(&samples, 1000.0));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!((found[0] - 0.5003).abs() < 0.001 && (found[1] - 1.5003).abs() < 0.001, "{found:?}");
    assert_eq!(onsets(&tone(&samples, 1700.0)), Vec::<f64>::new());
}
