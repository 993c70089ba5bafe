//! The frame buffers of a recording: one is current, the others are being encoded or free.
//!
//! A frame that is being encoded must not change, so the next one is drawn into another buffer. That needs only what
//! has changed since the buffer was last current, not a full copy. Pure.

use std::sync::Arc;

use crate::capture::video::damage::Box;
use crate::capture::video::frame::{Frame, OutOfMemory};

/// With more boxes than this, the whole frame is copied.
const STALE_LIMIT: usize = 32;

#[derive(Debug)]
struct FrameSlot {
    frame: Arc<Frame>,
    /// What has changed since this buffer was current.
    stale: Vec<Box>,
}

/// The frame buffers of one recording.
#[derive(Debug)]
pub struct FramePool {
    slots: Vec<FrameSlot>,
    current: usize,
    all: Box,
}

impl FramePool {
    /// A pool of `len` buffers of which the first holds a black frame. The others use no memory until they are drawn
    /// in.
    ///
    /// # Errors
    /// Where there is no memory for them.
    pub fn new(len: usize, width: u32, height: u32) -> Result<Self, OutOfMemory> {
        let all = Box { x: 0, y: 0, width, height };
        let slot = |n| match n {
            0 => Ok(FrameSlot { frame: Arc::new(Frame::black(width, height)?), stale: Vec::new() }),
            _ => Ok(FrameSlot { frame: Arc::new(Frame::untouched(width, height)?), stale: vec![all] }),
        };
        let slots = (0..len).map(slot).collect::<Result<_, _>>()?;
        Ok(Self { slots, current: 0, all })
    }

    /// The current frame; `None` only in an empty pool. It does not change while it is held.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Frame>> {
        self.slots.get(self.current).map(|slot| Arc::clone(&slot.frame))
    }

    /// Whether [`Self::draw`] has a free buffer. This stays true until the next `draw`.
    #[must_use]
    pub fn has_free(&mut self) -> bool {
        self.free().is_some()
    }

    /// The current buffer if nobody holds its frame, else any other such buffer.
    fn free(&mut self) -> Option<usize> {
        let current = self.current;
        let mut all = std::iter::once(current).chain(0..self.slots.len());
        all.find(|n| self.slots.get_mut(*n).is_some_and(|slot| Arc::get_mut(&mut slot.frame).is_some()))
    }

    /// Makes a frame current that equals the last one except for the boxes `changed`, which `draw` draws completely.
    /// `None`: all buffers are held.
    ///
    /// # Errors
    /// The error of `draw`; the current frame is then undefined within `changed`.
    pub fn draw<E>(
        &mut self,
        changed: &[Box],
        draw: impl FnOnce(&mut Frame) -> Result<(), E>,
    ) -> Option<Result<(), E>> {
        let free = self.free()?;
        let last = if free == self.current { None } else { self.current() };
        let slot = self.slots.get_mut(free)?;
        let stale = std::mem::take(&mut slot.stale);
        let frame = Arc::get_mut(&mut slot.frame)?;
        if let Some(last) = last {
            for at in stale.into_iter().filter(|stale| !changed.iter().any(|at| at.contains(*stale))) {
                frame.copy_box(at, &last);
            }
        }
        let drawn = draw(frame);
        for (_, slot) in self.slots.iter_mut().enumerate().filter(|(n, _)| *n != free) {
            for at in changed {
                add_stale(&mut slot.stale, *at, self.all);
            }
        }
        self.current = free;
        Some(drawn)
    }
}

/// Adds a box to the outdated ones.
fn add_stale(stale: &mut Vec<Box>, at: Box, all: Box) {
    if stale.iter().any(|known| known.contains(at)) {
        return;
    }
    stale.retain(|known| !at.contains(*known));
    stale.push(at);
    if stale.len() > STALE_LIMIT {
        *stale = vec![all];
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const WIDTH: u32 = 64;
    const HEIGHT: u32 = 32;

    fn bgrx(at: Box, value: u8) -> Vec<u8> {
        [value, value, value, 0].repeat((at.width * at.height) as usize)
    }

    fn planes(frame: &Frame) -> Vec<u8> {
        frame.planes().concat()
    }

    /// A box with even edges within the frame.
    fn any_box() -> impl Strategy<Value = Box> {
        let span = |len: u32| {
            (0..len / 2).prop_flat_map(move |start| (Just(start * 2), (1..=len / 2 - start).prop_map(|half| half * 2)))
        };
        (span(WIDTH), span(HEIGHT)).prop_map(|((x, width), (y, height))| Box { x, y, width, height })
    }

    #[test]
    fn a_held_frame_is_not_drawn_in_and_a_fully_held_pool_draws_nothing() {
        let mut pool = FramePool::new(2, WIDTH, HEIGHT).unwrap();
        let all = Box { x: 0, y: 0, width: WIDTH, height: HEIGHT };
        let white = |frame: &mut Frame| frame.update(all, &bgrx(all, 255));
        let first = pool.current().unwrap();
        pool.draw(&[all], white).unwrap().unwrap();
        assert!(first.planes()[0].iter().all(|luma| *luma == 16));
        let second = pool.current().unwrap();
        assert!(second.planes()[0].iter().all(|luma| *luma == 235));
        assert!(!pool.has_free());
        assert!(pool.draw(&[all], white).is_none());
        drop(first);
        assert!(pool.has_free());
    }

    #[test]
    fn only_missed_boxes_are_copied_and_only_new_ones_drawn() {
        let mut pool = FramePool::new(2, WIDTH, HEIGHT).unwrap();
        let (left, right) = (Box { x: 0, y: 0, width: 8, height: 8 }, Box { x: 32, y: 0, width: 8, height: 8 });
        let held = pool.current();
        pool.draw(&[left], |frame| frame.update(left, &bgrx(left, 200))).unwrap().unwrap();
        assert_eq!(pool.slots[0].stale, [left]);
        drop(held);
        // The first buffer is not current; only the left box is copied to it.
        let held = pool.current();
        pool.draw(&[right], |frame| frame.update(right, &bgrx(right, 90))).unwrap().unwrap();
        assert_eq!((pool.current, pool.slots[0].stale.len(), pool.slots[1].stale.clone()), (0, 0, vec![right]));
        drop(held);
        // Nobody holds the current buffer: it is drawn in again.
        pool.draw(&[right], |frame| frame.update(right, &bgrx(right, 91))).unwrap().unwrap();
        assert_eq!((pool.current, pool.slots[1].stale.clone()), (0, vec![right]));
    }

    proptest! {
        #[test]
        fn every_frame_is_what_was_drawn_whichever_are_held(
            steps in proptest::collection::vec((proptest::collection::vec((any_box(), any::<u8>()), 0..4), 0..4usize), 1..60),
        ) {
            let mut pool = FramePool::new(4, WIDTH, HEIGHT).unwrap();
            let mut model = Frame::black(WIDTH, HEIGHT).unwrap();
            let mut held: VecDeque<(Arc<Frame>, Vec<u8>)> = VecDeque::new();
            for (boxes, keep) in steps {
                while held.len() > keep {
                    held.pop_front();
                }
                let changed: Vec<Box> = boxes.iter().map(|(at, _)| *at).collect();
                let draw = |frame: &mut Frame| {
                    boxes.iter().try_for_each(|(at, value)| frame.update(*at, &bgrx(*at, *value)))
                };
                let drawn = pool.draw(&changed, draw);
                if drawn.is_some() {
                    draw(&mut model).unwrap();
                }
                let current = pool.current().unwrap();
                prop_assert_eq!(planes(&current), planes(&model));
                held.push_back((current, planes(&model)));
                for (frame, then) in &held {
                    prop_assert_eq!(&planes(frame), then);
                }
            }
        }
    }
}
