//! Where finished lines go: standard output, the log file, or both. Every line passes through the redaction here, and
//! there is no other way out.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

use crate::telemetry::redact;
use crate::telemetry::rotate::RotatingFile;

thread_local! {
    /// This thread holds the outputs: whoever logs now would wait for himself.
    static WRITING: Cell<bool> = const { Cell::new(false) };
}

/// Shared by everything that logs.
#[derive(Clone, Debug)]
pub(super) struct Sink(Arc<Mutex<Outputs>>);

struct Outputs {
    stdout: Option<Box<dyn Write + Send>>,
    file: Option<RotatingFile>,
    /// The last write to the file failed, and that was told.
    file_failed: bool,
}

impl fmt::Debug for Outputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outputs")
            .field("stdout", &self.stdout.is_some())
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl Sink {
    pub(super) fn new(stdout: Option<Box<dyn Write + Send>>, file: Option<RotatingFile>) -> Self {
        Self(Arc::new(Mutex::new(Outputs { stdout, file, file_failed: false })))
    }

    /// Whether this thread is in the middle of writing a line.
    pub(super) fn is_writing() -> bool {
        WRITING.get()
    }

    /// Makes sure that the lines so far are on the disk.
    pub(super) fn sync(&self) {
        let outputs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &outputs.file {
            // Nobody is left who could be told.
            let _ = file.sync();
        }
    }

    /// Takes one event, with or without a line feed at its end.
    fn write_event(&self, event: &str) {
        let mut line = redact::scrub(&on_one_line(event.trim_end_matches('\n'))).into_owned();
        line.push('\n');
        let mut outputs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _writing = Writing::begin();
        outputs.write(line.as_bytes());
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
struct Writing;

impl Writing {
    fn begin() -> Self {
        WRITING.set(true);
        Self
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        WRITING.set(false);
    }
}

impl Outputs {
    fn write(&mut self, line: &[u8]) {
        if let Some(stdout) = &mut self.stdout {
            // A standard output that was closed is no reason to stop recording.
            let _ = stdout.write_all(line).and_then(|()| stdout.flush());
        }
        let Some(file) = &mut self.file else { return };
        let result = file.write_line(line);
        if let Err(error) = &result
            && !self.file_failed
        {
            let _ = writeln!(io::stderr(), "plugnmeet-recorder: the log file cannot be written: {error}");
        }
        self.file_failed = result.is_err();
    }
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        LineWriter(self)
    }
}

/// Takes one event with one call of `write`, as the layer that formats them gives it.
#[derive(Debug)]
pub(super) struct LineWriter<'a>(&'a Sink);

impl Write for LineWriter<'_> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.0.write_event(&String::from_utf8_lossy(event));
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
