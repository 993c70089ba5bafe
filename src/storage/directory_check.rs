//! Checks that a directory takes bytes, with a limit: a lost share or a disk that hangs answers never, and holds the
//! thread that asked.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tokio::sync::watch;

/// Time limit for an answer.
const LIMIT: Duration = Duration::from_secs(4);

/// The answer of a check; `None`: there is none yet.
type Answer = Option<Result<(), String>>;

/// The checks that run, at most one for a directory: each may hold its thread for as long as the disk hangs.
static RUNNING: LazyLock<Mutex<HashMap<PathBuf, watch::Receiver<Answer>>>> = LazyLock::new(Mutex::default);

/// Writes a byte into a nameless file of the directory.
///
/// # Errors
/// Where the directory cannot be written to, or does not answer within 4 s.
pub async fn answers(dir: &Path) -> Result<(), String> {
    let mut answer = running_check(dir);
    let answered = tokio::time::timeout(LIMIT, answer.wait_for(Option::is_some));
    match answered.await {
        Ok(Ok(answer)) => answer.clone().unwrap_or(Ok(())),
        Ok(Err(_)) => Err("no thread could be started to look".to_owned()),
        Err(_) => Err(format!("it does not answer within {} s: the disk or share hangs; check it", LIMIT.as_secs())),
    }
}

/// The check that runs, or a new one.
fn running_check(dir: &Path) -> watch::Receiver<Answer> {
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(answer) = running.get(dir) {
        return answer.clone();
    }
    let (sender, answer) = watch::channel(None);
    running.insert(dir.to_owned(), answer.clone());
    let checked = dir.to_owned();
    let run = move || {
        let result = write_byte(&checked).map_err(|error| error.to_string());
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).remove(&checked);
        sender.send_replace(Some(result));
    };
    if std::thread::Builder::new().name("disk-check".to_owned()).spawn(run).is_err() {
        // The sender is dropped with the closure.
        running.remove(dir);
    }
    answer
}

fn write_byte(dir: &Path) -> io::Result<()> {
    match rustix::fs::open(dir, OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR) {
        Ok(file) => std::fs::File::from(file).write_all(&[0]),
        // A file system without nameless files (open(2)): that it answers has to do.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOSYS) => {
            rustix::fs::statvfs(dir)?;
            Ok(())
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
        let (one, other) = tokio::join!(answers(dir.path()), answers(dir.path()));
        assert_eq!((one, other), (Ok(()), Ok(())));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(RUNNING.lock().unwrap().get(dir.path()).is_none());
    }

    #[tokio::test]
    async fn a_directory_that_is_missing_is_said_to_be() {
        let dir = tempfile::tempdir().unwrap();
        let error = answers(&dir.path().join("missing")).await.unwrap_err();
        assert!(error.contains("No such file or directory"), "{error}");
    }
}
