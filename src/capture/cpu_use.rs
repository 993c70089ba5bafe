//! The processor time of all that captures: the processes of the rigs and the threads that feed them.

use std::collections::HashMap;
use std::time::Duration;

use crate::capture::process_tag;
use crate::process::marked::marked;
use crate::process::procfs::{Process, TICKS_PER_SECOND};

/// As [`crate::capture::rig_thread`] starts them.
const THREADS: [&str; 3] = ["screen", "sound", "stream"];

/// What was used up to the last look, by pid and start.
#[derive(Debug, Default)]
pub struct CaptureCpu(HashMap<(u32, u64), u64>);

impl CaptureCpu {
    /// The processor time since the last look. What a process has used between the last look and its end is not known.
    /// Reads all of `/proc`: some milliseconds.
    pub fn used(&mut self) -> Duration {
        self.add(&marked(process_tag::VARIABLE, &THREADS))
    }

    #[expect(clippy::cast_precision_loss, reason = "2^53 ticks are three million years")]
    fn add(&mut self, found: &[Process]) -> Duration {
        let before = std::mem::take(&mut self.0);
        let mut used = 0;
        for process in found {
            let key = (process.pid, process.started);
            used += process.ticks.saturating_sub(before.get(&key).copied().unwrap_or(0));
            self.0.insert(key, process.ticks);
        }
        Duration::try_from_secs_f64(used as f64 / TICKS_PER_SECOND).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_before_is_not_counted_again_and_a_pid_that_is_used_again_is_new() {
        let process = |pid, started, ticks| Process { pid, ticks, started, ..Process::default() };
        let mut cpu = CaptureCpu::default();
        assert_eq!(cpu.add(&[process(1, 7, 100), process(2, 7, 50)]), Duration::from_millis(1500));
        assert_eq!(cpu.add(&[process(1, 7, 150), process(2, 9, 10)]), Duration::from_millis(600));
        assert_eq!(cpu.add(&[]), Duration::ZERO);
    }
}
