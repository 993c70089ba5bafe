//! A child's output: its lines in the log, as many as its budget allows ([`LogBudget`]), and its last lines for the cause
//! of a failure.
//!
//! A child never waits for the log: what is left out is only counted, and costs next to nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::time::Instant;
use tracing::{Instrument as _, Level};

use crate::codes;
use crate::process::log_budget::{self, LogBudget};
use crate::telemetry::redact;

/// Number of lines of an output that are kept for the cause of a failure.
const TAIL_LINES: usize = 20;
/// Number of the last lines that are logged of an output whose end was left out.
const END_LINES: usize = 10;
/// Length limit of a line in the log and in the tail, in bytes.
pub(super) const LINE_LIMIT: usize = 4096;
/// Bytes read of a line: the rest after the limit is needed to recognise a secret that the limit cuts.
pub(super) const LINE_READ: usize = LINE_LIMIT + redact::PIECE;
/// Bytes read at once: the capacity of a pipe.
const CHUNK: usize = 64 * 1024;

/// Lines that programs write at every run and that need no action; logged at DEBUG.
const NOISE: [&str; 1] = [
    // ffmpeg writes it for sound whose header has the number of channels but no layout.
    "Guessed Channel Layout",
];

/// What the log takes of a program's output; shared by all outputs that count together.
#[derive(Debug)]
pub struct OutputBudget {
    since: Instant,
    budget: Mutex<LogBudget>,
}

impl Default for OutputBudget {
    fn default() -> Self {
        Self { since: Instant::now(), budget: Mutex::default() }
    }
}

/// The budgets of an operator's scripts, as many as the configuration names.
static OF_SCRIPTS: LazyLock<Mutex<HashMap<String, Arc<OutputBudget>>>> = LazyLock::new(Mutex::default);

impl OutputBudget {
    /// The one budget of all processes of the script that the configuration names by `command`, at once and one after
    /// the other.
    #[must_use]
    pub fn of_script(command: &str) -> Arc<Self> {
        let mut all = OF_SCRIPTS.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(command.to_owned()).or_default())
    }

    fn lock(&self) -> MutexGuard<'_, LogBudget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, bytes: usize) -> bool {
        self.lock().take(self.since.elapsed(), bytes)
    }

    /// When lines are logged again, if any was left out.
    fn ends(&self) -> Instant {
        self.since + self.lock().ends()
    }
}

/// The last lines of an output, shared with the task that reads it.
#[derive(Clone, Debug, Default)]
pub struct OutputTail(Arc<Mutex<VecDeque<Vec<u8>>>>);

impl OutputTail {
    fn push(&self, line: &[u8]) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = if lines.len() == TAIL_LINES { lines.pop_front() } else { None }.unwrap_or_default();
        kept.clear();
        kept.extend_from_slice(line);
        lines.push_back(kept);
    }

    /// The last `most` lines, joined for an error message.
    #[must_use]
    pub fn last_lines(&self, most: usize) -> String {
        let lines = self.lines();
        if lines.is_empty() {
            return "it said nothing".to_owned();
        }
        lines[lines.len().saturating_sub(most)..].join("; ")
    }

    /// The lines, oldest first, without secrets.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(|line| presentable(line)).collect()
    }
}

/// A child's line without secrets, cut to [`LINE_LIMIT`]: lines become causes, which are stored and sent to the server.
pub(super) fn presentable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let mut clean = redact::scrub(&text).into_owned();
    if clean.len() > LINE_LIMIT {
        let end = (0..=LINE_LIMIT).rev().find(|end| clean.is_char_boundary(*end));
        clean.truncate(end.unwrap_or_default());
    }
    clean.truncate(clean.trim_end().len());
    clean
}

/// Where an output's lines go.
pub(super) struct OutputLog {
    /// The child's name in the log.
    pub name: String,
    pub pid: u32,
    pub level: Level,
    pub budget: Arc<OutputBudget>,
    pub tail: OutputTail,
}

/// Reads an output to its end; its lines are logged within the current span.
pub(super) fn read(pipe: impl AsyncRead + Unpin + Send + 'static, log: OutputLog) -> tokio::task::JoinHandle<()> {
    let read = async move {
        let mut pipe = BufReader::with_capacity(CHUNK, pipe);
        let mut lines = OutputLines { log, unfinished: Vec::new(), begun: false, left_out: LeftOut::default() };
        loop {
            let chunk = tokio::select! {
                biased;
                chunk = pipe.fill_buf() => chunk,
                () = tokio::time::sleep_until(lines.log.budget.ends()), if lines.left_out.lines > 0 => {
                    lines.report();
                    continue;
                }
            };
            // A pipe that fails has no more lines, like a closed one.
            let Ok(chunk) = chunk else { return };
            if chunk.is_empty() {
                return;
            }
            let read = chunk.len();
            lines.add(chunk);
            pipe.consume(read);
        }
    };
    tokio::spawn(read.in_current_span())
}

/// What the log did not take since the last report.
#[derive(Debug, Default)]
struct LeftOut {
    lines: u64,
    bytes: u64,
}

/// Takes an output apart.
struct OutputLines {
    log: OutputLog,
    /// The last line, without its end, at most [`LINE_READ`] bytes.
    unfinished: Vec<u8>,
    begun: bool,
    left_out: LeftOut,
}

impl OutputLines {
    fn add(&mut self, mut chunk: &[u8]) {
        while let Some(at) = chunk.iter().position(|byte| *byte == b'\n') {
            if self.begun {
                self.keep(&chunk[..at]);
                let line = std::mem::take(&mut self.unfinished);
                self.line(&line);
                self.unfinished = line;
                self.unfinished.clear();
                self.begun = false;
            } else {
                self.line(&chunk[..at.min(LINE_READ)]);
            }
            chunk = &chunk[at + 1..];
        }
        self.begun |= !chunk.is_empty();
        self.keep(chunk);
    }

    /// Adds to the unfinished line.
    fn keep(&mut self, bytes: &[u8]) {
        let room = LINE_READ.saturating_sub(self.unfinished.len());
        self.unfinished.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn line(&mut self, line: &[u8]) {
        let line = line.trim_ascii_end();
        if line.is_empty() {
            return;
        }
        self.log.tail.push(line);
        if !self.log.budget.take(line.len()) {
            self.left_out.lines += 1;
            self.left_out.bytes += line.len() as u64;
            return;
        }
        self.report();
        self.log.write(&presentable(line));
    }

    /// Tells what was left out.
    fn report(&mut self) {
        let LeftOut { lines, bytes } = std::mem::take(&mut self.left_out);
        if lines == 0 {
            return;
        }
        let OutputLog { name, pid, level, .. } = &self.log;
        let (per, most) = (log_budget::LINES, log_budget::BYTES / 1024);
        let what = format!(
            "it writes more than {per} lines or {most} KiB in a minute: the rest is left out of the log; have a script \
             that says so much write a file of its own"
        );
        if *level > Level::INFO {
            tracing::debug!(child = name, pid, lines, bytes, "{what}");
        } else {
            tracing::warn!(code = %codes::OUTPUT_LEFT_OUT, child = name, pid, lines, bytes, "{what}");
        }
    }
}

impl Drop for OutputLines {
    /// At the end of the output, or where it is not read any more.
    fn drop(&mut self) {
        if self.begun {
            let line = std::mem::take(&mut self.unfinished);
            self.line(&line);
        }
        let left_out = usize::try_from(self.left_out.lines).unwrap_or(usize::MAX);
        self.report();
        let last = self.log.tail.lines();
        for line in last.iter().skip(last.len().saturating_sub(left_out.min(END_LINES))) {
            self.log.write(line);
        }
    }
}

impl OutputLog {
    fn write(&self, text: &str) {
        let Self { name, pid, level, .. } = self;
        let is_noise = NOISE.iter().any(|noise| text.contains(noise));
        match if is_noise { (*level).max(Level::DEBUG) } else { *level } {
            Level::ERROR => tracing::error!(code = %codes::CHILD_SAYS, child = name, pid, "{text}"),
            Level::WARN => tracing::warn!(code = %codes::CHILD_SAYS, child = name, pid, "{text}"),
            Level::INFO => tracing::info!(child = name, pid, "{text}"),
            Level::DEBUG => tracing::debug!(child = name, pid, "{text}"),
            Level::TRACE => tracing::trace!(child = name, pid, "{text}"),
        }
    }
}
