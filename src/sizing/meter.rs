//! What the recordings take of the machine.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::statvfs;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::capture::cpu_use::CaptureCpu;
use crate::capture::process_tag;
use crate::fleet::load;
use crate::fleet::recording_needs::RecordingNeeds;
use crate::process::cgroup::Cgroups;
use crate::process::marked::marked;

const SHARED_MEMORY: &str = "/dev/shm";
/// Time limit for an answer of `/proc`, which a process that waits for a disk may hold up.
const LIMIT: Duration = Duration::from_secs(5);

/// What this process and the machine had before the first recording.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    memory: u64,
    shared_memory: u64,
    tasks: u64,
    open_files: u64,
}

/// Measures.
#[derive(Debug)]
pub struct Meter {
    cpu: CaptureCpu,
    since: Instant,
    before: Totals,
    load: watch::Receiver<f64>,
    groups: Cgroups,
    _measures: DropGuard,
}

impl Meter {
    /// Begins to measure, before the first recording; within a runtime.
    pub async fn begin() -> Self {
        let cancel = CancellationToken::new();
        let (sender, load) = watch::channel(0.0);
        tokio::spawn(load::measure(sender, cancel.clone()));
        let before = totals(false).await;
        Self {
            cpu: CaptureCpu::default(),
            since: Instant::now(),
            before,
            load,
            groups: Cgroups::of_this_process(),
            _measures: cancel.drop_guard(),
        }
    }

    /// The busy share of the processors over the last 5 s, 0…1.
    #[must_use]
    pub fn busy(&self) -> f64 {
        *self.load.borrow()
    }

    /// Bytes of memory that can be had, and the limit that they are of.
    #[must_use]
    pub fn memory(&self) -> Option<(u64, u64)> {
        let memory = self.groups.memory().into_iter().min_by_key(|memory| memory.free)?;
        Some((memory.free, memory.limit))
    }

    /// Begins a window.
    pub fn mark(&mut self) {
        tokio::task::block_in_place(|| self.cpu.used());
        self.since = Instant::now();
    }

    /// What each of `recordings` took, on average, since [`Self::mark`]. `bytes`: what they wrote.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "averages"
    )]
    pub async fn needs(&mut self, recordings: u32, bytes: u64) -> RecordingNeeds {
        let used = tokio::task::block_in_place(|| self.cpu.used());
        let elapsed = self.since.elapsed().as_secs_f64().max(1e-3);
        let now = totals(true).await;
        let count = u64::from(recordings.max(1));
        let each = |now: u64, before: u64| now.saturating_sub(before) / count;
        RecordingNeeds {
            cores: used.as_secs_f64() / elapsed / count as f64,
            memory: each(now.memory, self.before.memory),
            shared_memory: each(now.shared_memory, self.before.shared_memory),
            tasks: each(now.tasks, self.before.tasks),
            open_files: each(now.open_files, self.before.open_files),
            bytes_per_second: (bytes as f64 / elapsed / count as f64) as u64,
        }
    }
}

/// Of this process, and of all rigs where `rigs` run. What cannot be read in time counts as nothing.
async fn totals(rigs: bool) -> Totals {
    let reading = tokio::task::spawn_blocking(move || {
        let own = std::process::id();
        let children = if rigs { marked(process_tag::VARIABLE, &[]) } else { Vec::new() };
        let pids = || children.iter().map(|process| process.pid).chain([own]);
        let entries = |dir: String| fs::read_dir(dir).map_or(0, Iterator::count) as u64;
        let shared = statvfs(SHARED_MEMORY).map_or(0, |space| (space.f_blocks - space.f_bfree) * space.f_frsize);
        Totals {
            memory: pids().map(memory).sum(),
            shared_memory: shared,
            tasks: pids().map(|pid| entries(format!("/proc/{pid}/task"))).sum(),
            open_files: entries("/proc/self/fd".to_owned()),
        }
    });
    tokio::time::timeout(LIMIT, reading).await.ok().and_then(Result::ok).unwrap_or_default()
}

/// Bytes of a process, of shared pages its part. Where that may not be read, as of a sandboxed process of Chrome, what it
/// shares with nobody.
fn memory(pid: u32) -> u64 {
    let read = |name: &str| fs::read_to_string(Path::new("/proc").join(pid.to_string()).join(name)).ok();
    // Anyone may read this one.
    let unshared = || kib(&read("status")?, "RssAnon:");
    let rollup = || kib(&read("smaps_rollup")?, "Pss:");
    rollup().or_else(unshared).unwrap_or(0)
}

/// The bytes that a line `name: N kB` tells.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_memory_and_the_threads_of_this_process_are_known() {
        let before = totals(false).await;
        assert!(before.memory > 1 << 20 && before.tasks >= 1 && before.open_files >= 3, "{before:?}");
        let files: Vec<_> = (0..8).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        // Other tests of this process close theirs.
        assert!(totals(false).await.open_files + 200 > before.open_files);
        drop(files);
        assert_eq!(memory(u32::MAX), 0);
        assert_eq!(kib("Rss:  9 kB\nPss:   12 kB\nPss_Anon: 3 kB\n", "Pss:"), Some(12 * 1024));
        let status = fs::read_to_string("/proc/self/status").unwrap();
        assert!(kib(&status, "RssAnon:").is_some_and(|bytes| bytes > 1 << 20), "{status}");
    }
}
