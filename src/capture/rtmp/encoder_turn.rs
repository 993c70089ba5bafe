//! When the media of one of a broadcast's encoders are passed on: at once, or after those of the encoder before it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::capture::rtmp::chunk_stream::RtmpMessage;
use crate::capture::rtmp::media_queue::is_end_of_sequence;

/// An encoder that is to take over, as the capture announces it.
#[derive(Debug)]
pub struct Successor {
    /// Told when the encoder only waits for its first frame. Its other end is dropped where the encoder will not come.
    pub ready: oneshot::Sender<()>,
    /// The capture's time that is 0 for this encoder; set before its first frame.
    pub begins_at: Arc<OnceLock<Duration>>,
}

/// The turn of one encoder; by default that of the first.
#[derive(Debug, Default)]
pub struct EncoderTurn {
    ready: Option<oneshot::Sender<()>>,
    /// Resolves when the encoder before it has ended.
    predecessor: Option<oneshot::Receiver<()>>,
    begins_at: Arc<OnceLock<Duration>>,
}

impl EncoderTurn {
    #[must_use]
    pub fn after(predecessor: oneshot::Receiver<()>, successor: Successor) -> Self {
        let Successor { ready, begins_at } = successor;
        Self { ready: Some(ready), predecessor: Some(predecessor), begins_at }
    }

    /// The encoder publishes: only its media are missing.
    pub fn is_ready(&mut self) {
        if let Some(ready) = self.ready.take() {
            let _ = ready.send(());
        }
    }

    /// Waits for the turn. The message as it belongs into the broadcast; `None`: it does not.
    pub async fn of(&mut self, message: RtmpMessage) -> Option<RtmpMessage> {
        if let Some(predecessor) = self.predecessor.take() {
            // Dropped only together with this.
            let _ = predecessor.await;
        }
        // Another encoder may follow, and the far end is told of the end by command.
        if is_end_of_sequence(&message) {
            return None;
        }
        let begins_at = self.begins_at.get().copied().unwrap_or_default();
        // RTMP's timestamps wrap around after 49 days.
        #[expect(clippy::cast_possible_truncation, reason = "modulo 2^32 ms")]
        let offset = begins_at.as_millis() as u32;
        Some(RtmpMessage { timestamp: message.timestamp.wrapping_add(offset), ..message })
    }
}
