//! The one ffmpeg of a recording or broadcast: its life, and what it reports of its progress. Its options are in
//! `encoder_options.rs`.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::ChildStdout;
use tokio::sync::watch;

use crate::capture::component_error::ComponentError;
use crate::capture::encoder::arguments::{CaptureOptions, EncoderTarget, arguments};
use crate::capture::process_tag;
use crate::capture::rtmp::relay::Relay;
use crate::config::FfmpegOptions;
use crate::process::child::{self, Child};

const PART: &str = "ffmpeg";
/// Of its last words, how many lines make a cause: ffmpeg 7 and later say some of no use behind the one that counts.
const CAUSE_LINES: usize = 6;

/// Settings of glibc's allocator, in bytes: without them each frame of some 3 MB is memory that the kernel has to clear
/// and map anew, which was a tenth of ffmpeg's time. `mallopt(3)`; the first is the most there is.
const ALLOCATOR: &[(&str, &str)] =
    &[("MALLOC_MMAP_THRESHOLD_", "33554432"), ("MALLOC_TRIM_THRESHOLD_", "134217728"), ("MALLOC_TOP_PAD_", "8388608")];

/// What ffmpeg last said of its progress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncoderProgress {
    /// Frames encoded.
    pub frames: u64,
    /// Bytes put out.
    pub bytes: u64,
}

impl EncoderProgress {
    /// Takes one `key=value` line of `-progress`.
    fn read(&mut self, line: &str) {
        // `N/A` stands where there is nothing yet.
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
    /// Of a broadcast.
    relay: Option<Box<Relay>>,
}

impl Encoder {
    /// Starts ffmpeg. The second part of the answer is its standard input.
    ///
    /// # Errors
    /// Where ffmpeg is missing or no process can be made.
    pub async fn start(
        capture: &CaptureOptions,
        size: (u32, u32),
        options: &FfmpegOptions,
        target: &EncoderTarget,
        dir: &Path,
    ) -> Result<(Self, OwnedFd), ComponentError> {
        let failed = |why: &dyn std::fmt::Display| ComponentError::new(PART, why);
        let relay = match target {
            EncoderTarget::File(_) => None,
            EncoderTarget::Rtmp(url) => {
                Some(Box::pin(Relay::start(url)).await.map(Box::new).map_err(|error| failed(&error))?)
            }
        };
        let mut spec = child::ChildSpec::new(PART, "ffmpeg").env(process_tag::VARIABLE, dir);
        for (name, value) in ALLOCATOR {
            spec = spec.env(*name, *value);
        }
        spec.args = arguments(capture, size, &options.post_input, target, relay.as_deref().map(Relay::address));
        spec.pipe_stdin = true;
        spec.pipe_stdout = true;
        spec.log_level = tracing::Level::WARN;
        tracing::debug!(args = ?spec.args, "starting ffmpeg");
        let mut child = child::spawn(&spec).await.map_err(|error| failed(&error))?;
        let stdin = child.stdin.take().ok_or_else(|| failed(&"no standard input"))?;
        let stdin = stdin.into_owned_fd().map_err(|error| failed(&error))?;
        let (sender, progress) = watch::channel(EncoderProgress::default());
        if let Some(stdout) = child.stdout.take() {
            tokio::spawn(follow(stdout, sender));
        }
        Ok((Self { child, progress, relay }, stdin))
    }

    /// Resolves once a frame has been encoded (and, for a broadcast, the far end has taken the connection); never when
    /// ffmpeg ends before that: see [`Self::ended`].
    pub fn first_frame(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut progress = self.progress.clone();
        async move {
            if progress.wait_for(|progress| progress.frames > 0).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    #[must_use]
    pub fn progress(&self) -> EncoderProgress {
        *self.progress.borrow()
    }

    /// Resolves when ffmpeg has ended, with the cause if that was not of its own will. Cancel-safe.
    ///
    /// # Errors
    /// Where it ended with an error.
    pub async fn ended(&mut self) -> Result<(), ComponentError> {
        let exit = self.child.wait().await;
        self.outcome(exit).await
    }

    /// After its input was closed: waits up to `grace` for ffmpeg to write its end, then asks harder. Reaped when this
    /// returns.
    ///
    /// # Errors
    /// Where it ended with an error or had to be killed.
    pub async fn finish(&mut self, grace: Duration) -> Result<(), ComponentError> {
        if let Ok(outcome) = tokio::time::timeout(grace, self.ended()).await {
            return outcome;
        }
        tracing::warn!(pid = self.child.pid(), grace_s = grace.as_secs(), "ffmpeg does not end, asking it to stop");
        let exit = self.child.stop(Signal::TERM, Duration::from_secs(5)).await;
        self.outcome(exit).await
    }

    /// Ends ffmpeg now.
    pub fn kill(&self) {
        self.child.signal(Signal::KILL);
    }

    /// What the far end of a broadcast has done comes first: of that ffmpeg only knows that the relay is gone.
    async fn outcome(&mut self, exit: child::Exit) -> Result<(), ComponentError> {
        let relayed = match &mut self.relay {
            // On the heap: a future of a rig would hold it several times over.
            Some(relay) => Box::pin(relay.over()).await,
            None => Ok(()),
        };
        let said = || {
            let words = self.child.tail().words(CAUSE_LINES);
            self.relay.as_ref().map_or_else(|| words.clone(), |relay| relay.translate(&words))
        };
        match relayed {
            Ok(()) if exit.success() => Ok(()),
            Ok(()) => Err(ComponentError::new(PART, format!("ended with {exit}: {}", said()))),
            Err(why) if exit.success() => Err(ComponentError::new(PART, why)),
            Err(why) => Err(ComponentError::new(PART, format!("{why}; it ended with {exit}: {}", said()))),
        }
    }
}

async fn follow(stdout: ChildStdout, sender: watch::Sender<EncoderProgress>) {
    let mut lines = BufReader::new(stdout).lines();
    let mut progress = EncoderProgress::default();
    while let Ok(Some(line)) = lines.next_line().await {
        progress.read(&line);
        if line.starts_with("progress=") {
            sender.send_replace(progress);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_line_by_line() {
        let mut progress = EncoderProgress::default();
        for line in ["frame=12", "fps=3.0", "total_size=N/A", "total_size=4096", "progress=continue"] {
            progress.read(line);
        }
        assert_eq!(progress, EncoderProgress { frames: 12, bytes: 4096 });
    }
}
