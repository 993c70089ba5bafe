//! Disk work on a thread of its own: on a lost share it may never return, and must hold up neither the pool of blocking
//! threads, which all disk work shares, nor the end of the program.

use std::io;

use tokio::sync::oneshot;

/// Starts `work` on a new thread named `name` (at most 15 bytes). The receiver ends with an error where the thread
/// panics or cannot be started; dropping it does not stop the work.
pub fn start<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> oneshot::Receiver<T> {
    let (answer, result) = oneshot::channel();
    let run = move || {
        // Nobody waits any more.
        let _ = answer.send(work());
    };
    // If the thread cannot be started, the sender is dropped.
    let _ = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    result
}

/// Runs `work` on a new thread, as [`start`], and waits for its result.
///
/// # Errors
/// Those of `work`, and where no thread can be started.
pub async fn run<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    start(name, work).await.unwrap_or_else(|_| Err(io::Error::other("no thread could be started, or it has panicked")))
}
