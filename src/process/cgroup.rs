//! The control groups of this process (cgroups(7)), of either version: what they allow, and what they use. A group counts
//! with all that contain it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::process::cgroup_files::{self as files, ControllerDirs, Pressure};

/// The groups of this process. They are looked for once: a process is hardly ever moved.
#[derive(Clone, Debug, Default)]
pub struct Cgroups {
    cpu: ControllerDirs,
    /// Version 1 counts processor time in a hierarchy of its own.
    cpu_usage: ControllerDirs,
    memory: ControllerDirs,
}

/// The processor time of a group that is limited.
#[derive(Clone, Debug, PartialEq)]
pub struct CpuGroup {
    pub dir: PathBuf,
    /// Processors that it may use; may be a fraction.
    pub cores: f64,
    /// Processor time so far.
    pub used: Duration,
}

/// The memory of a group that is limited, or of the host, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What the limit is, with its place: for the log.
    pub name: String,
    pub limit: u64,
    /// What can be had: the cache of files that nobody has used lately counts as free.
    pub free: u64,
}

impl Cgroups {
    /// Those of this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self::read(Path::new("/proc/self"))
    }

    /// Those of the process with this directory in `/proc`.
    #[must_use]
    pub fn read(proc: &Path) -> Self {
        let read = |name: &str| fs::read_to_string(proc.join(name)).unwrap_or_default();
        let (groups, mounts) = (read("cgroup"), read("mountinfo"));
        let dirs = |controller| files::controller_dirs(&groups, &mounts, controller);
        Self { cpu: dirs("cpu"), cpu_usage: dirs("cpuacct"), memory: dirs("memory") }
    }

    /// The groups whose processors are limited, with what they have used.
    #[must_use]
    pub fn limited_cpu(&self) -> Vec<CpuGroup> {
        let limited = self.cpu.dirs.iter().enumerate().filter_map(|(level, dir)| {
            let cores = cores(dir, self.cpu.unified)?;
            let used = if self.cpu.unified {
                Duration::from_micros(files::value(&text(dir, "cpu.stat")?, "usage_usec")?)
            } else {
                // The two hierarchies of version 1 usually have the same groups. Where not, the usage is not known.
                let below = dir.strip_prefix(self.cpu.dirs.last()?).ok()?;
                let usage = self.cpu_usage.dirs.last()?.join(below);
                self.cpu_usage.dirs.get(level).filter(|dir| **dir == usage)?;
                Duration::from_nanos(text(&usage, "cpuacct.usage")?.trim().parse().ok()?)
            };
            Some(CpuGroup { dir: dir.clone(), cores, used })
        });
        limited.collect()
    }

    /// The processors that the tightest quota allows; `None`: there is none.
    #[must_use]
    pub fn cpu_quota(&self) -> Option<f64> {
        self.cpu.dirs.iter().filter_map(|dir| cores(dir, self.cpu.unified)).min_by(f64::total_cmp)
    }

    /// The limits of memory, that of the host last.
    #[must_use]
    pub fn memory(&self) -> Vec<Memory> {
        let groups = self.memory.dirs.iter().filter_map(|dir| memory(dir, self.memory.unified));
        groups.chain(fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(host_memory)).collect()
    }

    /// How much the process's own group waits for processors, or the host where groups do not tell. `None`: the kernel
    /// does not tell (`CONFIG_PSI`, `psi=1`).
    #[must_use]
    pub fn cpu_pressure(&self) -> Option<Pressure> {
        pressure(&self.cpu, "cpu")
    }

    /// The same for memory.
    #[must_use]
    pub fn memory_pressure(&self) -> Option<Pressure> {
        pressure(&self.memory, "memory")
    }
}

fn text(dir: &Path, name: &str) -> Option<String> {
    fs::read_to_string(dir.join(name)).ok()
}

fn cores(dir: &Path, unified: bool) -> Option<f64> {
    if unified {
        files::cpu_max(&text(dir, "cpu.max")?)
    } else {
        files::cfs_quota(&text(dir, "cpu.cfs_quota_us")?, &text(dir, "cpu.cfs_period_us")?)
    }
}

fn memory(dir: &Path, unified: bool) -> Option<Memory> {
    let limit = |name: &str| Some((files::byte_limit(&text(dir, name)?)?, name.to_owned()));
    let (limits, used, cache) = if unified {
        // Above memory.high everything in the group is slowed down.
        (vec![limit("memory.max"), limit("memory.high")], "memory.current", "inactive_file")
    } else {
        (vec![limit("memory.limit_in_bytes")], "memory.usage_in_bytes", "total_inactive_file")
    };
    let (limit, name) = limits.into_iter().flatten().min()?;
    let used: u64 = text(dir, used)?.trim().parse().ok()?;
    let cache = text(dir, "memory.stat").and_then(|stat| files::value(&stat, cache)).unwrap_or_default();
    let name = format!("{} of {}", name, dir.display());
    Some(Memory { name, limit, free: limit.saturating_sub(used.saturating_sub(cache)) })
}

fn host_memory(meminfo: &str) -> Option<Memory> {
    let (limit, free) = (files::meminfo(meminfo, "MemTotal")?, files::meminfo(meminfo, "MemAvailable")?);
    Some(Memory { name: "the host".to_owned(), limit, free })
}

fn pressure(dirs: &ControllerDirs, resource: &str) -> Option<Pressure> {
    let own = dirs.dirs.first().filter(|_| dirs.unified).and_then(|dir| text(dir, &format!("{resource}.pressure")));
    let text = own.or_else(|| fs::read_to_string(format!("/proc/pressure/{resource}")).ok())?;
    files::pressure(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn a_group_of_version_2_is_limited_by_all_that_contain_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let mounts = format!("31 23 0:26 / {}/fs rw - cgroup2 cgroup2 rw\n", root.display());
        write(
            root,
            &[
                ("proc/cgroup", "0::/pod/recorder\n"),
                ("proc/mountinfo", &mounts),
                ("fs/pod/cpu.max", "150000 100000\n"),
                ("fs/pod/cpu.stat", "usage_usec 9000000\n"),
                ("fs/pod/memory.max", "max\n"),
                ("fs/pod/recorder/cpu.max", "max 100000\n"),
                ("fs/pod/recorder/memory.max", "2000000000\n"),
                ("fs/pod/recorder/memory.high", "1000000000\n"),
                ("fs/pod/recorder/memory.current", "900000000\n"),
                ("fs/pod/recorder/memory.stat", "anon 1\nfile 500\ninactive_file 300000000\n"),
                ("fs/pod/recorder/memory.pressure", "some avg10=1.00 avg60=2.00\nfull avg10=12.00 avg60=0.00\n"),
            ],
        );
        let groups = Cgroups::read(&root.join("proc"));
        assert_eq!(groups.cpu_quota(), Some(1.5));
        let pod = CpuGroup { dir: root.join("fs/pod"), cores: 1.5, used: Duration::from_secs(9) };
        assert_eq!(groups.limited_cpu(), [pod]);
        let memory = groups.memory();
        assert_eq!((memory[0].limit, memory[0].free), (1_000_000_000, 400_000_000));
        assert_eq!(memory[0].name, format!("memory.high of {}/fs/pod/recorder", root.display()));
        assert_eq!(memory.last().unwrap().name, "the host");
        assert_eq!(groups.memory_pressure(), Some(Pressure { some_minute: 0.02, full_10s: 0.12 }));
    }

    #[test]
    fn a_group_of_version_1_is_limited_by_its_controllers() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let mount = |name: &str| format!("1 1 0:1 / {}/{name} rw - cgroup cgroup rw,{name}\n", root.display());
        write(
            root,
            &[
                ("proc/cgroup", "3:memory:/m\n2:cpuacct:/c\n1:cpu:/c\n"),
                ("proc/mountinfo", &["cpu", "cpuacct", "memory"].map(mount).concat()),
                ("cpu/cpu.cfs_quota_us", "-1\n"),
                ("cpu/cpu.cfs_period_us", "100000\n"),
                ("cpu/c/cpu.cfs_quota_us", "50000\n"),
                ("cpu/c/cpu.cfs_period_us", "100000\n"),
                ("cpuacct/c/cpuacct.usage", "4000000000\n"),
                ("memory/m/memory.limit_in_bytes", "1000\n"),
                ("memory/m/memory.usage_in_bytes", "990\n"),
                ("memory/m/memory.stat", "inactive_file 1\ntotal_inactive_file 90\n"),
                ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ],
        );
        let groups = Cgroups::read(&root.join("proc"));
        let limited = groups.limited_cpu();
        assert_eq!((limited.len(), limited[0].cores, limited[0].used), (1, 0.5, Duration::from_secs(4)));
        let memory = groups.memory();
        assert_eq!((memory.len(), memory[0].limit, memory[0].free), (2, 1000, 100));
    }

    #[test]
    fn this_machine_tells_its_memory_and_no_group_is_an_error() {
        let memory = Cgroups::of_this_process().memory();
        assert!(memory.iter().all(|memory| memory.free > 0 && memory.limit > 0), "{memory:?}");
        assert_eq!(memory.last().unwrap().name, "the host");
        let none = Cgroups::read(Path::new("/nowhere"));
        assert_eq!((none.cpu_quota(), none.limited_cpu()), (None, Vec::new()));
    }
}
