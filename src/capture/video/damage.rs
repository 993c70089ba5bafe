//! Turns the changed rectangles that the X server reports into the boxes to fetch: pure.

/// A part of the screen in pixels; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Box {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

/// Cost of fetching one more box, in pixels (a request, a reply, set-up of a row's conversion).
const BOX_COST: u64 = 8_192;

impl Box {
    /// Number of pixels.
    #[must_use]
    pub fn area(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

    fn union(self, other: Self) -> Self {
        let (x, y) = (self.x.min(other.x), self.y.min(other.y));
        let right = (self.x + self.width).max(other.x + other.width);
        let bottom = (self.y + self.height).max(other.y + other.height);
        Self { x, y, width: right - x, height: bottom - y }
    }

    /// Whether `other` lies completely in this box.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.union(other) == self
    }

    fn overlaps(self, other: Self) -> bool {
        self.x < other.x + other.width
            && other.x < self.x + self.width
            && self.y < other.y + other.height
            && other.y < self.y + self.height
    }
}

/// The boxes to fetch for these changed rectangles (`x, y, width, height`; they may reach beyond the screen).
///
/// Every changed pixel is in exactly one box. Boxes have even edges, because a chroma sample covers two by two pixels.
/// Boxes are joined where that costs less than fetching both. `width` and `height` of the screen are even.
#[must_use]
pub fn boxes(changed: &[(i32, i32, u32, u32)], width: u32, height: u32) -> Vec<Box> {
    let mut boxes: Vec<Box> = changed.iter().filter_map(|rect| even(*rect, width, height)).collect();
    let mut i = 0;
    while i < boxes.len() {
        let other = (i + 1..boxes.len()).find(|j| {
            let (a, b) = (boxes[i], boxes[*j]);
            a.overlaps(b) || a.union(b).area() <= a.area() + b.area() + BOX_COST
        });
        if let Some(j) = other {
            boxes[i] = boxes[i].union(boxes[j]);
            boxes.swap_remove(j);
            // The larger box may now overlap an earlier one.
            i = 0;
        } else {
            i += 1;
        }
    }
    boxes
}

/// Moves the rectangle's edges outwards to even pixels and clips it to the screen.
fn even((x, y, w, h): (i32, i32, u32, u32), width: u32, height: u32) -> Option<Box> {
    let span = |start: i32, len: u32, limit: u32| {
        let end = (i64::from(start) + i64::from(len)).clamp(0, limit.into());
        let start = i64::from(start).clamp(0, limit.into());
        let (start, end) = (start & !1, (end + 1) & !1);
        Some((u32::try_from(start).ok()?, u32::try_from(end - start).ok().filter(|len| *len > 0)?))
    };
    let ((x, width), (y, height)) = (span(x, w, width)?, span(y, h, height)?);
    Some(Box { x, y, width, height })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn edges_are_even_and_within_the_screen() {
        assert_eq!(boxes(&[(3, 5, 1, 1)], 1920, 1080), [Box { x: 2, y: 4, width: 2, height: 2 }]);
        assert_eq!(boxes(&[(-5, -5, 6, 6)], 1920, 1080), [Box { x: 0, y: 0, width: 2, height: 2 }]);
        assert_eq!(boxes(&[(1919, 1079, 50, 50)], 1920, 1080), [Box { x: 1918, y: 1078, width: 2, height: 2 }]);
        assert_eq!(boxes(&[(1920, 0, 5, 5), (0, 0, 0, 9), (-9, 0, 9, 9)], 1920, 1080), []);
    }

    #[test]
    fn distant_boxes_stay_apart_and_near_ones_are_joined() {
        let far = boxes(&[(0, 0, 320, 180), (1600, 900, 320, 180)], 1920, 1080);
        assert_eq!(far.iter().map(|b| b.area()).sum::<u64>(), 2 * 320 * 180);
        assert_eq!(boxes(&[(0, 0, 10, 10), (12, 0, 10, 10)], 1920, 1080).len(), 1);
    }

    #[test]
    fn boxes_hold_the_changes_and_little_else() {
        /// Description, reported rectangles, boxes, pixels.
        type Case = (&'static str, Vec<(i32, i32, u32, u32)>, usize, u64);
        let tile = |n: i32| (1560, 20 + 200 * n, 320, 180);
        let word = |line: i32, n: i32| (100 + 90 * n, 100 + 40 * line, 82, 24);
        // The server reports a region as bands from top to bottom.
        let cases: [Case; 11] = [
            ("nothing", vec![], 0, 0),
            ("a cursor that blinks", vec![(401, 301, 1, 17)], 1, 2 * 18),
            ("one webcam", vec![tile(0)], 1, 320 * 180),
            // The 20 rows between two tiles have fewer pixels than a box costs, so all four are joined.
            ("four webcams", (0..4).map(tile).collect(), 1, 320 * (4 * 180 + 3 * 20)),
            ("the first and the last webcam", vec![tile(0), tile(3)], 2, 2 * 320 * 180),
            (
                "a slide and a webcam",
                vec![(20, 20, 1480, 180), tile(0), (20, 200, 1480, 860)],
                2,
                1480 * 1040 + 320 * 180,
            ),
            // The 8 columns between two words cost less than a box.
            ("a line of text", (0..10).map(|n| word(0, n)).collect(), 1, (9 * 90 + 82) * 24),
            // The first word is joined with the one below it before its own line, so three lines and the space between
            // them become one box; distant lines stay apart.
            (
                "a page of text",
                (0..12).flat_map(|line| (0..10).map(move |n| word(line, n))).collect(),
                10,
                (9 * 90 + 82) * (9 * 24 + (2 * 40 + 24)),
            ),
            (
                "windows that overlap, as bands",
                vec![(100, 100, 400, 200), (100, 300, 600, 200), (300, 500, 400, 200)],
                3,
                (400 + 600 + 400) * 200,
            ),
            // No pixel may be in two boxes: the unchanged corners are fetched too.
            ("windows that overlap, as they are", vec![(100, 100, 400, 400), (300, 300, 400, 400)], 1, 600 * 600),
            ("all, said in pieces", vec![(0, 0, 1920, 540), (5, 5, 9, 9), (0, 540, 1920, 540)], 1, 1920 * 1080),
        ];
        for (case, changed, count, pixels) in cases {
            let found = boxes(&changed, 1920, 1080);
            let area: u64 = found.iter().map(|found| found.area()).sum();
            assert_eq!((found.len(), area), (count, pixels), "{case}: {found:?}");
        }
    }

    proptest! {
        #[test]
        fn every_changed_pixel_is_in_exactly_one_box(
            rects in proptest::collection::vec((-20i32..120, -20i32..120, 0u32..90, 0u32..90), 0..12),
        ) {
            let found = boxes(&rects, 100, 80);
            for b in &found {
                prop_assert!(b.x % 2 == 0 && b.y % 2 == 0 && b.width % 2 == 0 && b.height % 2 == 0);
                prop_assert!(b.width > 0 && b.height > 0 && b.x + b.width <= 100 && b.y + b.height <= 80);
            }
            for y in 0..80i32 {
                for x in 0..100i32 {
                    let changed = rects.iter().any(|(rx, ry, w, h)| {
                        x >= *rx && y >= *ry && x < rx + w.cast_signed() && y < ry + h.cast_signed()
                    });
                    let count = found.iter().filter(|b| {
                        let (x, y) = (x.cast_unsigned(), y.cast_unsigned());
                        x >= b.x && y >= b.y && x < b.x + b.width && y < b.y + b.height
                    }).count();
                    prop_assert!(count <= 1);
                    prop_assert!(!changed || count == 1);
                }
            }
        }
    }
}
