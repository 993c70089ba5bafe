//! Checks that a directory takes bytes, with a limit: a lost share or a disk that hangs answers never, and holds the
//! thread that asked.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tokio::sync::watch;

/// Time limit for an answer.
const LIMIT: Duration = Duration::from_secs(4);

/// Time until a directory that fails is checked again.
const AGAIN: Duration = Duration::from_millis(500);
/// Name of the file where there are no nameless ones. A killed program leaves it; the next check removes it.
const NAME: &str = ".recorder-check";

/// The answer of a check; `None`: there is none yet.
type Answer = Option<Result<(), String>>;

/// The checks that run, at most one for a directory: each may hold its thread for as long as the disk hangs.
static RUNNING: LazyLock<Mutex<HashMap<PathBuf, watch::Receiver<Answer>>>> = LazyLock::new(Mutex::default);

/// Checks a directory until it takes a byte, for up to 4 s: a disk that fails may be well again in a moment.
///
/// # Errors
/// Why it takes nothing, to be read after its name.
pub async fn takes_bytes(dir: &Path) -> Result<(), String> {
    let until = Instant::now() + LIMIT;
    loop {
        let result = DirectoryCheck::start(dir).answer().await;
        if result.is_ok() || Instant::now() + AGAIN >= until {
            return result;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// A check of a directory: writes a byte into a file, which has no name or is removed again.
#[derive(Clone, Debug)]
pub struct DirectoryCheck {
    answer: watch::Receiver<Answer>,
}

impl DirectoryCheck {
    /// Starts a check, or joins the one that runs.
    #[must_use]
    pub fn start(dir: &Path) -> Self {
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = running.get(dir) {
            return Self { answer: answer.clone() };
        }
        let (sender, answer) = watch::channel(None);
        running.insert(dir.to_owned(), answer.clone());
        let checked = dir.to_owned();
        let run = move || {
            let result = write_byte(&checked).map_err(|error| format!("cannot be written to: {error}"));
            RUNNING.lock().unwrap_or_else(PoisonError::into_inner).remove(&checked);
            sender.send_replace(Some(result));
        };
        if std::thread::Builder::new().name("disk-check".to_owned()).spawn(run).is_err() {
            // The sender is dropped with the closure: nothing is known of the directory.
            running.remove(dir);
        }
        Self { answer }
    }

    /// Waits up to 4 s for the answer.
    ///
    /// # Errors
    /// Why the directory takes nothing, to be read after its name.
    pub async fn answer(mut self) -> Result<(), String> {
        // The result is read below, also where there is none in time.
        let _ = tokio::time::timeout(LIMIT, self.answer.wait_for(Option::is_some)).await;
        self.failure().map_or(Ok(()), Err)
    }

    /// Why the directory takes nothing, as far as is known now; it has not answered where there is no answer.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        match &*self.answer.borrow() {
            Some(result) => result.clone().err(),
            None if self.answer.has_changed().is_err() => None,
            None => Some("does not answer: its disk or share hangs, check it".to_owned()),
        }
    }
}

/// Writes a byte into a file of the directory, which has no name or is removed again. Blocks for as long as the disk does.
///
/// # Errors
/// Where the directory does not take it.
pub fn write_byte(dir: &Path) -> io::Result<()> {
    match rustix::fs::open(dir, OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR) {
        Ok(file) => std::fs::File::from(file).write_all(&[0]),
        // A file system without nameless files (open(2)), as shares have none.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOSYS) => {
            let file = dir.join(NAME);
            std::fs::write(&file, [0])?;
            match std::fs::remove_file(&file) {
                // Another node with this directory has removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            }
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_directory_that_takes_bytes_answers_and_nothing_is_left_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) =
            tokio::join!(DirectoryCheck::start(dir.path()).answer(), DirectoryCheck::start(dir.path()).answer());
        assert_eq!((one, other), (Ok(()), Ok(())));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(RUNNING.lock().unwrap().get(dir.path()).is_none());
    }

    #[tokio::test]
    async fn a_directory_that_fails_for_a_moment_is_asked_again() {
        let dir = tempfile::tempdir().unwrap();
        let share = dir.path().join("share");
        let back = async {
            // Asked once in vain; then it is there.
            DirectoryCheck::start(&share).answer().await.unwrap_err();
            std::fs::create_dir(&share).unwrap();
        };
        let (answer, ()) = tokio::join!(takes_bytes(&share), back);
        assert_eq!(answer, Ok(()));
    }

    #[tokio::test]
    async fn a_directory_that_is_missing_is_said_to_be() {
        let dir = tempfile::tempdir().unwrap();
        let error = DirectoryCheck::start(&dir.path().join("missing")).answer().await.unwrap_err();
        assert!(error.starts_with("cannot be written to: No such file or directory"), "{error}");
    }
}
