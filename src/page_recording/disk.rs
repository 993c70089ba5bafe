//! What `record` asks of a disk before it begins and at its end, with a limit: a lost network share answers never.

use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::page_recording::outcome::{Ending, RecordFailure};
use crate::storage::detached;

/// Time limit for a disk: one that sleeps, or is mounted by its first use, takes some seconds.
const LIMIT: Duration = Duration::from_secs(8);
/// Name of the threads that ask.
const THREAD: &str = "record-disk";

/// Does `work` on the disk of `path`, which `option` has named, on a thread of its own. Work that is late goes on, and its
/// result is dropped.
///
/// # Errors
/// Those of `work`, as wrong usage; where the disk does not answer; where `stop` is cancelled before it does.
pub async fn ask<T: Send + 'static>(
    option: &str,
    path: &Path,
    stop: &CancellationToken,
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, RecordFailure> {
    let answer = tokio::time::timeout(LIMIT, detached::start(THREAD, work));
    let Some(answer) = stop.run_until_cancelled(answer).await else {
        return Err(RecordFailure::new(Ending::Stopped, "stopped before anything was recorded"));
    };
    match answer {
        Ok(Ok(done)) => done.map_err(|why| RecordFailure::new(Ending::Usage, why)),
        Ok(Err(_)) => Err(RecordFailure::new(Ending::Host, "no thread could be started; look at `ulimit -u`")),
        Err(_) => Err(RecordFailure::new(
            Ending::DiskHangs,
            format_args!("{option}: {}; check it (`mount`, `dmesg`), or name another place", hangs(path)),
        )),
    }
}

/// Does `work` on the disk of `path` when all is recorded, on a thread of its own that goes on where it is late.
///
/// # Errors
/// Where the disk does not answer, in words for the operator.
pub async fn end<T: Send + 'static>(path: &Path, work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    match tokio::time::timeout(LIMIT, detached::start(THREAD, work)).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(_)) => Err("no thread could be started; look at `ulimit -u`".to_owned()),
        Err(_) => Err(hangs(path)),
    }
}

fn hangs(path: &Path) -> String {
    format!("{} does not answer for {} s: its disk or network share hangs", path.display(), LIMIT.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_disk_that_does_not_answer_is_named_and_a_signal_waits_for_none() {
        let stop = CancellationToken::new();
        let path = Path::new("/mnt/share/a.mp4");
        let (end, held) = std::sync::mpsc::channel::<()>();
        let hang = move || {
            let _ = held.recv();
            Ok(())
        };
        tokio::time::pause();
        let late = ask("-o", path, &stop, hang).await.unwrap_err();
        tokio::time::resume();
        assert_eq!((late.ending, late.ending.code()), (Ending::DiskHangs, 2));
        let [line] = &late.lines()[..] else { panic!("{late:?}") };
        assert!(line.starts_with("PNR-1237 error: -o: /mnt/share/a.mp4 does not answer for 8 s: "), "{line}");
        drop(end);
        assert_eq!(ask("-o", path, &stop, || Ok(7)).await, Ok(7));
        let refused = ask("-o", path, &stop, || Err::<(), _>("is there already".to_owned())).await.unwrap_err();
        assert_eq!(refused, RecordFailure::new(Ending::Usage, "is there already"));

        let (end, held) = std::sync::mpsc::channel::<()>();
        stop.cancel();
        let stopped = ask("-o", path, &stop, move || held.recv().map_err(|error| error.to_string())).await;
        assert_eq!(stopped.unwrap_err().ending, Ending::Stopped);
        drop(end);
    }
}
