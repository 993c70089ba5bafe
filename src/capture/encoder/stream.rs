//! The bounded queue between capture and encoder, and the thread that writes it into ffmpeg's standard input.
//!
//! When ffmpeg cannot keep up, frames are dropped (and counted) because too many wait already. Audio waits in the queue
//! and then in PulseAudio; what overflows there becomes a gap that [`AvSync`] fills with silence. Memory is bounded in
//! both cases.
//!
//! Frames are not copied into the pipe: it gets their pages (`vmsplice`), and each frame is kept until it is read.
//!
//! [`AvSync`]: crate::capture::audio::av_sync::AvSync

use std::collections::VecDeque;
use std::fs::File;
use std::io::{IoSlice, Write as _};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::capture::audio::av_sync::SyncCorrections;
use crate::capture::component_error::ComponentError;
use crate::capture::encoder::matroska::{self, Tracks};
use crate::capture::quality::{AudioQuality, VideoQuality};
use crate::capture::video::frame::Frame;

/// Frames that may wait for ffmpeg, the one being written included: a fifth of a second at 30 fps, the usual delay on a
/// fully loaded machine. Their memory is touched only when they are used.
const FRAMES_WAITING: usize = 6;
/// Frame buffers of a recording, so that one is always free while ffmpeg keeps up: the waiting frames, one whose end is
/// in the pipe, and one being drawn.
pub const FRAME_BUFFERS: usize = FRAMES_WAITING + 2;
/// Audio chunks that may wait: more than a minute at 50 ms each.
const QUEUE_LEN: usize = 1_500;
/// Size of the pipe in bytes (the default of `/proc/sys/fs/pipe-max-size`): a third of a frame.
const PIPE_LEN: usize = 1 << 20;

/// Counters and quality of the stream, readable while it runs.
#[derive(Debug)]
pub struct CaptureCounters {
    pub frames_sent: AtomicU64,
    /// Changed frames that were due but not sent in time because ffmpeg was behind.
    pub frames_dropped: AtomicU64,
    /// Changed frames that were late because the capture was: the machine is overloaded.
    pub frames_late: AtomicU64,
    corrections: Mutex<SyncCorrections>,
    sound: Mutex<AudioQuality>,
    frame: Mutex<VideoQuality>,
}

impl CaptureCounters {
    fn new(sample_rate: u32) -> Self {
        Self {
            frames_sent: AtomicU64::new(0),
            frames_dropped: AtomicU64::new(0),
            frames_late: AtomicU64::new(0),
            corrections: Mutex::default(),
            sound: Mutex::new(AudioQuality::new(sample_rate)),
            frame: Mutex::default(),
        }
    }

    /// Corrections that keep audio and video in step.
    pub fn corrections(&self) -> MutexGuard<'_, SyncCorrections> {
        self.corrections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Quality of the audio; measured from all audio that is sent.
    pub fn audio(&self) -> MutexGuard<'_, AudioQuality> {
        self.sound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Quality of the video; updated by the sender of frames, which knows their changes.
    pub fn video(&self) -> MutexGuard<'_, VideoQuality> {
        self.frame.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sending end of the queue; clones feed the same stream, which ends when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct StreamSender {
    queue: SyncSender<StreamItem>,
    /// Frames in the queue and being written.
    waiting: Arc<AtomicUsize>,
    counters: Arc<CaptureCounters>,
}

#[derive(Debug)]
enum StreamItem {
    Frame { at: Duration, frame: Arc<Frame> },
    Audio { at: Duration, samples: Vec<u8> },
}

/// The encoder's standard input is closed: ffmpeg has ended or is being ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamClosed;

/// Starts a thread that writes to `pipe`, header first.
///
/// # Errors
/// Where the pipe cannot be made blocking or no thread can be started.
pub fn start(
    pipe: OwnedFd,
    tracks: Tracks,
) -> Result<(StreamSender, Arc<CaptureCounters>, JoinHandle<()>), ComponentError> {
    let failed = |error: std::io::Error| ComponentError::new("stream", error);
    rustix::fs::fcntl_setfl(&pipe, rustix::fs::OFlags::empty()).map_err(|error| failed(error.into()))?;
    if let Err(error) = rustix::pipe::fcntl_setpipe_size(&pipe, PIPE_LEN) {
        tracing::debug!(%error, "the pipe to ffmpeg stays at its default size");
    }
    let (queue, items) = sync_channel(QUEUE_LEN);
    let waiting = Arc::new(AtomicUsize::new(0));
    let counters = Arc::new(CaptureCounters::new(tracks.sample_rate));
    let sender = StreamSender { queue, waiting: Arc::clone(&waiting), counters: Arc::clone(&counters) };
    let span = tracing::Span::current();
    let run = move || {
        let _in_span = span.entered();
        // A write error means that ffmpeg has ended; its exit is reported by the encoder.
        if let Err(error) = write(FfmpegPipe::new(pipe), &tracks, &items, &waiting) {
            tracing::debug!(%error, "the stream into ffmpeg ended");
        }
    };
    let thread = std::thread::Builder::new().name("stream".to_owned()).spawn(run).map_err(failed)?;
    Ok((sender, counters, thread))
}

impl StreamSender {
    /// Whether a frame would be accepted now.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.waiting.load(Ordering::Acquire) < FRAMES_WAITING
    }

    /// Sends a frame captured at `at` (since the start). `Ok(false)`: dropped, because ffmpeg is behind.
    ///
    /// # Errors
    /// [`StreamClosed`] when the reader is gone.
    pub fn send_frame(&self, at: Duration, frame: Arc<Frame>) -> Result<bool, StreamClosed> {
        if !self.has_room() {
            self.count_dropped();
            return Ok(false);
        }
        self.waiting.fetch_add(1, Ordering::AcqRel);
        self.queue.send(StreamItem::Frame { at, frame }).map_err(|_| StreamClosed)?;
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
    pub fn send_audio(&self, at: Duration, samples: Vec<u8>) -> Result<(), StreamClosed> {
        self.counters.audio().add_samples(&samples);
        self.queue.send(StreamItem::Audio { at, samples }).map_err(|_| StreamClosed)
    }

    #[must_use]
    pub fn counters(&self) -> &CaptureCounters {
        &self.counters
    }
}

fn write(
    mut pipe: FfmpegPipe,
    tracks: &Tracks,
    items: &Receiver<StreamItem>,
    waiting: &AtomicUsize,
) -> std::io::Result<()> {
    let mut stream = matroska::MatroskaStream::default();
    pipe.copy([&matroska::header(tracks)])?;
    while let Ok(item) = items.recv() {
        match item {
            StreamItem::Frame { at, frame } => {
                let written = pipe.write_frame(&stream.frame_header(at, tracks.frame_len()), frame);
                waiting.fetch_sub(1, Ordering::AcqRel);
                written?;
            }
            StreamItem::Audio { at, samples } => pipe.copy([&stream.audio_header(at, samples.len()), &samples])?,
        }
        pipe.release();
    }
    Ok(())
}

/// Writing end of the pipe into ffmpeg.
struct FfmpegPipe {
    file: File,
    /// Bytes written since the start.
    written: u64,
    /// Frames whose pages the pipe may still hold, with `written` at the end of each.
    spliced: VecDeque<(u64, Arc<Frame>)>,
    /// False in sandboxes without `vmsplice`.
    can_splice: bool,
}

impl FfmpegPipe {
    fn new(pipe: OwnedFd) -> Self {
        Self { file: File::from(pipe), written: 0, spliced: VecDeque::with_capacity(FRAME_BUFFERS), can_splice: true }
    }

    /// Writes slices without joining them in memory.
    fn copy<const N: usize>(&mut self, slices: [&[u8]; N]) -> std::io::Result<()> {
        let mut slices = slices.map(IoSlice::new);
        let mut rest = &mut slices[..];
        // Skips empty slices at the front, of which nothing could be written.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            match self.file.write_vectored(rest) {
                Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.written += written as u64;
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes the block of one frame without copying its pages.
    fn write_frame(&mut self, head: &[u8], frame: Arc<Frame>) -> std::io::Result<()> {
        self.copy([head])?;
        let mut rest = frame.planes();
        while self.can_splice && rest.iter().any(|plane| !plane.is_empty()) {
            match splice(&self.file, rest) {
                Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
                Ok(spliced) => {
                    self.written += spliced as u64;
                    rest = after(rest, spliced);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error @ rustix::io::Errno::PIPE) => return Err(error.into()),
                Err(error) => {
                    tracing::debug!(%error, "pages cannot be lent to the pipe, copying");
                    self.can_splice = false;
                }
            }
        }
        self.copy(rest)?;
        self.spliced.push_back((self.written, frame));
        Ok(())
    }

    /// Drops frames that have been read.
    fn release(&mut self) {
        // The ioctl fails only on a closed pipe, which no longer reads the pages.
        let unread = if self.spliced.is_empty() { 0 } else { rustix::io::ioctl_fionread(&self.file).unwrap_or(0) };
        let read = self.written.saturating_sub(unread);
        while self.spliced.front().is_some_and(|(end, _)| *end <= read) {
            self.spliced.pop_front();
        }
    }
}

/// Puts pages into the pipe without a copy. Returns the number of bytes.
#[expect(unsafe_code, reason = "the kernel reads these pages after the call has returned")]
fn splice(pipe: &File, planes: [&[u8]; 3]) -> rustix::io::Result<usize> {
    let slices = planes.map(rustix::pipe::IoSliceRaw::from_slice);
    // SAFETY: the pages are read until the pipe has been read to this point. Until then the caller keeps the frame,
    // which nobody changes while it is kept. A frame dropped earlier is unmapped, and the pipe keeps the pages.
    unsafe { rustix::pipe::vmsplice(pipe, &slices, rustix::pipe::SpliceFlags::empty()) }
}

/// What remains of the planes after their first `len` bytes.
fn after(planes: [&[u8]; 3], mut len: usize) -> [&[u8]; 3] {
    planes.map(|plane| {
        let (done, rest) = plane.split_at(len.min(plane.len()));
        len -= done.len();
        rest
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    const TRACKS: Tracks = Tracks { width: 64, height: 32, framerate: 30, sample_rate: 48_000, channels: 2 };

    const FULL: Tracks = Tracks { width: 1920, height: 1080, ..TRACKS };

    fn black(tracks: &Tracks) -> Arc<Frame> {
        Arc::new(Frame::black(tracks.width, tracks.height).unwrap())
    }

    #[test]
    fn a_reader_that_stalls_costs_frames_but_no_sound_and_no_memory() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let (sender, counters, thread) = start(writer.into(), FULL).unwrap();
        let frame = black(&FULL);
        // A frame is larger than the pipe, so the writer blocks in the first one and keeps it.
        let at = |i: u64| Duration::from_millis(i * 33);
        let taken = (0..100).filter(|i| sender.send_frame(at(*i), Arc::clone(&frame)).unwrap()).count();
        assert_eq!(taken, FRAMES_WAITING);
        for i in 0..100u64 {
            sender.send_audio(Duration::from_millis(i * 20), vec![7; 960 * 4]).unwrap();
        }
        drop(sender);
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        thread.join().unwrap();
        let payload = FRAMES_WAITING * FULL.frame_len() + 100 * 960 * 4;
        assert!(bytes.len() > payload && bytes.len() < payload + 4_000, "{} of {payload}", bytes.len());
        assert_eq!(counters.frames_sent.load(Ordering::Relaxed), FRAMES_WAITING as u64);
        assert_eq!(counters.frames_dropped.load(Ordering::Relaxed), 100 - FRAMES_WAITING as u64);
        assert_eq!(Arc::strong_count(&frame), 1, "nothing holds it any more");
    }

    #[test]
    fn a_frame_is_kept_until_its_last_byte_is_read() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut pipe = FfmpegPipe::new(writer.into());
        // Small enough for the pipe: nothing has been read when the call returns.
        let frame = black(&TRACKS);
        pipe.write_frame(b"head", Arc::clone(&frame)).unwrap();
        pipe.release();
        assert_eq!(Arc::strong_count(&frame), 2);
        let mut all = vec![0; 4 + TRACKS.frame_len()];
        reader.read_exact(&mut all[1..]).unwrap();
        pipe.release();
        assert_eq!(Arc::strong_count(&frame), 2, "one byte is left");
        reader.read_exact(&mut all[..1]).unwrap();
        pipe.release();
        assert_eq!(Arc::strong_count(&frame), 1);
        pipe.copy([b"next"]).unwrap();
        reader.read_exact(&mut all[..4]).unwrap();
        assert_eq!(&all[..4], b"next");
    }

    #[test]
    fn spliced_and_copied_frames_are_the_same_bytes() {
        let at = crate::capture::video::damage::Box { x: 10, y: 4, width: 20, height: 6 };
        let mut frame = Frame::black(64, 32).unwrap();
        frame.update(at, &[9, 99, 199, 0].repeat(120)).unwrap();
        let frame = Arc::new(frame);
        let read = |can_splice| {
            let (mut reader, writer) = std::io::pipe().unwrap();
            let mut pipe = FfmpegPipe { can_splice, ..FfmpegPipe::new(writer.into()) };
            pipe.write_frame(b"head", Arc::clone(&frame)).unwrap();
            assert_eq!((pipe.can_splice, pipe.written), (can_splice, 4 + 64 * 32 * 3 / 2));
            drop(pipe);
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).unwrap();
            bytes
        };
        let copied = read(false);
        assert_eq!(copied, [b"head".as_slice(), &frame.planes().concat()].concat());
        assert_eq!(read(true), copied);
    }

    #[test]
    fn the_stream_closes_when_its_reader_is_gone() {
        let (reader, writer) = std::io::pipe().unwrap();
        let (sender, _, thread) = start(writer.into(), TRACKS).unwrap();
        drop(reader);
        while sender.send_audio(Duration::ZERO, vec![0; 4]).is_ok() {}
        thread.join().unwrap();
        assert_eq!(sender.send_frame(Duration::ZERO, black(&TRACKS)), Err(StreamClosed));
    }
}
