//! The running media flow into ffmpeg, and its end: nothing that hangs holds it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::OptionFuture;

use crate::capture::audio::pulseaudio::PulseAudio;
use crate::capture::audio::recorder::AudioRecorder;
use crate::capture::browser::call_sync::CallOffset;
use crate::capture::browser::chrome::Chrome;
use crate::capture::capture_report::{CaptureReport, FarEndStats};
use crate::capture::encoder::counters::CaptureCounters;
use crate::capture::encoder::ffmpeg::Encoder;
use crate::capture::encoder::stream::StreamWriter;
use crate::capture::video::display::Display;
use crate::capture::video::grabber::Grabber;
use crate::codes;

/// Time limit for ffmpeg to take the last of the stream, and to finish its output once its input is closed.
pub const FINISH_LIMIT: Duration = Duration::from_secs(30);
/// The first of them where ffmpeg was killed.
const KILLED_LIMIT: Duration = Duration::from_secs(1);
/// Time limit for the end of a thread that was told to end; then its X server or PulseAudio is killed, which frees it.
const THREAD_LIMIT: Duration = Duration::from_secs(3);

/// The running media flow into ffmpeg, except for the audio recorder.
#[derive(Debug)]
pub struct RunningCapture {
    pub grabber: Grabber,
    pub writer: StreamWriter,
    pub counters: Arc<CaptureCounters>,
    pub started: Instant,
}

impl RunningCapture {
    /// Reports of the capture while it runs, which need nothing of it.
    pub(super) fn reports(&self) -> impl Fn() -> CaptureReport + Send + use<> {
        let (counters, started) = (Arc::clone(&self.counters), self.started);
        move || capture_report(&counters, started.elapsed())
    }

    /// The report of the capture up to now.
    #[must_use]
    pub fn report(&self) -> CaptureReport {
        capture_report(&self.counters, self.started.elapsed())
    }

    /// How long it has been both silent and still.
    #[must_use]
    pub fn idle(&self) -> Duration {
        let still = self.counters.video().still_for(self.started.elapsed());
        still.min(self.counters.audio().silent_for())
    }

    /// Ends the flow. `audio` ends the audio recorder. ffmpeg's input is closed when this returns, and ffmpeg is killed
    /// where it did not take what was left.
    pub async fn stop(
        self,
        audio: impl Future<Output = ()>,
        display: Option<&Display>,
        browser: Option<&Chrome>,
        encoder: &mut Encoder,
    ) -> CaptureReport {
        let Self { grabber, mut writer, counters, started } = self;
        let duration = started.elapsed();
        // The stop may arrive together with the end of the meeting. The page is inspected only after the last frame was
        // grabbed: an earlier inspection could miss an error page that is in that frame.
        let video = async move {
            stop_grabber(grabber, display).await;
            OptionFuture::from(browser.map(Chrome::left_at)).await.flatten()
        };
        let (left_at, ()) = tokio::join!(video, audio);
        let limit = if encoder.is_killed() { KILLED_LIMIT } else { FINISH_LIMIT };
        if !writer.finish(limit).await {
            if !encoder.is_killed() {
                let why = format!("it has not taken what was left within {} s{}", limit.as_secs(), encoder.state());
                tracing::warn!(code = %codes::FFMPEG_ENDED, why, "ending ffmpeg");
                encoder.kill(why);
            }
            writer.abandon().await;
        }
        let left = left_at.map(|at| at.saturating_duration_since(started));
        capture_report(&counters, duration).cut_where_page_left(left)
    }
}

/// Ends the screen thread: kills the X server where the thread waits for it.
async fn stop_grabber(mut grabber: Grabber, display: Option<&Display>) {
    if grabber.stop(THREAD_LIMIT).await {
        return;
    }
    if let Some(display) = display {
        display.kill();
    }
    if !grabber.stop(THREAD_LIMIT).await {
        tracing::warn!(code = %codes::THREAD_LEFT, "the thread `screen` does not end; it is left behind");
    }
}

/// Ends the sound thread: kills PulseAudio where the thread waits for it.
pub async fn stop_audio(recorder: Option<AudioRecorder>, audio: Option<&PulseAudio>) {
    let Some(mut recorder) = recorder else { return };
    if recorder.stop(THREAD_LIMIT).await {
        return;
    }
    if let Some(audio) = audio {
        audio.kill();
    }
    if !recorder.stop(THREAD_LIMIT).await {
        tracing::warn!(code = %codes::THREAD_LEFT, "the thread `sound` does not end; it is left behind");
    }
}

/// The report of a capture that has run for `duration`.
pub(super) fn capture_report(counters: &CaptureCounters, duration: Duration) -> CaptureReport {
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
        far_end: FarEndStats::default(),
        parts: 1,
        bytes: 0,
        meeting_until: None,
    }
}
