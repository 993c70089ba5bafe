//! The threads of a rig: each shows that it runs, its panic is reported, and nobody waits for it without a limit.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::capture::component_error::ComponentError;

/// A running thread. Dropped, it detaches the thread.
#[derive(Debug)]
pub struct RigThread {
    pulse: Arc<Pulse>,
    /// Resolves, with an error, when the thread has ended: the sender is dropped with it.
    ended: oneshot::Receiver<()>,
}

impl RigThread {
    /// Starts a thread in the current span. `failed` is called on it when `work` ends with an error or panics; the
    /// error of a panic names `component`.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(
        name: &'static str,
        component: &'static str,
        failed: impl FnOnce(ComponentError) + Send + 'static,
        work: impl FnOnce(&Pulse) -> Result<(), ComponentError> + Send + 'static,
    ) -> Result<Self, ComponentError> {
        let pulse = Arc::new(Pulse::default());
        let (beating, span) = (Arc::clone(&pulse), tracing::Span::current());
        let (alive, ended) = oneshot::channel();
        let run = move || {
            let _alive: oneshot::Sender<()> = alive;
            let _in_span = span.entered();
            // What the thread shares with others is counters and locks that outlive a panic.
            match std::panic::catch_unwind(AssertUnwindSafe(|| work(&beating))) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => failed(error),
                Err(panic) => failed(ComponentError::new(component, panicked(name, panic.as_ref()))),
            }
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
        thread.map_err(|error| ComponentError::new(component, format!("no thread can be started: {error}")))?;
        Ok(Self { pulse, ended })
    }

    #[must_use]
    pub fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// Waits up to `limit` for the end of the thread. Returns whether it has ended. Cancel-safe.
    pub async fn ended_within(&mut self, limit: Duration) -> bool {
        self.ended.is_terminated() || tokio::time::timeout(limit, &mut self.ended).await.is_ok()
    }
}

/// The cause of a panic.
fn panicked(name: &str, panic: &(dyn Any + Send)) -> String {
    let message = panic.downcast_ref::<&str>().copied();
    let message = message.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    format!("its thread `{name}` panicked ({message}): an error in the recorder, please report it with this log")
}

/// Shows that a thread runs.
#[derive(Default)]
pub struct Pulse {
    turns: AtomicU64,
    /// For tests: whether `deed` is set, and what the thread does at its next turn.
    has_deed: AtomicBool,
    deed: Mutex<Option<Deed>>,
}

type Deed = Box<dyn FnOnce() + Send>;

impl std::fmt::Debug for Pulse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} turns", self.turns())
    }
}

impl Pulse {
    /// To be called by the thread at each turn of its loop.
    pub fn beat(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
        if self.has_deed.swap(false, Ordering::Acquire) {
            let deed = self.deed.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(deed) = deed {
                deed();
            }
        }
    }

    /// How often the loop has turned.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// For tests: has the thread run `deed` at its next turn, to panic or to stand still there. Nothing in the program
    /// calls it.
    #[doc(hidden)]
    pub fn at_next_turn(&self, deed: impl FnOnce() + Send + 'static) {
        *self.deed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(deed));
        self.has_deed.store(true, Ordering::Release);
    }
}

/// Questions to a process that answers each of them.
#[derive(Debug, Default)]
pub struct Exchange {
    asked: AtomicU64,
    answered: AtomicU64,
}

impl Exchange {
    pub fn ask(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    /// All questions so far are answered.
    pub fn answer(&self) {
        self.answered.store(self.asked.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// The number of answered questions, and whether one is unanswered.
    #[must_use]
    pub fn state(&self) -> (u64, bool) {
        let answered = self.answered.load(Ordering::Relaxed);
        (answered, self.asked.load(Ordering::Relaxed) != answered)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_panic_is_reported_with_its_message_and_ends_the_thread() {
        let (sender, errors) = mpsc::channel();
        let work = |pulse: &Pulse| loop {
            pulse.beat();
            std::thread::yield_now();
        };
        let failed = move |error| sender.send(error).unwrap();
        let mut thread = RigThread::start("screen", "picture", failed, work).unwrap();
        thread.pulse().at_next_turn(|| panic!("box {} is too large", 7));
        assert!(thread.ended_within(LIMIT).await && thread.ended_within(LIMIT).await);
        let error = errors.recv().unwrap().to_string();
        assert!(error.starts_with("picture: its thread `screen` panicked (box 7 is too large)"), "{error}");
    }

    #[tokio::test]
    async fn a_thread_that_stands_still_is_waited_for_no_longer_than_asked() {
        let (release, wait) = mpsc::channel::<()>();
        let work = move |_: &Pulse| {
            let _ = wait.recv();
            Ok(())
        };
        let mut thread = RigThread::start("sound", "sound", |error| panic!("{error}"), work).unwrap();
        assert!(!thread.ended_within(Duration::from_millis(10)).await);
        drop(release);
        assert!(thread.ended_within(LIMIT).await);
    }

    #[test]
    fn a_question_is_open_until_it_is_answered() {
        let exchange = Exchange::default();
        assert_eq!(exchange.state(), (0, false));
        exchange.ask();
        assert_eq!(exchange.state(), (0, true));
        exchange.answer();
        assert_eq!(exchange.state(), (1, false));
    }
}
