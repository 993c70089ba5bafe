//! An I420 frame of the whole screen, brought up to date box by box.
//!
//! BT.709, limited range, as the stream's header says.

use memmap2::MmapMut;
use yuv::{
    BufferStoreMut, YuvConversionMode, YuvError, YuvPlanarImageMut, YuvRange, YuvStandardMatrix, bgra_to_yuv420,
};

use crate::capture::video::damage::Box;

/// There is no memory for a picture.
#[derive(Clone, Debug, thiserror::Error)]
#[error("no memory for a picture of {width}x{height}: {why}")]
pub struct OutOfMemory {
    width: u32,
    height: u32,
    why: String,
}

/// Every so many pixels of every so many rows are looked at: 8,000 of 1080p, and no text or thumbnail slips through.
const SAMPLE_STEP: usize = 16;
/// A picture is black where its luma is at most this on average (black is 16, white 235)…
const BLACK_MEAN: usize = 20;
/// …and at most this anywhere: a tenth of the range, as ffmpeg's blackdetect has it.
const BLACK_MAX: u8 = 38;

/// An I420 frame: a luma plane and two chroma planes at half the size each way.
#[derive(Debug)]
pub struct Frame {
    width: usize,
    height: usize,
    /// Luma, then the two chroma planes. Each has a row more than it shows: the converter wants whole rows, and the
    /// last row of a box that does not begin at the left edge would end behind the plane.
    ///
    /// Pages of its own, because they are lent to a pipe (`stream.rs`): unmapped, they live on until they are read,
    /// where an allocator would hand them out again.
    memory: MmapMut,
}

impl Frame {
    /// A black picture; both sides are even.
    ///
    /// # Errors
    /// Where there is no memory for it.
    pub fn black(width: u32, height: u32) -> Result<Self, OutOfMemory> {
        let mut picture = Self::untouched(width, height)?;
        let [luma, u, v] = picture.padded_planes();
        luma.fill(16);
        u.fill(128);
        v.fill(128);
        Ok(picture)
    }

    /// A picture of nothing in particular, which takes no memory until it is drawn in; both sides are even.
    ///
    /// # Errors
    /// Where there is no address space for it.
    pub fn untouched(width: u32, height: u32) -> Result<Self, OutOfMemory> {
        let (w, h) = (width as usize, height as usize);
        let memory = MmapMut::map_anon(w * (h + 1) + 2 * (w / 2 * (h / 2 + 1))).map_err(|error| OutOfMemory {
            width,
            height,
            why: error.to_string(),
        })?;
        Ok(Self { width: w, height: h, memory })
    }

    /// The frame as it is sent: the three planes, to be written one after the other.
    #[must_use]
    pub fn planes(&self) -> [&[u8]; 3] {
        let (luma, half, pixels) = (self.width * (self.height + 1), self.padded_chroma(), self.width * self.height);
        [(0, pixels), (luma, pixels / 4), (luma + half, pixels / 4)]
            .map(|(start, len)| self.memory.get(start..start + len).unwrap_or_default())
    }

    /// Bytes of a chroma plane with its row more.
    fn padded_chroma(&self) -> usize {
        self.width / 2 * (self.height / 2 + 1)
    }

    fn padded_planes(&mut self) -> [&mut [u8]; 3] {
        let half = self.padded_chroma();
        let (luma, chroma) = self.memory.split_at_mut(self.width * (self.height + 1));
        let (u, v) = chroma.split_at_mut(half);
        [luma, u, v]
    }

    fn holds(&self, at: Box) -> bool {
        (at.x + at.width) as usize <= self.width && (at.y + at.height) as usize <= self.height
    }

    /// Whether there is nothing to be seen, by a sparse sample of the luma.
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

    /// Converts one box of BGRX pixels (4 bytes each, rows without padding) into its place.
    ///
    /// # Errors
    /// Where `bgrx` holds fewer pixels than the box or the box does not lie within the picture.
    pub fn update(&mut self, at: Box, bgrx: &[u8]) -> Result<(), YuvError> {
        if !self.holds(at) {
            return Err(YuvError::PointerOverflow);
        }
        let (width, half) = (self.width, self.width / 2);
        let (x, y) = (at.x as usize, at.y as usize);
        let chroma_start = y / 2 * half + x / 2;
        let [luma, u, v] = self.padded_planes();
        let mut part = YuvPlanarImageMut {
            y_plane: BufferStoreMut::Borrowed(luma.get_mut(y * width + x..).unwrap_or_default()),
            y_stride: at_most_u32(width),
            u_plane: BufferStoreMut::Borrowed(u.get_mut(chroma_start..).unwrap_or_default()),
            u_stride: at_most_u32(half),
            v_plane: BufferStoreMut::Borrowed(v.get_mut(chroma_start..).unwrap_or_default()),
            v_stride: at_most_u32(half),
            width: at.width,
            height: at.height,
        };
        let mode = YuvConversionMode::Balanced;
        bgra_to_yuv420(&mut part, bgrx, at.width * 4, YuvRange::Limited, YuvStandardMatrix::Bt709, mode)
    }

    /// Takes one box over from a picture of the same size; what lies outside either is left out.
    pub fn copy(&mut self, at: Box, from: &Self) {
        let shapes = [self.width, self.width / 2, self.width / 2].into_iter().zip([1, 2, 2]);
        for ((to, from), (stride, shrink)) in self.padded_planes().into_iter().zip(from.planes()).zip(shapes) {
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

fn at_most_u32(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BGRX pixels of one colour.
    fn solid(at: Box, [r, g, b]: [u8; 3]) -> Vec<u8> {
        [b, g, r, 0].repeat((at.width * at.height) as usize)
    }

    fn pixel(picture: &Frame, x: usize, y: usize) -> [u8; 3] {
        let chroma = y / 2 * (picture.width / 2) + x / 2;
        [picture.planes()[0][y * picture.width + x], picture.planes()[1][chroma], picture.planes()[2][chroma]]
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
            let mut picture = Frame::black(16, 2).unwrap();
            picture.update(at, &solid(at, rgb)).unwrap();
            let found = pixel(&picture, 7, 1);
            assert!(found.iter().zip(yuv).all(|(a, b): (&u8, u8)| a.abs_diff(b) <= 1), "{rgb:?}: {found:?} {yuv:?}");
        }
    }

    #[test]
    fn a_box_changes_its_own_pixels_and_no_others() {
        for at in [
            Box { x: 0, y: 0, width: 2, height: 2 },
            Box { x: 62, y: 30, width: 2, height: 2 },
            Box { x: 10, y: 20, width: 54, height: 12 },
            Box { x: 0, y: 0, width: 64, height: 32 },
        ] {
            let mut picture = Frame::black(64, 32).unwrap();
            picture.update(at, &solid(at, [255, 255, 255])).unwrap();
            for y in 0..32u32 {
                for x in 0..64u32 {
                    let inside = x >= at.x && y >= at.y && x < at.x + at.width && y < at.y + at.height;
                    let luma = pixel(&picture, x as usize, y as usize)[0];
                    assert_eq!(luma, if inside { 235 } else { 16 }, "{at:?} {x} {y}");
                }
            }
        }
    }

    #[test]
    fn black_is_what_shows_nothing() {
        let all = Box { x: 0, y: 0, width: 64, height: 64 };
        let mut picture = Frame::black(64, 64).unwrap();
        assert!(picture.is_black());
        for (rgb, black) in [([4, 4, 4], true), ([16, 16, 16], false), ([0, 0, 255], false), ([255, 255, 255], false)] {
            picture.update(all, &solid(all, rgb)).unwrap();
            assert_eq!(picture.is_black(), black, "{rgb:?}");
        }
        // A lit part of the size of the sample's step is seen wherever it is.
        for (x, y) in [(0, 0), (48, 48), (6, 22)] {
            let mut picture = Frame::black(64, 64).unwrap();
            let part = Box { x, y, width: 16, height: 16 };
            picture.update(part, &solid(part, [90, 90, 90])).unwrap();
            assert!(!picture.is_black(), "{x} {y}");
        }
    }

    #[test]
    fn a_box_beyond_the_picture_is_an_error() {
        let mut picture = Frame::black(16, 16).unwrap();
        let at = Box { x: 8, y: 8, width: 16, height: 16 };
        assert!(picture.update(at, &solid(at, [1, 2, 3])).is_err());
    }
}
