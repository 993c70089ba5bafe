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
use crate::storage::directory_check::DirectoryCheck;

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
    /// Chrome's processes when the meeting was reached.
    pub chrome: Vec<Process>,
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
            stopped_chrome: self.chrome.iter().find_map(stopped),
        }
    }
}

/// The process as it is now, if it is stopped.
fn stopped(known: &Process) -> Option<Process> {
    Process::read(known.pid).filter(|now| now.started == known.started && now.state == 'T')
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
    /// Asks it while ffmpeg is suspected.
    disk: Option<DirectoryCheck>,
}

impl RigWatch {
    #[must_use]
    pub fn begin(gauges: RigGauges, dir: Option<PathBuf>) -> Self {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { gauges, watchdog: Watchdog::default(), began: Instant::now(), ticks, dir, disk: None }
    }

    /// Resolves with a part that hangs, and the cause. Cancel-safe: what was seen so far is kept.
    pub async fn hang(&mut self) -> (Part, String) {
        loop {
            self.ticks.tick().await;
            let readings = self.gauges.read();
            let hang = self.watchdog.look(self.began.elapsed(), readings);
            match (&self.dir, self.watchdog.suspect(Part::Ffmpeg, &readings)) {
                (Some(dir), Some(_)) => drop(self.disk.get_or_insert_with(|| DirectoryCheck::start(dir))),
                _ => self.disk = None,
            }
            if let Some(hang) = hang {
                return (hang.part, self.cause(&hang));
            }
        }
    }

    /// Why another part may have broken: this one hangs, or is about to.
    #[must_use]
    pub fn suspect(&self, part: Part) -> Option<String> {
        self.watchdog.suspect(part, &self.gauges.read()).map(|hang| self.cause(&hang))
    }

    fn cause(&self, hang: &Hang) -> String {
        let disk = self.disk.as_ref().and_then(DirectoryCheck::failure);
        hang.cause(disk.as_deref())
    }
}
