//! Reads processes from `/proc` (proc(5)).

use std::fs;
use std::time::Duration;

use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

/// Clock ticks per second in `/proc/PID/stat`: `USER_HZ`, 100 on all supported architectures (proc(5), time(7)).
const TICKS_PER_SECOND: f64 = 100.0;

/// The state of a process at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub parent: u32,
    pub group: u32,
    /// As in `/proc/<pid>/stat`: `R` running, `D` waiting for a disk, `T` stopped, `Z` zombie…
    pub state: char,
    /// Processor time so far, in clock ticks.
    pub ticks: u64,
    /// Start time in clock ticks since boot: identifies the process together with its pid.
    pub started: u64,
}

impl Process {
    /// Parses `/proc/<pid>/stat`: `pid (name) state ppid pgrp …`; the name may contain any character.
    pub(super) fn parse(stat: &str) -> Option<Self> {
        let (head, rest) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // The manual counts fields from 1; `fields` begins with its third.
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

    /// `None` where no such process exists, or `/proc` is not readable.
    #[must_use]
    pub fn read(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The process with the state of the thread that says most of it: one that waits for a disk (`D`), else one that runs
    /// (`R`), else the first thread. `None` as with [`Self::read`].
    #[must_use]
    pub fn read_with_threads(pid: u32) -> Option<Self> {
        let process = Self::read(pid)?;
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let states = threads
            .filter_map(|thread| Some(Self::parse(&fs::read_to_string(thread.path().join("stat")).ok()?)?.state));
        let states: Vec<char> = states.collect();
        let state = ['D', 'R'].into_iter().find(|state| states.contains(state)).unwrap_or(process.state);
        Some(Self { state, ..process })
    }

    /// Whether the process still runs; false if its pid belongs to another process.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        Self::read(self.pid).is_some_and(|now| now.started == self.started && !now.has_ended())
    }

    /// Whether the process has ended: a zombie that is not reaped yet, or being removed.
    fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// Identifies the current boot of the host (random(4)); empty where `/proc` is not readable.
#[must_use]
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Start time of a running process in clock ticks since boot. `None`: the process does not run.
#[must_use]
pub fn started(pid: u32) -> Option<u64> {
    Process::read(pid).filter(|process| !process.has_ended()).map(|process| process.started)
}

/// User and system time of a process that has not been reaped.
#[must_use]
pub fn cpu_time(pid: u32) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds(Process::read(pid)?.ticks)).ok()
}

/// Processor time of a process with its threads, or of one other thread of this process, to the nanosecond where the
/// kernel tells it, else in whole clock ticks. Ticks lose up to 10 ms of each process: a dozen that hardly work seem to
/// use nothing for a second.
#[must_use]
pub fn exact_cpu_time(process: &Process) -> Duration {
    // A thread that asks for its own clock by this number would get that of the process: so what it has itself comes
    // first. Its first field: nanoseconds on a processor.
    let of_thread = || {
        let text = fs::read_to_string(format!("/proc/self/task/{}/schedstat", process.pid)).ok()?;
        text.split_ascii_whitespace().next()?.parse().ok().map(Duration::from_nanos)
    };
    let clock = || clock_getcpuclockid(Pid::from_raw(process.pid.cast_signed())).ok()?.now().ok();
    let of_process = || clock().map(Duration::from);
    let ticks = || Duration::try_from_secs_f64(seconds(process.ticks)).unwrap_or_default();
    let exact = if process.pid == std::process::id() { of_process() } else { of_thread().or_else(of_process) };
    exact.unwrap_or_else(ticks)
}

/// Clock ticks in seconds.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "2^53 ticks are three million years")]
pub fn seconds(ticks: u64) -> f64 {
    ticks as f64 / TICKS_PER_SECOND
}

/// All processes of this host or container.
#[must_use]
pub fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Process::read(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// The value of a variable in the environment that a process was started with; `None` also where this may not be read.
#[must_use]
pub fn environment(pid: u32, variable: &str) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let entries = environment.split(|byte| *byte == 0);
    let mut entries = entries.filter_map(|entry| std::str::from_utf8(entry).ok()?.split_once('='));
    entries.find(|(name, _)| *name == variable).map(|(_, value)| value.to_owned())
}

#[cfg(test)]
mod tests {
    use nix::time::ClockId;

    use super::*;

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
    fn a_thread_that_runs_shows_in_its_process() {
        // The thread that reads is running.
        let own = Process::read_with_threads(std::process::id()).unwrap();
        assert!(matches!(own.state, 'R' | 'D'), "{own:?}");
        assert_eq!(Process::read_with_threads(u32::MAX), None);
    }

    #[test]
    fn own_cpu_time_is_known() {
        assert!(cpu_time(std::process::id()).is_some());
        assert_eq!(cpu_time(u32::MAX), None);
    }

    #[test]
    fn cpu_time_is_exact_for_a_process_and_for_one_of_its_threads() {
        // Less than a tick each.
        let work = || {
            let own = || Duration::from(ClockId::CLOCK_THREAD_CPUTIME_ID.now().unwrap());
            let begun = own();
            while own() < begun + Duration::from_millis(2) {}
        };
        let own = Process::read(std::process::id()).unwrap();
        let before = exact_cpu_time(&own);
        work();
        assert!(exact_cpu_time(&own) >= before + Duration::from_millis(2));
        let thread = std::thread::spawn(move || {
            let thread = Process::read(nix::unistd::gettid().as_raw().cast_unsigned()).unwrap();
            let before = exact_cpu_time(&thread);
            work();
            exact_cpu_time(&thread).saturating_sub(before)
        });
        let used = thread.join().unwrap();
        assert!((2..100).contains(&used.as_millis()), "{used:?}");
        // Above the largest pid that there can be (proc(5), `pid_max`).
        let gone = Process { pid: (1 << 22) + 1, ticks: 7, ..Process::default() };
        assert_eq!(exact_cpu_time(&gone), Duration::from_millis(70));
    }

    #[test]
    fn a_process_that_has_ended_is_not_running() {
        let stat = |state: &str| format!("7 (a) b) {state} 1 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 8899 5 6 7\n");
        for (state, ended) in [("S", false), ("T", false), ("Z", true), ("X", true)] {
            let process = Process::parse(&stat(state)).unwrap();
            assert_eq!((process.started, process.has_ended()), (8899, ended), "{state}");
        }
        assert_eq!(started(std::process::id()), Process::read(std::process::id()).map(|process| process.started));
        assert_eq!(started(u32::MAX), None);
    }
}
