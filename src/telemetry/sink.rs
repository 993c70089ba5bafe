//! Where finished lines go: standard output, the log file, or both. Every line passes through the redaction here, and
//! there is no other way out.

use std::borrow::Cow;
use std::cell::Cell;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

use crate::telemetry::redact;

thread_local! {
    /// This thread holds the outputs, or writes to one: whoever logs now would wait for himself.
    static WRITING: Cell<bool> = const { Cell::new(false) };
}

/// Shared by everything that logs.
#[derive(Clone)]
pub(super) struct Sink(Arc<Mutex<Vec<Box<dyn Write + Send>>>>);

impl Sink {
    /// Each line goes to all of the outputs, in the same order.
    pub(super) fn new(outputs: Vec<Box<dyn Write + Send>>) -> Self {
        Self(Arc::new(Mutex::new(outputs)))
    }

    /// Whether this thread is in the middle of writing a line.
    pub(super) fn is_writing() -> bool {
        WRITING.get()
    }

    /// Takes one event, with or without a line feed at its end.
    fn write_event(&self, event: &str) {
        let mut line = redact::scrub(&on_one_line(event.trim_end_matches('\n'))).into_owned();
        line.push('\n');
        let mut outputs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _writing = Writing::begin();
        for output in &mut *outputs {
            // Nobody is left who could be told.
            let _ = output.write_all(line.as_bytes());
        }
    }
}

/// One event is one line, whatever a page or a program put into its message: nothing may look like a line of its own.
fn on_one_line(event: &str) -> Cow<'_, str> {
    if event.contains(['\n', '\r']) {
        Cow::Owned(event.replace('\r', "\\r").replace('\n', "\\n"))
    } else {
        Cow::Borrowed(event)
    }
}

/// Marks this thread as writing for as long as it lives, also where a panic ends it.
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
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

impl Write for &Sink {
    /// Takes one event, as the layer that formats them gives it.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.write_event(&String::from_utf8_lossy(event));
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
