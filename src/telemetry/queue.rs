//! A queue and a thread for each output, so that logging never waits for one (a pipe that nobody reads, a disk that
//! hangs). When the queue is full, lines are dropped; their number is reported once lines are written again.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

use crate::codes;
use crate::telemetry::log_throttle::LogThrottle;
use crate::telemetry::sink::Writing;

/// Lines that may wait: some 2 MB.
pub(super) const LINES: usize = 8 * 1024;
/// Interval of reports while a slow reader makes lines be dropped continuously; interval of the looks at an output that
/// stands still.
pub(super) const REPORT_EVERY: Duration = Duration::from_secs(1);
/// How long one line may take before its output counts as standing still: a disk that wakes up takes some seconds.
pub(super) const STILL_AFTER: Duration = Duration::from_secs(10);
/// How long the end of the program waits for lines to be written.
const CLOSE_LIMIT: Duration = Duration::from_millis(500);

/// Starts a thread that writes to `output`. `name`: the output's name in messages.
pub(super) fn start(name: &'static str, output: impl Write + Send + 'static, lines: usize) -> (Input, LogQueue) {
    let state = Arc::new(State { name, ..State::default() });
    let output = LogOutput { inner: output, state: state.clone(), failed: false, reported: None };
    let builder = NonBlockingBuilder::default().buffered_lines_limit(lines).lossy(true).thread_name("log");
    let (queue, worker) = builder.finish(output);
    // Nothing has been sent yet, so no count is lost.
    let _ = state.dropped.set(queue.error_counter());
    (Input { queue, state: state.clone() }, LogQueue { worker, state, blocked: false })
}

/// The sending end of a queue.
#[derive(Debug)]
pub(super) struct Input {
    queue: NonBlocking,
    state: Arc<State>,
}

impl Write for Input {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.state.sent.fetch_add(1, Ordering::Relaxed);
        self.queue.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The writing thread of a queue.
#[derive(Debug)]
pub(super) struct LogQueue {
    worker: WorkerGuard,
    state: Arc<State>,
    /// Whether [`Self::finish`] found the output blocked.
    blocked: bool,
}

impl LogQueue {
    pub(super) fn state(&self) -> Arc<State> {
        self.state.clone()
    }

    /// Waits until all lines are written, and reports those that are lost to the outputs that are open.
    pub(super) fn finish(&mut self) {
        self.blocked = !self.state.wait_until_written(CLOSE_LIMIT);
        self.state.report_lost(if self.blocked { self.state.missing() } else { self.state.dropped() });
    }

    /// Waits until all lines are on disk; gives up an output that is blocked.
    pub(super) fn close(self) {
        self.state.closing.store(true, Ordering::Relaxed);
        if !self.blocked && self.state.wait_until_written(CLOSE_LIMIT) {
            drop(self.worker);
            self.state.report_lost(self.state.dropped());
        } else {
            // If the queue is full, the worker's guard would print a message to standard output and could wait for
            // ever.
            std::mem::forget(self.worker);
            // The report of `finish` is itself a line that a blocked output does not get.
            if !self.blocked {
                self.state.report_lost(self.state.missing());
            }
        }
    }
}

/// Shared state of both ends of a queue; counts are of lines.
#[derive(Debug, Default)]
pub(super) struct State {
    name: &'static str,
    sent: AtomicUsize,
    written: AtomicUsize,
    dropped: OnceLock<ErrorCounter>,
    reported: AtomicUsize,
    closing: AtomicBool,
    /// Since when the thread has been writing the present line.
    writing_since: Mutex<Option<Instant>>,
    /// Whether the standstill was reported.
    still: AtomicBool,
    /// For [`Self::watch`]: its own reports are lost here too, and would be reported for ever.
    throttle: Mutex<LogThrottle>,
}

impl State {
    fn set_writing(&self, since: Option<Instant>) {
        *self.writing_since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// Waits up to `limit` until all lines that were not dropped are written; returns whether they are.
    pub(super) fn wait_until_written(&self, limit: Duration) -> bool {
        let begun = Instant::now();
        while self.missing() > self.dropped() {
            if begun.elapsed() >= limit {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    pub(super) fn dropped(&self) -> usize {
        self.dropped.get().map_or(0, ErrorCounter::dropped_lines)
    }

    /// Reports, to the other outputs, that this one stands still (has been writing one line for `still_after`), what it
    /// loses meanwhile, and that it goes on.
    pub(super) fn watch(&self, still_after: Duration) {
        let since = *self.writing_since.lock().unwrap_or_else(PoisonError::into_inner);
        let still = since.is_some_and(|since| since.elapsed() >= still_after);
        let output = self.name;
        if still && !self.still.swap(true, Ordering::Relaxed) {
            let waiting = self.missing().saturating_sub(self.dropped());
            tracing::warn!(
                code = %codes::LOG_STANDS_STILL,
                output,
                waiting,
                "an output of the log has stood still for {} s: further lines wait, then they are lost; look at its \
                 disk, or at who reads it",
                still_after.as_secs()
            );
        }
        let mut throttle = self.throttle.lock().unwrap_or_else(PoisonError::into_inner);
        if self.dropped() == self.reported.load(Ordering::Relaxed) {
            throttle.end();
        } else if throttle.due(tokio::time::Instant::now()) {
            self.report_lost(self.dropped());
        }
        if !still && self.still.swap(false, Ordering::Relaxed) {
            tracing::info!(output, "the output of the log takes lines again");
        }
    }

    /// Number of lines that were dropped or are not written yet.
    fn missing(&self) -> usize {
        self.sent.load(Ordering::Relaxed).saturating_sub(self.written.load(Ordering::Relaxed))
    }

    /// Logs the lost lines, `lines` in total, that were not reported before.
    fn report_lost(&self, lines: usize) {
        let before = self.reported.swap(lines, Ordering::Relaxed);
        if lines > before {
            let (output, dropped) = (self.name, lines - before);
            tracing::warn!(
                code = %codes::LOG_LINES_LOST,
                output,
                dropped,
                dropped_in_all = lines,
                "lines of the log are lost: the output stood still"
            );
        }
    }
}

/// The output of the queue's thread.
struct LogOutput<W> {
    inner: W,
    state: Arc<State>,
    /// Whether the last write failed, which is reported once.
    failed: bool,
    /// Time of the last report of dropped lines.
    reported: Option<Instant>,
}

impl<W: Write> Write for LogOutput<W> {
    /// Writes one line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // Reported before this line is written: its place in the queue is free for the report.
        let dropped = self.state.dropped();
        if dropped > self.state.reported.load(Ordering::Relaxed)
            && self.reported.is_none_or(|at| at.elapsed() >= REPORT_EVERY)
        {
            self.reported = Some(Instant::now());
            self.state.report_lost(dropped);
        }
        let writing = Writing::begin();
        self.state.set_writing(Some(Instant::now()));
        let result = self.inner.write_all(line);
        self.state.set_writing(None);
        if let Err(error) = &result
            && !self.failed
        {
            let _ = writeln!(io::stderr(), "plugnmeet-recorder: {} cannot be written: {error}", self.state.name);
        }
        drop(writing);
        self.failed = result.is_err();
        self.state.written.fetch_add(1, Ordering::Relaxed);
        // An output that fails does not end the thread.
        Ok(line.len())
    }

    /// Called whenever the queue is empty.
    fn flush(&mut self) -> io::Result<()> {
        self.state.report_lost(self.state.dropped());
        if self.state.closing.load(Ordering::Relaxed) { self.inner.flush() } else { Ok(()) }
    }
}
