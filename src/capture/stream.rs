//! The one bounded queue between capture and encoder, and the thread that writes it into ffmpeg's standard input.
//!
//! When ffmpeg cannot keep up, frames are dropped (and counted) because no free buffer is left for them; sound waits
//! in the queue, behind it in the sound server, and what overflows there becomes a gap that the clock fills with
//! silence. Memory is bounded either way.

use std::fs::File;
use std::io::{IoSlice, Write as _};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::PartError;
use super::clock::Corrections;
use super::matroska::{self, Tracks};
use super::picture::Picture;
use super::watch::{PictureWatch, SoundWatch};

/// Frames that may wait for ffmpeg: one being written, one next, one being filled.
const FRAME_BUFFERS: usize = 3;
/// Chunks of sound that may wait: 30 s at 20 ms each.
const QUEUE_LEN: usize = 1_500;
/// What the pipe holds, in bytes (`/proc/sys/fs/pipe-max-size` allows this to everybody): a third of a frame.
const PIPE_LEN: usize = 1 << 20;

/// What happened to the stream so far; read while it runs.
#[derive(Debug)]
pub struct Counters {
    pub frames_sent: AtomicU64,
    pub frames_dropped: AtomicU64,
    corrections: Mutex<Corrections>,
    sound: Mutex<SoundWatch>,
    picture: Mutex<PictureWatch>,
}

impl Counters {
    fn new(sample_rate: u32) -> Self {
        Self {
            frames_sent: AtomicU64::new(0),
            frames_dropped: AtomicU64::new(0),
            corrections: Mutex::default(),
            sound: Mutex::new(SoundWatch::new(sample_rate)),
            picture: Mutex::default(),
        }
    }

    /// What was done to keep sound and picture together.
    pub fn corrections(&self) -> MutexGuard<'_, Corrections> {
        self.corrections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the sound is like; it is fed with all that is sent.
    pub fn sound(&self) -> MutexGuard<'_, SoundWatch> {
        self.sound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the picture is like; who sends a frame knows what is new in it.
    pub fn picture(&self) -> MutexGuard<'_, PictureWatch> {
        self.picture.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One end of the queue; clones feed the same stream. The stream ends when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Sender {
    queue: SyncSender<Item>,
    free: Arc<Mutex<Vec<Vec<u8>>>>,
    counters: Arc<Counters>,
}

#[derive(Debug)]
enum Item {
    Picture { at: Duration, planes: Vec<u8> },
    Sound { at: Duration, samples: Vec<u8> },
}

/// The encoder's standard input is closed: it ended, or is being ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

/// Starts writing to `pipe`; the header goes first.
///
/// # Errors
/// Where the pipe cannot be made blocking or no thread can be started.
pub fn start(pipe: OwnedFd, tracks: Tracks) -> Result<(Sender, Arc<Counters>, JoinHandle<()>), PartError> {
    let failed = |error: std::io::Error| PartError::new("stream", error);
    rustix::fs::fcntl_setfl(&pipe, rustix::fs::OFlags::empty()).map_err(|error| failed(error.into()))?;
    if let Err(error) = rustix::pipe::fcntl_setpipe_size(&pipe, PIPE_LEN) {
        tracing::debug!(%error, "the pipe to ffmpeg stays at its default size");
    }
    let (queue, items) = sync_channel(QUEUE_LEN);
    let free = (0..FRAME_BUFFERS).map(|_| Vec::with_capacity(tracks.frame_len())).collect();
    let free = Arc::new(Mutex::new(free));
    let counters = Arc::new(Counters::new(tracks.sample_rate));
    let sender = Sender { queue, free: Arc::clone(&free), counters: Arc::clone(&counters) };
    let span = tracing::Span::current();
    let run = move || {
        let _in_span = span.entered();
        // A closed pipe is how an ended ffmpeg shows; whoever watches the child knows why it ended.
        if let Err(error) = write(&mut File::from(pipe), &tracks, &items, &free) {
            tracing::debug!(%error, "the stream into ffmpeg ended");
        }
    };
    let thread = std::thread::Builder::new().name("stream".to_owned()).spawn(run).map_err(failed)?;
    Ok((sender, counters, thread))
}

impl Sender {
    /// Sends a copy of the picture as it was at `at` (since the start). `Ok(false)`: dropped, ffmpeg is behind.
    ///
    /// # Errors
    /// [`Closed`] when nobody reads any more.
    pub fn picture(&self, at: Duration, picture: &Picture) -> Result<bool, Closed> {
        let Some(mut planes) = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop() else {
            self.counters.frames_dropped.fetch_add(1, Ordering::Relaxed);
            return Ok(false);
        };
        planes.clear();
        picture.append_to(&mut planes);
        self.queue.send(Item::Picture { at, planes }).map_err(|_| Closed)?;
        self.counters.frames_sent.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    }

    /// Sends interleaved 16-bit samples, the first of which is of `at`. Waits while the queue is full.
    ///
    /// # Errors
    /// [`Closed`] when nobody reads any more.
    pub fn sound(&self, at: Duration, samples: Vec<u8>) -> Result<(), Closed> {
        self.counters.sound().heard(&samples);
        self.queue.send(Item::Sound { at, samples }).map_err(|_| Closed)
    }

    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}

fn write(pipe: &mut File, tracks: &Tracks, items: &Receiver<Item>, free: &Mutex<Vec<Vec<u8>>>) -> std::io::Result<()> {
    let mut stream = matroska::Stream::default();
    pipe.write_all(&matroska::header(tracks))?;
    while let Ok(item) = items.recv() {
        match item {
            Item::Picture { at, planes } => {
                write_both(pipe, &stream.picture(at, planes.len()), &planes)?;
                free.lock().unwrap_or_else(PoisonError::into_inner).push(planes);
            }
            Item::Sound { at, samples } => write_both(pipe, &stream.sound(at, samples.len()), &samples)?,
        }
    }
    Ok(())
}

/// Writes head and payload without joining them in memory first.
fn write_both(pipe: &mut File, head: &[u8], payload: &[u8]) -> std::io::Result<()> {
    let mut slices = [IoSlice::new(head), IoSlice::new(payload)];
    let mut rest = &mut slices[..];
    while !rest.is_empty() {
        match pipe.write_vectored(rest) {
            Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    const TRACKS: Tracks = Tracks { width: 64, height: 32, framerate: 30, sample_rate: 48_000, channels: 2 };

    #[test]
    fn a_reader_that_stalls_costs_frames_but_no_sound_and_no_memory() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let tracks = Tracks { width: 1920, height: 1080, ..TRACKS };
        let (sender, counters, thread) = start(writer.into(), tracks).unwrap();
        let picture = Picture::black(1920, 1080);
        // One frame is larger than the pipe, so the writer blocks in the first and holds its buffer.
        let taken = (0..100).filter(|i| sender.picture(Duration::from_millis(i * 33), &picture).unwrap()).count();
        assert_eq!(taken, FRAME_BUFFERS);
        for i in 0..100u64 {
            sender.sound(Duration::from_millis(i * 20), vec![7; 960 * 4]).unwrap();
        }
        drop(sender);
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        thread.join().unwrap();
        let payload = FRAME_BUFFERS * tracks.frame_len() + 100 * 960 * 4;
        assert!(bytes.len() > payload && bytes.len() < payload + 4_000, "{} of {payload}", bytes.len());
        assert_eq!(counters.frames_sent.load(Ordering::Relaxed), FRAME_BUFFERS as u64);
        assert_eq!(counters.frames_dropped.load(Ordering::Relaxed), 100 - FRAME_BUFFERS as u64);
    }

    #[test]
    fn a_reader_that_is_gone_closes_the_stream() {
        let (reader, writer) = std::io::pipe().unwrap();
        let (sender, _, thread) = start(writer.into(), TRACKS).unwrap();
        drop(reader);
        while sender.sound(Duration::ZERO, vec![0; 4]).is_ok() {}
        thread.join().unwrap();
        assert_eq!(sender.picture(Duration::ZERO, &Picture::black(64, 32)), Err(Closed));
    }
}
