//! Reads the files by which Linux tells of control groups (cgroups(7), the kernel's `cgroup-v1` and `cgroup-v2`
//! documents) and of pressure (`psi` document): from their text. Pure.

use std::path::{Path, PathBuf};

/// A hierarchy that is mounted here.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy<'a> {
    /// The group that is mounted: `/`, or that of a container.
    root: &'a str,
    mount_point: PathBuf,
    unified: bool,
    /// Of version 1: its controllers among other options.
    options: Vec<&'a str>,
}

/// The directories of one controller, from the process's own group to the outermost one that is mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControllerDirs {
    /// Version 2.
    pub unified: bool,
    pub dirs: Vec<PathBuf>,
}

/// Where the groups of a process are for `controller` (`cpu`, `cpuacct`, `memory`). `groups`: `/proc/PID/cgroup`;
/// `mounts`: `/proc/PID/mountinfo`. Empty where there is no such hierarchy.
#[must_use]
pub fn controller_dirs(groups: &str, mounts: &str, controller: &str) -> ControllerDirs {
    let hierarchies: Vec<Hierarchy<'_>> = mounts.lines().filter_map(hierarchy).collect();
    // A hierarchy of version 1 has taken the controller from that of version 2.
    let first_version = hierarchies.iter().find(|it| !it.unified && it.options.contains(&controller));
    let Some(hierarchy) = first_version.or_else(|| hierarchies.iter().find(|it| it.unified)) else {
        return ControllerDirs::default();
    };
    // `number:controllers:path`, and `0::path` in version 2.
    let group = groups.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let named = controllers.split(',').any(|name| name == controller);
        (if hierarchy.unified { controllers.is_empty() } else { named }).then_some(path)
    });
    // A group outside of what is mounted shows as the mounted one: within a container it is the container's.
    let below = group.and_then(|group| group.strip_prefix(hierarchy.root.trim_end_matches('/')));
    let inside = |path: &&str| path.starts_with('/') && !path.contains("..");
    let below = below.filter(inside).unwrap_or_default().trim_matches('/');
    let own = match below {
        "" => hierarchy.mount_point.clone(),
        below => hierarchy.mount_point.join(below),
    };
    let mut dirs = Vec::new();
    let mut dir = Some(own);
    while let Some(current) = dir.filter(|dir| dir.starts_with(&hierarchy.mount_point)) {
        dir = current.parent().map(Path::to_owned);
        dirs.push(current);
    }
    ControllerDirs { unified: hierarchy.unified, dirs }
}

/// A line of mountinfo (proc(5)): `id parent device root mount-point options … - type source super-options`.
fn hierarchy(line: &str) -> Option<Hierarchy<'_>> {
    let (mount, kind) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    let (root, mount_point) = (mount.next()?, mount.next()?);
    let mut kind = kind.split(' ');
    let unified = match kind.next()? {
        "cgroup2" => true,
        "cgroup" => false,
        _ => return None,
    };
    let options = kind.nth(1).unwrap_or_default().split(',').collect();
    Some(Hierarchy { root, mount_point: mount_point.replace("\\040", " ").into(), unified, options })
}

/// Processors by `cpu.max` (`quota period`, or `max period`); `None`: no limit.
#[must_use]
pub fn cpu_max(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    share(quota, period)
}

/// Processors by `cpu.cfs_quota_us` (-1: no limit) and `cpu.cfs_period_us`.
#[must_use]
pub fn cfs_quota(quota: &str, period: &str) -> Option<f64> {
    share(quota, period)
}

fn share(quota: &str, period: &str) -> Option<f64> {
    let (quota, period): (f64, f64) = (quota.trim().parse().ok()?, period.trim().parse().ok()?);
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

/// The value of a key in a file of lines `key value` (`cpu.stat`, `memory.stat`).
#[must_use]
pub fn value(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// A limit in bytes; `None` for `max`, and for the huge number that version 1 has instead.
#[must_use]
pub fn byte_limit(text: &str) -> Option<u64> {
    /// Version 1 shows the greatest number of pages that a signed number holds, in bytes.
    const NO_LIMIT: u64 = 1 << 62;
    text.trim().parse().ok().filter(|limit| *limit < NO_LIMIT)
}

/// A line of `/proc/meminfo` (`MemAvailable:   123 kB`) in bytes.
#[must_use]
pub fn meminfo(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The number of processors that a process may run on, by `Cpus_allowed_list` (`0-3,8`) of `/proc/PID/status`.
#[must_use]
pub fn processors(status: &str) -> Option<usize> {
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let count = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        Some((last + 1).saturating_sub(first))
    };
    allowed.trim().split(',').map(count).sum::<Option<usize>>().filter(|count| *count > 0)
}

/// The shares of the time, 0…1, in which some task, or every task at once, waited for a resource.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// Over the last minute.
    pub some_minute: f64,
    /// Over the last 10 s.
    pub full_10s: f64,
}

/// Parses a pressure file: `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, then the same with `full`, which older
/// kernels do not have for processors.
#[must_use]
pub fn pressure(text: &str) -> Option<Pressure> {
    let average = |kind: &str, key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))?;
        let percent: f64 = line.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='))?.parse().ok()?;
        Some(percent / 100.0)
    };
    let some_minute = average("some", "avg60")?;
    Some(Pressure { some_minute, full_10s: average("full", "avg10").unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dirs(groups: &str, mounts: &str, controller: &str) -> (bool, Vec<String>) {
        let found = controller_dirs(groups, mounts, controller);
        (found.unified, found.dirs.iter().map(|dir| dir.to_str().unwrap().to_owned()).collect())
    }

    const UNIFIED: &str = "23 1 0:22 / /proc rw - proc proc rw\n\
        31 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn the_groups_of_version_2_are_found_up_to_the_root() {
        let (unified, found) = dirs("0::/system.slice/recorder.service\n", UNIFIED, "memory");
        assert!(unified);
        let root = "/sys/fs/cgroup";
        assert_eq!(
            found,
            [format!("{root}/system.slice/recorder.service"), format!("{root}/system.slice"), root.to_owned()]
        );
        // In a container with a namespace of its own, and where its group is outside of what it sees.
        for group in ["0::/\n", "0::/../other\n"] {
            assert_eq!(dirs(group, UNIFIED, "cpu"), (true, vec![root.to_owned()]), "{group}");
        }
    }

    #[test]
    fn the_groups_of_version_1_are_found_by_their_controller() {
        let mounts = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
            35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let groups = "4:memory:/docker/abc/inner\n2:cpu,cpuacct:/a\n0::/\n";
        let (unified, found) = dirs(groups, mounts, "cpuacct");
        assert!(!unified);
        assert_eq!(found, ["/sys/fs/cgroup/cpu,cpuacct/a", "/sys/fs/cgroup/cpu,cpuacct"]);
        // What is mounted is the container's own group.
        assert_eq!(dirs(groups, mounts, "memory").1, ["/sys/fs/cgroup/memory/inner", "/sys/fs/cgroup/memory"]);
        for outside in ["4:memory:/elsewhere\n", "4:memory:/docker/abcd\n", "4:memory:/docker/abc\n"] {
            assert_eq!(dirs(outside, mounts, "memory").1, ["/sys/fs/cgroup/memory"], "{outside}");
        }
        assert_eq!(controller_dirs(groups, "1 1 0:1 / / rw - ext4 /dev/vda rw\n", "cpu"), ControllerDirs::default());
        assert_eq!(controller_dirs("", "", "cpu"), ControllerDirs::default());
    }

    #[test]
    fn limits_and_counters_are_read_as_the_kernel_writes_them() {
        assert_eq!((cpu_max("250000 100000\n"), cpu_max("max 100000\n"), cpu_max("")), (Some(2.5), None, None));
        assert_eq!((cfs_quota("50000\n", "100000\n"), cfs_quota("-1\n", "100000\n")), (Some(0.5), None));
        let stat = "usage_usec 1234\nuser_usec 1000\nnr_periods 0\n";
        assert_eq!((value(stat, "usage_usec"), value(stat, "usage"), value(stat, "x")), (Some(1234), None, None));
        assert_eq!((byte_limit("1048576\n"), byte_limit("max\n")), (Some(1_048_576), None));
        assert_eq!(byte_limit("9223372036854771712\n"), None);
        let meminfo_text = "MemTotal:       24684000 kB\nMemAvailable:   1024 kB\n";
        assert_eq!((meminfo(meminfo_text, "MemAvailable"), meminfo(meminfo_text, "Mem")), (Some(1 << 20), None));
    }

    #[test]
    fn the_processors_of_a_process_are_counted() {
        let status = |list: &str| processors(&format!("Cpus_allowed:\tff\nCpus_allowed_list:\t{list}\n"));
        assert_eq!((status("0-3,8,10-11"), status("5"), status(""), status("a-b")), (Some(7), Some(1), None, None));
        assert_eq!(processors(""), None);
    }

    #[test]
    fn pressure_is_read_also_where_the_kernel_has_no_second_line() {
        let some = "some avg10=19.61 avg60=14.70 avg300=13.93 total=11704260995\n";
        assert_eq!(pressure(some), Some(Pressure { some_minute: 0.147, full_10s: 0.0 }));
        let both = format!("{some}full avg10=2.50 avg60=0.00 avg300=0.00 total=0\n");
        assert_eq!(pressure(&both), Some(Pressure { some_minute: 0.147, full_10s: 0.025 }));
        for bad in ["", "some\n", "some avg60=x\n", "full avg10=1.00\n"] {
            assert_eq!(pressure(bad), None, "{bad:?}");
        }
    }
}
