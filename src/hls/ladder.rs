//! Which renditions a picture gets: pure.

use crate::config::{HlsRendition, VideoRate};

/// One rendition of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rung {
    /// Pixels; even, as H.264 with 4:2:0 chroma wants it.
    pub width: u32,
    pub height: u32,
    pub encoding: Encoding,
}

/// Where the packets of a rendition come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// From the MP4, as they are.
    Copy,
    /// From an encoder; `None`: its default quality.
    Encode(Option<VideoRate>),
}

impl Rung {
    /// The name of its files without their ends.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}p", self.height)
    }
}

/// The renditions of a picture of this size, from the highest to the lowest; never empty. None is larger than the picture:
/// of those that would be, the lowest has the picture's own size, and the others are left out. `wanted`: of the
/// configuration, from the highest to the lowest.
#[must_use]
pub fn ladder(width: u32, height: u32, wanted: &[HlsRendition]) -> Vec<Rung> {
    let (width, height) = (even(width), even(height));
    let own = wanted.iter().rev().find(|rendition| rendition.height >= height);
    let encoding = |rate: Option<VideoRate>| rate.map_or(Encoding::Copy, |rate| Encoding::Encode(Some(rate)));
    let own = own.map(|rendition| Rung { width, height, encoding: encoding(rendition.rate) });
    let scaled = wanted.iter().filter(|rendition| rendition.height < height).map(|rendition| Rung {
        width: scaled_width(width, height, rendition.height),
        height: rendition.height,
        encoding: Encoding::Encode(rendition.rate),
    });
    own.into_iter().chain(scaled).collect()
}

/// The ladder where the picture of the MP4 cannot be copied.
#[must_use]
pub fn all_encoded(ladder: &[Rung]) -> Vec<Rung> {
    let encode = |encoding| if encoding == Encoding::Copy { Encoding::Encode(None) } else { encoding };
    ladder.iter().map(|rung| Rung { encoding: encode(rung.encoding), ..*rung }).collect()
}

/// The nearest even width of the same shape.
fn scaled_width(width: u32, height: u32, to: u32) -> u32 {
    let half = 2 * u64::from(height.max(1));
    let pairs = (u64::from(width) * u64::from(to) + half / 2) / half;
    u32::try_from(2 * pairs.max(1)).unwrap_or(u32::MAX - 1)
}

/// An odd row or column is cut off.
fn even(size: u32) -> u32 {
    (size & !1).max(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(heights: &[u32]) -> Vec<HlsRendition> {
        heights.iter().map(|&height| HlsRendition { height, rate: None }).collect()
    }

    fn sizes(width: u32, height: u32, heights: &[u32]) -> Vec<(u32, u32, bool)> {
        let rungs = ladder(width, height, &wanted(heights));
        rungs.iter().map(|rung| (rung.width, rung.height, rung.encoding == Encoding::Copy)).collect()
    }

    #[test]
    fn a_picture_is_copied_at_its_own_size_and_never_made_larger() {
        let all = [1080, 720, 360];
        assert_eq!(sizes(1920, 1080, &all), [(1920, 1080, true), (1280, 720, false), (640, 360, false)]);
        assert_eq!(sizes(1280, 720, &all), [(1280, 720, true), (640, 360, false)]);
        assert_eq!(sizes(1280, 800, &all), [(1280, 800, true), (1152, 720, false), (576, 360, false)]);
        assert_eq!(sizes(320, 180, &all), [(320, 180, true)]);
        assert_eq!(sizes(3840, 2160, &all), [(1920, 1080, false), (1280, 720, false), (640, 360, false)]);
    }

    #[test]
    fn widths_are_even_and_keep_the_shape() {
        assert_eq!(sizes(1366, 768, &[360]), [(640, 360, false)]);
        assert_eq!(sizes(1001, 701, &[360]), [(514, 360, false)]);
        assert_eq!(sizes(1080, 1920, &[720]), [(406, 720, false)]);
        assert_eq!(sizes(2, 4000, &[90]), [(2, 90, false)]);
    }

    #[test]
    fn a_rendition_with_a_rate_of_its_own_is_encoded() {
        let crf = Some(VideoRate::Crf(20));
        let top = HlsRendition { height: 1080, rate: crf };
        let rungs = ladder(1920, 1080, &[top, HlsRendition { height: 360, rate: None }]);
        assert_eq!(rungs[0].encoding, Encoding::Encode(crf));
        let copied = all_encoded(&ladder(1920, 1080, &wanted(&[1080])));
        assert_eq!(copied[0].encoding, Encoding::Encode(None));
        assert_eq!(copied[0].name(), "1080p");
    }
}
