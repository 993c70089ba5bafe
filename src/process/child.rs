//! Child processes. Each has its own process group, is killed by the kernel when the daemon dies, has its output logged
//! line by line, is stopped in steps (signal, grace, kill) and is always reaped.
//!
//! No shell is started between the daemon and a child.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use command_fds::{CommandFdExt as _, FdMapping};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal};
use tokio::net::unix::pipe;
use tokio::process::{ChildStdin, ChildStdout};

use crate::codes;
use crate::process::interpreter::missing_interpreter;
use crate::process::output::{self, OutputBudget, OutputLog, OutputTail};
use crate::process::programs::find_program;
use crate::process::spawner;

/// Time limit for the end of a killed child: one that waits for a disk takes longer.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// The first file descriptor of [`ChildSpec::output_pipes`].
pub const FIRST_OUTPUT: i32 = 5;

/// What the service manager tells the daemon alone: a script that said READY=1 or WATCHDOG=1 would speak for it.
const SERVICE_MANAGER: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// How to start a child.
#[derive(Clone, Debug)]
pub struct ChildSpec {
    /// Name in the log: `ffmpeg`, `Xvfb`, a script's name.
    pub name: String,
    pub program: PathBuf,
    /// The program that `program` executes in its turn.
    pub wrapped: Option<PathBuf>,
    pub args: Vec<OsString>,
    /// Added to the daemon's environment.
    pub env: Vec<(OsString, OsString)>,
    pub current_dir: Option<PathBuf>,
    /// Whether the parent gets a pipe to the standard input; otherwise the input is `/dev/null`.
    pub pipe_stdin: bool,
    /// Whether the parent gets the standard output; otherwise it is logged like standard error.
    pub pipe_stdout: bool,
    /// Whether the child has two more pipes: it reads from file descriptor 3 what the parent writes, and the parent reads
    /// what it writes to 4.
    pub message_pipes: bool,
    /// Number of further pipes that the child writes to and the parent reads, from file descriptor 5 on.
    pub output_pipes: u8,
    /// Log level of the child's lines.
    pub log_level: tracing::Level,
    /// How much of its output is logged; shared by all children of this specification and of its clones.
    pub log_budget: Arc<OutputBudget>,
}

impl ChildSpec {
    #[must_use]
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            wrapped: None,
            args: Vec::new(),
            env: Vec::new(),
            current_dir: None,
            pipe_stdin: false,
            pipe_stdout: false,
            message_pipes: false,
            output_pipes: 0,
            log_level: tracing::Level::INFO,
            log_budget: Arc::default(),
        }
    }

    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Lowers the priority of the child for processor and disk. `niceness`: 0 (normal) to 19. Uses the programs nice(1)
    /// and ionice(1), which exec the child; a missing one is skipped.
    #[must_use]
    pub fn nice(mut self, niceness: u8) -> Self {
        if niceness == 0 {
            return self;
        }
        let niceness = niceness.min(19).to_string();
        self.wrapped.get_or_insert_with(|| self.program.clone());
        // Best effort, the lowest of its eight levels (ioprio_set(2)). `-t`: continue where the kernel refuses.
        for (program, args) in [("ionice", &["-t", "-c", "2", "-n", "7"][..]), ("nice", &["-n", &niceness])] {
            if let Some(found) = find_program(Path::new(program)) {
                let before = std::mem::replace(&mut self.program, found);
                self.args.insert(0, before.into());
                self.args.splice(0..0, args.iter().map(OsString::from));
            }
        }
        self
    }

    /// The program that runs at last.
    fn executed(&self) -> &Path {
        self.wrapped.as_deref().unwrap_or(&self.program)
    }

    #[must_use]
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }
}

/// A child could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start {name} ({program}): {source}")]
pub struct SpawnError {
    pub name: String,
    pub program: String,
    pub source: std::io::Error,
}

/// Exit status of a child; `None`: it was killed and has not ended, because the kernel holds it (it waits for a disk).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(Option<ExitStatus>);

impl Exit {
    #[must_use]
    pub fn success(self) -> bool {
        self.0.is_some_and(|status| status.success())
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(status) = self.0 else { return f.write_str("no end although it was killed: it waits for a disk") };
        match (status.code(), status.signal()) {
            (Some(code), _) => write!(f, "exit code {code}"),
            (None, Some(signal)) => write!(f, "signal {signal}"),
            (None, None) => write!(f, "{status}"),
        }
    }
}

/// A running child. When it is dropped, its whole group is killed and the child is reaped.
#[derive(Debug)]
pub struct Child {
    name: String,
    pid: u32,
    inner: tokio::process::Child,
    pub stdin: Option<ChildStdin>,
    pub stdout: Option<ChildStdout>,
    /// Where [`ChildSpec::message_pipes`] is set: what the child reads and writes.
    pub messages: Option<(pipe::Sender, pipe::Receiver)>,
    /// [`ChildSpec::output_pipes`], in their order.
    pub outputs: Vec<pipe::Receiver>,
    tail: OutputTail,
    readers: Vec<tokio::task::JoinHandle<()>>,
    exit: Option<Exit>,
}

/// Starts a child; its lines are logged within the current span.
///
/// # Errors
/// Where the program is missing or not executable, no process can be created, or the disk of the program does not answer.
pub async fn spawn(spec: &ChildSpec) -> Result<Child, SpawnError> {
    let failed =
        |source| SpawnError { name: spec.name.clone(), program: spec.executed().display().to_string(), source };
    let mut command = tokio::process::Command::new(&spec.program);
    for variable in SERVICE_MANAGER {
        command.env_remove(variable);
    }
    command
        .args(&spec.args)
        .envs(spec.env.iter().map(|(key, value)| (key, value)))
        .stdin(if spec.pipe_stdin { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    if let Some(dir) = &spec.current_dir {
        command.current_dir(dir);
    }
    die_with_daemon(&mut command);
    let (messages, outputs) = add_pipes(&mut command, spec).map_err(failed)?;
    let mut inner = match spawner::spawn(spec.executed(), command).await {
        Ok(inner) => inner,
        // The disk of the program does not answer this question either.
        Err(source) if source.kind() == std::io::ErrorKind::TimedOut => return Err(failed(source)),
        Err(source) => return Err(failed(explained(source, &spec.program).await)),
    };
    let pid = inner.id().ok_or_else(|| failed(std::io::Error::other("it ended at once")))?;
    let tail = OutputTail::default();
    let log = |tail| OutputLog {
        name: spec.name.clone(),
        pid,
        level: spec.log_level,
        budget: Arc::clone(&spec.log_budget),
        tail,
    };
    let mut readers = Vec::new();
    let stdin = inner.stdin.take();
    let mut stdout = inner.stdout.take();
    if !spec.pipe_stdout {
        readers.extend(stdout.take().map(|stdout| output::read(stdout, log(OutputTail::default()))));
    }
    readers.extend(inner.stderr.take().map(|stderr| output::read(stderr, log(tail.clone()))));
    Ok(Child { name: spec.name.clone(), pid, inner, stdin, stdout, messages, outputs, tail, readers, exit: None })
}

/// The error with what the kernel does not say: that a script's interpreter is what is missing.
async fn explained(source: std::io::Error, program: &Path) -> std::io::Error {
    if source.kind() != std::io::ErrorKind::NotFound {
        return source;
    }
    let script = program.to_owned();
    let why = tokio::task::spawn_blocking(move || missing_interpreter(&find_program(&script)?)).await;
    why.ok().flatten().map_or(source, |why| std::io::Error::new(std::io::ErrorKind::NotFound, why))
}

type MessagePipes = Option<(pipe::Sender, pipe::Receiver)>;

/// Opens the pipes that a child has besides its standard ones and gives the child its ends of them: messages at the file
/// descriptors 3 and 4, outputs from 5 on.
fn add_pipes(
    command: &mut tokio::process::Command,
    spec: &ChildSpec,
) -> std::io::Result<(MessagePipes, Vec<pipe::Receiver>)> {
    let (mut mapped, mut messages, mut outputs) = (Vec::new(), None, Vec::new());
    if spec.message_pipes {
        let (requests, to_child) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let (from_child, answers) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        mapped.extend([FdMapping { parent_fd: requests, child_fd: 3 }, FdMapping { parent_fd: answers, child_fd: 4 }]);
        messages = Some((pipe::Sender::from_owned_fd(to_child)?, pipe::Receiver::from_owned_fd(from_child)?));
    }
    for index in 0..spec.output_pipes {
        let (output, parent_fd) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        mapped.push(FdMapping { parent_fd, child_fd: FIRST_OUTPUT + i32::from(index) });
        outputs.push(pipe::Receiver::from_owned_fd(output)?);
    }
    if !mapped.is_empty() {
        command.fd_mappings(mapped).map_err(std::io::Error::other)?;
    }
    Ok((messages, outputs))
}

/// Lets the kernel kill the child when the daemon dies for any reason (prctl(2), `PR_SET_PDEATHSIG`).
#[expect(unsafe_code, reason = "pre_exec is the only way to run code between fork and exec")]
fn die_with_daemon(command: &mut tokio::process::Command) {
    let daemon = rustix::process::getpid();
    // SAFETY: only async-signal-safe calls are made between fork and exec: prctl and getppid, both plain system calls.
    // An `io::Error` from an errno does not allocate.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // If the daemon died before the call above, no signal will be sent.
            if rustix::process::getppid() == Some(daemon) { Ok(()) } else { Err(std::io::Error::from_raw_os_error(3)) }
        });
    }
}

impl Child {
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether the child has ended and was waited for.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.exit.is_some()
    }

    /// The last lines of standard error, updated while the child runs.
    #[must_use]
    pub fn tail(&self) -> OutputTail {
        self.tail.clone()
    }

    /// Waits until the child has ended and all its output is logged; then kills the rest of its group. Cancel-safe; may
    /// be repeated.
    pub async fn wait(&mut self) -> Exit {
        let exit = match self.exit {
            Some(exit) => exit,
            None => self.reap().await,
        };
        // Each reader is removed only when it is done: the wait may be cancelled here and repeated.
        while let Some(reader) = self.readers.last_mut() {
            // A grandchild outside of the group may keep the pipe open and must not block the wait.
            if tokio::time::timeout(Duration::from_secs(1), &mut *reader).await.is_err() {
                reader.abort();
            }
            self.readers.pop();
        }
        exit
    }

    async fn reap(&mut self) -> Exit {
        let status = self.inner.wait().await.unwrap_or_else(|error| {
            // Only possible where other code has reaped the child.
            tracing::error!(
                code = %codes::CHILD_NOT_AWAITED, child = self.name, pid = self.pid, %error,
                "cannot wait for the child"
            );
            ExitStatus::from_raw(-1)
        });
        let exit = Exit(Some(status));
        // A process group's number is not reused while any member runs, even after its leader has ended.
        self.signal(Signal::KILL);
        self.exit = Some(exit);
        exit
    }

    /// Sends `signal` to the whole process group, unless the child has been reaped.
    pub fn signal(&self, signal: Signal) {
        if self.exit.is_some() {
            return;
        }
        if let Some(group) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            // A group that has ended needs no signal.
            let _ = rustix::process::kill_process_group(group, signal);
        }
    }

    /// Sends `signal`, waits up to `grace` for the end, then kills, as [`Self::end_within`] does.
    pub async fn stop(&mut self, signal: Signal, grace: Duration) -> Exit {
        self.signal(signal);
        self.end_within(grace).await
    }

    /// Waits up to `grace` for the child to end by itself, then kills it. The child is reaped when this returns, unless
    /// even the kill takes longer than 5 s: then the runtime reaps it whenever the kernel lets it go.
    pub async fn end_within(&mut self, grace: Duration) -> Exit {
        if let Ok(exit) = tokio::time::timeout(grace, self.wait()).await {
            return exit;
        }
        tracing::warn!(
            code = %codes::CHILD_KILLED,
            child = self.name,
            pid = self.pid,
            grace_s = crate::telemetry::seconds(grace),
            "still running, killing it"
        );
        self.signal(Signal::KILL);
        if let Ok(exit) = tokio::time::timeout(KILL_LIMIT, self.wait()).await {
            return exit;
        }
        tracing::warn!(
            code = %codes::CHILD_STUCK,
            child = self.name,
            pid = self.pid,
            "killed, but it does not end: it waits for a disk that does not answer, and ends when that is back"
        );
        Exit(self.exit.and_then(|exit| exit.0))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::output::{LINE_LIMIT, LINE_READ, presentable};
    use crate::telemetry::redact;

    fn shell(script: &str) -> ChildSpec {
        ChildSpec::new("sh", "/bin/sh").args(["-c", script])
    }

    #[tokio::test]
    async fn the_exit_and_the_last_lines_are_known() {
        let mut child = spawn(&shell("echo one >&2; echo two >&2; exit 3")).await.unwrap();
        assert_eq!(child.wait().await.to_string(), "exit code 3");
        assert_eq!(child.tail().lines(), ["one", "two"]);
    }

    #[tokio::test]
    async fn a_cancelled_wait_can_be_repeated_without_losing_output() {
        let mut child = spawn(&shell("seq 1 100000 >&2; exit 3")).await.unwrap();
        while child.exit.is_none() {
            let _ = tokio::time::timeout(Duration::from_millis(10), child.wait()).await;
        }
        assert_eq!(child.wait().await.to_string(), "exit code 3");
        assert_eq!(child.tail().lines().last().map(String::as_str), Some("100000"));
    }

    #[tokio::test]
    async fn a_child_that_ignores_the_signal_is_killed_with_its_children() {
        let mut child = spawn(&shell("trap '' TERM; sleep 1000 & echo $! >&2; while :; do wait; done")).await.unwrap();
        let tail = child.tail();
        while tail.lines().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let grandchild: i32 = tail.lines()[0].parse().unwrap();
        let exit = child.stop(Signal::TERM, Duration::from_millis(50)).await;
        assert_eq!(exit.to_string(), "signal 9");
        // Killed with the group. Init reaps it some time later, so a zombie counts as ended.
        let state = || std::fs::read_to_string(format!("/proc/{grandchild}/stat")).unwrap_or_else(|_| ") Z".to_owned());
        while !state().contains(") Z") && !state().contains(") X") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn a_nice_child_has_low_priority_and_its_own_program() {
        let spec = ChildSpec::new("sh", "/bin/sh").args(["-c", "cut -d' ' -f1,19 /proc/$$/stat; ionice -p $$"]).nice(7);
        let mut child = spawn(&ChildSpec { pipe_stdout: true, ..spec }).await.unwrap();
        let mut output = String::new();
        let mut stdout = child.stdout.take().unwrap();
        tokio::io::AsyncReadExt::read_to_string(&mut stdout, &mut output).await.unwrap();
        let pid = child.pid();
        assert!(child.wait().await.success());
        // Added to the niceness of the tests themselves.
        let own = std::fs::read_to_string("/proc/self/stat").unwrap();
        let own: i32 = own.rsplit_once(')').unwrap().1.split_whitespace().nth(16).unwrap().parse().unwrap();
        assert_eq!(output, format!("{pid} {}\nbest-effort: prio 7\n", (own + 7).min(19)));
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let error = spawn(&ChildSpec::new("nothing", "/no/such/program")).await.unwrap_err();
        assert!(error.to_string().contains("/no/such/program"), "{error}");
    }

    #[tokio::test]
    async fn a_secret_is_masked_even_where_its_line_is_cut() {
        let secret = "open-sesame-and-a-word-more";
        let _registration = redact::register(secret);
        // The kept bytes hold from one byte of the secret up to all of it.
        for before in LINE_LIMIT - secret.len() - 1..LINE_LIMIT {
            let line = format!("{}{secret} and on", "x".repeat(before));
            let line = &line.as_bytes()[..line.len().min(LINE_READ)];
            let clean = presentable(line);
            assert!(clean.len() <= LINE_LIMIT && !clean.contains("ope"), "{before}: {}", &clean[before..]);
        }
        let mut child = spawn(&shell(&format!("echo 'the key is {secret}' >&2"))).await.unwrap();
        child.wait().await;
        assert_eq!(child.tail().lines(), ["the key is [redacted]"]);
    }

    #[tokio::test]
    async fn an_endless_line_does_not_fill_the_memory() {
        let mut child =
            spawn(&shell("head -c 10000000 /dev/zero | tr '\\0' x >&2; echo >&2; echo end >&2")).await.unwrap();
        child.wait().await;
        let lines = child.tail().lines();
        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [LINE_LIMIT, 3]);
    }
}
