//! Which pictures of a video are shown before and while it plays: the poster, and the thumbnails of its seek bar, which are
//! tiles of one picture (a sprite) with an index in `WebVTT`. Pure.

use std::fmt::Write as _;
use std::time::Duration;

/// The most thumbnails of a video.
const MOST: u32 = 100;
/// A short video has one for so many seconds.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(10);
/// Tiles in a row of the sprite.
const COLUMNS: u32 = 10;
/// The width of a tile in pixels; its height follows from the video's shape, within [`TILE_HEIGHTS`].
const TILE_WIDTH: u32 = 160;
const TILE_HEIGHTS: (u32, u32) = (40, 284);
/// The widest and the highest poster, in pixels.
const POSTER_WIDTH: u32 = 1280;
const POSTER_HEIGHT: u32 = 2880;
/// The poster is looked for from this share of the video on: its beginning is often empty.
const POSTER_FROM: f64 = 0.1;
/// A picture whose brightness differs less from its mean, in levels of 0…255, shows nothing.
const BLANK_DEVIATION: f64 = 6.0;

/// The size of a picture in pixels, both even.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureSize {
    pub width: u32,
    pub height: u32,
}

impl PictureSize {
    /// The bytes of a picture in 8-bit RGB.
    #[must_use]
    pub fn rgb_bytes(self) -> usize {
        usize::try_from(u64::from(self.width) * u64::from(self.height) * 3).unwrap_or(usize::MAX)
    }
}

/// The thumbnails of a video.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThumbnailPlan {
    duration: Duration,
    /// At least 1.
    pub count: u32,
    pub tile: PictureSize,
    pub poster: PictureSize,
}

impl ThumbnailPlan {
    /// For a video of this duration, whose picture has this size. `None`: the picture has no size.
    #[must_use]
    pub fn new(duration: Duration, width: u32, height: u32) -> Option<Self> {
        if width == 0 || height == 0 {
            return None;
        }
        let intervals = duration.as_millis().div_ceil(SHORTEST_INTERVAL.as_millis());
        let count = u32::try_from(intervals).unwrap_or(MOST).clamp(1, MOST);
        let (lowest, highest) = TILE_HEIGHTS;
        let tile_height = scaled(height, TILE_WIDTH, width).clamp(lowest, highest);
        let poster_width = (width & !1).clamp(2, POSTER_WIDTH);
        let poster =
            PictureSize { width: poster_width, height: scaled(height, poster_width, width).min(POSTER_HEIGHT) };
        Some(Self { duration, count, tile: PictureSize { width: TILE_WIDTH, height: tile_height }, poster })
    }

    /// How long a thumbnail stands for.
    fn interval(&self) -> Duration {
        self.duration / self.count
    }

    /// Where in the video the thumbnail of this number is taken: in the middle of what it stands for.
    #[must_use]
    pub fn time(&self, index: u32) -> Duration {
        self.interval() * index + self.interval() / 2
    }

    /// The size of the sprite.
    #[must_use]
    pub fn sprite(&self) -> PictureSize {
        let columns = self.count.min(COLUMNS);
        PictureSize { width: columns * self.tile.width, height: self.count.div_ceil(COLUMNS) * self.tile.height }
    }

    /// The upper left corner of a tile in the sprite, in pixels.
    #[must_use]
    pub fn corner(&self, index: u32) -> (u32, u32) {
        ((index % COLUMNS) * self.tile.width, (index / COLUMNS) * self.tile.height)
    }

    /// The index of the sprite, in `WebVTT` with spatial media fragments (W3C: `WebVTT`; Media Fragments URI 1.0, `xywh`).
    /// `sprite`: its address relative to the index.
    #[must_use]
    pub fn web_vtt(&self, sprite: &str) -> String {
        let mut text = "WEBVTT\n".to_owned();
        for index in 0..self.count {
            let begin = self.interval() * index;
            let end = if index + 1 == self.count { self.duration } else { self.interval() * (index + 1) };
            let (x, y) = self.corner(index);
            let PictureSize { width, height } = self.tile;
            // Writing to a text cannot fail.
            let _ = writeln!(text, "\n{} --> {}\n{sprite}#xywh={x},{y},{width},{height}", time(begin), time(end));
        }
        text
    }

    /// Of these thumbnails, the one whose moment the poster shows: the first from a tenth of the video on that shows
    /// something, else the one that shows most. `deviations`: see [`deviation`].
    #[must_use]
    pub fn poster_index(&self, deviations: &[f64]) -> u32 {
        let from = self.duration.mul_f64(POSTER_FROM);
        let all = || (0..self.count).zip(deviations.iter().copied());
        let first = all().find(|(index, deviation)| self.time(*index) >= from && *deviation >= BLANK_DEVIATION);
        let most = || all().max_by(|(_, a), (_, b)| a.total_cmp(b));
        first.or_else(most).map_or(0, |(index, _)| index)
    }
}

/// `side` in the proportion `to`/`of`, even and at least 2.
fn scaled(side: u32, to: u32, of: u32) -> u32 {
    let scaled = u64::from(side) * u64::from(to) / u64::from(of.max(1));
    u32::try_from(scaled).unwrap_or(u32::MAX).max(2) & !1
}

/// `HH:MM:SS.mmm`
fn time(at: Duration) -> String {
    let (seconds, millis) = (at.as_secs(), at.subsec_millis());
    format!("{:02}:{:02}:{:02}.{millis:03}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// How much the brightness of a picture in 8-bit RGB differs from its mean, in levels of 0…255: the standard deviation.
#[must_use]
pub fn deviation(rgb: &[u8]) -> f64 {
    let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for pixel in rgb.chunks_exact(3) {
        // The weights of BT.709.
        let [red, green, blue] = [pixel[0], pixel[1], pixel[2]].map(f64::from);
        let brightness = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
        count += 1.0;
        sum += brightness;
        squares += brightness * brightness;
    }
    if count == 0.0 {
        return 0.0;
    }
    let mean: f64 = sum / count;
    (squares / count - mean * mean).max(0.0).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(seconds: f64) -> ThumbnailPlan {
        ThumbnailPlan::new(Duration::from_secs_f64(seconds), 1920, 1080).unwrap()
    }

    #[test]
    fn a_short_video_has_one_for_ten_seconds_and_a_long_one_a_hundred() {
        for (seconds, count, sprite) in [
            (0.0, 1, (160, 90)),
            (2.0, 1, (160, 90)),
            (10.001, 2, (320, 90)),
            (95.0, 10, (1600, 90)),
            (105.0, 11, (1600, 180)),
            (1000.0, 100, (1600, 900)),
            (7200.0, 100, (1600, 900)),
        ] {
            let plan = plan(seconds);
            assert_eq!(plan.count, count, "{seconds}");
            assert_eq!((plan.sprite().width, plan.sprite().height), sprite, "{seconds}");
            let last = plan.time(plan.count - 1);
            assert!(last.as_secs_f64() <= seconds, "{seconds}: {last:?}");
        }
        assert_eq!(plan(7200.0).time(0), Duration::from_secs(36));
    }

    #[test]
    fn pictures_have_the_shape_of_the_video() {
        let sizes = |width, height| {
            let plan = ThumbnailPlan::new(Duration::from_secs(5), width, height).unwrap();
            ((plan.tile.width, plan.tile.height), (plan.poster.width, plan.poster.height))
        };
        assert_eq!(sizes(1920, 1080), ((160, 90), (1280, 720)));
        assert_eq!(sizes(640, 360), ((160, 90), (640, 360)));
        assert_eq!(sizes(1080, 1920), ((160, 284), (1080, 1920)));
        assert_eq!(sizes(321, 181), ((160, 90), (320, 180)));
        assert_eq!(sizes(4000, 10).0, (160, 40));
        assert_eq!(ThumbnailPlan::new(Duration::from_secs(5), 0, 0), None);
    }

    #[test]
    fn the_index_covers_the_video_without_gaps_and_names_regions_of_the_sprite() {
        let text = plan(7262.5).web_vtt("a.thumbnails.jpg");
        assert!(text.starts_with(
            "WEBVTT\n\n00:00:00.000 --> 00:01:12.625\na.thumbnails.jpg#xywh=0,0,160,90\n\n00:01:12.625 --> "
        ));
        assert!(text.ends_with("--> 02:01:02.500\na.thumbnails.jpg#xywh=1440,810,160,90\n"), "{text}");
        assert_eq!(text.matches("-->").count(), 100);
    }

    #[test]
    fn the_poster_is_the_first_picture_behind_a_tenth_that_shows_something() {
        let plan = plan(100.0);
        let blank = 1.0;
        assert_eq!(plan.poster_index(&[50.0; 10]), 1);
        assert_eq!(plan.poster_index(&[50.0, blank, blank, 30.0, 60.0, 60.0, 60.0, 60.0, 60.0, 60.0]), 3);
        assert_eq!(plan.poster_index(&[2.0, blank, blank, blank, 3.0, blank, blank, blank, blank, blank]), 4);
        assert_eq!(plan.poster_index(&[]), 0);
        let half: Vec<u8> = [[0; 3], [255; 3]].concat();
        assert!(deviation(&half) > 127.0 && deviation(&[9; 300]) < 0.01 && deviation(&[]) < 0.01);
    }
}
