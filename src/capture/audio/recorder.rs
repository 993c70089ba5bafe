//! Records the audio of a meeting: reads the monitor of the null sink, stamps it on the clock of the video and sends it
//! to the encoder's stream.
//!
//! The recorder connects long before the recording begins: connecting takes some hundred milliseconds on a busy host,
//! and the ages that PulseAudio reports are wrong for about a second after it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use libpulse_binding::context::{self, Context, FlagSet as ContextFlags};
use libpulse_binding::def::BufferAttr;
use libpulse_binding::error::PAErr;
use libpulse_binding::mainloop::standard::Mainloop;
use libpulse_binding::sample::{Format, Spec};
use libpulse_binding::stream::{self, FlagSet, Latency, PeekResult, Stream};
use libpulse_binding::time::MicroSeconds;

use crate::capture::audio::av_sync::{AvSync, SyncCorrection, duration};
use crate::capture::audio::chunks::SoundChunks;
use crate::capture::audio::pulseaudio::{MONITOR, SAMPLE_RATE};
use crate::capture::audio::silence_warning::SilenceWarning;
use crate::capture::component_error::ComponentError;
use crate::capture::encoder::stream_queue::{StreamClosed, StreamSender};
use crate::capture::rig_thread::{Pulse, RigThread};

const COMPONENT: &str = "sound";
/// Stereo.
pub const CHANNELS: u8 = 2;
/// Bytes of one sample of all channels (16 bits each).
const FRAME: usize = 2 * CHANNELS as usize;
/// How much audio is collected before it goes on: few packets against early notice of a gap. PulseAudio is asked for as
/// much at once, and delivers what its sink has rendered, ten milliseconds.
const CHUNK: Duration = Duration::from_millis(50);
/// How much audio PulseAudio buffers while nobody reads (ffmpeg stalls); then it drops the oldest.
const SERVER_BUFFER: Duration = Duration::from_secs(10);
/// After this long without a chunk, silence is inserted…
const MISSING: Duration = Duration::from_millis(700);
/// …up to this long ago, so that late audio still has its place.
const FILL_BEHIND: Duration = Duration::from_millis(400);
/// Time limit for the connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Interval at which the thread checks for a stop while no audio arrives.
const WAKE: Duration = Duration::from_millis(100);

/// The thread that records the audio of one PulseAudio.
#[derive(Debug)]
pub struct AudioRecorder {
    thread: RigThread,
    control: Arc<RecorderControl>,
}

/// Requests to the thread.
#[derive(Debug, Default)]
struct RecorderControl {
    stop: AtomicBool,
    /// Destination and time zero of the audio. Until it is set, audio is read and discarded.
    feed: OnceLock<(Instant, StreamSender)>,
}

impl AudioRecorder {
    /// Connects and starts to read. `failed` is called when the thread ends by itself. `silence_warning`: how long the
    /// recording may be silent before PulseAudio is asked whether the page plays.
    ///
    /// # Errors
    /// Where no thread can be started; later errors go to `failed`.
    pub fn start(
        server: String,
        silence_warning: Option<Duration>,
        failed: impl FnOnce(ComponentError) + Send + 'static,
    ) -> Result<Self, ComponentError> {
        let control = Arc::new(RecorderControl::default());
        let shared = Arc::clone(&control);
        let run = move |pulse: &Pulse| {
            capture(&server, silence_warning, &shared, pulse).map_err(|why| ComponentError::new(COMPONENT, why))
        };
        let thread = RigThread::start("sound", COMPONENT, failed, run)?;
        Ok(Self { thread, control })
    }

    /// Sends audio from now on to `sender`, stamped with the time since `epoch`.
    pub fn feed(&self, epoch: Instant, sender: StreamSender) {
        // A second call has no effect: the stream has one start.
        let _ = self.control.feed.set((epoch, sender));
    }

    /// Tells the thread to end, and waits for that up to `limit`. Where it has ended, all audio has been sent.
    pub async fn stop(&mut self, limit: Duration) -> bool {
        self.control.stop.store(true, Ordering::Relaxed);
        self.thread.ended_within(limit).await
        // Dropping `control` drops the sender.
    }

    #[must_use]
    pub fn pulse(&self) -> Arc<Pulse> {
        self.thread.pulse()
    }
}

/// The connection. libpulse needs this drop order: stream, context, main loop.
struct SinkMonitor {
    stream: Stream,
    context: Context,
    mainloop: Mainloop,
}

fn capture(
    server: &str,
    silence_warning: Option<Duration>,
    control: &RecorderControl,
    pulse: &Pulse,
) -> Result<(), String> {
    let mut monitor = SinkMonitor::connect(server)?;
    let feed = loop {
        if control.stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        if let Some(feed) = control.feed.get() {
            break feed;
        }
        monitor.iterate()?;
        monitor.read()?;
    };
    let (epoch, sender) = feed;
    let mut chunks = SoundChunks::new(sender, bytes(CHUNK));
    let read = read_to_end(&mut monitor, silence_warning, control, pulse, *epoch, &mut chunks);
    // A stream that is closed takes nothing more.
    let _ = chunks.flush();
    read
}

/// Reads until it is to stop, or nobody takes it any more.
fn read_to_end(
    monitor: &mut SinkMonitor,
    silence_warning: Option<Duration>,
    control: &RecorderControl,
    pulse: &Pulse,
    epoch: Instant,
    chunks: &mut SoundChunks<'_>,
) -> Result<(), String> {
    let mut av_sync = AvSync::new(SAMPLE_RATE);
    let mut silence_warning = silence_warning.map(SilenceWarning::new);
    let mut last_chunk = epoch.elapsed();
    while !control.stop.load(Ordering::Relaxed) {
        pulse.beat();
        monitor.iterate()?;
        let now = epoch.elapsed();
        if let Some((samples, age_us)) = monitor.read()? {
            last_chunk = now;
            chunks.counters().samples_heard.fetch_add((samples.len() / FRAME) as u64, Ordering::Relaxed);
            let heard_us = i64::try_from(now.as_micros()).unwrap_or(i64::MAX).saturating_sub(age_us);
            if send(&mut av_sync, heard_us, samples, chunks) == Err(StreamClosed) {
                return Ok(());
            }
        } else if now.saturating_sub(last_chunk) > MISSING {
            let at = av_sync.position();
            let silence = av_sync.fill(now.saturating_sub(FILL_BEHIND));
            if send_silence(at, silence, chunks) == Err(StreamClosed) {
                return Ok(());
            }
        }
        let counters = chunks.counters();
        *counters.corrections() = av_sync.corrections();
        if let Some(warning) = &mut silence_warning {
            let silent = counters.audio().silent_for();
            warning.update(now, silent, &monitor.context);
        }
    }
    Ok(())
}

/// Stamps a chunk, applies the correction and sends it.
fn send(
    av_sync: &mut AvSync,
    heard_us: i64,
    mut samples: Vec<u8>,
    chunks: &mut SoundChunks<'_>,
) -> Result<(), StreamClosed> {
    let mut at = av_sync.position();
    match av_sync.chunk(heard_us, (samples.len() / FRAME) as u64) {
        SyncCorrection::None => {}
        SyncCorrection::Silence(count) => {
            tracing::debug!(
                ms = length(count).as_millis(),
                at_s = crate::telemetry::seconds(at),
                "sound was missing, silence put in"
            );
            send_silence(at, count, chunks)?;
            at += length(count);
        }
        SyncCorrection::Skip(count) => {
            tracing::debug!(
                ms = length(count).as_millis(),
                at_s = crate::telemetry::seconds(at),
                "sound was too much, left out"
            );
            let bytes = usize::try_from(count).unwrap_or(usize::MAX).saturating_mul(FRAME);
            samples.drain(..bytes.min(samples.len()));
        }
    }
    if samples.is_empty() { Ok(()) } else { chunks.push(at, samples) }
}

/// Sends `count` samples of silence in pieces of a second: a gap may be long, and memory is bounded.
fn send_silence(mut at: Duration, mut count: u64, chunks: &mut SoundChunks<'_>) -> Result<(), StreamClosed> {
    while count > 0 {
        let piece = count.min(u64::from(SAMPLE_RATE));
        chunks.push(at, vec![0; usize::try_from(piece).unwrap_or_default() * FRAME])?;
        at += length(piece);
        count -= piece;
    }
    Ok(())
}

/// How long `count` samples last.
fn length(count: u64) -> Duration {
    duration(count, SAMPLE_RATE)
}

/// Bytes of the audio of this much time.
fn bytes(time: Duration) -> usize {
    let samples = time.as_millis() * u128::from(SAMPLE_RATE) / 1000;
    usize::try_from(samples).unwrap_or(usize::MAX).saturating_mul(FRAME)
}

impl SinkMonitor {
    fn connect(server: &str) -> Result<Self, String> {
        let mut mainloop = Mainloop::new().ok_or("libpulse has no main loop")?;
        let mut context = Context::new(&mainloop, "plugnmeet-recorder").ok_or("libpulse has no context")?;
        context
            .connect(Some(server), ContextFlags::NOAUTOSPAWN, None)
            .map_err(|error| format!("cannot reach the sound server at {server}: {error}"))?;
        let deadline = Instant::now() + CONNECT_LIMIT;
        loop {
            iterate(&mut mainloop)?;
            match context.get_state() {
                context::State::Ready => break,
                context::State::Failed | context::State::Terminated => {
                    return Err(format!("the sound server at {server} refuses: {}", context.errno()));
                }
                _ if Instant::now() > deadline => return Err(format!("the sound server at {server} does not answer")),
                _ => {}
            }
        }
        let spec = Spec { format: Format::S16le, channels: CHANNELS, rate: SAMPLE_RATE };
        let mut stream = Stream::new(&mut context, "meeting", &spec, None)
            .ok_or_else(|| format!("no record stream: {}", context.errno()))?;
        let attribute = |time| u32::try_from(bytes(time)).unwrap_or(u32::MAX);
        let server_decides = u32::MAX;
        let attributes = BufferAttr {
            maxlength: attribute(SERVER_BUFFER),
            tlength: server_decides,
            prebuf: server_decides,
            minreq: server_decides,
            fragsize: attribute(CHUNK),
        };
        let flags = FlagSet::ADJUST_LATENCY | FlagSet::AUTO_TIMING_UPDATE | FlagSet::INTERPOLATE_TIMING;
        stream
            .connect_record(Some(MONITOR), Some(&attributes), flags)
            .map_err(|error| format!("cannot record {MONITOR}: {error}"))?;
        loop {
            iterate(&mut mainloop)?;
            match stream.get_state() {
                stream::State::Ready => break,
                stream::State::Failed | stream::State::Terminated => {
                    return Err(format!("cannot record {MONITOR}: {}", context.errno()));
                }
                _ if Instant::now() > deadline => return Err(format!("{MONITOR} does not answer")),
                _ => {}
            }
        }
        Ok(Self { stream, context, mainloop })
    }

    /// Waits for events of PulseAudio, at most [`WAKE`].
    fn iterate(&mut self) -> Result<(), String> {
        iterate(&mut self.mainloop)?;
        if self.stream.get_state() != stream::State::Ready {
            return Err(format!("the sound server is gone: {}", self.context.errno()));
        }
        Ok(())
    }

    /// All audio that has arrived, and the age of its first sample in microseconds. The age is negative where the sink
    /// has rendered ahead of its own clock.
    fn read(&mut self) -> Result<Option<(Vec<u8>, i64)>, String> {
        // There is no age before the first timing update; chunks wait on the server until then.
        let age_us = match self.stream.get_latency() {
            Ok(Latency::Positive(MicroSeconds(us))) => i64::try_from(us).unwrap_or(i64::MAX),
            Ok(Latency::Negative(MicroSeconds(us))) => -i64::try_from(us).unwrap_or(i64::MAX),
            Ok(Latency::None) => 0,
            Err(_) => return Ok(None),
        };
        let mut samples = Vec::new();
        loop {
            match self.stream.peek().map_err(libpulse_error)? {
                PeekResult::Empty => break,
                PeekResult::Hole(len) => samples.resize(samples.len() + len, 0),
                PeekResult::Data(data) => samples.extend_from_slice(data),
            }
            self.stream.discard().map_err(libpulse_error)?;
        }
        Ok((!samples.is_empty()).then_some((samples, age_us)))
    }
}

/// The error with libpulse's text.
fn libpulse_error(error: PAErr) -> String {
    format!("libpulse: {error}")
}

fn iterate(mainloop: &mut Mainloop) -> Result<(), String> {
    let wake = MicroSeconds(u64::try_from(WAKE.as_micros()).unwrap_or(u64::MAX));
    mainloop.prepare(Some(wake)).map_err(libpulse_error)?;
    mainloop.poll().map_err(libpulse_error)?;
    mainloop.dispatch().map_err(libpulse_error)?;
    Ok(())
}
