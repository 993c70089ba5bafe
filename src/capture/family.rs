//! All processes of one of our children, as `/proc` tells (proc(5)): what they are doing, and that none stays behind.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

/// What a process may take to be gone once it is killed; one that waits for a disk takes longer than a moment.
const END_LIMIT: Duration = Duration::from_secs(2);

/// A process as it was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub parent: u32,
    pub group: u32,
    /// As in `/proc/<pid>/stat`: `R` wants a processor, `D` waits for a disk, `T` is stopped, `Z` has ended…
    pub state: char,
    /// Processor time so far, in clock ticks.
    pub ticks: u64,
    /// In ticks since the machine's start: with the pid, it is this process and no later one.
    pub started: u64,
}

impl Process {
    /// Reads `/proc/<pid>/stat`: `pid (name) state ppid pgrp …`, where the name may hold anything.
    fn parse(stat: &str) -> Option<Self> {
        let (head, rest) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // The manual counts from 1, and the first of these is its third.
        let number = |n: usize| fields.get(n - 3)?.parse::<u64>().ok();
        let id = |n: usize| fields.get(n - 3)?.parse::<u32>().ok();
        Some(Self {
            pid: head.split_once(' ')?.0.parse().ok()?,
            parent: id(4)?,
            group: id(5)?,
            state: fields.first()?.chars().next()?,
            ticks: number(14)? + number(15)?,
            started: number(22)?,
        })
    }

    fn read(pid: u32) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Whether it still runs, and its pid is not that of another by now.
    fn is_alive(&self) -> bool {
        Self::read(self.pid).is_some_and(|now| now.started == self.started && !matches!(now.state, 'Z' | 'X'))
    }
}

/// A child of ours that leads its own process group, and all that it has started.
#[derive(Clone, Copy, Debug)]
pub struct Family(Process);

impl Family {
    /// The child must not have been reaped. `None` where `/proc` does not show it.
    #[must_use]
    pub fn of(child: u32) -> Option<Self> {
        Process::read(child).map(Self)
    }

    /// Those that are there now: its group, and what descends from it.
    #[must_use]
    pub fn members(&self) -> Vec<Process> {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        members(&pids.filter_map(Process::read).collect::<Vec<_>>(), &self.0)
    }

    /// Kills all of these that still run, and waits until they are gone, for up to 2 s: nothing else waits for a
    /// child's children.
    pub async fn end(known: &[Process]) {
        let began = Instant::now();
        let mut left = alive(known);
        while !left.is_empty() {
            for pid in left.iter().filter_map(|process| Pid::from_raw(i32::try_from(process.pid).ok()?)) {
                // One that has just ended needs no signal.
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
            if began.elapsed() >= END_LIMIT {
                let pids: Vec<String> = left.iter().map(|process| process.pid.to_string()).collect();
                tracing::warn!(
                    pids = pids.join(", "),
                    "these processes of Chrome do not end, although they were killed"
                );
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            left = alive(known);
        }
    }
}

fn alive(known: &[Process]) -> Vec<Process> {
    known.iter().copied().filter(Process::is_alive).collect()
}

/// Who of `all` is in `root`'s group or descends from it. A pid is not given away while its group has members: only one
/// whose process is there and is another has a stranger's family.
fn members(all: &[Process], root: &Process) -> Vec<Process> {
    if all.iter().any(|process| process.pid == root.pid && process.started != root.started) {
        return Vec::new();
    }
    let is_one = |process: &Process| process.pid == root.pid || process.group == root.pid;
    let (mut found, mut rest): (Vec<Process>, Vec<Process>) = all.iter().partition(|process| is_one(process));
    let mut next = 0;
    while let Some(parent) = found.get(next).map(|process| process.pid) {
        let (children, others) = rest.into_iter().partition(|process| process.parent == parent);
        found.extend::<Vec<_>>(children);
        rest = others;
        next += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{self, Child};

    fn process(pid: u32, parent: u32, group: u32) -> Process {
        Process { pid, parent, group, state: 'S', ticks: 0, started: 7 }
    }

    #[test]
    fn a_process_is_read_as_proc_5_says() {
        let stat = "4342 (a) b (c) T 4331 4342 4298 0 -1 4194304 9 8 7 6 401 149 1 2 0 20 33 0 2341124 5 6 7\n";
        let read = Process { pid: 4342, parent: 4331, group: 4342, state: 'T', ticks: 550, started: 2_341_124 };
        assert_eq!(Process::parse(stat), Some(read));
        for bad in ["", "1 (x", "1 (x) S 1 2 3", "x (x) S 1 1 1 0 -1 0 0 0 0 0 1 1 1 1 0 20 1 0 5"] {
            assert_eq!(Process::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_family_is_the_group_and_all_descendants() {
        let all = [
            process(1, 0, 1),
            process(10, 1, 10),
            // Its parent ended; it stayed in the group. And a child with a group of its own.
            process(11, 1, 10),
            process(30, 11, 30),
            process(20, 10, 20),
            process(21, 20, 20),
            process(40, 1, 40),
        ];
        let pids = |all: &[Process]| {
            let mut pids: Vec<u32> = members(all, &process(10, 1, 10)).iter().map(|process| process.pid).collect();
            pids.sort_unstable();
            pids
        };
        assert_eq!(pids(&all), [10, 11, 20, 21, 30]);
        // It ended, and left something in its group.
        assert_eq!(pids(&[all[0], all[2], all[3]]), [11, 30]);
        // Its pid is somebody else's.
        assert_eq!(pids(&[Process { started: 8, ..all[1] }, all[4], all[5]]), [] as [u32; 0]);
    }

    /// A shell with a child in a group of its own; both sleep.
    async fn family() -> (Child, Vec<Process>) {
        let script = "setsid sleep 1000 & echo ready >&2; wait";
        let child = process::spawn(&process::Spec::new("sh", "/bin/sh").args(["-c", script])).await.unwrap();
        let family = Family::of(child.pid()).unwrap();
        let mut members = family.members();
        while members.iter().all(|process| process.group == child.pid()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
            members = family.members();
        }
        (child, members)
    }

    #[tokio::test]
    async fn what_a_killed_child_leaves_is_ended() {
        let (mut child, known) = family().await;
        child.stop(Signal::KILL, Duration::from_secs(5)).await;
        assert_eq!(alive(&known).len(), 1, "{known:?}");
        Family::end(&known).await;
        assert_eq!(alive(&known), []);
    }

    #[tokio::test]
    async fn a_later_process_of_the_same_pid_is_left_alone() {
        let (mut child, known) = family().await;
        let strangers: Vec<Process> =
            known.iter().map(|process| Process { started: process.started + 1, ..*process }).collect();
        Family::end(&strangers).await;
        assert_eq!(alive(&known), known);
        child.stop(Signal::KILL, Duration::from_secs(5)).await;
        Family::end(&known).await;
    }
}
