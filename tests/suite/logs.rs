//! What a test's own thread logs, kept to be looked at.

use std::io::Write;
use std::sync::{Arc, LazyLock, Mutex};

use tracing::Dispatch;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

/// Two that are interested in every line, and live for ever. As long as a process has but one subscriber, tracing asks only the
/// subscriber of the thread that comes first to a line whether anybody wants it; where that is another test's, without one,
/// the answer is no, for all threads (tracing-core, `Rebuilder::JustOne`).
static INTERESTED: LazyLock<[Dispatch; 2]> =
    LazyLock::new(|| [(); 2].map(|()| Dispatch::new(tracing_subscriber::registry())));

/// Collects from now on, everything down to TRACE, other crates' lines included. Only of this thread: the tests use
/// tokio's current-thread runtime.
pub struct Logs {
    text: Text,
    _guard: DefaultGuard,
}

#[derive(Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl Logs {
    pub fn capture() -> Self {
        LazyLock::force(&INTERESTED);
        let text = Text::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(text.clone())
            .finish();
        Self { text, _guard: tracing::subscriber::set_default(subscriber) }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.0.lock().unwrap()).into_owned()
    }

    /// This program's own lines that hold `needle`.
    pub fn lines(&self, needle: &str) -> Vec<String> {
        let text = self.text();
        let own = text.lines().filter(|line| line.contains("plugnmeet_recorder::") && line.contains(needle));
        own.map(str::to_owned).collect()
    }
}

impl Write for Text {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Text {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
