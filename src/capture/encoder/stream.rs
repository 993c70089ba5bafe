//! The one bounded queue between capture and encoder, and the thread that writes it into ffmpeg's standard input.
//!
//! When ffmpeg cannot keep up, frames are dropped (and counted) because too many wait already; sound waits in the
//! queue, behind it in the sound server, and what overflows there becomes a gap that the clock fills with silence.
//! Memory is bounded either way.
//!
//! Pictures are not copied into the pipe: their pages are lent to it (`vmsplice`), and are held until they are read.

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

/// Frames that may wait for ffmpeg, one of them being written: a fifth of a second at 30 a second, which is what a full
/// machine makes it wait now and then. Their memory is touched only when they are needed.
const FRAMES_WAITING: usize = 6;
/// Pictures that a recording needs so that one is always free while ffmpeg keeps up: those that wait, one whose last
/// part is in the pipe, one to draw in.
pub const PICTURES: usize = FRAMES_WAITING + 2;
/// Chunks of sound that may wait: more than a minute at 50 ms each.
const QUEUE_LEN: usize = 1_500;
/// What the pipe holds, in bytes (`/proc/sys/fs/pipe-max-size` allows this to everybody): a third of a frame.
const PIPE_LEN: usize = 1 << 20;

/// What happened to the stream so far; read while it runs.
#[derive(Debug)]
pub struct CaptureCounters {
    pub frames_sent: AtomicU64,
    /// Changes of the picture that were due and did not go out in their time, because ffmpeg was behind.
    pub frames_dropped: AtomicU64,
    /// The same, because the capture itself came too late: the machine is overloaded.
    pub frames_late: AtomicU64,
    corrections: Mutex<SyncCorrections>,
    sound: Mutex<AudioQuality>,
    picture: Mutex<VideoQuality>,
}

impl CaptureCounters {
    fn new(sample_rate: u32) -> Self {
        Self {
            frames_sent: AtomicU64::new(0),
            frames_dropped: AtomicU64::new(0),
            frames_late: AtomicU64::new(0),
            corrections: Mutex::default(),
            sound: Mutex::new(AudioQuality::new(sample_rate)),
            picture: Mutex::default(),
        }
    }

    /// What was done to keep sound and picture together.
    pub fn corrections(&self) -> MutexGuard<'_, SyncCorrections> {
        self.corrections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the sound is like; it is fed with all that is sent.
    pub fn sound(&self) -> MutexGuard<'_, AudioQuality> {
        self.sound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the picture is like; who sends a frame knows what is new in it.
    pub fn picture(&self) -> MutexGuard<'_, VideoQuality> {
        self.picture.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One end of the queue; clones feed the same stream. The stream ends when the last one is dropped.
#[derive(Clone, Debug)]
pub struct StreamSender {
    queue: SyncSender<StreamItem>,
    /// Frames in the queue and in the writer's hand.
    waiting: Arc<AtomicUsize>,
    counters: Arc<CaptureCounters>,
}

#[derive(Debug)]
enum StreamItem {
    Picture { at: Duration, picture: Arc<Frame> },
    Sound { at: Duration, samples: Vec<u8> },
}

/// The encoder's standard input is closed: it ended, or is being ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamClosed;

/// Starts writing to `pipe`; the header goes first.
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
        // A closed pipe is how an ended ffmpeg shows; whoever watches the child knows why it ended.
        if let Err(error) = write(FfmpegPipe::new(pipe), &tracks, &items, &waiting) {
            tracing::debug!(%error, "the stream into ffmpeg ended");
        }
    };
    let thread = std::thread::Builder::new().name("stream".to_owned()).spawn(run).map_err(failed)?;
    Ok((sender, counters, thread))
}

impl StreamSender {
    /// Whether another frame would be taken now.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.waiting.load(Ordering::Acquire) < FRAMES_WAITING
    }

    /// Sends the picture as it was at `at` (since the start). `Ok(false)`: dropped, ffmpeg is behind.
    ///
    /// # Errors
    /// [`StreamClosed`] when nobody reads any more.
    pub fn picture(&self, at: Duration, picture: Arc<Frame>) -> Result<bool, StreamClosed> {
        if !self.has_room() {
            self.dropped();
            return Ok(false);
        }
        self.waiting.fetch_add(1, Ordering::AcqRel);
        self.queue.send(StreamItem::Picture { at, picture }).map_err(|_| StreamClosed)?;
        self.counters.frames_sent.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    }

    /// A frame was due and could not be made, because ffmpeg is behind.
    pub fn dropped(&self) {
        self.counters.frames_dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Sends interleaved 16-bit samples, the first of which is of `at`. Waits while the queue is full.
    ///
    /// # Errors
    /// [`StreamClosed`] when nobody reads any more.
    pub fn sound(&self, at: Duration, samples: Vec<u8>) -> Result<(), StreamClosed> {
        self.counters.sound().heard(&samples);
        self.queue.send(StreamItem::Sound { at, samples }).map_err(|_| StreamClosed)
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
            StreamItem::Picture { at, picture } => {
                let written = pipe.picture(&stream.picture(at, tracks.frame_len()), picture);
                waiting.fetch_sub(1, Ordering::AcqRel);
                written?;
            }
            StreamItem::Sound { at, samples } => pipe.copy([&stream.sound(at, samples.len()), &samples])?,
        }
        pipe.release();
    }
    Ok(())
}

/// The writing end of the pipe into ffmpeg.
struct FfmpegPipe {
    file: File,
    /// Bytes written so far.
    written: u64,
    /// Pictures of which the pipe may still hold pages, and what had been written when the last of them went in.
    lent: VecDeque<(u64, Arc<Frame>)>,
    /// Some sandboxes do not know `vmsplice`.
    can_lend: bool,
}

impl FfmpegPipe {
    fn new(pipe: OwnedFd) -> Self {
        Self { file: File::from(pipe), written: 0, lent: VecDeque::with_capacity(PICTURES), can_lend: true }
    }

    /// Writes slices without joining them in memory first.
    fn copy<const N: usize>(&mut self, slices: [&[u8]; N]) -> std::io::Result<()> {
        let mut slices = slices.map(IoSlice::new);
        let mut rest = &mut slices[..];
        // Leaves out the empty ones in front, of which nothing could be written.
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

    /// Writes a block of one picture, whose pages stay its own.
    fn picture(&mut self, head: &[u8], picture: Arc<Frame>) -> std::io::Result<()> {
        self.copy([head])?;
        let mut rest = picture.planes();
        while self.can_lend && rest.iter().any(|plane| !plane.is_empty()) {
            match lend(&self.file, rest) {
                Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
                Ok(lent) => {
                    self.written += lent as u64;
                    rest = after(rest, lent);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error @ rustix::io::Errno::PIPE) => return Err(error.into()),
                Err(error) => {
                    tracing::debug!(%error, "pages cannot be lent to the pipe, copying");
                    self.can_lend = false;
                }
            }
        }
        self.copy(rest)?;
        self.lent.push_back((self.written, picture));
        Ok(())
    }

    /// Lets go of pictures that have been read.
    fn release(&mut self) {
        // A pipe that cannot be asked is one that is closed; its pages are nobody's concern any more.
        let unread = if self.lent.is_empty() { 0 } else { rustix::io::ioctl_fionread(&self.file).unwrap_or(0) };
        let read = self.written.saturating_sub(unread);
        while self.lent.front().is_some_and(|(end, _)| *end <= read) {
            self.lent.pop_front();
        }
    }
}

/// Puts pages into the pipe; how many bytes of them.
#[expect(unsafe_code, reason = "the kernel reads these pages after the call has returned")]
fn lend(pipe: &File, planes: [&[u8]; 3]) -> rustix::io::Result<usize> {
    let slices = planes.map(rustix::pipe::IoSliceRaw::from_slice);
    // SAFETY: the pages are read until the pipe is read to this point. Until then the caller holds the picture, which
    // nobody changes while it is held; should it be dropped first, it is unmapped and the pipe keeps the pages.
    unsafe { rustix::pipe::vmsplice(pipe, &slices, rustix::pipe::SpliceFlags::empty()) }
}

/// What is left of the planes after `len` bytes of them.
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
        let picture = black(&FULL);
        // One frame is larger than the pipe, so the writer blocks in the first and holds it.
        let at = |i: u64| Duration::from_millis(i * 33);
        let taken = (0..100).filter(|i| sender.picture(at(*i), Arc::clone(&picture)).unwrap()).count();
        assert_eq!(taken, FRAMES_WAITING);
        for i in 0..100u64 {
            sender.sound(Duration::from_millis(i * 20), vec![7; 960 * 4]).unwrap();
        }
        drop(sender);
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        thread.join().unwrap();
        let payload = FRAMES_WAITING * FULL.frame_len() + 100 * 960 * 4;
        assert!(bytes.len() > payload && bytes.len() < payload + 4_000, "{} of {payload}", bytes.len());
        assert_eq!(counters.frames_sent.load(Ordering::Relaxed), FRAMES_WAITING as u64);
        assert_eq!(counters.frames_dropped.load(Ordering::Relaxed), 100 - FRAMES_WAITING as u64);
        assert_eq!(Arc::strong_count(&picture), 1, "nothing holds it any more");
    }

    #[test]
    fn a_picture_is_held_until_its_last_byte_is_read() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut pipe = FfmpegPipe::new(writer.into());
        // Small enough for the pipe: nobody has read a byte of it when the call returns.
        let picture = black(&TRACKS);
        pipe.picture(b"head", Arc::clone(&picture)).unwrap();
        pipe.release();
        assert_eq!(Arc::strong_count(&picture), 2);
        let mut all = vec![0; 4 + TRACKS.frame_len()];
        reader.read_exact(&mut all[1..]).unwrap();
        pipe.release();
        assert_eq!(Arc::strong_count(&picture), 2, "one byte is left");
        reader.read_exact(&mut all[..1]).unwrap();
        pipe.release();
        assert_eq!(Arc::strong_count(&picture), 1);
        pipe.copy([b"next"]).unwrap();
        reader.read_exact(&mut all[..4]).unwrap();
        assert_eq!(&all[..4], b"next");
    }

    #[test]
    fn lent_and_copied_pictures_are_the_same_bytes() {
        let at = crate::capture::video::damage::Box { x: 10, y: 4, width: 20, height: 6 };
        let mut picture = Frame::black(64, 32).unwrap();
        picture.update(at, &[9, 99, 199, 0].repeat(120)).unwrap();
        let picture = Arc::new(picture);
        let read = |can_lend| {
            let (mut reader, writer) = std::io::pipe().unwrap();
            let mut pipe = FfmpegPipe { can_lend, ..FfmpegPipe::new(writer.into()) };
            pipe.picture(b"head", Arc::clone(&picture)).unwrap();
            assert_eq!((pipe.can_lend, pipe.written), (can_lend, 4 + 64 * 32 * 3 / 2));
            drop(pipe);
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).unwrap();
            bytes
        };
        let copied = read(false);
        assert_eq!(copied, [b"head".as_slice(), &picture.planes().concat()].concat());
        assert_eq!(read(true), copied);
    }

    #[test]
    fn a_reader_that_is_gone_closes_the_stream() {
        let (reader, writer) = std::io::pipe().unwrap();
        let (sender, _, thread) = start(writer.into(), TRACKS).unwrap();
        drop(reader);
        while sender.sound(Duration::ZERO, vec![0; 4]).is_ok() {}
        thread.join().unwrap();
        assert_eq!(sender.picture(Duration::ZERO, black(&TRACKS)), Err(StreamClosed));
    }
}
