//! The processes below this one that were started with an environment variable, and its threads by name.

use std::collections::BTreeSet;
use std::fs;

use crate::process::procfs::Process;

/// The children of this process that have `variable` in their environment, with all their descendants, and the threads
/// of this process with one of these names. None where `/proc` is not readable.
#[must_use]
pub fn marked(variable: &str, threads: &[&str]) -> Vec<Process> {
    let own = std::process::id();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let all: Vec<Process> = pids.filter_map(Process::read).collect();
    let is_root = |process: &&Process| process.parent == own && has_variable(process.pid, variable);
    let mut found: Vec<Process> = all.iter().filter(is_root).copied().collect();
    let mut pids: BTreeSet<u32> = found.iter().map(|process| process.pid).collect();
    let mut next = 0;
    while let Some(parent) = found.get(next).map(|process| process.pid) {
        found.extend(all.iter().filter(|process| process.parent == parent && pids.insert(process.pid)));
        next += 1;
    }
    found.extend(own_threads(threads));
    found
}

fn has_variable(pid: u32, variable: &str) -> bool {
    let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let is_it = |entry: &[u8]| entry.strip_prefix(variable.as_bytes()).is_some_and(|rest| rest.starts_with(b"="));
    environ.split(|byte| *byte == 0).any(is_it)
}

fn own_threads(names: &[&str]) -> Vec<Process> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let wanted = tasks.filter_map(|task| {
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        let stat = names.contains(&name.trim_end()).then(|| fs::read_to_string(task.path().join("stat")).ok())??;
        Process::parse(&stat)
    });
    wanted.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::child;

    #[tokio::test]
    async fn a_marked_child_is_found_with_its_children_and_another_is_not() {
        let spec =
            |value: &str| child::ChildSpec::new("sh", "/bin/sh").args(["-c", "sleep 1000; true"]).env(value, "1");
        let (marked_one, other) = (
            child::spawn(&spec("PNM_TEST_MARK")).await.unwrap(),
            child::spawn(&spec("PNM_TEST_MARKED")).await.unwrap(),
        );
        let mut found = Vec::new();
        // The shell has not started its child yet, or not even itself.
        while found.len() < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            found = marked("PNM_TEST_MARK", &[]);
        }
        assert!(found.iter().any(|process| process.pid == marked_one.pid()), "{found:?}");
        assert!(found.iter().any(|process| process.parent == marked_one.pid()), "{found:?}");
        assert!(found.iter().all(|process| process.pid != other.pid()), "{found:?}");
        assert_eq!(marked("PNM_TEST_MARK", &["no such thread"]).len(), found.len());
    }
}
