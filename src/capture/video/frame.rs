//! An I420 frame of the whole screen, updated box by box: BT.709, limited range, as the stream's header says.

use memmap2::MmapMut;
use pixel_conversion::Rows;

use crate::capture::video::damage::Box;

/// There is no memory for a frame.
#[derive(Clone, Debug, thiserror::Error)]
#[error("no memory for a picture of {width}x{height}: {why}")]
pub struct OutOfMemory {
    width: u32,
    height: u32,
    why: String,
}

/// The box does not lie within the frame, has odd edges, or has too few pixels.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{bytes} bytes for {at:?} in {width}x{height}")]
pub struct InvalidBox {
    at: Box,
    bytes: usize,
    width: usize,
    height: usize,
}

/// Sampled distance of pixels and rows: 8,000 pixels of 1080p, dense enough for any text or thumbnail.
const SAMPLE_STEP: usize = 16;
/// A frame is black if its sampled luma is at most this on average (black is 16, white 235)…
const BLACK_MEAN: usize = 20;
/// …and at most this at every sample: a tenth of the range, as in ffmpeg's blackdetect.
const BLACK_MAX: u8 = 38;

/// An I420 frame: a luma plane and two chroma planes of half its width and height.
#[derive(Debug)]
pub struct Frame {
    width: usize,
    height: usize,
    /// Luma, then U, then V.
    ///
    /// Mapped pages instead of an allocation, because they are spliced into a pipe (`stream.rs`): the kernel keeps
    /// unmapped pages until the pipe has been read; an allocator would reuse them.
    memory: MmapMut,
}

impl Frame {
    /// A black frame; width and height are even.
    ///
    /// # Errors
    /// Where there is no memory for it.
    pub fn black(width: u32, height: u32) -> Result<Self, OutOfMemory> {
        let mut frame = Self::untouched(width, height)?;
        let [luma, u, v] = frame.planes_mut();
        luma.fill(16);
        u.fill(128);
        v.fill(128);
        Ok(frame)
    }

    /// A frame of zeroes, which takes no memory until it is drawn in; width and height are even.
    ///
    /// # Errors
    /// Where there is no address space for it.
    pub fn untouched(width: u32, height: u32) -> Result<Self, OutOfMemory> {
        let (w, h) = (width as usize, height as usize);
        let memory =
            MmapMut::map_anon(w * h * 3 / 2).map_err(|error| OutOfMemory { width, height, why: error.to_string() })?;
        Ok(Self { width: w, height: h, memory })
    }

    /// Pixels of a row of luma.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows of luma.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// The three planes, to be sent one after the other.
    #[must_use]
    pub fn planes(&self) -> [&[u8]; 3] {
        let (luma, chroma) = self.memory.split_at(self.width * self.height);
        let (u, v) = chroma.split_at(luma.len() / 4);
        [luma, u, v]
    }

    fn planes_mut(&mut self) -> [&mut [u8]; 3] {
        let (luma, chroma) = self.memory.split_at_mut(self.width * self.height);
        let (u, v) = chroma.split_at_mut(luma.len() / 4);
        [luma, u, v]
    }

    /// Whether the box lies within the frame and has even edges.
    fn holds(&self, at: Box) -> bool {
        let even = [at.x, at.y, at.width, at.height].iter().all(|edge| edge.is_multiple_of(2));
        even && (at.x + at.width) as usize <= self.width && (at.y + at.height) as usize <= self.height
    }

    /// Whether the frame is black, by a sparse sample of its luma.
    #[must_use]
    pub fn is_black(&self) -> bool {
        let rows = self.planes()[0].chunks_exact(self.width.max(1)).take(self.height).step_by(SAMPLE_STEP);
        let (mut sum, mut count, mut max) = (0, 0, 0);
        for luma in rows.flat_map(|row| row.iter().step_by(SAMPLE_STEP)) {
            sum += usize::from(*luma);
            count += 1;
            max = max.max(*luma);
        }
        max <= BLACK_MAX && sum <= BLACK_MEAN * count
    }

    /// Converts a box of BGRX pixels (4 bytes each, rows without padding) into the frame.
    ///
    /// # Errors
    /// Where `bgrx` holds fewer pixels than the box, or the box does not lie within the frame or has odd edges.
    pub fn update(&mut self, at: Box, bgrx: &[u8]) -> Result<(), InvalidBox> {
        let [left, top, across, down] = [at.x, at.y, at.width, at.height].map(|v| v as usize);
        let (width, height) = (self.width, self.height);
        if !self.holds(at) || bgrx.len() < 4 * across * down {
            return Err(InvalidBox { at, bytes: bgrx.len(), width, height });
        }
        if at.area() == 0 {
            return Ok(());
        }
        let [luma, u, v] = self.planes_mut();
        let lumas = luma.chunks_exact_mut(2 * width).skip(top / 2);
        let chromas = u.chunks_exact_mut(width / 2).zip(v.chunks_exact_mut(width / 2)).skip(top / 2);
        for ((pixels, luma), (u, v)) in bgrx.chunks_exact(8 * across).take(down / 2).zip(lumas).zip(chromas) {
            let (upper, lower) = luma.split_at_mut(width);
            pixel_conversion::convert(Rows {
                bgrx: pixels.split_at(4 * across).into(),
                luma: [upper, lower].map(|row| &mut row[left..left + across]),
                chroma: [u, v].map(|row| &mut row[left / 2..][..across / 2]),
            });
        }
        Ok(())
    }

    /// Copies a box from a frame of the same size; what lies outside of the frame is skipped.
    pub fn copy_box(&mut self, at: Box, from: &Self) {
        let shapes = [self.width, self.width / 2, self.width / 2].into_iter().zip([1, 2, 2]);
        for ((to, from), (stride, shrink)) in self.planes_mut().into_iter().zip(from.planes()).zip(shapes) {
            let [x, y, width, height] = [at.x, at.y, at.width, at.height].map(|v| v as usize / shrink);
            for row in y..y + height {
                let row = row * stride + x..row * stride + x + width;
                if let (Some(to), Some(from)) = (to.get_mut(row.clone()), from.get(row)) {
                    to.copy_from_slice(from);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BGRX pixels of one colour.
    fn solid(at: Box, [r, g, b]: [u8; 3]) -> Vec<u8> {
        [b, g, r, 0].repeat((at.width * at.height) as usize)
    }

    fn pixel(frame: &Frame, x: usize, y: usize) -> [u8; 3] {
        let chroma = y / 2 * (frame.width / 2) + x / 2;
        [frame.planes()[0][y * frame.width + x], frame.planes()[1][chroma], frame.planes()[2][chroma]]
    }

    #[test]
    fn colours_are_bt709_limited() {
        let at = Box { x: 0, y: 0, width: 16, height: 2 };
        // Values of ITU-R BT.709 for 8 bits, limited range.
        for (rgb, yuv) in [
            ([255, 255, 255], [235, 128, 128]),
            ([0, 0, 0], [16, 128, 128]),
            ([255, 0, 0], [63, 102, 240]),
            ([0, 255, 0], [173, 42, 26]),
            ([0, 0, 255], [32, 240, 118]),
            ([128, 128, 128], [126, 128, 128]),
        ] {
            let mut frame = Frame::black(16, 2).unwrap();
            frame.update(at, &solid(at, rgb)).unwrap();
            let found = pixel(&frame, 7, 1);
            assert!(found.iter().zip(yuv).all(|(a, b): (&u8, u8)| a.abs_diff(b) <= 1), "{rgb:?}: {found:?} {yuv:?}");
        }
    }

    #[test]
    fn a_box_changes_its_own_pixels_and_no_others() {
        for at in [
            Box { x: 0, y: 0, width: 2, height: 2 },
            Box { x: 62, y: 30, width: 2, height: 2 },
            Box { x: 10, y: 20, width: 54, height: 12 },
            Box { x: 6, y: 2, width: 50, height: 28 },
            Box { x: 0, y: 0, width: 64, height: 32 },
        ] {
            let mut frame = Frame::black(64, 32).unwrap();
            frame.update(at, &solid(at, [255, 0, 0])).unwrap();
            for y in 0..32u32 {
                for x in 0..64u32 {
                    let inside = x >= at.x && y >= at.y && x < at.x + at.width && y < at.y + at.height;
                    let found = pixel(&frame, x as usize, y as usize);
                    assert_eq!(found, if inside { [63, 102, 240] } else { [16, 128, 128] }, "{at:?} {x} {y}");
                }
            }
        }
    }

    #[test]
    fn black_is_what_shows_nothing() {
        let all = Box { x: 0, y: 0, width: 64, height: 64 };
        let mut frame = Frame::black(64, 64).unwrap();
        assert!(frame.is_black());
        for (rgb, black) in [([4, 4, 4], true), ([16, 16, 16], false), ([0, 0, 255], false), ([255, 255, 255], false)] {
            frame.update(all, &solid(all, rgb)).unwrap();
            assert_eq!(frame.is_black(), black, "{rgb:?}");
        }
        // A bright part as large as the sampling distance is found at any place.
        for (x, y) in [(0, 0), (48, 48), (6, 22)] {
            let mut frame = Frame::black(64, 64).unwrap();
            let part = Box { x, y, width: 16, height: 16 };
            frame.update(part, &solid(part, [90, 90, 90])).unwrap();
            assert!(!frame.is_black(), "{x} {y}");
        }
    }

    #[test]
    fn a_box_that_does_not_fit_is_an_error() {
        let mut frame = Frame::black(16, 16).unwrap();
        let beyond = Box { x: 8, y: 8, width: 16, height: 16 };
        let odd = [(1, 0, 2, 2), (0, 3, 2, 2), (0, 0, 5, 2), (0, 0, 2, 7)];
        for at in odd.map(|(x, y, width, height)| Box { x, y, width, height }).into_iter().chain([beyond]) {
            assert!(frame.update(at, &solid(at, [1, 2, 3])).is_err(), "{at:?}");
        }
        let at = Box { x: 8, y: 8, width: 8, height: 8 };
        assert!(frame.update(at, &solid(at, [1, 2, 3])[1..]).is_err());
        assert_eq!(pixel(&frame, 8, 8), [16, 128, 128]);
        frame.update(at, &solid(at, [255, 0, 0])).unwrap();
        assert_eq!(pixel(&frame, 8, 8), [63, 102, 240]);
    }
}
