//! Lends the current frame of a screen to somebody who looks at it. Without a look it costs the screen thread one read of
//! a flag a turn, and nothing waits for anybody: a look that comes while a frame is due gets that of the next turn.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::capture::video::frame::Frame;

/// The current frame of a screen, for who asks; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Preview(Arc<Look>);

#[derive(Debug, Default)]
struct Look {
    wanted: AtomicBool,
    waits: Mutex<Option<oneshot::Sender<Arc<Frame>>>>,
}

impl Preview {
    /// The frame of the screen's next turn, at most a second away; `None` where it does not come within `limit`, or
    /// another look has come in between. Who holds it keeps one of the recording's frame buffers: convert it, and let it
    /// go.
    pub async fn frame(&self, limit: Duration) -> Option<Arc<Frame>> {
        let (sender, frame) = oneshot::channel();
        *self.0.waits.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        self.0.wanted.store(true, Ordering::Release);
        tokio::time::timeout(limit, frame).await.ok()?.ok()
    }

    /// Answers a look, if there is one. Never blocks.
    pub fn offer(&self, current: impl FnOnce() -> Option<Arc<Frame>>) {
        if !self.0.wanted.load(Ordering::Relaxed) {
            return;
        }
        let mut waits = match self.0.waits.try_lock() {
            Ok(waits) => waits,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        self.0.wanted.store(false, Ordering::Relaxed);
        if let (Some(sender), Some(frame)) = (waits.take(), current()) {
            // Nobody waits any more.
            let _ = sender.send(frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_frame_is_lent_only_to_somebody_who_looks_and_nobody_waits_for_him() {
        let (preview, frame) = (Preview::default(), Arc::new(Frame::black(16, 16).unwrap()));
        let lend = || Some(Arc::clone(&frame));
        preview.offer(|| panic!("nobody looks"));
        let looks = preview.clone();
        let look = tokio::spawn(async move { looks.frame(Duration::from_secs(20)).await });
        while !preview.0.wanted.load(Ordering::Acquire) {
            tokio::task::yield_now().await;
        }
        {
            let _held = preview.0.waits.lock().unwrap();
            preview.offer(|| panic!("the look is being changed"));
        }
        preview.offer(lend);
        assert!(Arc::ptr_eq(&look.await.unwrap().unwrap(), &frame));
        preview.offer(|| panic!("he has looked"));
        // A screen that stands still.
        assert!(preview.frame(Duration::from_millis(1)).await.is_none());
        preview.offer(lend);
        assert_eq!(Arc::strong_count(&frame), 1, "nobody holds it");
    }
}
