//! Writes finished lines to standard output, the log file, or both. Every line is redacted here; there is no other way
//! out.

use std::borrow::Cow;
use std::cell::Cell;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use crate::telemetry::{recent, redact};

thread_local! {
    /// Whether this thread holds the outputs or writes to one; if it logged now, it would deadlock.
    static WRITING: Cell<bool> = const { Cell::new(false) };
}

/// The outputs, shared by all threads.
#[derive(Clone)]
pub(super) struct Sink(Arc<Mutex<Vec<Box<dyn Write + Send>>>>);

impl Sink {
    /// Each line is written to all outputs in the same order.
    pub(super) fn new(outputs: Vec<Box<dyn Write + Send>>) -> Self {
        Self(Arc::new(Mutex::new(outputs)))
    }

    /// Whether this thread is writing a line.
    pub(super) fn is_writing() -> bool {
        WRITING.get()
    }

    /// Writes one event, with or without a line feed at its end.
    fn write_event(&self, event: &str, level: Level) {
        let mut line = redact::scrub(&on_one_line(event.trim_end_matches('\n'))).into_owned();
        line.push('\n');
        if level <= Level::WARN {
            recent::keep(&line);
        }
        let mut outputs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _writing = Writing::begin();
        for output in &mut *outputs {
            // Nobody could be told of an error.
            let _ = output.write_all(line.as_bytes());
        }
    }
}

/// Escapes line breaks, so that no content of a page or program looks like a line of its own.
fn on_one_line(event: &str) -> Cow<'_, str> {
    if event.contains(['\n', '\r']) {
        Cow::Owned(event.replace('\r', "\\r").replace('\n', "\\n"))
    } else {
        Cow::Borrowed(event)
    }
}

/// Marks this thread as writing until it is dropped, even by a panic.
pub(super) struct Writing;

impl Writing {
    pub(super) fn begin() -> Self {
        WRITING.set(true);
        Self
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        WRITING.set(false);
    }
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        LineWriter { sink: self, level: Level::INFO }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> LineWriter<'a> {
        LineWriter { sink: self, level: *event.level() }
    }
}

/// Writes events of one level.
pub(super) struct LineWriter<'a> {
    sink: &'a Sink,
    level: Level,
}

impl Write for LineWriter<'_> {
    /// Writes one formatted event.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.sink.write_event(&String::from_utf8_lossy(event), self.level);
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
