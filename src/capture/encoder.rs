//! The one ffmpeg of a recording or broadcast: its options, its life, and what it reports of its progress.
//!
//! The operator's options stay the operator's; ours come before them, so that theirs win, except for the container of
//! a raw file, which is always Matroska because that survives a kill at any byte.

use std::ffi::OsString;
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
use crate::config::FfmpegOptions;
use crate::process::{self, Child};
use crate::protocol::ids::RtmpUrl;

const PART: &str = "ffmpeg";
/// A keyframe at least this often, in seconds: what a seek has to decode, and what a kill may cost.
const KEYFRAME_SECONDS: u32 = 4;
/// Frames a second where `pre_input` does not say (`-framerate`).
const DEFAULT_FRAMERATE: u32 = 30;

/// Settings of glibc's allocator, in bytes: without them each frame of some 3 MB is memory that the kernel has to clear
/// and map anew, which was a tenth of ffmpeg's time. `mallopt(3)`; the first is the most there is.
const ALLOCATOR: &[(&str, &str)] =
    &[("MALLOC_MMAP_THRESHOLD_", "33554432"), ("MALLOC_TRIM_THRESHOLD_", "134217728"), ("MALLOC_TOP_PAD_", "8388608")];

/// Where the encoded media goes.
#[derive(Clone, Debug)]
pub enum Target {
    /// A Matroska file.
    File(PathBuf),
    Rtmp(RtmpUrl),
}

/// What `pre_input` says of the capture, and what of it is left for ffmpeg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureOptions {
    /// Frames a second, 1…120.
    pub framerate: u32,
    /// `-video_size`, in pixels; even.
    pub size: Option<(u32, u32)>,
    /// The options that are not the capture's.
    pub rest: Vec<String>,
}

impl CaptureOptions {
    /// Takes the options that the reference gives to `-f x11grab` and `-f pulse` out of `pre_input`.
    ///
    /// `-thread_queue_size` goes with them: it counts packets, and with raw frames of 3 MB the reference's 512 would
    /// let ffmpeg 7 hold 1.6 GB.
    #[must_use]
    pub fn read(pre_input: &[String]) -> Self {
        let mut options = Self { framerate: DEFAULT_FRAMERATE, size: None, rest: Vec::new() };
        let mut words = pre_input.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "-framerate" | "-r" => {
                    let value = words.next().and_then(|value| value.parse().ok());
                    options.framerate = value.unwrap_or(DEFAULT_FRAMERATE).clamp(1, 120);
                }
                "-video_size" | "-s" => options.size = words.next().and_then(|value| size(value)),
                "-draw_mouse" | "-thread_queue_size" | "-f" | "-i" | "-ac" | "-ar" | "-show_region" | "-grab_x"
                | "-grab_y" | "-follow_mouse" | "-fragment_size" => {
                    words.next();
                }
                _ => options.rest.push(word.clone()),
            }
        }
        options
    }
}

fn size(value: &str) -> Option<(u32, u32)> {
    let (width, height) = value.split_once('x')?;
    let (width, height): (u32, u32) = (width.parse().ok()?, height.parse().ok()?);
    ((2..=7680).contains(&width) && (2..=4320).contains(&height)).then_some((width & !1, height & !1))
}

/// ffmpeg's whole command line. `key_file`: see [`write_key`].
#[must_use]
pub fn arguments(
    capture: &CaptureOptions,
    post_input: &[String],
    target: &Target,
    key_file: Option<&Path>,
) -> Vec<OsString> {
    let mut args: Vec<OsString> = Vec::new();
    let mut push = |words: &[&str]| args.extend(words.iter().map(OsString::from));
    push(&["-hide_banner", "-nostdin", "-nostats", "-progress", "pipe:1", "-stats_period", "0.5"]);
    push(&capture.rest.iter().map(String::as_str).collect::<Vec<_>>());
    // The header says all there is to know of both tracks: nothing needs to be probed, nothing waits for it.
    push(&["-f", "matroska", "-probesize", "32", "-analyzeduration", "0", "-fpsprobesize", "0", "-i", "pipe:0"]);
    let given = |names: &[&str]| post_input.iter().any(|word| names.contains(&word.split(':').next().unwrap_or(word)));
    if !given(&["-force_key_frames"]) {
        push(&["-force_key_frames", &format!("expr:gte(t,n_forced*{KEYFRAME_SECONDS})")]);
    }
    let rate_given = given(&["-r", "-fps_mode", "-vsync"]);
    match target {
        Target::File(_) if !rate_given => push(&["-fps_mode", "vfr", "-enc_time_base:v", "1:1000"]),
        Target::Rtmp(_) if !rate_given => push(&["-fps_mode", "cfr", "-r", &capture.framerate.to_string()]),
        Target::File(_) | Target::Rtmp(_) => {}
    }
    push(&post_input.iter().map(String::as_str).collect::<Vec<_>>());
    match target {
        Target::File(path) => {
            push(&["-f", "matroska", "-cluster_time_limit", "1000", "-flush_packets", "1", "-y"]);
            args.push(path.into());
        }
        Target::Rtmp(url) => {
            push(&["-f", "flv"]);
            if let Some(file) = key_file {
                args.extend([OsString::from("-fpre"), file.into()]);
            }
            args.push(format!("{}/{}", url.origin(), url.application()).into());
        }
    }
    args
}

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
        options: &FfmpegOptions,
        target: &Target,
        dir: &Path,
    ) -> Result<(Self, OwnedFd), PartError> {
        let failed = |why: &dyn std::fmt::Display| PartError::new(PART, why);
        let key_file = match target {
            Target::File(_) => None,
            Target::Rtmp(url) => write_key(dir, url).map_err(|error| failed(&error))?,
        };
        let mut spec = process::Spec::new(PART, "ffmpeg");
        for (name, value) in ALLOCATOR {
            spec = spec.env(*name, *value);
        }
        spec.args = arguments(capture, &options.post_input, target, key_file.as_deref());
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
        let said = self.child.tail().lines();
        let last = said.iter().rev().take(3).rev().cloned().collect::<Vec<_>>().join("; ");
        Err(PartError::new(
            PART,
            format!("ended with {exit}: {}", if last.is_empty() { "it said nothing" } else { &last }),
        ))
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

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn line(args: &[OsString]) -> String {
        args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn options_of_the_x11_grabber_set_the_capture() {
        let options = CaptureOptions::read(&words(
            "-loglevel error -thread_queue_size 512 -draw_mouse 0 -framerate 25 -video_size 1281x721 -threads 1",
        ));
        assert_eq!(options.framerate, 25);
        assert_eq!(options.size, Some((1280, 720)));
        assert_eq!(options.rest, words("-loglevel error -threads 1"));
    }

    #[test]
    fn a_raw_file_is_matroska_whatever_the_operator_says() {
        let capture = CaptureOptions::read(&[]);
        let target = Target::File("/x/rec_raw.mkv".into());
        let args = line(&arguments(&capture, &words("-c:v libx264 -f mp4"), &target, None));
        assert!(
            args.ends_with(
                "-c:v libx264 -f mp4 -f matroska -cluster_time_limit 1000 -flush_packets 1 -y /x/rec_raw.mkv"
            ),
            "{args}"
        );
        assert!(args.contains("-fps_mode vfr"));
        let args = line(&arguments(&capture, &words("-r 15"), &target, None));
        assert!(!args.contains("-fps_mode"), "{args}");
    }

    #[test]
    fn the_stream_key_is_not_on_the_command_line() {
        let dir = tempfile::tempdir().unwrap();
        let url = RtmpUrl::parse("rtmps://live.example.com/app/s3cret-key?token=1").unwrap();
        let file = write_key(dir.path(), &url).unwrap().unwrap();
        let args = line(&arguments(&CaptureOptions::read(&[]), &[], &Target::Rtmp(url), Some(&file)));
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
