//! The sound of a meeting: reads the monitor of the null sink, stamps it on the picture's clock, sends it.
//!
//! It listens from the moment the sound server is there, long before the meeting is recorded: connecting takes some
//! hundred milliseconds on a busy host, and for about a second after it the ages that the server tells are not right.

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

use crate::capture::audio::av_sync::{AvSync, SyncCorrection};
use crate::capture::audio::pulseaudio::{MONITOR, SAMPLE_RATE};
use crate::capture::audio::silence_warning::SilenceWarning;
use crate::capture::component_error::ComponentError;
use crate::capture::encoder::stream::{StreamClosed, StreamSender};

const PART: &str = "sound";
/// Left and right.
pub const CHANNELS: u8 = 2;
/// Bytes of one sample of all channels: 16 bits each.
const FRAME: usize = 2 * CHANNELS as usize;
/// How much sound the server gathers before it hands it over: fewer wake-ups against a later notice of a gap.
const FRAGMENT: Duration = Duration::from_millis(50);
/// How much the server keeps for us while we are not reading (ffmpeg stalled): then it drops the oldest.
const SERVER_BUFFER: Duration = Duration::from_secs(10);
/// Without a chunk for this long, silence is written in its place…
const MISSING: Duration = Duration::from_millis(700);
/// …up to this long ago, so that late sound still finds its place.
const FILL_BEHIND: Duration = Duration::from_millis(400);
/// The longest that connecting may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How often the thread looks whether it is to stop, when there is no sound to wake it.
const WAKE: Duration = Duration::from_millis(100);

/// A thread that captures the sound of one server.
#[derive(Debug)]
pub struct AudioRecorder {
    thread: std::thread::JoinHandle<()>,
    control: Arc<RecorderControl>,
}

/// What the thread is told.
#[derive(Debug, Default)]
struct RecorderControl {
    stop: AtomicBool,
    /// Where the sound goes and when its time begins; until then it is listened to and let go.
    feed: OnceLock<(Instant, StreamSender)>,
}

impl AudioRecorder {
    /// Starts to listen. `ended` is called when the thread ends by itself. `silence_warning`: after how long a silence
    /// is looked into.
    ///
    /// # Errors
    /// Where no thread can be started; what fails later comes through `ended`.
    pub fn start(
        server: String,
        silence_warning: Option<Duration>,
        ended: impl FnOnce(ComponentError) + Send + 'static,
    ) -> Result<Self, ComponentError> {
        let control = Arc::new(RecorderControl::default());
        let told = Arc::clone(&control);
        let span = tracing::Span::current();
        let run = move || {
            let _in_span = span.entered();
            if let Err(why) = capture(&server, silence_warning, &told) {
                ended(ComponentError::new(PART, why));
            }
        };
        let thread = std::thread::Builder::new()
            .name("sound".to_owned())
            .spawn(run)
            .map_err(|error| ComponentError::new(PART, error))?;
        Ok(Self { thread, control })
    }

    /// From now on, sound goes to `sender`, stamped with the time since `epoch`.
    pub fn feed(&self, epoch: Instant, sender: StreamSender) {
        // A second call changes nothing: the stream has one beginning.
        let _ = self.control.feed.set((epoch, sender));
    }

    /// Ends the capture; what was heard is sent when this returns.
    pub async fn stop(self) {
        self.control.stop.store(true, Ordering::Relaxed);
        let thread = self.thread;
        let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        // The last one that could send is gone with `control`.
    }
}

/// The connection; dropped in the order libpulse wants: stream, context, main loop.
struct SinkMonitor {
    stream: Stream,
    context: Context,
    mainloop: Mainloop,
}

fn capture(server: &str, silence_warning: Option<Duration>, control: &RecorderControl) -> Result<(), String> {
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
    let mut clock = AvSync::new(SAMPLE_RATE);
    let mut silence_warning = silence_warning.map(SilenceWarning::new);
    let mut last_chunk = epoch.elapsed();
    while !control.stop.load(Ordering::Relaxed) {
        monitor.iterate()?;
        let now = epoch.elapsed();
        if let Some((samples, age_us)) = monitor.read()? {
            last_chunk = now;
            let heard_us = i64::try_from(now.as_micros()).unwrap_or(i64::MAX).saturating_sub(age_us);
            if send(&mut clock, heard_us, samples, sender) == Err(StreamClosed) {
                return Ok(());
            }
        } else if now.saturating_sub(last_chunk) > MISSING {
            let at = clock.position();
            let silence = clock.fill(now.saturating_sub(FILL_BEHIND));
            if send_silence(at, silence, sender) == Err(StreamClosed) {
                return Ok(());
            }
        }
        let counters = sender.counters();
        *counters.corrections() = clock.corrections();
        if let Some(warning) = &mut silence_warning {
            let silent = counters.sound().silent_for();
            warning.look(now, silent, &monitor.context);
        }
    }
    Ok(())
}

/// Puts a chunk in its place on the clock and sends it.
fn send(clock: &mut AvSync, heard_us: i64, mut samples: Vec<u8>, sender: &StreamSender) -> Result<(), StreamClosed> {
    let mut at = clock.position();
    match clock.chunk(heard_us, (samples.len() / FRAME) as u64) {
        SyncCorrection::None => {}
        SyncCorrection::Silence(count) => {
            tracing::debug!(
                ms = length(count).as_millis(),
                at_s = crate::telemetry::seconds(at),
                "sound was missing, silence put in"
            );
            send_silence(at, count, sender)?;
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
    if samples.is_empty() { Ok(()) } else { sender.sound(at, samples) }
}

/// Sends `count` samples of silence, a second at a time: a gap may be long, and memory is bounded.
fn send_silence(mut at: Duration, mut count: u64, sender: &StreamSender) -> Result<(), StreamClosed> {
    while count > 0 {
        let piece = count.min(u64::from(SAMPLE_RATE));
        sender.sound(at, vec![0; usize::try_from(piece).unwrap_or_default() * FRAME])?;
        at += length(piece);
        count -= piece;
    }
    Ok(())
}

/// How long `count` samples last.
fn length(count: u64) -> Duration {
    Duration::from_nanos(count.saturating_mul(1_000_000_000) / u64::from(SAMPLE_RATE))
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
        let bytes = |time: Duration| {
            u32::try_from(time.as_millis() * u128::from(SAMPLE_RATE) / 1000 * FRAME as u128).unwrap_or(u32::MAX)
        };
        let server_decides = u32::MAX;
        let attributes = BufferAttr {
            maxlength: bytes(SERVER_BUFFER),
            tlength: server_decides,
            prebuf: server_decides,
            minreq: server_decides,
            fragsize: bytes(FRAGMENT),
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

    /// Waits for news of the server, at most [`WAKE`].
    fn iterate(&mut self) -> Result<(), String> {
        iterate(&mut self.mainloop)?;
        if self.stream.get_state() != stream::State::Ready {
            return Err(format!("the sound server is gone: {}", self.context.errno()));
        }
        Ok(())
    }

    /// All that is there, and how long ago its first sample was (to be) heard, in microseconds. The age is negative
    /// where the sink has rendered ahead of its own clock.
    fn read(&mut self) -> Result<Option<(Vec<u8>, i64)>, String> {
        // Before the first timing update there is no age to be had; the server's chunks wait until then.
        let age_us = match self.stream.get_latency() {
            Ok(Latency::Positive(MicroSeconds(us))) => i64::try_from(us).unwrap_or(i64::MAX),
            Ok(Latency::Negative(MicroSeconds(us))) => -i64::try_from(us).unwrap_or(i64::MAX),
            Ok(Latency::None) => 0,
            Err(_) => return Ok(None),
        };
        let mut samples = Vec::new();
        loop {
            match self.stream.peek().map_err(said)? {
                PeekResult::Empty => break,
                PeekResult::Hole(len) => samples.resize(samples.len() + len, 0),
                PeekResult::Data(data) => samples.extend_from_slice(data),
            }
            self.stream.discard().map_err(said)?;
        }
        Ok((!samples.is_empty()).then_some((samples, age_us)))
    }
}

/// libpulse's own words for an error.
fn said(error: PAErr) -> String {
    format!("libpulse: {error}")
}

fn iterate(mainloop: &mut Mainloop) -> Result<(), String> {
    let wake = MicroSeconds(u64::try_from(WAKE.as_micros()).unwrap_or(u64::MAX));
    mainloop.prepare(Some(wake)).map_err(said)?;
    mainloop.poll().map_err(said)?;
    mainloop.dispatch().map_err(said)?;
    Ok(())
}
