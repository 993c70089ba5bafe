//! A small picture of a frame, as JPEG: shrunk by the mean of square blocks, from BT.709 in limited range to RGB. Pure.

use jpeg_encoder::{ColorType, Encoder, EncodingError, SamplingFactor};

use crate::capture::video::frame::Frame;

/// The greatest width in pixels: as wide as a phone held upright shows it.
const WIDEST: usize = 480;
/// Of 100: text of slides can be recognised, and a picture takes some 15 kB.
const QUALITY: u8 = 70;

/// A picture in 8-bit RGB.
struct SmallPicture {
    width: u16,
    height: u16,
    rgb: Vec<u8>,
}

/// The frame as JPEG of at most [`WIDEST`] pixels across: some 2 ms of a core in a release build.
///
/// # Errors
/// Where the frame is smaller than a pixel or too high for a JPEG; none for the sizes of the configuration.
pub fn jpeg(frame: &Frame) -> Result<Vec<u8>, EncodingError> {
    let SmallPicture { width, height, rgb } = shrink(frame);
    let mut jpeg = Vec::with_capacity(32 << 10);
    let mut encoder = Encoder::new(&mut jpeg, QUALITY);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder.encode(&rgb, width, height, ColorType::Rgb)?;
    Ok(jpeg)
}

fn shrink(frame: &Frame) -> SmallPicture {
    let (across, [luma, u, v]) = (frame.width(), frame.planes());
    let by = across.div_ceil(WIDEST).max(1);
    let (width, height) = (across / by, frame.height() / by);
    let mut rgb = Vec::with_capacity(3 * width * height);
    let mut sums = vec![0u32; width];
    let pixels = u32::try_from(by * by).unwrap_or(1);
    for (row, lines) in luma.chunks_exact((across * by).max(1)).take(height).enumerate() {
        sums.fill(0);
        for line in lines.chunks_exact(across) {
            for (sum, block) in sums.iter_mut().zip(line.chunks_exact(by)) {
                *sum += block.iter().map(|luma| u32::from(*luma)).sum::<u32>();
            }
        }
        // The colour of a block is that of its middle.
        let chroma = middle(row, by) * (across / 2);
        for (column, sum) in sums.iter().enumerate() {
            let at = chroma + middle(column, by);
            let [u, v] = [u, v].map(|plane| i32::from(plane.get(at).copied().unwrap_or(128)));
            rgb.extend(to_rgb(i32::try_from(sum / pixels).unwrap_or(16), u, v));
        }
    }
    let [width, height] = [width, height].map(|side| u16::try_from(side).unwrap_or(u16::MAX));
    SmallPicture { width, height, rgb }
}

/// The chroma row or column in the middle of the block of this number.
fn middle(block: usize, by: usize) -> usize {
    (2 * block + 1) * by / 4
}

/// BT.709 in limited range, in 16 bits behind the point (ITU-R BT.709-6, 3).
fn to_rgb(luma: i32, u: i32, v: i32) -> [u8; 3] {
    let (luma, u, v) = ((luma - 16) * 76_309 + 32_768, u - 128, v - 128);
    [luma + v * 117_489, luma - u * 13_975 - v * 34_925, luma + u * 138_438]
        .map(|colour| u8::try_from((colour >> 16).clamp(0, 255)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::video::damage::Box;

    /// A frame whose left half has one colour and whose right half another.
    fn halves(width: u32, height: u32, left: [u8; 3], right: [u8; 3]) -> Frame {
        let mut frame = Frame::black(width, height).unwrap();
        let half = width / 4 * 2;
        for (x, across, [r, g, b]) in [(0, half, left), (half, width - half, right)] {
            let pixels = [b, g, r, 0].repeat((across * height) as usize);
            frame.update(Box { x, y: 0, width: across, height }, &pixels).unwrap();
        }
        frame
    }

    #[test]
    fn a_small_picture_has_the_colours_of_the_frame_at_any_size() {
        for (width, height, wide, high) in [
            (1920, 1080, 480, 270),
            (1280, 720, 426, 240),
            (640, 480, 320, 240),
            (320, 240, 320, 240),
            (998, 562, 332, 187),
        ] {
            let (left, right) = ([250, 240, 5], [20, 60, 200]);
            let small = shrink(&halves(width, height, left, right));
            assert_eq!((small.width, small.height), (wide, high));
            assert_eq!(small.rgb.len(), 3 * usize::from(wide) * usize::from(high));
            for (column, colour) in [(2, left), (usize::from(wide) - 3, right)] {
                for row in [0, usize::from(high) / 2, usize::from(high) - 1] {
                    let at = 3 * (row * usize::from(wide) + column);
                    let seen: [u8; 3] = small.rgb[at..at + 3].try_into().unwrap();
                    assert!(
                        seen.iter().zip(colour).all(|(seen, of)| seen.abs_diff(of) <= 3),
                        "{width}: {seen:?} {colour:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_comes_out_is_a_jpeg_of_some_kilobytes() {
        let jpeg = jpeg(&halves(1920, 1080, [255; 3], [0; 3])).unwrap();
        assert!(jpeg.starts_with(&[0xff, 0xd8, 0xff]) && jpeg.ends_with(&[0xff, 0xd9]));
        assert!((500..60_000).contains(&jpeg.len()), "{} bytes", jpeg.len());
    }
}
