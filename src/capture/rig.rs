//! All components that capture one meeting, opened in order and closed in reverse: display, PulseAudio, Chrome,
//! encoder, stream, grabber and audio recorder.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::future::OptionFuture;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::capture::audio::pulseaudio::{PulseAudio, SAMPLE_RATE};
use crate::capture::audio::recorder::{self, AudioRecorder};
use crate::capture::browser::call_sync::CallOffset;
use crate::capture::browser::chrome::Chrome;
use crate::capture::browser::error_page::ErrorPageMeaning;
use crate::capture::browser::visit::PageVisit;
use crate::capture::browser::window;
pub use crate::capture::capture_report::{CaptureGauge, CaptureReport};
use crate::capture::component_error::ComponentError;
use crate::capture::encoder::arguments::EncoderTarget;
use crate::capture::encoder::ffmpeg::{Encoder, EncoderProgress, first_frame};
use crate::capture::encoder::matroska::Tracks;
use crate::capture::encoder::replacement::{EncoderReplacement, NextEncoder};
use crate::capture::encoder::stream;
use crate::capture::encoder_fallback::EncoderFallback;
use crate::capture::encoder_handover::EncoderHandover;
use crate::capture::live_capture::LiveCapture;
use crate::capture::rig_directory::{self, RigDirectory};
use crate::capture::rig_failure::RigFailure;
pub use crate::capture::rig_spec::RigSpec;
use crate::capture::rig_watch::{RigGauges, RigWatch};
use crate::capture::rtmp::relay::Relay;
use crate::capture::running_capture::{self, FINISH_LIMIT, RunningCapture};
use crate::capture::video::display::Display;
use crate::capture::video::grabber::Grabber;
use crate::capture::video::pacer::FramePacing;
use crate::capture::video::screenshot;
use crate::capture::watchdog::Part;
use crate::codes;
use crate::storage::directory_check;

/// Time limit from the joined meeting to the first encoded frame. The far end of a broadcast must answer within it.
const FIRST_FRAME_LIMIT: Duration = Duration::from_secs(20);
/// Time limit for an answer of the X server.
const DISPLAY_LIMIT: Duration = Duration::from_secs(10);

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

    /// What the running capture shows; nothing while media do not flow.
    fn gauge(&self) -> Option<CaptureGauge> {
        None
    }

    /// The running capture for those who look at it; nothing while media do not flow.
    fn live(&self) -> Option<LiveCapture> {
        None
    }

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
    /// Runs since media flow.
    watch: Option<RigWatch>,
    /// Of the encoder of the moment; of none before there is one.
    progress: watch::Sender<watch::Receiver<EncoderProgress>>,
    /// Of a broadcast whose bit rate follows what its far end takes, and of a recording that is encoded as its MP4.
    handover: Option<Box<EncoderHandover>>,
    /// The directory of the file; `None` for a broadcast.
    file_dir: Option<PathBuf>,
    directory: RigDirectory,
    /// Last field: a dropped rig removes the directory after the components that write into it.
    dir: TempDir,
}

impl Rig for LiveRig {
    type Spec = RigSpec;

    async fn open(spec: RigSpec, cancel: CancellationToken) -> Result<Self, OpenError> {
        Self::open_with(spec, None, cancel).await
    }

    async fn broken(&mut self) -> RigFailure {
        if let Some(failure) = &self.failure {
            return failure.clone();
        }
        let (failure, hung) = self.component_failed().await;
        self.failure = Some(failure.clone());
        match hung {
            Some(Part::Xvfb) => self.display.iter().for_each(Display::kill),
            Some(Part::PulseAudio) => self.audio.iter().for_each(PulseAudio::kill),
            Some(Part::Ffmpeg) => self.encoder.iter_mut().for_each(|encoder| encoder.kill("it hung")),
            Some(Part::StreamThread | Part::ScreenThread | Part::SoundThread | Part::Chrome) | None => {}
        }
        // An error page's text is already in the cause, and a display that was killed shows nothing.
        if failure.page.is_none() && hung != Some(Part::Xvfb) {
            self.keep_screenshot().await;
        }
        failure
    }

    fn idle(&self) -> Duration {
        self.capture.as_ref().map_or(Duration::ZERO, RunningCapture::idle)
    }

    fn gauge(&self) -> Option<CaptureGauge> {
        let (capture, sound) = (self.capture.as_ref()?, self.audio_recorder.as_ref()?);
        let turns = [capture.grabber.pulse().turns(), sound.pulse().turns()];
        Some(CaptureGauge { report: capture.report(), turns })
    }

    fn live(&self) -> Option<LiveCapture> {
        let RunningCapture { grabber, counters, started, .. } = self.capture.as_ref()?;
        Some(LiveCapture {
            rig: self.dir.path().to_string_lossy().into_owned(),
            preview: grabber.preview(),
            counters: std::sync::Arc::clone(counters),
            started: *started,
        })
    }

    async fn finish(&mut self) -> (CaptureReport, Result<(), String>) {
        let mut report = CaptureReport::default();
        let Some(mut encoder) = self.encoder.take() else { return (report, Err("there is no encoder".to_owned())) };
        self.watch = None;
        // Beside each other: an encoder that was replaced and takes long must not have what follows the stop captured.
        let retired = OptionFuture::from(self.handover.take().map(|handover| handover.finish()));
        let mut written = None;
        if let Some(capture) = self.capture.take() {
            let audio = running_capture::stop_audio(self.audio_recorder.take(), self.audio.as_ref());
            let (display, browser) = (self.display.as_ref(), self.browser.as_ref());
            // Boxed like `Chrome::stop` in `close`.
            let stop = Box::pin(capture.stop(audio, display, browser, &mut encoder));
            let (stopped, bytes) = tokio::join!(stop, retired);
            (report, written) = (CaptureReport { call_offset: self.call_offset(), ..stopped }, bytes);
        }
        let outcome = encoder.finish(FINISH_LIMIT).await;
        report.bytes = written.unwrap_or_default() + encoder.progress().bytes;
        report.far_end = encoder.relay().map(Relay::far_end_stats).unwrap_or_default();
        (report, outcome.map_err(|error| error.to_string()))
    }

    async fn close(mut self) {
        // The capture was not finished: the file stays, its last seconds may be lost.
        if let Some(encoder) = &mut self.encoder {
            encoder.kill("its recording was given up");
            let _ = self.finish().await;
        }
        running_capture::stop_audio(self.audio_recorder.take(), self.audio.as_ref()).await;
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
            let dir = path.display();
            tracing::warn!(code = %codes::RIG_DIR_KEPT, %dir, %error, "the recording's temporary directory cannot be removed");
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

impl LiveRig {
    /// Opens a rig that records any page instead of a meeting; media flows when this returns.
    ///
    /// # Errors
    /// [`OpenError::Refused`] where it is the page that cannot be recorded.
    pub async fn open_page(spec: RigSpec, visit: PageVisit, cancel: CancellationToken) -> Result<Self, OpenError> {
        Self::open_with(spec, Some(visit), cancel).await
    }

    /// `visit`: what is done on a page that is no meeting.
    async fn open_with(spec: RigSpec, visit: Option<PageVisit>, cancel: CancellationToken) -> Result<Self, OpenError> {
        let size = spec.encoder.capture.size.unwrap_or(spec.size);
        if let Some(dir) = spec.target.directory() {
            let checked = cancel.run_until_cancelled(directory_check::takes_bytes(dir)).await;
            checked.ok_or(OpenError::Cancelled)?.map_err(|error| {
                let dir = dir.display();
                tracing::warn!(code = %codes::NO_CAPTURE_DIR, %dir, error, "nothing can be recorded into recorder.temporary_dir");
                OpenError::Failed(format!("recorder.temporary_dir {error}"))
            })?;
        }
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
            watch: None,
            progress: watch::channel(watch::channel(EncoderProgress::default()).1).0,
            handover: None,
            file_dir: spec.target.directory().map(Path::to_owned),
        };
        let opened = tokio::select! {
            biased;
            () = cancel.cancelled() => Err(OpenError::Cancelled),
            // Boxed like `Chrome::stop` in `close`.
            opened = Box::pin(rig.build(&spec, visit.as_ref())) => opened.map_err(OpenError::from),
        };
        match opened {
            Ok(()) => Ok(rig),
            Err(error) => {
                Box::pin(rig.close()).await;
                Err(error)
            }
        }
    }

    /// The report of the running capture.
    #[must_use]
    pub fn report(&self) -> CaptureReport {
        let bytes = self.encoder.as_ref().map_or(0, |encoder| encoder.progress().bytes);
        let report = self.capture.as_ref().map(RunningCapture::report).unwrap_or_default();
        let relay = self.encoder.as_ref().and_then(Encoder::relay);
        let far_end = relay.map(Relay::far_end_stats).unwrap_or_default();
        CaptureReport { bytes, far_end, call_offset: self.call_offset(), ..report }
    }

    /// Reports of the running capture, to be asked for while [`Rig::broken`] is waited for. `None`: media do not flow.
    #[must_use]
    pub fn reports(&self) -> Option<impl Fn() -> CaptureReport + Send + use<>> {
        let (report, progress) = (self.capture.as_ref()?.reports(), self.encoder.as_ref()?.reports());
        Some(move || CaptureReport { bytes: progress.borrow().bytes, ..report() })
    }

    fn call_offset(&self) -> CallOffset {
        self.browser.as_ref().map(Chrome::call_offset).unwrap_or_default()
    }

    async fn build(&mut self, spec: &RigSpec, visit: Option<&PageVisit>) -> Result<(), RigFailure> {
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
            tracing::warn!(
                code = %codes::DISPLAY_NOT_NOTED, dir = %self.dir.path().display(), %error,
                "the display is not noted: should the recorder be killed, its socket stays in /tmp/.X11-unix"
            );
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
        let browser =
            Chrome::start(&spec.chrome, self.spec_size, spec.dpi, &env, self.dir.path()).await.map_err(cause)?;
        tracing::info!(after_ms = begun.elapsed().as_millis(), "Chrome is ready, opening the meeting page");
        let browser = self.browser.insert(browser);
        let (shown, size) = (address.clone(), self.spec_size);
        browser.keep_hidden(on_display(move || window::cover_screen(&shown, size)).await.map_err(cause)?);
        let opened = match visit {
            Some(visit) => Box::pin(browser.visit(&spec.url, visit)).await,
            None => browser.join(&spec.url).await,
        };
        if let Err(failure) = opened {
            self.keep_screenshot().await;
            return Err(failure);
        }

        let ready = Instant::now();
        let (encoder, stdin) =
            Encoder::start(&spec.encoder, self.spec_size, &spec.target, self.dir.path()).await.map_err(cause)?;
        self.progress.send_replace(self.encoder.insert(encoder).reports());
        let first_frame = first_frame(self.progress.subscribe());
        let framerate = spec.encoder.capture.framerate;
        let tracks = Tracks { width, height, framerate, sample_rate: SAMPLE_RATE, channels: recorder::CHANNELS };
        let (sender, counters, writer) = stream::start(stdin, tracks, report_failure(&self.failed.0)).map_err(cause)?;
        let pacing = match spec.target {
            EncoderTarget::File(_) => FramePacing::Changes { framerate, ahead: spec.encoder.lookahead() },
            EncoderTarget::Rtmp { .. } => FramePacing::Constant { framerate },
        };
        let (dir, switch, failed) = (self.dir.path().to_owned(), sender.stream_switch(), self.failed.0.clone());
        let relay = self.encoder.as_ref().and_then(Encoder::relay);
        self.handover = match (&spec.target, &spec.fallback, relay) {
            (EncoderTarget::Rtmp { adaptive: true, .. }, _, Some(relay)) => {
                let (settings, target) = (spec.encoder.clone(), spec.target.clone());
                let replacement = EncoderReplacement { settings, target, tracks, dir };
                Some(Box::new(EncoderHandover::of_broadcast(replacement, relay, switch, failed)))
            }
            (EncoderTarget::File(_), Some(fallback), _) => {
                let (settings, target) = (fallback.settings.clone(), EncoderTarget::File(fallback.file.clone()));
                let replacement = EncoderReplacement { settings, target, tracks, dir };
                let fallback = EncoderFallback::new(fallback.wanted.clone(), std::sync::Arc::clone(&counters));
                Some(Box::new(EncoderHandover::of_recording(replacement, fallback, switch, failed)))
            }
            _ => None,
        };
        let started = Instant::now();
        if let Some(audio_recorder) = &self.audio_recorder {
            audio_recorder.feed(started, sender.clone());
        }
        let (size, failed) = (self.spec_size, report_failure(&self.failed.0));
        let grabber = on_display(move || Grabber::start(&address, size, pacing, started, sender, failed)).await;
        self.capture = Some(RunningCapture { grabber: grabber.map_err(cause)?, writer, counters, started });
        tokio::select! {
            () = first_frame => {
                tracing::info!(after_ms = ready.elapsed().as_millis(), "media flows");
                self.watch = self.gauges().map(|gauges| RigWatch::begin(gauges, self.file_dir.clone()));
                Ok(())
            }
            failure = self.broken() => Err(failure),
            () = tokio::time::sleep(FIRST_FRAME_LIMIT) => {
                let state = self.encoder.as_ref().map(Encoder::state).unwrap_or_default();
                let limit = FIRST_FRAME_LIMIT.as_secs();
                Err(RigFailure::of(format_args!("ffmpeg: no frame came out within {limit} s{state}")))
            }
        }
    }

    /// Where the parts show what they do; `None` where one is not open.
    fn gauges(&self) -> Option<RigGauges> {
        let (capture, encoder) = (self.capture.as_ref()?, self.encoder.as_ref()?);
        Some(RigGauges {
            screen: capture.grabber.pulse(),
            sound: self.audio_recorder.as_ref()?.pulse(),
            stream: capture.writer.pulse(),
            questions: capture.grabber.questions(),
            counters: std::sync::Arc::clone(&capture.counters),
            progress: encoder.reports(),
            far_end: encoder.waits_for_far_end(),
            xvfb: self.display.as_ref()?.pid(),
            pulseaudio: self.audio.as_ref()?.pid(),
            ffmpeg: encoder.pid(),
            chrome: self.browser.as_ref().map(|browser| browser.processes().to_vec()).unwrap_or_default(),
        })
    }

    /// Waits for the first component that fails or hangs; returns also which part hangs. A component that is not open
    /// has no branch here.
    async fn component_failed(&mut self) -> (RigFailure, Option<Part>) {
        let failure = loop {
            break tokio::select! {
                biased;
                Some(failure) = OptionFuture::from(self.browser.as_mut().map(Chrome::ended)) => failure,
                Some(ended) = OptionFuture::from(self.encoder.as_mut().map(Encoder::ended)) => match ended {
                    Ok(()) => RigFailure::of("ffmpeg: ended before it was asked to"),
                    Err(error) => RigFailure::of(error),
                },
                Some(error) = OptionFuture::from(self.display.as_mut().map(Display::ended)) => RigFailure::of(error),
                Some(error) = OptionFuture::from(self.audio.as_mut().map(PulseAudio::ended)) => RigFailure::of(error),
                Some(error) = self.failed.1.recv() => RigFailure::of(error),
                Some((part, cause)) = OptionFuture::from(self.watch.as_mut().map(RigWatch::hang)) => {
                    return (RigFailure::of(cause), Some(part));
                }
                Some(next) = OptionFuture::from(self.handover.as_mut().map(|handover| handover.ready())) => {
                    self.hand_over(next);
                    continue;
                }
            };
        };
        // A Chrome whose display hangs, hangs too.
        let display_hangs = self.watch.as_ref().filter(|_| failure.page.is_none());
        let Some(cause) = display_hangs.and_then(|watch| watch.suspect(Part::Xvfb)) else { return (failure, None) };
        tracing::debug!(failure.cause, "the display hangs, and broke it");
        (RigFailure::of(cause), Some(Part::Xvfb))
    }

    /// The capture goes on with this encoder.
    fn hand_over(&mut self, next: NextEncoder) {
        let (Some(encoder), Some(capture), Some(handover)) = (&mut self.encoder, &mut self.capture, &mut self.handover)
        else {
            return;
        };
        let (mut encoder_now, writer) = next.take_over(handover.switch(), capture.started.elapsed());
        encoder_now.take_over(encoder);
        self.progress.send_replace(encoder_now.reports());
        let encoder = std::mem::replace(encoder, encoder_now);
        handover.retire(encoder, std::mem::replace(&mut capture.writer, writer));
        self.watch = self.gauges().map(|gauges| RigWatch::begin(gauges, self.file_dir.clone()));
    }

    /// Writes a screenshot of the display beside the logs.
    async fn keep_screenshot(&self) {
        let Some(display) = &self.display else { return };
        screenshot::keep(display.address().clone(), self.spec_size, self.screenshot.clone()).await;
    }
}
