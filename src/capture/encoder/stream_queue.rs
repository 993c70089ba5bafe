//! The bounded queues between capture and encoder. Frames and sound go to the encoder of the moment; where another one
//! takes over, both go to it from the same time on.
//!
//! When ffmpeg cannot keep up, frames are dropped (and counted) because too many wait already. Audio waits in the queue
//! and then in PulseAudio; what overflows there becomes a gap that [`AvSync`] fills with silence. Memory is bounded in
//! both cases.
//!
//! [`AvSync`]: crate::capture::audio::av_sync::AvSync

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::capture::encoder::counters::CaptureCounters;
use crate::capture::encoder::matroska::Tracks;
use crate::capture::video::frame::Frame;

/// Frames that may wait for ffmpeg, the one being written included: a fifth of a second at 30 fps, the usual delay on a
/// fully loaded machine. Their memory is touched only when they are used.
pub const FRAMES_WAITING: usize = 6;
/// Frame buffers of a recording, so that one is always free while ffmpeg keeps up: the waiting frames, one whose end is
/// in the pipe, and one being drawn.
pub const FRAME_BUFFERS: usize = FRAMES_WAITING + 2;
/// Audio chunks that may wait: more than a minute at 50 ms each.
const QUEUE_LEN: usize = 1_500;

/// What is captured, with its time since the first item of its stream could come.
#[derive(Debug)]
pub enum StreamItem {
    Frame { at: Duration, frame: Arc<Frame> },
    Audio { at: Duration, samples: Vec<u8> },
}

/// The encoder's standard input is closed: ffmpeg has ended or is being ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamClosed;

/// The sending end of one encoder's queue.
#[derive(Clone, Debug)]
pub struct StreamQueue {
    items: SyncSender<StreamItem>,
    /// Frames in the queue and being written.
    waiting: Arc<AtomicUsize>,
    /// The capture's time that is 0 in this stream.
    begins_at: Duration,
}

/// The receiving end.
#[derive(Debug)]
pub struct StreamItems {
    pub items: Receiver<StreamItem>,
    waiting: Arc<AtomicUsize>,
}

/// A queue of one encoder.
#[must_use]
pub fn queue() -> (StreamQueue, StreamItems) {
    let (sender, items) = sync_channel(QUEUE_LEN);
    let waiting = Arc::<AtomicUsize>::default();
    let queue = StreamQueue { items: sender, waiting: Arc::clone(&waiting), begins_at: Duration::ZERO };
    (queue, StreamItems { items, waiting })
}

impl StreamItems {
    /// A frame is written, so there is room for another.
    pub fn frame_written(&self) {
        self.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Bytes of the silence that begins the stream of a successor, a third of a millisecond. Less does not move ffmpeg.
const FIRST_SILENCE: usize = 64;

impl StreamQueue {
    /// Begins the stream with a moment of silence: ffmpeg connects to its output only when something has come.
    ///
    /// # Errors
    /// [`StreamClosed`] when the reader is gone.
    pub fn begin(&self) -> Result<(), StreamClosed> {
        self.send(StreamItem::Audio { at: Duration::ZERO, samples: vec![0; FIRST_SILENCE] })
    }

    fn has_room(&self) -> bool {
        self.waiting.load(Ordering::Acquire) < FRAMES_WAITING
    }

    fn send_frame(&self, at: Duration, frame: Arc<Frame>) -> Result<(), StreamClosed> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        self.send(StreamItem::Frame { at, frame })
    }

    fn send(&self, item: StreamItem) -> Result<(), StreamClosed> {
        self.items.send(item).map_err(|_| StreamClosed)
    }
}

/// The queue of the moment, and the one that takes over.
#[derive(Debug)]
struct Route {
    current: StreamQueue,
    next: Option<Takeover>,
    /// Gets a copy of the next frame, by which its encoder becomes ready.
    trial: Option<StreamQueue>,
}

#[derive(Debug)]
struct Takeover {
    queue: StreamQueue,
    /// What was already sent to it.
    frames: bool,
    sound: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Track {
    Frames,
    Sound,
}

impl Route {
    /// Where what was captured at this time goes. The old queue is left when both tracks have come to the new one.
    fn queue_for(&mut self, track: Track, at: Duration) -> StreamQueue {
        let Some(next) = self.next.as_mut().filter(|next| at >= next.queue.begins_at) else {
            return self.current.clone();
        };
        match track {
            Track::Frames => next.frames = true,
            Track::Sound => next.sound = true,
        }
        let queue = next.queue.clone();
        if next.frames && next.sound {
            self.current = queue.clone();
            self.next = None;
        }
        queue
    }
}

/// Sends what is captured; clones feed the same stream, which ends when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct StreamSender {
    route: Arc<Mutex<Route>>,
    counters: Arc<CaptureCounters>,
    /// Per second and channel.
    sample_rate: u32,
    /// Of one sample of all channels.
    sample_bytes: usize,
}

/// Leads the capture to another encoder. It does not keep the stream open.
#[derive(Clone, Debug)]
pub struct StreamSwitch(Weak<Mutex<Route>>);

impl StreamSwitch {
    /// The next frame goes to `queue` as well, as its first one: ffmpeg starts its encoder, and writes the header of its
    /// file, only when it has a frame. That frame is not in the file.
    pub fn try_with_next_frame(&self, queue: &StreamQueue) {
        // The capture is over otherwise.
        let Some(route) = self.0.upgrade() else { return };
        lock(&route).trial = Some(queue.clone());
    }

    /// From this time of the capture on, frames and sound go to `queue`, where that time is 0. The time must not be in
    /// the future.
    pub fn switch(&self, queue: StreamQueue, begins_at: Duration) {
        // The capture is over otherwise.
        let Some(route) = self.0.upgrade() else { return };
        let queue = StreamQueue { begins_at, ..queue };
        let mut route = lock(&route);
        route.next = Some(Takeover { queue, frames: false, sound: false });
        route.trial = None;
    }

    /// From now on all goes to the next queue, also where a track has not come to its time.
    pub fn complete(&self) {
        let Some(route) = self.0.upgrade() else { return };
        let mut route = lock(&route);
        if let Some(Takeover { queue, .. }) = route.next.take() {
            route.current = queue;
        }
    }
}

fn lock(route: &Mutex<Route>) -> MutexGuard<'_, Route> {
    // A route is consistent at every point that could panic.
    route.lock().unwrap_or_else(PoisonError::into_inner)
}

impl StreamSender {
    #[must_use]
    pub fn new(queue: StreamQueue, counters: Arc<CaptureCounters>, tracks: &Tracks) -> Self {
        let route = Arc::new(Mutex::new(Route { current: queue, next: None, trial: None }));
        let sample_bytes = 2 * usize::from(tracks.channels);
        Self { route, counters, sample_rate: tracks.sample_rate, sample_bytes }
    }

    #[must_use]
    pub fn stream_switch(&self) -> StreamSwitch {
        StreamSwitch(Arc::downgrade(&self.route))
    }

    /// Whether a frame would be accepted now.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let route = lock(&self.route);
        // The next encoder is needed where the one of the moment has no room.
        route.trial.is_some() || route.next.as_ref().map_or(&route.current, |next| &next.queue).has_room()
    }

    /// Sends a frame captured at `at` (since the start). `Ok(false)`: dropped, because ffmpeg is behind.
    ///
    /// # Errors
    /// [`StreamClosed`] when the reader is gone.
    pub fn send_frame(&self, at: Duration, frame: Arc<Frame>) -> Result<bool, StreamClosed> {
        let (queue, trial) = {
            let mut route = lock(&self.route);
            (route.queue_for(Track::Frames, at), route.trial.take())
        };
        if let Some(trial) = trial {
            // An encoder that has ended is told of by who waits for it.
            let _ = trial.send_frame(Duration::ZERO, Arc::clone(&frame));
        }
        if !queue.has_room() {
            self.count_dropped();
            return Ok(false);
        }
        queue.send_frame(at.saturating_sub(queue.begins_at), frame)?;
        self.counters.frames_sent.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    }

    /// Counts a frame that was due and could not be made, because ffmpeg is behind.
    pub fn count_dropped(&self) {
        self.counters.frames_dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Sends interleaved 16-bit samples, the first of which was played at `at`. Blocks while the queue is full.
    ///
    /// # Errors
    /// [`StreamClosed`] when the reader is gone.
    pub fn send_audio(&self, at: Duration, mut samples: Vec<u8>) -> Result<(), StreamClosed> {
        self.counters.audio().add_samples(&samples);
        // Where another encoder takes over within these samples, each gets its own: no sound is missing or there twice.
        let begins_at = lock(&self.route).next.as_ref().map(|next| next.queue.begins_at);
        let before = begins_at.map_or(0, |begins_at| self.bytes_of(begins_at.saturating_sub(at)));
        if let Some(begins_at) = begins_at
            && (1..samples.len()).contains(&before)
        {
            let after = samples.split_off(before);
            self.send_samples(at, samples)?;
            return self.send_samples(begins_at, after);
        }
        self.send_samples(at, samples)
    }

    fn send_samples(&self, at: Duration, samples: Vec<u8>) -> Result<(), StreamClosed> {
        let queue = lock(&self.route).queue_for(Track::Sound, at);
        queue.send(StreamItem::Audio { at: at.saturating_sub(queue.begins_at), samples })
    }

    /// The bytes of this much sound.
    fn bytes_of(&self, length: Duration) -> usize {
        let samples = length.as_nanos() * u128::from(self.sample_rate) / 1_000_000_000;
        usize::try_from(samples).unwrap_or(usize::MAX).saturating_mul(self.sample_bytes)
    }

    #[must_use]
    pub fn counters(&self) -> &CaptureCounters {
        &self.counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACKS: Tracks = Tracks { width: 64, height: 32, framerate: 30, sample_rate: 48_000, channels: 2 };

    #[test]
    fn sound_is_split_at_the_sample_where_the_next_encoder_begins() {
        let (first, old) = queue();
        let sender = StreamSender::new(first, Arc::new(CaptureCounters::new(48_000)), &TRACKS);
        let (second, new) = queue();
        let ms = Duration::from_millis;
        sender.stream_switch().switch(second, ms(70));
        sender.send_frame(ms(70), Arc::new(Frame::black(64, 32).unwrap())).unwrap();
        // 50 ms each: the second is played from 50 to 100 ms.
        for (at, value) in [(0, 1), (50, 2), (100, 3)] {
            sender.send_audio(ms(at), vec![value; 192 * 50]).unwrap();
        }
        let sound = |items: &StreamItems| -> Vec<(u128, usize, u8)> {
            let all = items.items.try_iter();
            all.filter_map(|item| match item {
                StreamItem::Audio { at, samples } => Some((at.as_millis(), samples.len() / 192, samples[0])),
                StreamItem::Frame { .. } => None,
            })
            .collect()
        };
        assert_eq!(sound(&old), [(0, 50, 1), (50, 20, 2)]);
        assert_eq!(sound(&new), [(0, 30, 2), (30, 50, 3)]);
    }

    #[test]
    fn both_tracks_go_to_the_next_encoder_from_the_same_time_on() {
        let (first, old) = queue();
        let sender = StreamSender::new(first, Arc::new(CaptureCounters::new(48_000)), &TRACKS);
        let (second, new) = queue();
        let ms = Duration::from_millis;
        let frame = |at| sender.send_frame(ms(at), Arc::new(Frame::black(64, 32).unwrap())).unwrap();
        let sound = |at| sender.send_audio(ms(at), vec![0; 4]).unwrap();
        frame(0);
        sender.stream_switch().switch(second, ms(100));
        // Sound comes later than the picture of the same time.
        frame(100);
        sound(60);
        frame(133);
        sound(80);
        let times = |items: &StreamItems| -> Vec<(char, u128)> {
            let time = |item| match item {
                StreamItem::Frame { at, .. } => ('f', at.as_millis()),
                StreamItem::Audio { at, .. } => ('s', at.as_millis()),
            };
            items.items.try_iter().map(time).collect()
        };
        assert_eq!(times(&old), [('f', 0), ('s', 60), ('s', 80)]);
        sound(100);
        // Nothing more can come to the old one: its encoder may end.
        assert!(matches!(old.items.try_recv(), Err(std::sync::mpsc::TryRecvError::Disconnected)));
        frame(166);
        assert_eq!(times(&new), [('f', 0), ('f', 33), ('s', 0), ('f', 66)]);
        drop(sender);
        assert!(matches!(new.items.try_recv(), Err(std::sync::mpsc::TryRecvError::Disconnected)));
    }

    #[test]
    fn the_next_encoder_is_made_ready_by_a_frame_for_which_the_one_of_the_moment_has_no_room() {
        let (first, old) = queue();
        let sender = StreamSender::new(first, Arc::new(CaptureCounters::new(48_000)), &TRACKS);
        let (second, new) = queue();
        let ms = Duration::from_millis;
        let frame = |at| sender.send_frame(ms(at), Arc::new(Frame::black(64, 32).unwrap())).unwrap();
        while sender.has_room() {
            frame(0);
        }
        sender.stream_switch().try_with_next_frame(&second);
        assert!(sender.has_room());
        // It is lost only to the one that has no room, and only once is there a frame for the other.
        assert_eq!((frame(500), sender.has_room(), frame(533)), (false, false, false));
        assert_eq!(old.items.try_iter().count(), FRAMES_WAITING);
        let times = |items: &StreamItems| -> Vec<u128> {
            let time = |item| match item {
                StreamItem::Frame { at, .. } | StreamItem::Audio { at, .. } => at.as_millis(),
            };
            items.items.try_iter().map(time).collect()
        };
        assert_eq!(times(&new), [0]);
        // Where it takes over, all frames are its own.
        sender.stream_switch().try_with_next_frame(&second);
        sender.stream_switch().switch(second, ms(600));
        frame(600);
        assert_eq!(times(&new), [0]);
    }

    #[test]
    fn a_switch_keeps_no_stream_open() {
        let (first, items) = queue();
        let sender = StreamSender::new(first, Arc::new(CaptureCounters::new(48_000)), &TRACKS);
        let switch = sender.stream_switch();
        drop(sender);
        assert!(items.items.recv().is_err());
        switch.switch(queue().0, Duration::ZERO);
    }
}
