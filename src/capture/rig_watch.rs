//! Looks at the parts of a running capture twice a second, and has [`Watchdog`] judge whether one of them hangs.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior};

use crate::capture::encoder::counters::CaptureCounters;
use crate::capture::encoder::ffmpeg::EncoderProgress;
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
            frames: self.counters.frames_offered(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::encoder::matroska::Tracks;
    use crate::capture::encoder::stream;
    use crate::capture::video::frame::Frame;

    /// ffmpeg stopped while its queue was full: it owes something, although not one frame more goes into the queue.
    #[tokio::test]
    async fn a_frame_for_which_a_full_queue_has_no_room_is_one_that_ffmpeg_owes() {
        let (_reader, writer) = std::io::pipe().unwrap();
        let tracks = Tracks { width: 1920, height: 1080, framerate: 30, sample_rate: 48_000, channels: 2 };
        let (sender, counters, mut thread) = stream::start(writer.into(), tracks, |_| ()).unwrap();
        let frame = Arc::new(Frame::black(tracks.width, tracks.height).unwrap());
        while sender.has_room() {
            sender.send_frame(Duration::ZERO, Arc::clone(&frame)).unwrap();
        }
        let pulse = Arc::new(Pulse::default());
        let gauges = RigGauges {
            screen: Arc::clone(&pulse),
            sound: Arc::clone(&pulse),
            stream: pulse,
            questions: Arc::default(),
            counters,
            progress: watch::channel(EncoderProgress::default()).1,
            far_end: None,
            xvfb: 0,
            pulseaudio: 0,
            ffmpeg: 0,
            chrome: Vec::new(),
        };
        let (mut watchdog, mut hang) = (Watchdog::default(), None);
        for half_second in 1..=20 {
            assert_eq!(sender.send_frame(Duration::ZERO, Arc::clone(&frame)), Ok(false));
            // All else is well.
            let turns = half_second;
            let readings = Readings {
                screen_turns: turns,
                sound_turns: turns,
                stream_turns: turns,
                samples: turns,
                ..gauges.read()
            };
            hang = hang.or(watchdog.look(LOOK * u32::try_from(half_second).unwrap(), readings));
        }
        assert_eq!(hang.map(|hang| hang.part), Some(Part::Ffmpeg));
        thread.abandon().await;
    }
}
