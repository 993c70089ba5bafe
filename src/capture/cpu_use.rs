//! The processor time of all that captures: the processes of the rigs and the threads that feed them.

use std::collections::HashMap;
use std::time::Duration;

use crate::capture::process_tag;
use crate::process::marked::marked;
use crate::process::procfs;

/// As [`crate::capture::rig_thread`] starts them.
const THREADS: [&str; 3] = ["screen", "sound", "stream"];

/// What was used up to the last look, by pid and start.
#[derive(Debug, Default)]
pub struct CaptureCpu(HashMap<(u32, u64), Duration>);

impl CaptureCpu {
    /// The processor time since the last look. What a process has used between the last look and its end is not known.
    /// Reads all of `/proc`: some milliseconds.
    pub fn used(&mut self) -> Duration {
        let found = marked(process_tag::VARIABLE, &THREADS);
        self.add(found.iter().map(|process| ((process.pid, process.started), procfs::exact_cpu_time(process))))
    }

    fn add(&mut self, found: impl Iterator<Item = ((u32, u64), Duration)>) -> Duration {
        let before = std::mem::take(&mut self.0);
        let mut used = Duration::ZERO;
        for (key, total) in found {
            used += total.saturating_sub(before.get(&key).copied().unwrap_or_default());
            self.0.insert(key, total);
        }
        used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_before_is_not_counted_again_and_a_pid_that_is_used_again_is_new() {
        let process = |pid, started, millis| ((pid, started), Duration::from_millis(millis));
        let mut cpu = CaptureCpu::default();
        assert_eq!(cpu.add([process(1, 7, 1000), process(2, 7, 500)].into_iter()), Duration::from_millis(1500));
        assert_eq!(cpu.add([process(1, 7, 1500), process(2, 9, 100)].into_iter()), Duration::from_millis(600));
        assert_eq!(cpu.add(std::iter::empty()), Duration::ZERO);
    }
}
