//! A queue and a thread for each output, so that whoever logs never waits for one: neither for a pipe that nobody reads nor
//! for a disk that hangs. Where the queue is full, lines are lost; how many is told as soon as lines are written again.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

use crate::telemetry::sink::Writing;

/// So many lines may wait: some 2 MB.
pub(super) const LINES: usize = 8 * 1024;
/// A reader that is slow for long loses lines all the time; that is told this often.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How long the end of the program waits for lines that are still to be written.
const CLOSE_LIMIT: Duration = Duration::from_millis(500);

/// Begins to write to `output`, which messages call `name`, on a thread of its own.
pub(super) fn start(name: &'static str, output: impl Write + Send + 'static, lines: usize) -> (Input, Queue) {
    let state = Arc::new(State { name, ..State::default() });
    let output = Output { inner: output, state: state.clone(), failed: false, told: None };
    let builder = NonBlockingBuilder::default().buffered_lines_limit(lines).lossy(true).thread_name("log");
    let (queue, worker) = builder.finish(output);
    // Nothing was sent yet, so nothing was counted in vain.
    let _ = state.dropped.set(queue.error_counter());
    (Input { queue, state: state.clone() }, Queue { worker, state })
}

/// Where lines are put in.
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

/// The thread that writes, for as long as there are lines to come.
#[derive(Debug)]
pub(super) struct Queue {
    worker: WorkerGuard,
    state: Arc<State>,
}

impl Queue {
    pub(super) fn state(&self) -> Arc<State> {
        self.state.clone()
    }

    /// Sees to it that the lines so far are on the disk, and gives up an output that stands still.
    pub(super) fn close(self) {
        self.state.closing.store(true, Ordering::Relaxed);
        if self.state.settle(CLOSE_LIMIT) {
            drop(self.worker);
            self.state.tell(self.state.dropped());
        } else {
            // Where the queue is full, the worker's guard would say so on standard output, and may wait there without end.
            std::mem::forget(self.worker);
            self.state.tell(self.state.missing());
        }
    }
}

/// What both ends know of a queue. Counts are of lines.
#[derive(Debug, Default)]
pub(super) struct State {
    name: &'static str,
    sent: AtomicUsize,
    written: AtomicUsize,
    dropped: OnceLock<ErrorCounter>,
    told: AtomicUsize,
    closing: AtomicBool,
}

impl State {
    /// Waits until everything that was not dropped is written, but no longer than `limit`; whether it is.
    pub(super) fn settle(&self, limit: Duration) -> bool {
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

    /// Dropped, or still to be written.
    fn missing(&self) -> usize {
        self.sent.load(Ordering::Relaxed).saturating_sub(self.written.load(Ordering::Relaxed))
    }

    /// Tells of the losses, `lines` in all, that were not told before.
    fn tell(&self, lines: usize) {
        let before = self.told.swap(lines, Ordering::Relaxed);
        if lines > before {
            let (output, dropped) = (self.name, lines - before);
            tracing::warn!(
                output,
                dropped,
                dropped_in_all = lines,
                "lines of the log are lost: the output stood still"
            );
        }
    }
}

/// What the queue's thread writes to.
struct Output<W> {
    inner: W,
    state: Arc<State>,
    /// The last write failed, and that was told.
    failed: bool,
    /// When losses were told.
    told: Option<Instant>,
}

impl<W: Write> Write for Output<W> {
    /// Takes one line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // Before the line is written, while its place in the queue is free: the news is lost in no full queue.
        let dropped = self.state.dropped();
        if dropped > self.state.told.load(Ordering::Relaxed) && self.told.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
            self.told = Some(Instant::now());
            self.state.tell(dropped);
        }
        let writing = Writing::begin();
        let result = self.inner.write_all(line);
        if let Err(error) = &result
            && !self.failed
        {
            let _ = writeln!(io::stderr(), "plugnmeet-recorder: {} cannot be written: {error}", self.state.name);
        }
        drop(writing);
        self.failed = result.is_err();
        self.state.written.fetch_add(1, Ordering::Relaxed);
        // An output that fails is no reason to stop.
        Ok(line.len())
    }

    /// Called whenever the queue is empty.
    fn flush(&mut self) -> io::Result<()> {
        self.state.tell(self.state.dropped());
        if self.state.closing.load(Ordering::Relaxed) { self.inner.flush() } else { Ok(()) }
    }
}
