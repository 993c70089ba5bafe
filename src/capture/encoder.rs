//! The one ffmpeg of a recording or broadcast: its life, and what it reports of its progress. Its options are in
//! `encoder_options.rs`.

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::ChildStdout;
use tokio::sync::watch;

use super::PartError;
use super::encoder_options::{CaptureOptions, Target, arguments};
use super::owner;
use crate::config::FfmpegOptions;
use crate::process::{self, Child};
use crate::protocol::ids::RtmpUrl;

const PART: &str = "ffmpeg";

/// Settings of glibc's allocator, in bytes: without them each frame of some 3 MB is memory that the kernel has to clear
/// and map anew, which was a tenth of ffmpeg's time. `mallopt(3)`; the first is the most there is.
const ALLOCATOR: &[(&str, &str)] =
    &[("MALLOC_MMAP_THRESHOLD_", "33554432"), ("MALLOC_TRIM_THRESHOLD_", "134217728"), ("MALLOC_TOP_PAD_", "8388608")];

/// Writes the stream key where only ffmpeg reads it. A command line can be read by every user of the host, so the key
/// is given as an option in a preset file (`-fpre`), which wins over what the URL says.
fn write_key(dir: &Path, url: &RtmpUrl) -> std::io::Result<Option<PathBuf>> {
    let Some(key) = url.key() else { return Ok(None) };
    let path = dir.join("rtmp.ffpreset");
    let text = format!("rtmp_app={}\nrtmp_playpath={key}\n", url.application());
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?.write_all(text.as_bytes())?;
    Ok(Some(path))
}

/// What ffmpeg last said of its progress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Frames encoded.
    pub frames: u64,
    /// Bytes put out.
    pub bytes: u64,
}

impl Progress {
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
    progress: watch::Receiver<Progress>,
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
        target: &Target,
        dir: &Path,
    ) -> Result<(Self, OwnedFd), PartError> {
        let failed = |why: &dyn std::fmt::Display| PartError::new(PART, why);
        let key_file = match target {
            Target::File(_) => None,
            Target::Rtmp(url) => write_key(dir, url).map_err(|error| failed(&error))?,
        };
        let mut spec = process::Spec::new(PART, "ffmpeg").env(owner::MARK, dir);
        for (name, value) in ALLOCATOR {
            spec = spec.env(*name, *value);
        }
        spec.args = arguments(capture, size, &options.post_input, target, key_file.as_deref());
        spec.pipe_stdin = true;
        spec.pipe_stdout = true;
        spec.log_level = tracing::Level::WARN;
        tracing::debug!(args = ?spec.args, "starting ffmpeg");
        let mut child = process::spawn(&spec).await.map_err(|error| failed(&error))?;
        let stdin = child.stdin.take().ok_or_else(|| failed(&"no standard input"))?;
        let stdin = stdin.into_owned_fd().map_err(|error| failed(&error))?;
        let (sender, progress) = watch::channel(Progress::default());
        if let Some(stdout) = child.stdout.take() {
            tokio::spawn(follow(stdout, sender));
        }
        Ok((Self { child, progress }, stdin))
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
    pub fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// Resolves when ffmpeg has ended, with the cause if that was not of its own will. Cancel-safe.
    ///
    /// # Errors
    /// Where it ended with an error.
    pub async fn ended(&mut self) -> Result<(), PartError> {
        let exit = self.child.wait().await;
        self.outcome(exit)
    }

    /// After its input was closed: waits up to `grace` for ffmpeg to write its end, then asks harder. Reaped when this
    /// returns.
    ///
    /// # Errors
    /// Where it ended with an error or had to be killed.
    pub async fn finish(&mut self, grace: Duration) -> Result<(), PartError> {
        if let Ok(outcome) = tokio::time::timeout(grace, self.ended()).await {
            return outcome;
        }
        tracing::warn!(pid = self.child.pid(), grace_s = grace.as_secs(), "ffmpeg does not end, asking it to stop");
        let exit = self.child.stop(Signal::TERM, Duration::from_secs(5)).await;
        self.outcome(exit)
    }

    /// Ends ffmpeg now.
    pub fn kill(&self) {
        self.child.signal(Signal::KILL);
    }

    fn outcome(&self, exit: process::Exit) -> Result<(), PartError> {
        if exit.success() {
            return Ok(());
        }
        Err(PartError::new(PART, format!("ended with {exit}: {}", self.child.tail().words(3))))
    }
}

async fn follow(stdout: ChildStdout, sender: watch::Sender<Progress>) {
    let mut lines = BufReader::new(stdout).lines();
    let mut progress = Progress::default();
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
    fn the_stream_key_is_not_on_the_command_line() {
        let dir = tempfile::tempdir().unwrap();
        let url = RtmpUrl::parse("rtmps://live.example.com/app/s3cret-key?token=1").unwrap();
        let file = write_key(dir.path(), &url).unwrap().unwrap();
        let args = arguments(&CaptureOptions::read(&[]), (2, 2), &[], &Target::Rtmp(url), Some(&file));
        let args = args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ");
        assert!(!args.contains("s3cret") && !args.contains("token"), "{args}");
        assert!(args.ends_with("rtmps://live.example.com/app"), "{args}");
        assert_eq!(std::fs::read_to_string(file).unwrap(), "rtmp_app=app\nrtmp_playpath=s3cret-key?token=1\n");
    }

    #[test]
    fn progress_is_read_line_by_line() {
        let mut progress = Progress::default();
        for line in ["frame=12", "fps=3.0", "total_size=N/A", "total_size=4096", "progress=continue"] {
            progress.read(line);
        }
        assert_eq!(progress, Progress { frames: 12, bytes: 4096 });
    }
}
