//! One run of ffmpeg from a raw file to an MP4 that is not whole yet.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::ChildStdout;
use tokio::sync::watch as channel;
use tokio_util::sync::CancellationToken;

use super::media::{FILES_ONLY, file_url};
use super::progress::{Progress, Reader};
use super::recipe::Recipe;
use crate::process::{self, Child, Exit, SpawnError, Spec};

/// An ffmpeg whose result has not grown, changed or got further for so long is stuck (on a share that is gone).
const STALLED: Duration = Duration::from_secs(120);
/// How often in that time it is looked at.
const LOOKS: u32 = 24;
/// For an ffmpeg that is not wanted any more; what it wrote is thrown away.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// For an ffmpeg that has closed its progress, which it does last, to be gone: its files may still be written back.
const END_GRACE: Duration = STALLED;
/// Lines and characters of ffmpeg's complaints that make a cause.
const CAUSE_LINES: usize = 4;
const CAUSE_CHARS: usize = 400;
/// Clock ticks in `/proc/PID/stat`: `USER_HZ`, 100 on every architecture this runs on (proc(5), time(7)).
const TICKS_PER_SECOND: f64 = 100.0;

/// What a run has cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ran {
    /// CPU time of ffmpeg, user and system; `None` where the kernel does not say.
    pub cpu: Option<Duration>,
    pub wall: Duration,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Start(#[from] SpawnError),
    #[error("ffmpeg failed ({exit}): {cause}")]
    Failed { exit: Exit, cause: String },
    #[error("ffmpeg got nowhere for {} s and was ended", STALLED.as_secs())]
    Stalled,
    #[error("stopped before it was done")]
    Stopped,
}

/// An unfinished file; removed when dropped.
#[derive(Debug)]
pub struct Part(PathBuf);

impl Part {
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// It is finished: it stays.
    pub fn keep(mut self) {
        // An empty path names no file that could be removed.
        self.0 = PathBuf::new();
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // It has been moved into its place, or was never begun: then there is nothing to remove.
        let _ = fs::remove_file(&self.0);
    }
}

/// What ffmpeg is to do.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    pub recipe: &'a Recipe,
    pub raw: &'a Path,
    /// How long the raw file lasts.
    pub total: Duration,
    pub part: &'a Path,
    /// 0…19, see [`Spec::nice`].
    pub nice: u8,
}

/// Runs ffmpeg from the raw file into the part. Reaped when this returns; what is in the part then is whole only after `Ok`.
/// How far it is goes into `progress`.
///
/// # Errors
/// See [`RunError`].
pub async fn run(
    task: Task<'_>,
    progress: &channel::Sender<Progress>,
    cancel: &CancellationToken,
) -> Result<Ran, RunError> {
    let spec = command(task.recipe, task.raw, task.part).nice(task.nice);
    let mut reader = Reader::new(task.total);
    let tell = |line: &str| {
        if let Some(now) = reader.line(line) {
            progress.send_replace(now);
        }
    };
    watch(&spec, task.part, tell, cancel, STALLED).await
}

/// Runs an ffmpeg that began as [`spec`] and writes into `part`; the rest is as with [`run`].
///
/// # Errors
/// See [`RunError`].
pub(crate) async fn run_spec(spec: &Spec, part: &Path, cancel: &CancellationToken) -> Result<Ran, RunError> {
    watch(spec, part, |_| {}, cancel, STALLED).await
}

async fn watch(
    spec: &Spec,
    part: &Path,
    mut tell: impl FnMut(&str),
    cancel: &CancellationToken,
    patience: Duration,
) -> Result<Ran, RunError> {
    let started = Instant::now();
    let mut child = process::spawn(spec).await?;
    let mut progress = child.stdout.take().map(|stdout| BufReader::new(stdout).lines());
    let mut pulse = Pulse::new(part, patience);
    loop {
        tokio::select! {
            line = next_line(&mut progress) => match line {
                Some(line) => {
                    pulse.progress(&line);
                    tell(&line);
                }
                None => break,
            },
            () = tokio::time::sleep_until(pulse.look_at) => {
                if pulse.is_stalled().await {
                    child.stop(Signal::TERM, STOP_GRACE).await;
                    return Err(RunError::Stalled);
                }
            }
            () = cancel.cancelled() => {
                child.stop(Signal::TERM, STOP_GRACE).await;
                return Err(RunError::Stopped);
            }
        }
    }
    // Not reaped before `end_within`, so `/proc` still has the whole account of it.
    let cpu = cpu_time(child.pid());
    let exit = end(&mut child, cancel).await?;
    if exit.success() {
        return Ok(Ran { cpu, wall: started.elapsed() });
    }
    let cause = condense(&child.tail().lines()).unwrap_or_else(|| "it does not say why".to_owned());
    Err(RunError::Failed { exit, cause })
}

async fn end(child: &mut Child, cancel: &CancellationToken) -> Result<Exit, RunError> {
    tokio::select! {
        exit = child.end_within(END_GRACE) => return Ok(exit),
        () = cancel.cancelled() => {}
    }
    child.stop(Signal::TERM, STOP_GRACE).await;
    Err(RunError::Stopped)
}

/// An ffmpeg that reports its progress; what it reads and writes is still to be said.
pub(crate) fn spec() -> Spec {
    let ours = ["-nostdin", "-hide_banner", "-nostats", "-loglevel", "warning", "-progress", "pipe:1"];
    let mut spec = Spec::new("ffmpeg", "ffmpeg").args(ours);
    spec.pipe_stdout = true;
    spec
}

fn command(recipe: &Recipe, raw: &Path, part: &Path) -> Spec {
    spec()
        .args(recipe.pre_input.iter())
        .args(FILES_ONLY)
        .args([OsString::from("-i"), file_url(raw)])
        .args(recipe.post_input.iter())
        .args(["-f", "mp4", "-y"])
        .args([file_url(part)])
}

/// The next line of the progress report; `None` at its end. Cancel-safe.
async fn next_line(progress: &mut Option<Lines<BufReader<ChildStdout>>>) -> Option<String> {
    progress.as_mut()?.next_line().await.ok().flatten()
}

/// Whether ffmpeg gets anywhere.
struct Pulse<'a> {
    part: &'a Path,
    out_time: Option<String>,
    file: Option<(u64, SystemTime)>,
    last_change: Instant,
    patience: Duration,
    look_at: tokio::time::Instant,
}

impl<'a> Pulse<'a> {
    fn new(part: &'a Path, patience: Duration) -> Self {
        let look_at = tokio::time::Instant::now() + patience / LOOKS;
        Self { part, out_time: None, file: None, last_change: Instant::now(), patience, look_at }
    }

    fn progress(&mut self, line: &str) {
        if let Some(("out_time_us", time)) = line.split_once('=')
            && self.out_time.as_deref() != Some(time)
        {
            self.out_time = Some(time.to_owned());
            self.last_change = Instant::now();
        }
    }

    /// Looks at the file: while its index is moved to the front, no progress is reported.
    async fn is_stalled(&mut self) -> bool {
        // On a share that is gone the look itself may hang.
        let every = self.patience / LOOKS;
        let look = tokio::time::timeout(every, tokio::fs::metadata(self.part)).await;
        self.look_at = tokio::time::Instant::now() + every;
        let file = look.ok().and_then(Result::ok).and_then(|file| Some((file.len(), file.modified().ok()?)));
        if file.is_some() && file != self.file {
            self.file = file;
            self.last_change = Instant::now();
        }
        self.last_change.elapsed() > self.patience
    }
}

/// User and system time of a process that has not been reaped (proc(5): fields 14 and 15 of `stat`).
fn cpu_time(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in field 2 may hold anything, its closing bracket is the last one.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Duration::try_from_secs_f64((ticks()? + ticks()?) / TICKS_PER_SECOND).ok()
}

/// The cause of a failure from a program's last lines: the end of them, without addresses and repetitions.
pub(super) fn condense(lines: &[String]) -> Option<String> {
    let mut said: Vec<String> = Vec::new();
    for line in lines {
        let line = without_address(line.trim());
        // ffmpeg's last words, which say nothing.
        let empty =
            line.is_empty() || line == "Conversion failed!" || line.starts_with("Error opening output file file:");
        if !empty && !said.contains(&line) {
            said.push(line);
        }
    }
    let last = said.split_off(said.len().saturating_sub(CAUSE_LINES)).join("; ");
    (!last.is_empty()).then(|| last.chars().take(CAUSE_CHARS).collect())
}

/// `[mov,mp4 @ 0x55d5c8] text` → `[mov,mp4] text`.
fn without_address(line: &str) -> String {
    if let Some((before, after)) = line.split_once(" @ 0x")
        && before.starts_with('[')
        && let Some((_, text)) = after.split_once(']')
    {
        return format!("{before}]{text}");
    }
    line.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transcode::media::Media;

    const NOTHING: Media = Media { duration: Duration::ZERO, streams: Vec::new() };

    #[test]
    fn a_cause_is_the_end_of_what_was_said() {
        let lines = [
            "one",
            "[mov,mp4 @ 0x55d5] moov atom not found",
            "[mov,mp4 @ 0x77] moov atom not found",
            "two",
            "three",
            "Conversion failed!",
        ];
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        assert_eq!(condense(&lines[1..]).unwrap(), "[mov,mp4] moov atom not found; two; three");
        assert_eq!(condense(&[]), None);
        assert_eq!(condense(&["x".repeat(5000)]).unwrap().len(), CAUSE_CHARS);
    }

    #[test]
    fn our_own_cpu_time_is_known() {
        assert!(cpu_time(std::process::id()).is_some());
        assert_eq!(cpu_time(u32::MAX), None);
    }

    #[tokio::test]
    async fn an_ffmpeg_that_gets_nowhere_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let (raw, part) = (dir.path().join("raw"), dir.path().join("part"));
        // Opening it for reading waits for a writer, who never comes.
        rustix::fs::mknodat(rustix::fs::CWD, &raw, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let recipe = Recipe::remux(&NOTHING);
        let never = CancellationToken::new();
        let spec = command(&recipe, &raw, &part);
        let run = watch(&spec, &part, |_| {}, &never, Duration::from_millis(500));
        let error = tokio::time::timeout(Duration::from_secs(20), run).await.unwrap().unwrap_err();
        assert!(matches!(error, RunError::Stalled), "{error}");
    }

    #[test]
    fn a_part_that_is_not_finished_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("part");
        fs::write(&path, "x").unwrap();
        Part::new(path.clone()).keep();
        assert!(path.exists());
        drop(Part::new(path.clone()));
        assert!(!path.exists());
        drop(Part::new(path));
    }

    #[test]
    fn names_reach_ffmpeg_as_files() {
        let recipe = Recipe::remux(&NOTHING);
        let args = command(&recipe, Path::new("-i raw"), Path::new("a:b")).args;
        assert!(args.contains(&"file:-i raw".into()) && args.last() == Some(&"file:a:b".into()));
    }
}
