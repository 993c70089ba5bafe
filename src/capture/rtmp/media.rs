//! The media queue between ffmpeg's connection and the far end's, and what the log says of the pictures it leaves out.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::capture::capture_report::FarEndStats;
use crate::capture::rtmp::bit_rate::Sample;
use crate::capture::rtmp::chunk_stream::{PICTURE, RtmpMessage, SOUND};
use crate::capture::rtmp::media_queue::MediaQueue;
use crate::codes;
use crate::telemetry::log_throttle::LogThrottle;

/// Most bytes of one batch: above a message of ordinary size, so that a batch is late by little.
const BATCH: usize = 32 * 1024;

/// The far end takes less than the sound alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overrun;

/// The media on their way from ffmpeg to the far end.
#[derive(Debug)]
pub struct Media {
    began: Instant,
    state: Mutex<MediaState>,
    changed: Notify,
    /// ffmpeg has ended.
    ended: CancellationToken,
}

#[derive(Debug, Default)]
struct MediaState {
    queue: MediaQueue,
    /// An answer to the far end, sent before the media.
    answer: Option<RtmpMessage>,
    slow: LogThrottle,
    /// Since the beginning.
    sums: Sums,
    /// The latest time of sound and picture.
    latest: [u32; 2],
}

/// What has come and gone since the beginning of a broadcast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    /// Bytes of pictures and sound that came from ffmpeg.
    pictures: u64,
    sound: u64,
    /// Bytes that went to the far end.
    taken: u64,
    far_end: FarEndStats,
}

impl MediaState {
    /// Times of a track never run backwards, also where another encoder takes over.
    fn in_order(&mut self, message: &mut RtmpMessage) {
        let bytes = u64::try_from(message.payload.len()).unwrap_or_default();
        let (latest, sum) = match message.kind {
            SOUND => (&mut self.latest[0], &mut self.sums.sound),
            PICTURE => (&mut self.latest[1], &mut self.sums.pictures),
            _ => return,
        };
        *sum += bytes;
        // More than half of all times away: the times have wrapped around.
        if latest.wrapping_sub(message.timestamp) < u32::MAX / 2 {
            message.timestamp = *latest;
        }
        *latest = message.timestamp;
    }
}

impl Default for Media {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            state: Mutex::default(),
            changed: Notify::default(),
            ended: CancellationToken::new(),
        }
    }
}

impl Media {
    fn with<T>(&self, work: impl FnOnce(&mut MediaState) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A message of ffmpeg.
    pub fn push(&self, mut message: RtmpMessage) {
        let now = self.began.elapsed();
        let left_out = self.with(|state| {
            state.in_order(&mut message);
            let left_out = state.queue.push(message, now);
            state.sums.far_end.pictures_left_out += left_out;
            let due = left_out > 0 && state.slow.due(Instant::now());
            due.then(|| state.queue.left_out())
        });
        if let Some(pictures) = left_out {
            tracing::warn!(
                code = %codes::PICTURES_LEFT_OUT,
                pictures,
                "the far end takes less than the broadcast sends: pictures are left out, the sound is not; lower -b:v in \
                 ffmpeg_settings.rtmp, or look at the uplink"
            );
        }
        self.changed.notify_one();
    }

    /// An answer that the far end has asked for.
    pub fn answer(&self, message: RtmpMessage) {
        self.with(|state| state.answer = Some(message));
        self.changed.notify_one();
    }

    /// The next messages for the far end; none: ffmpeg has ended, and all is sent.
    ///
    /// # Errors
    /// Where the far end takes less than the sound alone.
    pub async fn next(&self) -> Result<Vec<RtmpMessage>, Overrun> {
        loop {
            // Seen before the queue: what is pushed later is in the next look.
            let ended = self.ended.is_cancelled();
            let batch = self.with(|state| {
                if state.queue.is_overrun(self.began.elapsed()) {
                    return Err(Overrun);
                }
                let mut batch: Vec<_> = state.answer.take().into_iter().collect();
                let mut bytes = 0;
                while bytes < BATCH
                    && let Some(message) = state.queue.pop()
                {
                    bytes += message.payload.len();
                    batch.push(message);
                }
                state.sums.taken += u64::try_from(bytes).unwrap_or_default();
                Ok(batch)
            })?;
            if !batch.is_empty() || ended {
                return Ok(batch);
            }
            tokio::select! {
                () = self.changed.notified() => {}
                () = self.ended.cancelled() => {}
            }
        }
    }

    /// The far end is lost.
    pub fn close(&self) {
        self.with(|state| {
            state.queue.close();
            state.answer = None;
            state.sums.far_end.losses += 1;
        });
    }

    /// The far end is reached again.
    pub fn restart(&self) {
        self.with(|state| {
            state.queue.restart(self.began.elapsed());
            state.slow.end();
        });
    }

    /// Pictures left out since the far end was reached last.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.with(|state| state.queue.left_out())
    }

    #[must_use]
    pub fn far_end(&self) -> FarEndStats {
        self.with(|state| state.sums.far_end)
    }

    /// The picture goes on with this bit rate, kbit/s.
    pub fn lowered_to(&self, bit_rate: u32) {
        self.with(|state| {
            let lowest = &mut state.sums.far_end.lowest_bit_rate;
            *lowest = Some(lowest.map_or(bit_rate, |lowest| lowest.min(bit_rate)));
        });
    }

    /// What is to be seen at this time.
    #[must_use]
    pub fn sample(&self, at: Duration) -> Sample {
        self.with(|state| {
            let Sums { pictures, sound, taken, far_end } = state.sums;
            let (waiting_ms, left_out) = (state.queue.waiting(), far_end.pictures_left_out);
            Sample { at, waiting_ms, pictures, sound, taken, left_out }
        })
    }

    /// ffmpeg has ended.
    pub fn end(&self) {
        self.ended.cancel();
    }

    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Resolves when ffmpeg has ended.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }
}
