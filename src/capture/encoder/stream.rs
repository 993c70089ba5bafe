//! The thread that writes the queue of an encoder into ffmpeg's standard input.
//!
//! Frames are not copied into the pipe: it gets their pages (`vmsplice`), and each frame is kept until it is read.
//!
//! The thread never blocks in the pipe: an ffmpeg that hangs on a disk may hold it open for ever, even killed.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{IoSlice, Write as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};

use crate::capture::component_error::ComponentError;
use crate::capture::encoder::counters::CaptureCounters;
use crate::capture::encoder::matroska::{self, Tracks};
use crate::capture::encoder::stream_queue::{FRAME_BUFFERS, StreamItem, StreamItems, StreamQueue, StreamSender, queue};
use crate::capture::rig_thread::{Pulse, RigThread};
use crate::capture::video::frame::Frame;
use crate::codes;

const COMPONENT: &str = "stream";
/// Size of the pipe in bytes (the default of `/proc/sys/fs/pipe-max-size`): a third of a frame.
const PIPE_LEN: usize = 1 << 20;
/// Interval at which the thread turns while it waits.
const WAKE: Duration = Duration::from_millis(250);

/// The thread that writes into ffmpeg. Dropped, it ends the thread.
#[derive(Debug)]
pub struct StreamWriter {
    thread: RigThread,
    orders: Arc<WriterOrders>,
}

/// Orders to the thread.
#[derive(Debug, Default)]
struct WriterOrders {
    /// End once the queue is empty, also where a sender is left.
    finish: AtomicBool,
    /// End now.
    abandon: AtomicBool,
}

impl StreamWriter {
    /// Whether the thread has ended within `limit`, as it does when everything that is captured goes elsewhere.
    pub async fn ended_within(&mut self, limit: Duration) -> bool {
        self.thread.ended_within(limit).await
    }

    /// Nothing more is sent: the thread ends when it has written what waits. Returns whether that was within `limit`.
    pub async fn finish(&mut self, limit: Duration) -> bool {
        self.orders.finish.store(true, Ordering::Relaxed);
        self.thread.ended_within(limit).await
    }

    /// Ends the thread, which loses what waits; ffmpeg's input is closed when this returns.
    pub async fn abandon(&mut self) {
        self.orders.abandon.store(true, Ordering::Relaxed);
        if !self.thread.ended_within(4 * WAKE).await {
            tracing::warn!(
                code = %codes::THREAD_LEFT,
                "the thread that writes into ffmpeg does not end; it is left behind"
            );
        }
    }

    #[must_use]
    pub fn pulse(&self) -> Arc<Pulse> {
        self.thread.pulse()
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        self.orders.abandon.store(true, Ordering::Relaxed);
    }
}

/// Starts the stream of a capture, and a thread that writes it to `pipe`, header first. `failed` is called when the
/// thread panics.
///
/// # Errors
/// Where the pipe cannot be set up or no thread can be started.
pub fn start(
    pipe: OwnedFd,
    tracks: Tracks,
    failed: impl FnOnce(ComponentError) + Send + 'static,
) -> Result<(StreamSender, Arc<CaptureCounters>, StreamWriter), ComponentError> {
    let counters = Arc::new(CaptureCounters::new(tracks.sample_rate));
    let (queue, writer) = start_writer(pipe, tracks, failed)?;
    Ok((StreamSender::new(queue, Arc::clone(&counters), &tracks), counters, writer))
}

/// Starts a thread that writes what comes into its queue to `pipe`, header first.
///
/// # Errors
/// As [`start`].
pub fn start_writer(
    pipe: OwnedFd,
    tracks: Tracks,
    failed: impl FnOnce(ComponentError) + Send + 'static,
) -> Result<(StreamQueue, StreamWriter), ComponentError> {
    let cannot = |error: std::io::Error| ComponentError::new(COMPONENT, error);
    rustix::fs::fcntl_setfl(&pipe, rustix::fs::OFlags::NONBLOCK).map_err(|error| cannot(error.into()))?;
    if let Err(error) = rustix::pipe::fcntl_setpipe_size(&pipe, PIPE_LEN) {
        tracing::debug!(%error, "the pipe to ffmpeg stays at its default size");
    }
    let (queue, items) = queue();
    let orders = Arc::<WriterOrders>::default();
    let given = Arc::clone(&orders);
    let run = move |pulse: &Pulse| {
        // A write error means that ffmpeg has ended; its exit is reported by the encoder.
        if let Err(error) = write(FfmpegPipe::new(pipe, &given, pulse), &tracks, &items) {
            tracing::debug!(%error, "the stream into ffmpeg ended");
        }
        Ok(())
    };
    let thread = RigThread::start("stream", COMPONENT, failed, run)?;
    Ok((queue, StreamWriter { thread, orders }))
}

fn write(mut pipe: FfmpegPipe<'_>, tracks: &Tracks, items: &StreamItems) -> std::io::Result<()> {
    let mut stream = matroska::MatroskaStream::default();
    pipe.copy([&matroska::header(tracks)])?;
    loop {
        pipe.pulse.beat();
        let item = match items.items.recv_timeout(WAKE) {
            Ok(item) => item,
            Err(RecvTimeoutError::Timeout) if !pipe.orders.finish.load(Ordering::Relaxed) => continue,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(()),
        };
        match item {
            StreamItem::Frame { at, frame } => {
                let written = pipe.write_frame(&stream.frame_header(at, tracks.frame_len()), frame);
                items.frame_written();
                written?;
            }
            StreamItem::Audio { at, samples } => pipe.copy([&stream.audio_header(at, samples.len()), &samples])?,
        }
        pipe.release();
    }
}

/// Writing end of the pipe into ffmpeg.
struct FfmpegPipe<'a> {
    /// It does not block.
    file: File,
    orders: &'a WriterOrders,
    pulse: &'a Pulse,
    /// Bytes written since the start.
    written: u64,
    /// Frames whose pages the pipe may still hold, with `written` at the end of each.
    spliced: VecDeque<(u64, Arc<Frame>)>,
    /// False in sandboxes without `vmsplice`.
    can_splice: bool,
}

impl<'a> FfmpegPipe<'a> {
    fn new(pipe: OwnedFd, orders: &'a WriterOrders, pulse: &'a Pulse) -> Self {
        let (file, spliced) = (File::from(pipe), VecDeque::with_capacity(FRAME_BUFFERS));
        Self { file, orders, pulse, written: 0, spliced, can_splice: true }
    }

    /// Waits until the pipe takes bytes, or its reader is gone.
    fn wait(&self) -> std::io::Result<()> {
        let wake = rustix::event::Timespec::try_from(WAKE).map_err(|_| std::io::ErrorKind::InvalidInput)?;
        loop {
            self.pulse.beat();
            if self.orders.abandon.load(Ordering::Relaxed) {
                return Err(std::io::Error::other("ffmpeg takes nothing more and was given up"));
            }
            match rustix::event::poll(&mut [PollFd::new(&self.file, PollFlags::OUT)], Some(&wake)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
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
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => self.wait()?,
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
                Err(rustix::io::Errno::AGAIN) => self.wait()?,
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
    unsafe { rustix::pipe::vmsplice(pipe, &slices, rustix::pipe::SpliceFlags::NONBLOCK) }
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
    use crate::capture::encoder::stream_queue::{FRAMES_WAITING, StreamClosed};
    use std::io::Read as _;

    const TRACKS: Tracks = Tracks { width: 64, height: 32, framerate: 30, sample_rate: 48_000, channels: 2 };

    const FULL: Tracks = Tracks { width: 1920, height: 1080, ..TRACKS };

    fn black(tracks: &Tracks) -> Arc<Frame> {
        Arc::new(Frame::black(tracks.width, tracks.height).unwrap())
    }

    const LIMIT: Duration = Duration::from_secs(20);

    fn start(pipe: OwnedFd, tracks: Tracks) -> (StreamSender, Arc<CaptureCounters>, StreamWriter) {
        super::start(pipe, tracks, |error| panic!("{error}")).unwrap()
    }

    #[tokio::test]
    async fn a_reader_that_stalls_costs_frames_but_no_sound_and_no_memory() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let (sender, counters, mut thread) = start(writer.into(), FULL);
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
        assert!(thread.finish(LIMIT).await);
        let payload = FRAMES_WAITING * FULL.frame_len() + 100 * 960 * 4;
        assert!(bytes.len() > payload && bytes.len() < payload + 4_000, "{} of {payload}", bytes.len());
        assert_eq!(counters.frames_sent.load(Ordering::Relaxed), FRAMES_WAITING as u64);
        assert_eq!(counters.frames_dropped.load(Ordering::Relaxed), 100 - FRAMES_WAITING as u64);
        assert_eq!(Arc::strong_count(&frame), 1, "nothing holds it any more");
    }

    #[test]
    fn a_frame_is_kept_until_its_last_byte_is_read() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let (orders, pulse) = (WriterOrders::default(), Pulse::default());
        let mut pipe = FfmpegPipe::new(writer.into(), &orders, &pulse);
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
            let (orders, pulse) = (WriterOrders::default(), Pulse::default());
            let mut pipe = FfmpegPipe { can_splice, ..FfmpegPipe::new(writer.into(), &orders, &pulse) };
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

    #[tokio::test]
    async fn the_stream_closes_when_its_reader_is_gone() {
        let (reader, writer) = std::io::pipe().unwrap();
        let (sender, _, mut thread) = start(writer.into(), TRACKS);
        drop(reader);
        while sender.send_audio(Duration::ZERO, vec![0; 4]).is_ok() {}
        assert!(thread.finish(LIMIT).await);
        assert_eq!(sender.send_frame(Duration::ZERO, black(&TRACKS)), Err(StreamClosed));
    }

    #[tokio::test]
    async fn a_reader_that_never_reads_and_a_sender_that_never_ends_hold_nobody() {
        let (reader, writer) = std::io::pipe().unwrap();
        let (sender, counters, mut thread) = start(writer.into(), FULL);
        let frame = black(&FULL);
        sender.send_frame(Duration::ZERO, Arc::clone(&frame)).unwrap();
        let pulse = thread.pulse();
        let turns = pulse.turns();
        while pulse.turns() < turns + 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(!thread.finish(Duration::from_millis(10)).await, "it still has a frame to write");
        thread.abandon().await;
        assert!(thread.finish(Duration::ZERO).await);
        assert_eq!(Arc::strong_count(&frame), 1, "nothing holds it any more");
        assert_eq!(sender.send_audio(Duration::ZERO, vec![0; 4]), Err(StreamClosed));
        drop((reader, counters));
    }

    #[tokio::test]
    async fn a_sender_that_was_left_behind_does_not_keep_the_stream_open() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let (sender, _, mut thread) = start(writer.into(), TRACKS);
        sender.send_audio(Duration::ZERO, vec![7; 400]).unwrap();
        assert!(thread.finish(LIMIT).await);
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        assert!(bytes.ends_with(&[7; 400]), "what waited is written");
        drop(sender);
    }
}
