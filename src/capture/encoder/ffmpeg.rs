//! The ffmpeg process of a recording or broadcast, and its progress. Its options are in `arguments.rs`.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::ChildStdout;
use tokio::sync::watch;

use crate::capture::component_error::ComponentError;
use crate::capture::encoder::arguments::{EncoderSettings, EncoderTarget, RelayAddress, arguments};
use crate::capture::process_tag;
use crate::capture::rtmp::bit_rate::{self, BitRateControl};
use crate::capture::rtmp::relay::Relay;
use crate::capture::watchdog;
use crate::codes;
use crate::process::child::{self, Child};
use crate::process::procfs::Process;

const COMPONENT: &str = "ffmpeg";
/// The far end of a broadcast, as a component: its failures are not ffmpeg's.
const FAR_END: &str = "far end";
/// Number of ffmpeg's last lines in a cause: ffmpeg 7 and later log useless lines after the relevant one.
const CAUSE_LINES: usize = 6;
/// Time limit for the end of a killed ffmpeg: one that waits for a disk takes longer.
pub(super) const KILL_LIMIT: Duration = Duration::from_secs(5);
/// Follows `was killed`.
pub(super) const STILL_THERE: &str =
    ", but does not end: it waits for a disk that does not answer, and ends when that is back";

/// Settings of glibc's allocator in bytes (`mallopt(3)`). Without them the kernel clears and maps each frame of some 3
/// MB anew, which took a tenth of ffmpeg's time. The first is at its maximum.
const ALLOCATOR: &[(&str, &str)] =
    &[("MALLOC_MMAP_THRESHOLD_", "33554432"), ("MALLOC_TRIM_THRESHOLD_", "134217728"), ("MALLOC_TOP_PAD_", "8388608")];

/// The latest progress report of ffmpeg.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncoderProgress {
    /// Frames encoded.
    pub frames: u64,
    /// Bytes written.
    pub bytes: u64,
}

impl EncoderProgress {
    /// Reads one `key=value` line of `-progress`.
    fn read(&mut self, line: &str) {
        // The value is `N/A` while there is none.
        match line.split_once('=') {
            Some(("frame", value)) => self.frames = value.trim().parse().unwrap_or(self.frames),
            Some(("total_size", value)) => self.bytes = value.trim().parse().unwrap_or(self.bytes),
            _ => {}
        }
    }
}

/// A running ffmpeg.
#[derive(Debug)]
pub struct Encoder {
    child: Child,
    progress: watch::Receiver<EncoderProgress>,
    /// Relay of a broadcast.
    relay: Option<Box<Relay>>,
    /// Why it was killed; `None`: it was not.
    killed: Option<String>,
}

impl Encoder {
    /// Starts ffmpeg; returns it and its standard input.
    ///
    /// # Errors
    /// Where ffmpeg is missing or cannot be started, or the relay cannot connect.
    pub async fn start(
        settings: &EncoderSettings,
        size: (u32, u32),
        target: &EncoderTarget,
        dir: &Path,
    ) -> Result<(Self, OwnedFd), ComponentError> {
        let relay = match target {
            EncoderTarget::File(_) => None,
            EncoderTarget::Rtmp { url, reconnect_for, adaptive } => {
                let control = adaptive.then(|| BitRateControl::new(bit_rate::configured(&settings.post_input)));
                let relay = Box::pin(Relay::start(url, *reconnect_for, control)).await;
                Some(relay.map(Box::new).map_err(|error| ComponentError::new(COMPONENT, error))?)
            }
        };
        let (encoder, stdin) = Self::spawn(settings, size, target, relay.as_deref().map(Relay::address), dir).await?;
        Ok((Self { relay, ..encoder }, stdin))
    }

    /// Starts ffmpeg for a relay that is there already; see [`Self::take_over`].
    ///
    /// # Errors
    /// Where ffmpeg is missing or cannot be started.
    pub async fn spawn(
        settings: &EncoderSettings,
        size: (u32, u32),
        target: &EncoderTarget,
        relay: Option<&RelayAddress>,
        dir: &Path,
    ) -> Result<(Self, OwnedFd), ComponentError> {
        let failed = |why: &dyn std::fmt::Display| ComponentError::new(COMPONENT, why);
        let mut spec = child::ChildSpec::new(COMPONENT, "ffmpeg").env(process_tag::VARIABLE, dir);
        spec.env.extend(ALLOCATOR.iter().map(|(name, value)| (name.into(), value.into())));
        spec.args = arguments(settings, size, target, relay);
        spec.pipe_stdin = true;
        spec.pipe_stdout = true;
        spec.log_level = tracing::Level::WARN;
        tracing::debug!(args = ?spec.args, "starting ffmpeg");
        let mut child = child::spawn(&spec).await.map_err(|error| failed(&error))?;
        let stdin = child.stdin.take().ok_or_else(|| failed(&"no standard input"))?;
        let stdin = stdin.into_owned_fd().map_err(|error| failed(&error))?;
        let (sender, progress) = watch::channel(EncoderProgress::default());
        if let Some(stdout) = child.stdout.take() {
            tokio::spawn(report_progress(stdout, sender));
        }
        Ok((Self { child, progress, relay: None, killed: None }, stdin))
    }

    /// From now on this one feeds the relay, and answers for it.
    pub fn take_over(&mut self, previous: &mut Self) {
        self.relay = previous.relay.take();
    }

    #[must_use]
    pub fn relay(&self) -> Option<&Relay> {
        self.relay.as_deref()
    }

    #[must_use]
    pub fn progress(&self) -> EncoderProgress {
        *self.progress.borrow()
    }

    /// The progress as it comes.
    #[must_use]
    pub fn reports(&self) -> watch::Receiver<EncoderProgress> {
        self.progress.clone()
    }

    /// What its process does, to be added to a cause.
    #[must_use]
    pub fn state(&self) -> String {
        Process::read_with_threads(self.child.pid()).map(watchdog::doing).unwrap_or_default()
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Whether ffmpeg waits for the far end of its broadcast; `None`: it writes a file.
    #[must_use]
    pub fn waits_for_far_end(&self) -> Option<watch::Receiver<bool>> {
        self.relay.as_ref().map(|relay| relay.waits())
    }

    /// Resolves when ffmpeg has ended. Cancel-safe.
    ///
    /// # Errors
    /// Where it ended with an error.
    pub async fn ended(&mut self) -> Result<(), ComponentError> {
        let exit = self.child.wait().await;
        self.outcome(exit).await
    }

    /// To be called after ffmpeg's input was closed. Waits up to `grace` for ffmpeg to finish its output, or 5 s where
    /// it was killed; then stops it. ffmpeg is reaped when this returns, unless a disk holds it even then.
    ///
    /// # Errors
    /// Where it ended with an error or had to be killed.
    pub async fn finish(&mut self, grace: Duration) -> Result<(), ComponentError> {
        let limit = if self.is_killed() { KILL_LIMIT } else { grace };
        let ended = tokio::time::timeout(limit, self.ended()).await;
        if let Some(why) = self.killed.clone() {
            let pid = self.child.pid();
            let still_there = if self.child.has_ended() { "" } else { STILL_THERE };
            if !still_there.is_empty() {
                tracing::warn!(code = %codes::FFMPEG_KILLED, pid, "ffmpeg was killed{STILL_THERE}");
            }
            return Err(ComponentError::new(COMPONENT, format!("{why}; it was killed{still_there}")));
        }
        if let Ok(outcome) = ended {
            return outcome;
        }
        tracing::warn!(
            code = %codes::FFMPEG_SLOW_END, pid = self.child.pid(), grace_s = grace.as_secs(),
            "ffmpeg does not end, asking it to stop"
        );
        let exit = self.child.stop(Signal::TERM, Duration::from_secs(5)).await;
        self.outcome(exit).await
    }

    /// Ends ffmpeg now; `why` becomes its error.
    pub fn kill(&mut self, why: impl Into<String>) {
        self.killed.get_or_insert(why.into());
        self.child.signal(Signal::KILL);
    }

    /// Whether ffmpeg has ended and was waited for.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.child.has_ended()
    }

    #[must_use]
    pub fn is_killed(&self) -> bool {
        self.killed.is_some()
    }

    /// The relay's error comes first: ffmpeg only knows that its connection was closed.
    async fn outcome(&mut self, exit: child::Exit) -> Result<(), ComponentError> {
        let relayed = match &mut self.relay {
            // Boxed: otherwise the future of a rig holds it several times.
            Some(relay) => Box::pin(relay.finished()).await,
            None => Ok(()),
        };
        let last_words = || {
            let words = self.child.tail().last_lines(CAUSE_LINES);
            self.relay.as_ref().map_or_else(|| words.clone(), |relay| relay.translate(&words))
        };
        match relayed {
            Ok(()) if exit.success() => Ok(()),
            Ok(()) => Err(ComponentError::new(COMPONENT, format!("ended with {exit}: {}", last_words()))),
            Err(why) => Err(ComponentError::new(FAR_END, why)),
        }
    }
}

/// Resolves once a frame has been encoded (for a broadcast: and the far end has accepted the stream) by the encoder of the
/// moment, whose reports `encoders` has. Never resolves if it ends before that: see [`Encoder::ended`].
pub async fn first_frame(mut encoders: watch::Receiver<watch::Receiver<EncoderProgress>>) {
    loop {
        let mut progress = encoders.borrow_and_update().clone();
        tokio::select! {
            // Its sender is gone where it has ended.
            true = async { progress.wait_for(|progress| progress.frames > 0).await.is_ok() } => return,
            changed = encoders.changed() => if changed.is_err() {
                return std::future::pending().await;
            },
        }
    }
}

async fn report_progress(stdout: ChildStdout, sender: watch::Sender<EncoderProgress>) {
    let mut lines = BufReader::new(stdout).lines();
    let mut current = EncoderProgress::default();
    while let Ok(Some(line)) = lines.next_line().await {
        current.read(&line);
        if line.starts_with("progress=") {
            sender.send_replace(current);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_frame_may_be_that_of_an_encoder_that_has_taken_over() {
        let (slow, reports) = watch::channel(EncoderProgress::default());
        let (current, encoders) = watch::channel(reports);
        let mut first = tokio::spawn(first_frame(encoders));
        let (fast, reports) = watch::channel(EncoderProgress::default());
        current.send_replace(reports);
        // It ends without one.
        drop(slow);
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut first).await.is_err());
        fast.send_replace(EncoderProgress { frames: 1, bytes: 0 });
        first.await.unwrap();
    }

    #[test]
    fn progress_is_read_line_by_line() {
        let mut progress = EncoderProgress::default();
        for line in ["frame=12", "fps=3.0", "total_size=N/A", "total_size=4096", "progress=continue"] {
            progress.read(line);
        }
        assert_eq!(progress, EncoderProgress { frames: 12, bytes: 4096 });
    }
}
