//! The processes of a child: its group and its descendants, from `/proc` (proc(5)).

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::codes;
use crate::process::procfs::{self, Process};

/// Time limit for killed processes to end; one that waits for a disk takes longer.
const END_LIMIT: Duration = Duration::from_secs(2);

/// A child that leads its own process group, and all processes that it has started.
#[derive(Clone, Copy, Debug)]
pub struct ProcessTree(Process);

impl ProcessTree {
    /// The child must not have been reaped. `None` where `/proc` does not show it.
    #[must_use]
    pub fn of(child: u32) -> Option<Self> {
        Process::read(child).map(Self)
    }

    /// The processes that exist now: the child's group, and all descendants.
    #[must_use]
    pub fn members(&self) -> Vec<Process> {
        members(&procfs::all(), &self.0)
    }

    /// Kills those of `known` that still run and waits up to 2 s for their end. Nothing else waits for a child's
    /// children.
    pub async fn end(known: &[Process]) {
        let began = Instant::now();
        let mut remaining = alive(known);
        while !remaining.is_empty() {
            for pid in remaining.iter().filter_map(|process| Pid::from_raw(i32::try_from(process.pid).ok()?)) {
                // A process that has just ended needs no signal.
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
            if began.elapsed() >= END_LIMIT {
                let pids: Vec<String> = remaining.iter().map(|process| process.pid.to_string()).collect();
                tracing::warn!(
                    code = %codes::PROCESSES_STUCK,
                    pids = pids.join(", "),
                    "these processes of Chrome do not end, although they were killed"
                );
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            remaining = alive(known);
        }
    }
}

fn alive(known: &[Process]) -> Vec<Process> {
    known.iter().copied().filter(Process::is_alive).collect()
}

/// The processes of `all` that are in `root`'s group or descend from it. None if a later process has `root`'s pid: a
/// pid is not reused while its group has members.
fn members(all: &[Process], root: &Process) -> Vec<Process> {
    if all.iter().any(|process| process.pid == root.pid && process.started != root.started) {
        return Vec::new();
    }
    let is_direct = |process: &Process| process.pid == root.pid || process.group == root.pid;
    let (mut found, mut rest): (Vec<Process>, Vec<Process>) = all.iter().partition(|process| is_direct(process));
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
    use crate::process::child::{self, Child};

    fn process(pid: u32, parent: u32, group: u32) -> Process {
        Process { pid, parent, group, state: 'S', ticks: 0, started: 7 }
    }

    #[test]
    fn members_are_the_group_and_all_descendants() {
        let all = [
            process(1, 0, 1),
            process(10, 1, 10),
            // Its parent ended and it stayed in the group; and a child with its own group.
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
        // The root has ended and left a process in its group.
        assert_eq!(pids(&[all[0], all[2], all[3]]), [11, 30]);
        // The root's pid belongs to another process.
        assert_eq!(pids(&[Process { started: 8, ..all[1] }, all[4], all[5]]), [] as [u32; 0]);
    }

    /// A shell with a child in its own group; both sleep.
    async fn shell_with_child() -> (Child, Vec<Process>) {
        let script = "setsid sleep 1000 & echo ready >&2; wait";
        let child = child::spawn(&child::ChildSpec::new("sh", "/bin/sh").args(["-c", script])).await.unwrap();
        let shell_with_child = ProcessTree::of(child.pid()).unwrap();
        let mut members = shell_with_child.members();
        while members.iter().all(|process| process.group == child.pid()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
            members = shell_with_child.members();
        }
        (child, members)
    }

    #[tokio::test]
    async fn remaining_processes_of_a_killed_child_are_ended() {
        let (mut child, known) = shell_with_child().await;
        child.stop(Signal::KILL, Duration::from_secs(5)).await;
        assert_eq!(alive(&known).len(), 1, "{known:?}");
        ProcessTree::end(&known).await;
        assert_eq!(alive(&known), []);
    }

    #[tokio::test]
    async fn a_later_process_of_the_same_pid_is_left_alone() {
        let (mut child, known) = shell_with_child().await;
        let strangers: Vec<Process> =
            known.iter().map(|process| Process { started: process.started + 1, ..*process }).collect();
        ProcessTree::end(&strangers).await;
        assert_eq!(alive(&known), known);
        child.stop(Signal::KILL, Duration::from_secs(5)).await;
        ProcessTree::end(&known).await;
    }
}
