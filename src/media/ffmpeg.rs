//! Runs ffmpeg for the conversion of a raw file, or for a concatenation.

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::ChildStdout;
use tokio::sync::watch as channel;
use tokio_util::sync::CancellationToken;

use crate::media::error_text::condense;
use crate::media::ffprobe::{FILES_ONLY, file_url};
use crate::media::progress::{FfmpegProgress, ProgressReader};
use crate::media::stall_watch::StallWatch;
use crate::process::child::{self, Child, ChildSpec, Exit, SpawnError};
use crate::process::procfs;

/// Time limit without progress and without a change of the result (a lost share, for example).
const STALLED: Duration = Duration::from_secs(120);
/// Time limit for an ffmpeg to end on SIGTERM; its output is discarded.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// Time limit for an ffmpeg to exit after it has closed its progress output: its files may still be written back.
const END_GRACE: Duration = STALLED;

/// What ffmpeg says of a file that it could not finish, as where the room for an MP4's index is too small: 5.1 ends with
/// success all the same.
const UNFINISHED: &str = "Error writing trailer";

/// Cost of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FfmpegReport {
    /// CPU time of ffmpeg, user and system; `None` where the kernel does not report it.
    pub cpu: Option<Duration>,
    pub wall: Duration,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum FfmpegError {
    #[error(transparent)]
    Start(#[from] SpawnError),
    /// `last_words`: the end of what it said, without secrets.
    #[error("ffmpeg failed ({exit}): {cause}")]
    Failed { exit: Exit, cause: String, last_words: String },
    #[error("ffmpeg got nowhere for {} s and was ended", STALLED.as_secs())]
    Stalled,
    #[error("stopped before it was done")]
    Stopped,
}

/// A conversion.
#[derive(Clone, Copy, Debug)]
pub struct FfmpegTask<'a> {
    /// Options before and after the input.
    pub pre_input: &'a [String],
    pub post_input: &'a [String],
    pub input: &'a Path,
    /// Duration of the input.
    pub total: Duration,
    /// An MP4; an existing file is overwritten.
    pub output: &'a Path,
    /// 0…19, see [`ChildSpec::nice`].
    pub nice: u8,
}

/// Converts a raw file to an MP4 and reports to `progress`. ffmpeg is reaped when this returns; the output is complete
/// only after `Ok`.
///
/// # Errors
/// See [`FfmpegError`].
pub async fn run(
    task: FfmpegTask<'_>,
    progress: &channel::Sender<FfmpegProgress>,
    cancel: &CancellationToken,
) -> Result<FfmpegReport, FfmpegError> {
    run_into("mp4", task, progress, cancel).await
}

/// The same into another container, by ffmpeg's name of it.
///
/// # Errors
/// See [`FfmpegError`].
pub async fn run_into(
    container: &str,
    task: FfmpegTask<'_>,
    progress: &channel::Sender<FfmpegProgress>,
    cancel: &CancellationToken,
) -> Result<FfmpegReport, FfmpegError> {
    let spec = command(&task, container).nice(task.nice);
    let mut reader = ProgressReader::new(task.total);
    let on_line = |line: &str| {
        if let Some(now) = reader.line(line) {
            progress.send_replace(now);
        }
    };
    run_watched(&spec, task.output, on_line, cancel, STALLED).await
}

/// Runs an ffmpeg that was built with [`spec`] and writes into `part`; otherwise like [`run`].
///
/// # Errors
/// See [`FfmpegError`].
pub(crate) async fn run_spec(
    spec: &ChildSpec,
    part: &Path,
    cancel: &CancellationToken,
) -> Result<FfmpegReport, FfmpegError> {
    run_watched(spec, part, |_| {}, cancel, STALLED).await
}

async fn run_watched(
    spec: &ChildSpec,
    part: &Path,
    mut on_line: impl FnMut(&str),
    cancel: &CancellationToken,
    stall_limit: Duration,
) -> Result<FfmpegReport, FfmpegError> {
    let started = Instant::now();
    let mut child = child::spawn(spec).await?;
    let mut progress = child.stdout.take().map(|stdout| BufReader::new(stdout).lines());
    let mut stall_watch = StallWatch::new(part, stall_limit);
    loop {
        tokio::select! {
            line = next_line(&mut progress) => match line {
                Some(line) => {
                    stall_watch.progress(&line);
                    on_line(&line);
                }
                None => break,
            },
            () = tokio::time::sleep_until(stall_watch.next_check) => {
                if stall_watch.is_stalled().await {
                    child.stop(Signal::TERM, STOP_GRACE).await;
                    return Err(FfmpegError::Stalled);
                }
            }
            () = cancel.cancelled() => {
                child.stop(Signal::TERM, STOP_GRACE).await;
                return Err(FfmpegError::Stopped);
            }
        }
    }
    // The process is a zombie until `end_within` reaps it, so `/proc` still has its total CPU time.
    let cpu = procfs::cpu_time(child.pid());
    let exit = end(&mut child, cancel).await?;
    judge(exit, &child)?;
    Ok(FfmpegReport { cpu, wall: started.elapsed() })
}

/// Whether an ffmpeg that has ended so has finished its file.
///
/// # Errors
/// [`FfmpegError::Failed`] where it has not.
pub(crate) fn judge(exit: Exit, child: &Child) -> Result<(), FfmpegError> {
    let said = child.tail().lines();
    if exit.success() && !said.iter().any(|line| line.contains(UNFINISHED)) {
        return Ok(());
    }
    let cause = condense(&said).unwrap_or_else(|| "it does not say why".to_owned());
    Err(FfmpegError::Failed { exit, cause, last_words: said.join("\n") })
}

async fn end(child: &mut Child, cancel: &CancellationToken) -> Result<Exit, FfmpegError> {
    tokio::select! {
        exit = child.end_within(END_GRACE) => return Ok(exit),
        () = cancel.cancelled() => {}
    }
    child.stop(Signal::TERM, STOP_GRACE).await;
    Err(FfmpegError::Stopped)
}

/// An ffmpeg that reports its progress to its standard output; input and output are still missing.
pub(crate) fn spec() -> ChildSpec {
    let ours = ["-nostdin", "-hide_banner", "-nostats", "-loglevel", "warning", "-progress", "pipe:1"];
    let mut spec = ChildSpec::new("ffmpeg", "ffmpeg").args(ours);
    spec.pipe_stdout = true;
    spec
}

fn command(task: &FfmpegTask<'_>, container: &str) -> ChildSpec {
    spec()
        .args(task.pre_input)
        .args(FILES_ONLY)
        .args([OsString::from("-i"), file_url(task.input)])
        .args(task.post_input)
        .args(["-f", container, "-y"])
        .args([file_url(task.output)])
}

/// The next line of the progress report; `None` at its end. Cancel-safe.
async fn next_line(progress: &mut Option<Lines<BufReader<ChildStdout>>>) -> Option<String> {
    progress.as_mut()?.next_line().await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task<'a>(input: &'a Path, output: &'a Path) -> FfmpegTask<'a> {
        FfmpegTask { pre_input: &[], post_input: &[], input, total: Duration::ZERO, output, nice: 0 }
    }

    #[tokio::test]
    async fn a_stalled_ffmpeg_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let (raw, part) = (dir.path().join("raw"), dir.path().join("part"));
        // Opening a FIFO for reading waits for a writer, which never comes.
        rustix::fs::mknodat(rustix::fs::CWD, &raw, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let never = CancellationToken::new();
        let spec = command(&task(&raw, &part), "mp4");
        let run = run_watched(&spec, &part, |_| {}, &never, Duration::from_millis(500));
        let error = tokio::time::timeout(Duration::from_secs(20), run).await.unwrap().unwrap_err();
        assert!(matches!(error, FfmpegError::Stalled), "{error}");
    }

    #[test]
    fn names_reach_ffmpeg_as_files() {
        let args = command(&task(Path::new("-i raw"), Path::new("a:b")), "mp4").args;
        assert!(args.contains(&"file:-i raw".into()) && args.last() == Some(&"file:a:b".into()));
    }
}
