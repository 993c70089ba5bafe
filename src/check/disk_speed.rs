//! How fast the disks of a node are: what a fsync and a rename take in `state_dir`, and how much `temporary_dir` takes.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use tokio_util::sync::CancellationToken;

use crate::check::report::Finding;
use crate::check::speed::{self, Latency};
use crate::config::Config;
use crate::process::procfs;
use crate::storage::detached;

/// Time limit of both; what they measure is limited to less.
const LIMIT: Duration = Duration::from_secs(12);
/// Records that are written, synced and renamed.
const RECORDS: usize = 12;
/// How long records are written.
const LATENCY_LIMIT: Duration = Duration::from_secs(4);
/// Bytes that are written at most, and how long.
const BYTES: usize = 96 << 20;
const BLOCK: usize = 1 << 20;
const WRITE_LIMIT: Duration = Duration::from_secs(3);

/// Both measurements, one after the other. `cancel` ends them between two writes.
pub async fn check(config: &Config, cancel: &CancellationToken) -> Vec<Finding> {
    let recorder = &config.recorder;
    let dir = recorder.state_dir.clone();
    let state = measured("state_dir speed", &dir.clone(), cancel, move |cancel| {
        records(&dir, cancel).map(|latencies| speed::latency(&latencies))
    })
    .await;
    let (dir, recordings) = (recorder.temporary_dir.clone(), recorder.max_limit);
    let pixels = u64::from(recorder.width) * u64::from(recorder.height);
    let temporary = measured("temporary_dir speed", &dir.clone(), cancel, move |cancel| {
        let (bytes, took) = write(&dir, cancel)?;
        Ok(speed::throughput(bytes, took, recordings, pixels))
    })
    .await;
    vec![state, temporary]
}

async fn measured(
    name: &'static str,
    dir: &Path,
    cancel: &CancellationToken,
    measure: impl FnOnce(&CancellationToken) -> io::Result<Finding> + Send + 'static,
) -> Finding {
    if !dir.is_dir() {
        return Finding::skipped(name, format!("{} is not there yet", dir.display()));
    }
    let token = cancel.clone();
    match tokio::time::timeout(LIMIT, detached::run("check-speed", move || measure(&token))).await {
        Ok(Ok(finding)) => finding,
        Ok(Err(error)) => Finding::fault(name, format!("cannot write to {}: {error}; look at its disk", dir.display())),
        Err(_) => Finding::fault(
            name,
            format!("{} does not answer within {} s: its disk or share hangs", dir.display(), LIMIT.as_secs()),
        ),
    }
}

/// Hidden, so that nobody takes it for a record. The process id follows.
const PREFIX: &str = ".check-";
/// Older than any check: a directory may be shared with a container whose processes are not seen here.
const LEFT_BEHIND: Duration = Duration::from_secs(60);

/// Removes what killed checks have left in `dir`; a file that stays does no harm.
pub(super) fn remove_leftovers(dir: &Path) {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('.').next()?.parse().ok());
        let dead = pid.is_some_and(|pid| procfs::started(pid).is_none());
        let age = entry.metadata().ok().and_then(|file| file.modified().ok()?.elapsed().ok());
        if dead && age.is_some_and(|age| age >= LEFT_BEHIND) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// A file of a check; removed when dropped.
struct TrialFile(PathBuf);

impl Drop for TrialFile {
    fn drop(&mut self) {
        // It has been renamed.
        let _ = fs::remove_file(&self.0);
    }
}

/// Writes small files as records are written: written, synced, renamed.
fn records(dir: &Path, cancel: &CancellationToken) -> io::Result<Vec<Latency>> {
    remove_leftovers(dir);
    let until = Instant::now() + LATENCY_LIMIT;
    let trial = |suffix: &str| TrialFile(dir.join(format!("{PREFIX}{}{suffix}", std::process::id())));
    let (written, renamed) = (trial(".part"), trial(""));
    let mut latencies = Vec::new();
    for _ in 0..RECORDS {
        if cancel.is_cancelled() || Instant::now() > until {
            break;
        }
        let begun = Instant::now();
        let mut file = File::create(&written.0)?;
        file.write_all(&[b'x'; 2048])?;
        file.sync_all()?;
        let synced = Instant::now();
        fs::rename(&written.0, &renamed.0)?;
        File::open(dir)?.sync_all()?;
        latencies.push(Latency { sync: synced - begun, rename: synced.elapsed() });
    }
    Ok(latencies)
}

/// Writes as recordings are written; returns bytes and how long they took to be on the disk.
fn write(dir: &Path, cancel: &CancellationToken) -> io::Result<(u64, Duration)> {
    remove_leftovers(dir);
    // A file without a name needs no removal.
    let named = TrialFile(dir.join(format!("{PREFIX}{}", std::process::id())));
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let mut file = match rustix::fs::open(dir, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => File::from(file),
        Err(_) => File::create(&named.0)?,
    };
    // Bytes that no file system compresses away.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let block: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()
    })
    .take(BLOCK / 8)
    .flatten()
    .collect();
    let (begun, mut bytes) = (Instant::now(), 0_u64);
    while bytes < BYTES as u64 && begun.elapsed() < WRITE_LIMIT && !cancel.is_cancelled() {
        file.write_all(&block)?;
        // A little at a time: a page cache full of it would hold up the recordings of a node that runs.
        file.sync_data()?;
        bytes += block.len() as u64;
    }
    Ok((bytes, begun.elapsed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_check_has_left_is_removed_by_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let old = std::time::SystemTime::now() - Duration::from_secs(3600);
        // No process has these numbers (proc(5): pid_max).
        let (own, killed) = (format!(".check-{}", std::process::id()), ".check-4194305");
        for name in [killed, ".check-4194305.part", &own, ".check-4194306", ".checkpoint", "check-4194305", ".check-"] {
            let file = File::create(dir.path().join(name)).unwrap();
            if name != ".check-4194306" {
                file.set_modified(old).unwrap();
            }
        }
        remove_leftovers(dir.path());
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        // A running check's, that of a moment ago, which may be another container's, and what is none.
        let mut expected = [".check-", &own, ".check-4194306", ".checkpoint", "check-4194305"];
        expected.sort_unstable();
        assert_eq!(left, expected);

        fs::write(dir.path().join(killed), "x").unwrap();
        File::options().write(true).open(dir.path().join(killed)).unwrap().set_modified(old).unwrap();
        records(dir.path(), &CancellationToken::new()).unwrap();
        assert!(!dir.path().join(killed).exists());
    }

    #[test]
    fn a_measurement_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let cancel = CancellationToken::new();
        assert_eq!(records(dir.path(), &cancel).unwrap().len(), RECORDS);
        let (bytes, took) = write(dir.path(), &cancel).unwrap();
        assert!(bytes >= BLOCK as u64 && !took.is_zero());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        cancel.cancel();
        assert_eq!(records(dir.path(), &cancel).unwrap(), []);
        assert_eq!(write(dir.path(), &cancel).unwrap().0, 0);
        assert!(records(&dir.path().join("missing"), &CancellationToken::new()).is_err());
    }
}
