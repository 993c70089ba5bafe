//! What the recording of the built-in page shows: its colours, and whether its beeps and flashes are in step. Pure.

/// Pixels of the picture that is looked at, and frames of it in a second.
pub const WIDTH: usize = 32;
pub const HEIGHT: usize = 18;
pub const RATE: usize = 100;
/// Red, green and blue.
pub const PIXEL: usize = 3;
/// Samples a second, of one channel of 16 bits.
pub const SAMPLE_RATE: usize = 8000;

/// Where the page has which colour: column, row, red, green, blue. Its middle flashes.
const COLOURS: [(usize, usize, [u8; PIXEL], &str); 4] = [
    (4, 3, [255, 0, 0], "red"),
    (27, 3, [0, 255, 0], "green"),
    (4, 14, [0, 0, 255], "blue"),
    (27, 14, [255, 255, 255], "white"),
];
/// Encoders and ranges change colours a little.
const TOLERANCE: u8 = 60;
/// Brightness from which the middle is white, and up to which it is black.
const BRIGHT: u8 = 160;
const DARK: u8 = 90;
/// A beep has half of the full level.
const LOUD: u16 = 3000;
/// Before a beep it is quiet for so many samples: a fifth of a second.
const QUIET: usize = SAMPLE_RATE / 5;
/// A beep and a flash that are further apart do not belong together (seconds); they come once a second.
const REACH: f64 = 0.45;

/// The first colour that a frame does not have where it should; `None`: all are right.
#[must_use]
pub fn wrong_colour(frame: &[u8]) -> Option<String> {
    COLOURS.iter().find_map(|(column, row, expected, name)| {
        let at = (row * WIDTH + column) * PIXEL;
        let found = frame.get(at..at + PIXEL)?;
        let near = found.iter().zip(expected).all(|(one, other)| one.abs_diff(*other) <= TOLERANCE);
        (!near).then(|| format!("the colour {found:?} (red, green, blue) instead of {name}"))
    })
}

/// When the middle of the picture turned white, in seconds.
#[must_use]
pub fn flashes(frames: &[u8]) -> Vec<f64> {
    let (mut found, mut dark) = (Vec::new(), false);
    for (n, frame) in frames.chunks_exact(WIDTH * HEIGHT * PIXEL).enumerate() {
        let level = frame[(HEIGHT / 2 * WIDTH + WIDTH / 2) * PIXEL];
        if level >= BRIGHT && dark {
            found.push(seconds(n, RATE));
        }
        dark = level <= DARK || (dark && level < BRIGHT);
    }
    found
}

/// When beeps set in, in seconds.
#[must_use]
pub fn beeps(samples: &[i16]) -> Vec<f64> {
    let (mut found, mut quiet) = (Vec::new(), QUIET);
    for (n, sample) in samples.iter().enumerate() {
        if sample.unsigned_abs() < LOUD {
            quiet += 1;
        } else {
            if quiet >= QUIET {
                found.push(seconds(n, SAMPLE_RATE));
            }
            quiet = 0;
        }
    }
    found
}

#[expect(clippy::cast_precision_loss, reason = "a recording of seconds")]
fn seconds(count: usize, rate: usize) -> f64 {
    count as f64 / rate as f64
}

/// The median of beep minus flash in milliseconds, positive where the sound is late, and of how many pairs it is.
#[must_use]
pub fn offset(beeps: &[f64], flashes: &[f64]) -> Option<(f64, usize)> {
    let nearest = |beep: &f64| flashes.iter().map(|flash| beep - flash).min_by(|a, b| a.abs().total_cmp(&b.abs()));
    let mut offsets: Vec<f64> = beeps.iter().filter_map(nearest).filter(|offset| offset.abs() <= REACH).collect();
    offsets.sort_unstable_by(f64::total_cmp);
    Some((offsets.get(offsets.len() / 2)? * 1000.0, offsets.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(middle: u8) -> Vec<u8> {
        let mut frame = vec![0; WIDTH * HEIGHT * PIXEL];
        for (column, row, colour, _) in COLOURS {
            let at = (row * WIDTH + column) * PIXEL;
            frame[at..at + PIXEL].copy_from_slice(&colour);
        }
        let at = (HEIGHT / 2 * WIDTH + WIDTH / 2) * PIXEL;
        frame[at..at + PIXEL].fill(middle);
        frame
    }

    #[test]
    fn a_wrong_colour_is_named() {
        let mut picture = frame(0);
        assert_eq!(wrong_colour(&picture), None);
        picture.fill(0);
        assert_eq!(wrong_colour(&picture).unwrap(), "the colour [0, 0, 0] (red, green, blue) instead of red");
        // Red and blue exchanged.
        let swapped: Vec<u8> = frame(0).chunks(PIXEL).flat_map(|pixel| pixel.iter().rev().copied()).collect();
        assert!(wrong_colour(&swapped).unwrap().contains("instead of red"));
    }

    #[test]
    fn beeps_and_flashes_are_found_and_told_apart() {
        let white = |n: usize| (50..60).contains(&(n % RATE));
        let frames: Vec<u8> = (0..3 * RATE).flat_map(|n| frame(if white(n) { 255 } else { 16 })).collect();
        let flashes = flashes(&frames);
        assert_eq!(flashes, [0.5, 1.5, 2.5]);
        // Each 40 ms after its flash; a sine crosses zero.
        let sounds = |n: usize| (4320..5120).contains(&(n % SAMPLE_RATE)) && n % 8 < 5;
        let samples: Vec<i16> = (0..3 * SAMPLE_RATE).map(|n| if sounds(n) { -16000 } else { 12 }).collect();
        let beeps = beeps(&samples);
        assert_eq!(beeps, [0.54, 1.54, 2.54]);
        let (offset, pairs) = offset(&beeps, &flashes).unwrap();
        assert!((offset - 40.0).abs() < 0.01 && pairs == 3, "{offset} {pairs}");
    }

    #[test]
    fn a_film_without_sound_has_no_offset() {
        assert_eq!(beeps(&[0; SAMPLE_RATE]), Vec::<f64>::new());
        assert_eq!(offset(&[], &[1.0]), None);
        assert_eq!(offset(&[1.0], &[]), None);
        // A page that is white from its beginning has not flashed.
        assert_eq!(flashes(&[frame(255), frame(255)].concat()), Vec::<f64>::new());
    }
}
