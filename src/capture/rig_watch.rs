//! Looks at the parts of a running capture twice a second, and has [`Watchdog`] judge whether one of them hangs.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior};

use crate::capture::encoder::ffmpeg::EncoderProgress;
use crate::capture::encoder::stream::CaptureCounters;
use crate::capture::rig_thread::{Exchange, Pulse};
use crate::capture::watchdog::{Hang, Part, Readings, Watchdog};
use crate::process::procfs::Process;

/// Interval of looks.
const LOOK: Duration = Duration::from_millis(500);

/// Where the parts show what they do.
#[derive(Debug)]
pub struct RigGauges {
    pub screen: Arc<Pulse>,
    pub sound: Arc<Pulse>,
    pub stream: Arc<Pulse>,
    /// Questions of the screen thread to Xvfb.
    pub questions: Arc<Exchange>,
    pub counters: Arc<CaptureCounters>,
    pub progress: watch::Receiver<EncoderProgress>,
    /// Whether ffmpeg waits for the far end of a broadcast; `None`: it writes a file.
    pub far_end: Option<watch::Receiver<bool>>,
    /// Pids of Xvfb, PulseAudio and ffmpeg.
    pub xvfb: u32,
    pub pulseaudio: u32,
    pub ffmpeg: u32,
}

impl RigGauges {
    fn read(&self) -> Readings {
        let EncoderProgress { frames, bytes } = *self.progress.borrow();
        let (answers, asked) = self.questions.state();
        Readings {
            screen_turns: self.screen.turns(),
            sound_turns: self.sound.turns(),
            stream_turns: self.stream.turns(),
            answers,
            asked,
            samples: self.counters.samples_heard.load(Ordering::Relaxed),
            // Both only grow, so the sum changes with each.
            encoded: frames.wrapping_add(bytes),
            frames: self.counters.frames_sent.load(Ordering::Relaxed),
            waits_for_far_end: self.far_end.as_ref().is_some_and(|waits| *waits.borrow()),
            xvfb: Process::read_with_threads(self.xvfb),
            pulseaudio: Process::read_with_threads(self.pulseaudio),
            ffmpeg: Process::read_with_threads(self.ffmpeg),
        }
    }
}

/// The watch over one capture.
#[derive(Debug)]
pub struct RigWatch {
    gauges: RigGauges,
    watchdog: Watchdog,
    began: Instant,
    ticks: Interval,
    /// The directory that ffmpeg writes to; `None` for a broadcast.
    dir: Option<PathBuf>,
}

impl RigWatch {
    #[must_use]
    pub fn begin(gauges: RigGauges, dir: Option<PathBuf>) -> Self {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { gauges, watchdog: Watchdog::default(), began: Instant::now(), ticks, dir }
    }

    /// Resolves with a part that hangs. Cancel-safe: what was seen so far is kept.
    pub async fn hang(&mut self) -> Hang {
        loop {
            self.ticks.tick().await;
            if let Some(hang) = self.watchdog.look(self.began.elapsed(), self.gauges.read()) {
                return hang;
            }
        }
    }

    /// The part whose silence explains why another one broke.
    #[must_use]
    pub fn suspect(&self, part: Part) -> Option<Hang> {
        self.watchdog.suspect(part, &self.gauges.read())
    }

    /// The cause of a break by `hang`.
    #[must_use]
    pub fn cause(&self, hang: &Hang) -> String {
        hang.cause(self.dir.as_ref())
    }

    #[must_use]
    pub fn gauges(&self) -> &RigGauges {
        &self.gauges
    }
}
