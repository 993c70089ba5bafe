//! What the processes of each rig take of this machine.

use std::collections::BTreeMap;
use std::fs;

use tokio::time::Instant;

use crate::capture::process_tag;
use crate::fleet::cost;
use crate::process::procfs::{self, Process};

/// What one rig's processes take.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct RigUse {
    /// Processors, since the last look; `None` at the first.
    pub cores: Option<f64>,
    /// Bytes that they share with nobody.
    pub memory: u64,
}

/// The processes of each rig, and the bytes of memory that they alone use.
#[derive(Debug, Default)]
pub(super) struct Processes(BTreeMap<String, (Vec<Process>, u64)>);

/// Reads all of `/proc`: some milliseconds, unless a process waits for a disk.
pub(super) fn read() -> Processes {
    let rig = |child: &Process| procfs::environment(child.pid, process_tag::VARIABLE);
    let sorted = cost::sort(&procfs::all(), std::process::id(), rig);
    let with_memory = |processes: Vec<Process>| {
        let memory = processes.iter().filter_map(|process| memory(process.pid)).sum();
        (processes, memory)
    };
    Processes(sorted.rigs.into_iter().map(|(name, processes)| (name, with_memory(processes))).collect())
}

/// `RssAnon` of `/proc/PID/status` (`proc_pid_status(5)`).
fn memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// The processor time of each process so far, by its pid and start.
type Ticks = BTreeMap<(u32, u64), u64>;

/// Measures from one look to the next.
#[derive(Debug, Default)]
pub(super) struct ProcessMeter(Option<(Instant, Ticks)>);

impl ProcessMeter {
    pub fn take(&mut self, found: &Processes) -> BTreeMap<String, RigUse> {
        let (now, mut ticks) = (Instant::now(), BTreeMap::new());
        let mut rigs = BTreeMap::new();
        for (name, (processes, memory)) in &found.0 {
            let mut used = 0;
            for process in processes {
                let key = (process.pid, process.started);
                // Of one that is new, all.
                let before = self.0.as_ref().and_then(|(_, before)| before.get(&key).copied());
                used += process.ticks.saturating_sub(before.unwrap_or(0));
                ticks.insert(key, process.ticks);
            }
            let since = self.0.as_ref().map(|(at, _)| now.duration_since(*at).as_secs_f64());
            let cores = since.filter(|since| *since > 0.0).map(|since| procfs::seconds(used) / since);
            rigs.insert(name.clone(), RigUse { cores, memory: *memory });
        }
        self.0 = Some((now, ticks));
        rigs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_processors_of_a_rig_are_measured_from_look_to_look() {
        let look = |ticks| {
            let process = |pid, ticks| Process { pid, ticks, started: 7, ..Process::default() };
            Processes([("rig".to_owned(), (vec![process(1, ticks), process(2, 10)], 4096))].into())
        };
        let mut meter = ProcessMeter::default();
        assert_eq!(meter.take(&look(100))["rig"], RigUse { cores: None, memory: 4096 });
        tokio::time::advance(std::time::Duration::from_secs(5)).await;
        assert_eq!(meter.take(&look(350))["rig"].cores, Some(0.5));
        assert!(memory(std::process::id()).is_some_and(|bytes| bytes > 1 << 16));
        assert_eq!(memory(u32::MAX), None);
    }
}
