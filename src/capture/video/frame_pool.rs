//! The few pictures of a recording: one is current, the others are on their way to the encoder or free to be drawn in.
//!
//! A picture that is on its way must not change, so the next one is drawn elsewhere; all it needs is what has changed
//! since its memory was last current, not a copy of everything. Pure.

use std::sync::Arc;

use crate::capture::video::damage::Box;
use crate::capture::video::frame::{Frame, OutOfMemory};

/// More boxes than this are not worth being told apart.
const STALE_LIMIT: usize = 32;

#[derive(Debug)]
struct FrameSlot {
    picture: Arc<Frame>,
    /// What has changed since this picture was current.
    stale: Vec<Box>,
}

/// The pictures of one recording.
#[derive(Debug)]
pub struct FramePool {
    slots: Vec<FrameSlot>,
    current: usize,
    all: Box,
}

impl FramePool {
    /// A black picture, and memory for so many in all, which is not used until it is needed.
    ///
    /// # Errors
    /// Where there is no memory for them.
    pub fn new(len: usize, width: u32, height: u32) -> Result<Self, OutOfMemory> {
        let all = Box { x: 0, y: 0, width, height };
        let slot = |n| match n {
            0 => Ok(FrameSlot { picture: Arc::new(Frame::black(width, height)?), stale: Vec::new() }),
            _ => Ok(FrameSlot { picture: Arc::new(Frame::untouched(width, height)?), stale: vec![all] }),
        };
        let slots = (0..len).map(slot).collect::<Result<_, _>>()?;
        Ok(Self { slots, current: 0, all })
    }

    /// The picture as it is now, `None` only in a pool of none. It stays as it is for as long as this is held.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Frame>> {
        self.slots.get(self.current).map(|slot| Arc::clone(&slot.picture))
    }

    /// Whether [`Self::draw`] has a picture to draw in. Once it has, it has until it is used.
    #[must_use]
    pub fn has_free(&mut self) -> bool {
        self.free().is_some()
    }

    /// The current picture, if nobody else holds it, or else any other that nobody holds.
    fn free(&mut self) -> Option<usize> {
        let current = self.current;
        let mut all = std::iter::once(current).chain(0..self.slots.len());
        all.find(|n| self.slots.get_mut(*n).is_some_and(|slot| Arc::get_mut(&mut slot.picture).is_some()))
    }

    /// Makes a picture current that is as the last one was, but for the boxes `changed`, which `draw` draws in full.
    /// `None`: all of them are held.
    ///
    /// # Errors
    /// Those of `draw`; the current picture is then undefined within `changed`.
    pub fn draw<E>(
        &mut self,
        changed: &[Box],
        draw: impl FnOnce(&mut Frame) -> Result<(), E>,
    ) -> Option<Result<(), E>> {
        let free = self.free()?;
        let last = if free == self.current { None } else { self.current() };
        let slot = self.slots.get_mut(free)?;
        let stale = std::mem::take(&mut slot.stale);
        let picture = Arc::get_mut(&mut slot.picture)?;
        if let Some(last) = last {
            for at in stale.into_iter().filter(|stale| !changed.iter().any(|at| at.contains(*stale))) {
                picture.copy(at, &last);
            }
        }
        let drawn = draw(picture);
        for (_, slot) in self.slots.iter_mut().enumerate().filter(|(n, _)| *n != free) {
            for at in changed {
                outdate(&mut slot.stale, *at, self.all);
            }
        }
        self.current = free;
        Some(drawn)
    }
}

/// Adds a box to those that are out of date.
fn outdate(stale: &mut Vec<Box>, at: Box, all: Box) {
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

    fn planes(picture: &Frame) -> Vec<u8> {
        picture.planes().concat()
    }

    /// A box with even edges within the picture.
    fn any_box() -> impl Strategy<Value = Box> {
        let span = |len: u32| {
            (0..len / 2).prop_flat_map(move |start| (Just(start * 2), (1..=len / 2 - start).prop_map(|half| half * 2)))
        };
        (span(WIDTH), span(HEIGHT)).prop_map(|((x, width), (y, height))| Box { x, y, width, height })
    }

    #[test]
    fn a_picture_that_is_held_is_not_drawn_in_and_a_pool_that_is_held_gives_none() {
        let mut pool = FramePool::new(2, WIDTH, HEIGHT).unwrap();
        let all = Box { x: 0, y: 0, width: WIDTH, height: HEIGHT };
        let white = |picture: &mut Frame| picture.update(all, &bgrx(all, 255));
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
    fn only_what_a_picture_missed_is_copied_and_only_what_is_new_is_drawn() {
        let mut pool = FramePool::new(2, WIDTH, HEIGHT).unwrap();
        let (left, right) = (Box { x: 0, y: 0, width: 8, height: 8 }, Box { x: 32, y: 0, width: 8, height: 8 });
        let held = pool.current();
        pool.draw(&[left], |picture| picture.update(left, &bgrx(left, 200))).unwrap().unwrap();
        assert_eq!(pool.slots[0].stale, [left]);
        drop(held);
        // The first memory is not current any more; it takes over the left box and nothing else.
        let held = pool.current();
        pool.draw(&[right], |picture| picture.update(right, &bgrx(right, 90))).unwrap().unwrap();
        assert_eq!((pool.current, pool.slots[0].stale.len(), pool.slots[1].stale.clone()), (0, 0, vec![right]));
        drop(held);
        // Nobody holds the current one: it stays where it is.
        pool.draw(&[right], |picture| picture.update(right, &bgrx(right, 91))).unwrap().unwrap();
        assert_eq!((pool.current, pool.slots[1].stale.clone()), (0, vec![right]));
    }

    proptest! {
        #[test]
        fn whatever_is_held_every_picture_is_what_was_drawn(
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
                let draw = |picture: &mut Frame| {
                    boxes.iter().try_for_each(|(at, value)| picture.update(*at, &bgrx(*at, *value)))
                };
                let drawn = pool.draw(&changed, draw);
                if drawn.is_some() {
                    draw(&mut model).unwrap();
                }
                let current = pool.current().unwrap();
                prop_assert_eq!(planes(&current), planes(&model));
                held.push_back((current, planes(&model)));
                for (picture, then) in &held {
                    prop_assert_eq!(&planes(picture), then);
                }
            }
        }
    }
}
