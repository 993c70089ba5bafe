//! The section `hls`: finished recordings as HLS beside their MP4.

use std::time::Duration;

use crate::config::reader::{ConfigField, ConfigSection};

/// The heights that are allowed, in pixels.
const HEIGHTS: std::ops::RangeInclusive<u32> = 90..=4320;
/// Default of a rendition's height where it is refused: the caller discards the result then.
const ANY_HEIGHT: u32 = 720;
/// libx264's range of `-crf`.
const CRF: std::ops::RangeInclusive<u32> = 0..=51;
/// Bits a second: from what a slide needs to what no meeting needs.
const BIT_RATES: std::ops::RangeInclusive<f64> = 50_000.0..=100_000_000.0;
const BIT_RATE_ALLOWED: &str = "a bit rate like 800k or 2.5M, from 50k to 100M, is allowed";
/// Each one costs an encoder, and players choose between few.
const MOST_RENDITIONS: usize = 8;
/// Apple's recommendation is 6 s; a shorter one costs keyframes, a longer one patience.
const SEGMENT: Duration = Duration::from_secs(4);
const SEGMENT_MIN: Duration = Duration::from_secs(1);
const SEGMENT_MAX: Duration = Duration::from_secs(30);

/// `hls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HlsConfig {
    /// From the highest to the lowest; never empty.
    pub renditions: Vec<HlsRendition>,
    /// How long a segment shall be: it ends at the next keyframe.
    pub segment: Duration,
    /// Recordings are published while they run.
    pub live: bool,
}

/// One item of `hls.renditions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HlsRendition {
    /// Pixels; even.
    pub height: u32,
    /// `None`: the MP4's own picture where it is no higher than this, else libx264's default quality.
    pub rate: Option<VideoRate>,
}

/// What the bits of a picture are spent by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VideoRate {
    /// Constant quality, libx264's `-crf`: 0…51.
    Crf(u32),
    /// Bits a second on average.
    BitRate(u32),
}

/// `None`: there is no HLS.
pub(super) fn read(root: &ConfigSection<'_>) -> Option<HlsConfig> {
    let section = root.section("hls");
    let segment = section.duration("segment", SEGMENT_MIN..=SEGMENT_MAX, SEGMENT);
    let live = section.flag("live", false);
    let items = section.list("renditions");
    if items.is_empty() {
        for field in ["segment", "live"].iter().filter_map(|key| section.field(key)) {
            field.warning("does nothing without `hls.renditions`");
        }
        return None;
    }
    if let Some(item) = items.get(MOST_RENDITIONS) {
        item.problem(format!("is one too many; at most {MOST_RENDITIONS} renditions are allowed"));
    }
    let mut renditions: Vec<HlsRendition> = Vec::new();
    for item in &items {
        let Some(rendition) = read_rendition(item) else { continue };
        if renditions.iter().any(|other| other.height == rendition.height) {
            item.problem(format!("has the height {} as another one before it; give each its own", rendition.height));
        }
        renditions.push(rendition);
    }
    renditions.sort_by_key(|rendition| std::cmp::Reverse(rendition.height));
    (!renditions.is_empty()).then_some(HlsConfig { renditions, segment, live })
}

fn read_rendition(item: &ConfigField<'_>) -> Option<HlsRendition> {
    let section = item.section()?;
    section.required("height", "a height in pixels is required")?;
    let height = section.even("height", HEIGHTS, ANY_HEIGHT);
    let crf = section.field("crf").map(|_| VideoRate::Crf(section.whole("crf", CRF, 23)));
    let bit_rate = section.field("bitrate").and_then(|field| {
        let rate = field.node.text().and_then(bits_a_second);
        if rate.is_none() {
            field.refuse(BIT_RATE_ALLOWED);
        }
        rate.map(VideoRate::BitRate)
    });
    if crf.is_some() && bit_rate.is_some() {
        item.problem("has both a crf and a bitrate; leave one of them out");
    }
    Some(HlsRendition { height, rate: crf.or(bit_rate) })
}

/// `800k`, `2.5M` or a number.
fn bits_a_second(text: &str) -> Option<u32> {
    let text = text.trim();
    let (digits, unit) = match text.char_indices().last()? {
        (at, 'k' | 'K') => (&text[..at], 1e3),
        (at, 'm' | 'M') => (&text[..at], 1e6),
        _ => (text, 1.0),
    };
    let bits = digits.trim().parse::<f64>().ok()? * unit;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked before")]
    BIT_RATES.contains(&bits).then_some(bits.round() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bit_rate_is_written_as_for_ffmpeg() {
        for (text, bits) in [("800k", Some(800_000)), ("2.5M", Some(2_500_000)), (" 64000 ", Some(64_000))] {
            assert_eq!(bits_a_second(text), bits, "{text}");
        }
        for wrong in ["", "k", "-1M", "800kbit", "49k", "1G", "inf", "NaN"] {
            assert_eq!(bits_a_second(wrong), None, "{wrong}");
        }
    }
}
