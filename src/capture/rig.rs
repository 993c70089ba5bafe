//! All components that capture one meeting, opened in order and closed in reverse: display, PulseAudio, Chrome,
//! encoder, stream, grabber and audio recorder.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::OptionFuture;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::capture::audio::av_sync::SyncCorrections;
use crate::capture::audio::pulseaudio::{PulseAudio, SAMPLE_RATE};
use crate::capture::audio::recorder::{self, AudioRecorder};
use crate::capture::browser::call_sync::CallOffset;
use crate::capture::browser::chrome::Chrome;
use crate::capture::browser::chrome_arguments::ChromeSettings;
use crate::capture::browser::error_page::ErrorPageMeaning;
use crate::capture::browser::window;
use crate::capture::component_error::ComponentError;
use crate::capture::encoder::arguments::{EncoderSettings, EncoderTarget};
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

/// Time limit from the joined meeting to the first encoded frame. The far end of a broadcast must answer within it.
const FIRST_FRAME_LIMIT: Duration = Duration::from_secs(20);
/// Time limit for an answer of the X server.
const DISPLAY_LIMIT: Duration = Duration::from_secs(10);
/// Time limit for a screenshot of the page. It delays the next part of the recording.
const SCREENSHOT_LIMIT: Duration = Duration::from_secs(2);
/// Time limit for ffmpeg to finish its output once its input is closed.
const FINISH_LIMIT: Duration = Duration::from_secs(30);

/// What a rig needs to open.
#[derive(Clone)]
pub struct RigSpec {
    /// URL of the meeting page with its access token: a secret.
    pub url: String,
    pub target: EncoderTarget,
    pub encoder: EncoderSettings,
    pub chrome: ChromeSettings,
    /// Width and height in pixels; a size in the encoder's settings has precedence.
    pub size: (u32, u32),
    pub dpi: u32,
    /// How long a recording may be silent while the page plays sound before a warning is logged. `None`: no warning.
    pub silence_warning: Option<Duration>,
    /// Path of the screenshot that is taken when the page fails.
    pub screenshot: PathBuf,
    /// Name of the daemon that may remove the rig after a kill: [`crate::capture::rig_directory::name`].
    pub owner: String,
}

/// Why a rig could not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    Cancelled,
    /// The page shows that the meeting has ended; the text is the page's.
    Over(String),
    /// The meeting cannot be recorded; a retry does not help.
    Unrecordable(String),
    /// The meeting cannot be joined before an operator does something.
    Refused(String),
    Failed(String),
}

impl From<RigFailure> for OpenError {
    fn from(RigFailure { cause, page }: RigFailure) -> Self {
        match page {
            Some(ErrorPageMeaning::Ended) => Self::Over(cause),
            Some(ErrorPageMeaning::Unrecordable) => Self::Unrecordable(cause),
            Some(ErrorPageMeaning::Refused) => Self::Refused(cause),
            Some(ErrorPageMeaning::Unclear) | None => Self::Failed(cause),
        }
    }
}

/// Counters and quality of one capture.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CaptureReport {
    /// From the first frame to the last one.
    pub duration: Duration,
    pub frames_sent: u64,
    pub frames_dropped: u64,
    pub frames_late: u64,
    pub picture: VideoStats,
    pub sound: AudioStats,
    pub corrections: SyncCorrections,
    pub call_offset: CallOffset,
    /// Number of captures that were joined into the recording.
    pub parts: u32,
    /// Bytes that ffmpeg has written.
    pub bytes: u64,
    /// Time from the first frame to the end of the meeting, where the capture went on after it and shows the page that
    /// replaced the meeting.
    pub meeting_until: Option<Duration>,
}

/// The capture side of a recording. Tests replace it to run without Chrome, Xvfb, PulseAudio and ffmpeg.
pub trait Rig: Sized + Send + 'static {
    type Spec: Send + 'static;

    /// Opens all components; media flows when this returns. On failure, components that were opened are closed again.
    fn open(spec: Self::Spec, cancel: CancellationToken) -> impl Future<Output = Result<Self, OpenError>> + Send;

    /// Resolves when a component has failed or the meeting has ended. Cancel-safe.
    fn broken(&mut self) -> impl Future<Output = RigFailure> + Send;

    /// How long the recording has been both silent (nothing above -60 dBFS) and still (no frame with new content). Zero
    /// while it is not both, and before the first frame.
    fn idle(&self) -> Duration;

    /// Ends the capture and waits until the encoder has finished its output and is reaped. The report is complete even
    /// where the encoder failed.
    fn finish(&mut self) -> impl Future<Output = (CaptureReport, Result<(), String>)> + Send;

    /// Closes all components in reverse order.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// The [`Rig`] of real components. A component is `None` only while the rig opens or closes.
#[derive(Debug)]
pub struct LiveRig {
    spec_size: (u32, u32),
    screenshot: PathBuf,
    display: Option<Display>,
    audio: Option<PulseAudio>,
    browser: Option<Chrome>,
    encoder: Option<Encoder>,
    audio_recorder: Option<AudioRecorder>,
    capture: Option<RunningCapture>,
    failed: (mpsc::UnboundedSender<ComponentError>, mpsc::UnboundedReceiver<ComponentError>),
    /// Set before the screenshot is taken, because the screenshot may be interrupted.
    failure: Option<RigFailure>,
    directory: RigDirectory,
    /// Last field: a dropped rig removes the directory after the components that write into it.
    dir: TempDir,
}

/// The running media flow into ffmpeg, except for the audio recorder.
#[derive(Debug)]
struct RunningCapture {
    grabber: Grabber,
    writer: std::thread::JoinHandle<()>,
    counters: std::sync::Arc<CaptureCounters>,
    started: Instant,
}

impl Rig for LiveRig {
    type Spec = RigSpec;

    async fn open(spec: RigSpec, cancel: CancellationToken) -> Result<Self, OpenError> {
        let size = spec.encoder.capture.size.unwrap_or(spec.size);
        // Short prefix: the directory holds sockets, whose paths are limited to 107 bytes. Mode 0700.
        let dir = tempfile::Builder::new()
            .prefix(&rig_directory::prefix(&spec.owner))
            .tempdir()
            .map_err(|error| OpenError::Failed(format!("no temporary directory: {error}")))?;
        let directory = RigDirectory::acquire(dir.path(), &spec.owner)
            .await
            .map_err(|error| OpenError::Failed(format!("cannot write to {}: {error}", dir.path().display())))?;
        let mut rig = Self {
            spec_size: size,
            screenshot: spec.screenshot.clone(),
            directory,
            dir,
            display: None,
            audio: None,
            browser: None,
            encoder: None,
            audio_recorder: None,
            capture: None,
            failed: mpsc::unbounded_channel(),
            failure: None,
        };
        let opened = tokio::select! {
            biased;
            () = cancel.cancelled() => Err(OpenError::Cancelled),
            // Boxed like `Chrome::stop` in `close`.
            opened = Box::pin(rig.build(&spec)) => opened.map_err(OpenError::from),
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
        if let Some(failure) = &self.failure {
            return failure.clone();
        }
        let failure = self.component_failed().await;
        self.failure = Some(failure.clone());
        // An error page's text is already in the cause.
        if failure.page.is_none() {
            self.keep_screenshot().await;
        }
        failure
    }

    fn idle(&self) -> Duration {
        let Some(RunningCapture { counters, started, .. }) = &self.capture else { return Duration::ZERO };
        let still = counters.video().still_for(started.elapsed());
        still.min(counters.audio().silent_for())
    }

    async fn finish(&mut self) -> (CaptureReport, Result<(), String>) {
        let mut report = CaptureReport::default();
        let Some(mut encoder) = self.encoder.take() else { return (report, Err("there is no encoder".to_owned())) };
        if let Some(RunningCapture { grabber, writer, counters, started }) = self.capture.take() {
            let duration = started.elapsed();
            let audio = OptionFuture::from(self.audio_recorder.take().map(AudioRecorder::stop));
            let writer = tokio::task::spawn_blocking(move || writer.join());
            // The stop may arrive together with the end of the meeting. The page is inspected only after the last frame
            // was grabbed: an earlier inspection could miss an error page that is in that frame.
            let browser = self.browser.as_ref();
            let video = async move {
                grabber.stop().await;
                OptionFuture::from(browser.map(Chrome::left_at)).await.flatten()
            };
            let mut stopping = std::pin::pin!(futures::future::join3(video, audio, writer));
            let (left_at, ..) = if let Ok(stopped) = tokio::time::timeout(FINISH_LIMIT, &mut stopping).await {
                stopped
            } else {
                tracing::warn!(grace_s = FINISH_LIMIT.as_secs(), "ffmpeg does not take what is left, ending it");
                encoder.kill();
                stopping.await
            };
            report = capture_report(&counters, duration);
            report.meeting_until = left_at.map(|at| at.saturating_duration_since(started)).filter(|at| *at < duration);
            report.duration = report.meeting_until.unwrap_or(duration);
            report.call_offset = self.call_offset();
        }
        let outcome = encoder.finish(FINISH_LIMIT).await;
        report.bytes = encoder.progress().bytes;
        (report, outcome.map_err(|error| error.to_string()))
    }

    async fn close(mut self) {
        // The capture was not finished: the file stays, its last seconds may be lost.
        if let Some(encoder) = &self.encoder {
            encoder.kill();
            let _ = self.finish().await;
        }
        if let Some(audio_recorder) = self.audio_recorder.take() {
            audio_recorder.stop().await;
        }
        if let Some(browser) = self.browser.take() {
            // Boxed: otherwise the future of a rig holds the future of Chrome several times.
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

/// Runs `work`, which waits for answers of the X server, on a blocking thread.
async fn on_display<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ComponentError> + Send + 'static,
) -> Result<T, ComponentError> {
    // Keeps the recording's span for log lines and threads of `work`.
    let span = tracing::Span::current();
    let work = move || span.in_scope(work);
    match tokio::time::timeout(DISPLAY_LIMIT, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => Err(ComponentError::new("Xvfb", error)),
        Err(_) => Err(ComponentError::new("Xvfb", format!("does not answer within {} s", DISPLAY_LIMIT.as_secs()))),
    }
}

/// The report of a capture that has run for `duration`.
fn capture_report(counters: &CaptureCounters, duration: Duration) -> CaptureReport {
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    CaptureReport {
        duration,
        frames_sent: get(&counters.frames_sent),
        frames_dropped: get(&counters.frames_dropped),
        frames_late: get(&counters.frames_late),
        picture: counters.video().report(),
        sound: counters.audio().report(),
        corrections: *counters.corrections(),
        call_offset: CallOffset::default(),
        parts: 1,
        bytes: 0,
        meeting_until: None,
    }
}

impl LiveRig {
    /// The report of the running capture.
    #[must_use]
    pub fn report(&self) -> CaptureReport {
        let bytes = self.encoder.as_ref().map_or(0, |encoder| encoder.progress().bytes);
        let capture = self.capture.as_ref();
        let report = capture.map(|capture| capture_report(&capture.counters, capture.started.elapsed()));
        CaptureReport { bytes, call_offset: self.call_offset(), ..report.unwrap_or_default() }
    }

    fn call_offset(&self) -> CallOffset {
        self.browser.as_ref().map(Chrome::call_offset).unwrap_or_default()
    }

    async fn build(&mut self, spec: &RigSpec) -> Result<(), RigFailure> {
        let cause = |error: ComponentError| RigFailure::of(error);
        let begun = Instant::now();
        let (width, height) = self.spec_size;
        let (display, audio) =
            tokio::join!(Display::start(self.dir.path(), width, height, spec.dpi), PulseAudio::start(self.dir.path()));
        // Both components are stored before either error is returned, so that `close` stops both.
        let (display, audio) =
            (display.map(|display| self.display.insert(display)), audio.map(|audio| self.audio.insert(audio)));
        let (display, audio) = (display.map_err(cause)?, audio.map_err(cause)?);
        if let Err(error) = self.directory.add(display).await {
            tracing::warn!(%error, "the display is not noted: should the recorder be killed, its socket stays in /tmp/.X11-unix");
        }
        let address = display.address().clone();
        let pointed = address.clone();
        on_display(move || window::rest_pointer(&pointed)).await.map_err(cause)?;

        let report_failure = |failed: &mpsc::UnboundedSender<ComponentError>| {
            let failed = failed.clone();
            move |error| {
                // The receiver is gone once the rig is closed.
                let _ = failed.send(error);
            }
        };
        self.audio_recorder = Some(
            AudioRecorder::start(audio.address(), spec.silence_warning, report_failure(&self.failed.0))
                .map_err(cause)?,
        );

        let mut env = display.env().to_vec();
        env.push(("PULSE_SERVER", audio.address()));
        let browser = Chrome::start(&spec.chrome, self.spec_size, &env, self.dir.path()).await.map_err(cause)?;
        tracing::info!(after_ms = begun.elapsed().as_millis(), "Chrome is ready, opening the meeting page");
        let browser = self.browser.insert(browser);
        let (shown, size) = (address.clone(), self.spec_size);
        on_display(move || window::cover_screen(&shown, size)).await.map_err(cause)?;
        if let Err(failure) = browser.join(&spec.url).await {
            self.keep_screenshot().await;
            return Err(failure);
        }

        let ready = Instant::now();
        let (encoder, stdin) =
            Encoder::start(&spec.encoder, self.spec_size, &spec.target, self.dir.path()).await.map_err(cause)?;
        let first_frame = self.encoder.insert(encoder).first_frame();
        let tracks = Tracks {
            width,
            height,
            framerate: spec.encoder.capture.framerate,
            sample_rate: SAMPLE_RATE,
            channels: recorder::CHANNELS,
        };
        let (sender, counters, writer) = stream::start(stdin, tracks).map_err(cause)?;
        let pacing = match spec.target {
            EncoderTarget::File(_) => FramePacing::Changes { framerate: spec.encoder.capture.framerate },
            EncoderTarget::Rtmp(_) => FramePacing::Constant { framerate: spec.encoder.capture.framerate },
        };
        let started = Instant::now();
        if let Some(audio_recorder) = &self.audio_recorder {
            audio_recorder.feed(started, sender.clone());
        }
        let (size, ended) = (self.spec_size, report_failure(&self.failed.0));
        let grabber = on_display(move || Grabber::start(&address, size, pacing, started, sender, ended)).await;
        self.capture = Some(RunningCapture { grabber: grabber.map_err(cause)?, writer, counters, started });
        tokio::select! {
            () = first_frame => {
                tracing::info!(after_ms = ready.elapsed().as_millis(), "media flows");
                Ok(())
            }
            failure = self.broken() => Err(failure),
            () = tokio::time::sleep(FIRST_FRAME_LIMIT) => {
                Err(RigFailure::of(format_args!("ffmpeg: no frame came out within {} s", FIRST_FRAME_LIMIT.as_secs())))
            }
        }
    }

    /// Waits for the first component that fails. A component that is not open has no branch here.
    async fn component_failed(&mut self) -> RigFailure {
        tokio::select! {
            biased;
            Some(failure) = OptionFuture::from(self.browser.as_mut().map(Chrome::ended)) => failure,
            Some(ended) = OptionFuture::from(self.encoder.as_mut().map(Encoder::ended)) => match ended {
                Ok(()) => RigFailure::of("ffmpeg: ended before it was asked to"),
                Err(error) => RigFailure::of(error),
            },
            Some(error) = OptionFuture::from(self.display.as_mut().map(Display::ended)) => RigFailure::of(error),
            Some(error) = OptionFuture::from(self.audio.as_mut().map(PulseAudio::ended)) => RigFailure::of(error),
            Some(error) = self.failed.1.recv() => RigFailure::of(error),
        }
    }

    /// Writes a screenshot of the display beside the logs.
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
