//! Collects the sound of a recording into chunks: PulseAudio delivers a hundred pieces a second, and each packet of a raw
//! file costs whoever reads it later.

use std::time::Duration;

use crate::capture::encoder::counters::CaptureCounters;
use crate::capture::encoder::stream_queue::{StreamClosed, StreamSender};

/// Collects samples that follow each other and sends them in chunks.
#[derive(Debug)]
pub struct SoundChunks<'a> {
    sender: &'a StreamSender,
    /// Bytes of a chunk. A larger piece is sent as it is.
    size: usize,
    /// When the first of the samples was played.
    at: Duration,
    samples: Vec<u8>,
}

impl<'a> SoundChunks<'a> {
    /// Sends to `sender` when `size` bytes have come.
    #[must_use]
    pub fn new(sender: &'a StreamSender, size: usize) -> Self {
        Self { sender, size, at: Duration::ZERO, samples: Vec::new() }
    }

    #[must_use]
    pub fn counters(&self) -> &CaptureCounters {
        self.sender.counters()
    }

    /// Takes samples, the first of which was played at `at` and follows the last one before it.
    ///
    /// # Errors
    /// [`StreamClosed`] when the encoder's stream is gone.
    pub fn push(&mut self, at: Duration, mut samples: Vec<u8>) -> Result<(), StreamClosed> {
        if self.samples.is_empty() {
            (self.at, self.samples) = (at, samples);
        } else {
            self.samples.append(&mut samples);
        }
        if self.samples.len() < self.size { Ok(()) } else { self.flush() }
    }

    /// Sends what has been collected.
    ///
    /// # Errors
    /// [`StreamClosed`] when the encoder's stream is gone.
    pub fn flush(&mut self) -> Result<(), StreamClosed> {
        let samples = std::mem::take(&mut self.samples);
        if samples.is_empty() { Ok(()) } else { self.sender.send_audio(self.at, samples) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::capture::encoder::matroska::Tracks;
    use crate::capture::encoder::stream_queue::{StreamItem, queue};

    #[test]
    fn pieces_go_on_together_and_the_last_ones_at_the_end() {
        let tracks = Tracks { width: 64, height: 32, framerate: 30, sample_rate: 48_000, channels: 2 };
        let (queue, items) = queue();
        let sender = StreamSender::new(queue, Arc::new(CaptureCounters::new(48_000)), &tracks);
        let mut chunks = SoundChunks::new(&sender, 9600);
        for n in 0..11 {
            chunks.push(Duration::from_millis(n * 10), vec![u8::try_from(n).unwrap(); 1920]).unwrap();
        }
        // More than a chunk, as silence may be.
        chunks.push(Duration::from_millis(110), vec![11; 20_000]).unwrap();
        chunks.push(Duration::from_millis(215), vec![12; 4]).unwrap();
        chunks.flush().unwrap();
        chunks.flush().unwrap();
        let sent: Vec<_> = items
            .items
            .try_iter()
            .map(|item| match item {
                StreamItem::Audio { at, samples } => (at.as_millis(), samples.len(), samples[0]),
                StreamItem::Frame { .. } => panic!(),
            })
            .collect();
        assert_eq!(sent, [(0, 9600, 0), (50, 9600, 5), (100, 21_920, 10), (215, 4, 12)]);
    }
}
