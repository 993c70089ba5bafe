//! Everything that captures one meeting, opened in order and closed in reverse: display and sound server, browser,
//! encoder, stream, screen and sound.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::capture::audio::av_sync::SyncCorrections;
use crate::capture::audio::pulseaudio::{PulseAudio, SAMPLE_RATE};
use crate::capture::audio::recorder::{self, AudioRecorder};
use crate::capture::browser::call_sync::CallOffset;
use crate::capture::browser::chrome::Chrome;
use crate::capture::browser::error_page::ErrorPageMeaning;
use crate::capture::browser::window;
use crate::capture::component_error::ComponentError;
use crate::capture::encoder::arguments::{CaptureOptions, EncoderTarget};
use crate::capture::encoder::ffmpeg::Encoder;
use crate::capture::encoder::matroska::Tracks;
use crate::capture::encoder::stream::{self, CaptureCounters};
use crate::capture::quality::{AudioStats, VideoStats};
use crate::capture::rig_directory::{self, RigDirectory};
use crate::capture::rig_failure::RigFailure;
use crate::capture::video::display::Display;
use crate::capture::video::grabber::Grabber;
use crate::capture::video::pacer::FramePacing;
use crate::capture::video::screenshot;
use crate::config::{ChromeConfig, FfmpegOptions};

/// The longest from the meeting being on to the first encoded frame; a broadcast's far end must answer within it.
const FIRST_FRAME_LIMIT: Duration = Duration::from_secs(20);
/// What the X server may take to answer.
const DISPLAY_LIMIT: Duration = Duration::from_secs(10);
/// What a picture of the page may take; nobody is to wait for it who could record on meanwhile.
const SCREENSHOT_LIMIT: Duration = Duration::from_secs(2);
/// What ffmpeg may take to write its end once its input is closed.
const FINISH_LIMIT: Duration = Duration::from_secs(30);

/// What a rig is opened for.
#[derive(Clone)]
pub struct RigSpec {
    /// The meeting page, token included: a secret.
    pub url: String,
    pub target: EncoderTarget,
    pub ffmpeg: FfmpegOptions,
    pub chrome: ChromeConfig,
    pub sandbox: bool,
    /// The database of the certificates that Chrome trusts besides its own: [`crate::capture::browser::trusted_roots::database`].
    pub trusted: Option<PathBuf>,
    /// Pixels, unless `pre_input` says otherwise.
    pub size: (u32, u32),
    pub dpi: u32,
    /// After how long it is said that a recording is silent although the page plays sound. `None`: never.
    pub silence_warning: Option<Duration>,
    /// Where a picture of the page is kept when it fails.
    pub screenshot: PathBuf,
    /// Who may remove what is left of the rig if the daemon is killed: [`crate::capture::rig_directory::name`].
    pub owner: String,
}

/// Why a rig is not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    Cancelled,
    /// The page says that the meeting has ended; in its own words.
    Over(String),
    /// The meeting cannot be recorded, however often it is tried.
    Unrecordable(String),
    Failed(String),
}

impl From<RigFailure> for OpenError {
    fn from(RigFailure { cause, page }: RigFailure) -> Self {
        match page {
            Some(ErrorPageMeaning::Ended) => Self::Over(cause),
            Some(ErrorPageMeaning::Unrecordable) => Self::Unrecordable(cause),
            Some(ErrorPageMeaning::Unclear) | None => Self::Failed(cause),
        }
    }
}

/// What a rig did in its life, and what it saw and heard.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CaptureReport {
    /// From the first frame to the last.
    pub duration: Duration,
    pub frames_sent: u64,
    pub frames_dropped: u64,
    pub frames_late: u64,
    pub picture: VideoStats,
    pub sound: AudioStats,
    pub corrections: SyncCorrections,
    pub call_offset: CallOffset,
    /// Captures, one after the other, that the recording is made of.
    pub parts: u32,
    /// What ffmpeg put out, in bytes.
    pub bytes: u64,
    /// Until when, from its first frame on, it shows the meeting, where that is not to its end: then follows the page that
    /// took the meeting's place.
    pub meeting_until: Option<Duration>,
}

/// The capture side of a recording: the one seam behind which Chrome and its company can be left out of a test.
pub trait Rig: Sized + Send + 'static {
    type Spec: Send + 'static;

    /// Opens everything; media flows when this returns. What was opened is closed again if that fails.
    fn open(spec: Self::Spec, cancel: CancellationToken) -> impl Future<Output = Result<Self, OpenError>> + Send;

    /// Resolves when a part has failed or the meeting has ended. Cancel-safe.
    fn broken(&mut self) -> impl Future<Output = RigFailure> + Send;

    /// For how long now the recording has been both silent (nothing above -60 dBFS) and still (no frame with new
    /// content). 0 while it is not both, and before its first frame.
    fn idle(&self) -> Duration;

    /// Ends the capture and has the encoder write its end; it is reaped when this returns. What was done is known
    /// even where the encoder did not end well.
    fn finish(&mut self) -> impl Future<Output = (CaptureReport, Result<(), String>)> + Send;

    /// Closes everything, in reverse order.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// The real one. Parts are missing only while it is opened or closed.
#[derive(Debug)]
pub struct LiveRig {
    spec_size: (u32, u32),
    screenshot: PathBuf,
    display: Option<Display>,
    audio: Option<PulseAudio>,
    browser: Option<Chrome>,
    encoder: Option<Encoder>,
    sound: Option<AudioRecorder>,
    capture: Option<RunningCapture>,
    failed: (mpsc::UnboundedSender<ComponentError>, mpsc::UnboundedReceiver<ComponentError>),
    /// Known before the screenshot is taken, which may be interrupted.
    found: Option<RigFailure>,
    claim: RigDirectory,
    /// Last: where the rig is dropped instead of closed, it goes after those who write into it.
    dir: TempDir,
}

/// What flows into ffmpeg, besides the sound.
#[derive(Debug)]
struct RunningCapture {
    screen: Grabber,
    writer: std::thread::JoinHandle<()>,
    counters: std::sync::Arc<CaptureCounters>,
    started: Instant,
}

impl Rig for LiveRig {
    type Spec = RigSpec;

    async fn open(spec: RigSpec, cancel: CancellationToken) -> Result<Self, OpenError> {
        let capture = CaptureOptions::read(&spec.ffmpeg.pre_input);
        let size = capture.size.unwrap_or(spec.size);
        // A short path: it holds sockets, whose paths may have 107 bytes. Only this user may enter.
        let dir = tempfile::Builder::new()
            .prefix(&rig_directory::prefix(&spec.owner))
            .tempdir()
            .map_err(|error| OpenError::Failed(format!("no temporary directory: {error}")))?;
        let claim = RigDirectory::claim(dir.path(), &spec.owner)
            .await
            .map_err(|error| OpenError::Failed(format!("cannot write to {}: {error}", dir.path().display())))?;
        let mut rig = Self {
            spec_size: size,
            screenshot: spec.screenshot.clone(),
            claim,
            dir,
            display: None,
            audio: None,
            browser: None,
            encoder: None,
            sound: None,
            capture: None,
            failed: mpsc::unbounded_channel(),
            found: None,
        };
        let opened = tokio::select! {
            biased;
            () = cancel.cancelled() => Err(OpenError::Cancelled),
            // On the heap, as below.
            opened = Box::pin(rig.build(&spec, &capture)) => opened.map_err(OpenError::from),
        };
        match opened {
            Ok(()) => Ok(rig),
            Err(error) => {
                rig.close().await;
                Err(error)
            }
        }
    }

    async fn broken(&mut self) -> RigFailure {
        if let Some(found) = &self.found {
            return found.clone();
        }
        let found = self.part_failed().await;
        self.found = Some(found.clone());
        // What an error page says is in the cause.
        if found.page.is_none() {
            self.keep_screenshot().await;
        }
        found
    }

    fn idle(&self) -> Duration {
        let Some(RunningCapture { counters, started, .. }) = &self.capture else { return Duration::ZERO };
        let still = counters.picture().still_for(started.elapsed());
        still.min(counters.sound().silent_for())
    }

    async fn finish(&mut self) -> (CaptureReport, Result<(), String>) {
        let mut summary = CaptureReport::default();
        let Some(mut encoder) = self.encoder.take() else { return (summary, Err("there is no encoder".to_owned())) };
        if let Some(RunningCapture { screen, writer, counters, started }) = self.capture.take() {
            let duration = started.elapsed();
            let sound = self.sound.take();
            let sound = async move {
                if let Some(sound) = sound {
                    sound.stop().await;
                }
            };
            let writer = async move {
                let _ = tokio::task::spawn_blocking(move || writer.join()).await;
            };
            // A stop may come with the end of the meeting, before that was noticed. So the page is asked when the last frame
            // of it is there: asked sooner, it could leave behind the question and still be in that frame.
            let browser = self.browser.as_ref();
            let picture = async move {
                screen.stop().await;
                match browser {
                    Some(browser) => browser.left_at().await,
                    None => None,
                }
            };
            let mut stopping = std::pin::pin!(futures::future::join3(picture, sound, writer));
            let (left_at, ..) = if let Ok(stopped) = tokio::time::timeout(FINISH_LIMIT, &mut stopping).await {
                stopped
            } else {
                tracing::warn!(grace_s = FINISH_LIMIT.as_secs(), "ffmpeg does not take what is left, ending it");
                encoder.kill();
                stopping.await
            };
            summary = summed_up(&counters, duration);
            summary.meeting_until = left_at.map(|at| at.saturating_duration_since(started)).filter(|at| *at < duration);
            summary.duration = summary.meeting_until.unwrap_or(duration);
            summary.call_offset = self.call_offset();
        }
        let outcome = encoder.finish(FINISH_LIMIT).await;
        summary.bytes = encoder.progress().bytes;
        (summary, outcome.map_err(|error| error.to_string()))
    }

    async fn close(mut self) {
        if self.encoder.is_some() {
            // Never finished: what it has written stays, its last seconds may be lost.
            if let Some(encoder) = &self.encoder {
                encoder.kill();
            }
            let _ = self.finish().await;
        }
        if let Some(sound) = self.sound.take() {
            sound.stop().await;
        }
        if let Some(browser) = self.browser.take() {
            // On the heap: a future of a rig would hold all of a browser several times over.
            Box::pin(browser.stop()).await;
        }
        if let Some(audio) = self.audio.take() {
            audio.stop().await;
        }
        if let Some(display) = self.display.take() {
            display.stop().await;
        }
        let path = self.dir.path().to_owned();
        if let Err(error) = self.dir.close() {
            tracing::warn!(dir = %path.display(), %error, "the recording's temporary directory cannot be removed");
        }
        tracing::debug!("all parts are closed");
    }
}

/// Does something that waits for the X server's answers, on a thread that may wait.
async fn on_display<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ComponentError> + Send + 'static,
) -> Result<T, ComponentError> {
    // What it starts and says is the recording's.
    let span = tracing::Span::current();
    let work = move || span.in_scope(work);
    match tokio::time::timeout(DISPLAY_LIMIT, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => Err(ComponentError::new("Xvfb", error)),
        Err(_) => Err(ComponentError::new("Xvfb", format!("does not answer within {} s", DISPLAY_LIMIT.as_secs()))),
    }
}

/// What has been done in this time.
fn summed_up(counters: &CaptureCounters, duration: Duration) -> CaptureReport {
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    CaptureReport {
        duration,
        frames_sent: get(&counters.frames_sent),
        frames_dropped: get(&counters.frames_dropped),
        frames_late: get(&counters.frames_late),
        picture: counters.picture().report(),
        sound: counters.sound().report(),
        corrections: *counters.corrections(),
        call_offset: CallOffset::default(),
        parts: 1,
        bytes: 0,
        meeting_until: None,
    }
}

impl LiveRig {
    /// What has been done so far, while it goes on.
    #[must_use]
    pub fn so_far(&self) -> CaptureReport {
        let bytes = self.encoder.as_ref().map_or(0, |encoder| encoder.progress().bytes);
        let capture = self.capture.as_ref();
        let summary = capture.map(|capture| summed_up(&capture.counters, capture.started.elapsed()));
        CaptureReport { bytes, call_offset: self.call_offset(), ..summary.unwrap_or_default() }
    }

    fn call_offset(&self) -> CallOffset {
        self.browser.as_ref().map(Chrome::call_offset).unwrap_or_default()
    }

    async fn build(&mut self, spec: &RigSpec, capture: &CaptureOptions) -> Result<(), RigFailure> {
        let cause = |error: ComponentError| RigFailure::of(error);
        let begun = Instant::now();
        let (width, height) = self.spec_size;
        let (display, audio) =
            tokio::join!(Display::start(self.dir.path(), width, height, spec.dpi), PulseAudio::start(self.dir.path()));
        // Both are kept before either error is looked at, so that both are closed in good order.
        let (display, audio) =
            (display.map(|display| self.display.insert(display)), audio.map(|audio| self.audio.insert(audio)));
        let (display, audio) = (display.map_err(cause)?, audio.map_err(cause)?);
        if let Err(error) = self.claim.add(display).await {
            tracing::warn!(%error, "the display is not noted: should the recorder be killed, its socket stays in /tmp/.X11-unix");
        }
        let address = display.address().clone();
        let pointed = address.clone();
        on_display(move || window::rest_pointer(&pointed)).await.map_err(cause)?;

        let report = |failed: &mpsc::UnboundedSender<ComponentError>| {
            let failed = failed.clone();
            move |error| {
                // Nobody listens any more once the rig is gone.
                let _ = failed.send(error);
            }
        };
        self.sound =
            Some(AudioRecorder::start(audio.address(), spec.silence_warning, report(&self.failed.0)).map_err(cause)?);

        let mut env = display.env().to_vec();
        env.push(("PULSE_SERVER", audio.address()));
        let browser =
            Chrome::start(&spec.chrome, self.spec_size, &env, spec.sandbox, spec.trusted.as_deref(), self.dir.path())
                .await
                .map_err(cause)?;
        tracing::info!(after_ms = begun.elapsed().as_millis(), "Chrome is ready, opening the meeting page");
        let browser = self.browser.insert(browser);
        let (shown, size) = (address.clone(), self.spec_size);
        on_display(move || window::cover(&shown, size)).await.map_err(cause)?;
        if let Err(found) = browser.join(&spec.url).await {
            self.keep_screenshot().await;
            return Err(found);
        }

        let ready = Instant::now();
        let (encoder, stdin) = Encoder::start(capture, self.spec_size, &spec.ffmpeg, &spec.target, self.dir.path())
            .await
            .map_err(cause)?;
        let first_frame = self.encoder.insert(encoder).first_frame();
        let tracks = Tracks {
            width,
            height,
            framerate: capture.framerate,
            sample_rate: SAMPLE_RATE,
            channels: recorder::CHANNELS,
        };
        let (sender, counters, writer) = stream::start(stdin, tracks).map_err(cause)?;
        let pace = match spec.target {
            EncoderTarget::File(_) => FramePacing::Changes { framerate: capture.framerate },
            EncoderTarget::Rtmp(_) => FramePacing::Constant { framerate: capture.framerate },
        };
        let started = Instant::now();
        if let Some(sound) = &self.sound {
            sound.feed(started, sender.clone());
        }
        let (size, ended) = (self.spec_size, report(&self.failed.0));
        let screen = on_display(move || Grabber::start(&address, size, pace, started, sender, ended)).await;
        self.capture = Some(RunningCapture { screen: screen.map_err(cause)?, writer, counters, started });
        tokio::select! {
            () = first_frame => {
                tracing::info!(after_ms = ready.elapsed().as_millis(), "media flows");
                Ok(())
            }
            found = self.broken() => Err(found),
            () = tokio::time::sleep(FIRST_FRAME_LIMIT) => {
                Err(RigFailure::of(format_args!("ffmpeg: no frame came out within {} s", FIRST_FRAME_LIMIT.as_secs())))
            }
        }
    }

    /// Waits for whichever part fails first.
    async fn part_failed(&mut self) -> RigFailure {
        /// A part that is not there does not fail.
        async fn of<T, F: Future>(part: Option<T>, ended: impl FnOnce(T) -> F) -> F::Output {
            match part {
                Some(part) => ended(part).await,
                None => std::future::pending().await,
            }
        }
        tokio::select! {
            biased;
            found = of(self.browser.as_mut(), Chrome::ended) => found,
            ended = of(self.encoder.as_mut(), Encoder::ended) => match ended {
                Ok(()) => RigFailure::of("ffmpeg: ended before it was asked to"),
                Err(error) => RigFailure::of(error),
            },
            error = of(self.display.as_mut(), Display::ended) => RigFailure::of(error),
            error = of(self.audio.as_mut(), PulseAudio::ended) => RigFailure::of(error),
            Some(error) = self.failed.1.recv() => RigFailure::of(error),
        }
    }

    /// Keeps a picture of what the display shows beside the logs.
    async fn keep_screenshot(&self) {
        let Some(display) = &self.display else { return };
        let (address, size, path) = (display.address().clone(), self.spec_size, self.screenshot.clone());
        let taking = tokio::task::spawn_blocking(move || screenshot::write(&address, size, &path).map(|()| path));
        match tokio::time::timeout(SCREENSHOT_LIMIT, taking).await {
            Ok(Ok(Ok(path))) => tracing::info!(path = %path.display(), "kept a picture of the page"),
            Ok(Ok(Err(error))) => tracing::warn!(%error, "no picture of the page could be kept"),
            Ok(Err(error)) => tracing::warn!(%error, "no picture of the page could be kept"),
            Err(_) => tracing::warn!("the display does not answer: no picture of the page could be kept"),
        }
    }
}
