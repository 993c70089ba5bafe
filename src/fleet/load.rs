//! The load of the processors that this node may use: of its control group where that has a quota below what the machine
//! has (`cpu.max`), else of the machine, from the counters of `/proc/stat` (proc(5)).

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::codes;
use crate::process::cgroup::{Cgroups, CpuGroup};
use crate::process::cgroup_files;

/// How often the counters are read.
const INTERVAL: Duration = Duration::from_secs(1);
/// The number of intervals that the load is averaged over: one busy second is no reason to send work elsewhere.
const WINDOW: usize = 5;

/// Processor time so far, all processors together, in any unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    busy: u64,
    total: u64,
}

/// Parses the first line of `/proc/stat`: `cpu user nice system idle iowait irq softirq steal guest guest_nice`. `user`
/// and `nice` include the guest time; stolen time counts as busy, since it is not available here.
fn parse(stat: &str) -> Option<Ticks> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<u64> = line.split_ascii_whitespace().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
    let idle = fields.get(3)? + fields.get(4).unwrap_or(&0);
    let total: u64 = fields.iter().sum();
    Some(Ticks { busy: total.saturating_sub(idle), total })
}

/// The latest readings.
#[derive(Debug, Default)]
struct Window(VecDeque<Ticks>);

impl Window {
    /// Adds a reading. Returns the busy share of the processors since the oldest reading, 0…1; `None` for the first
    /// one.
    #[expect(clippy::cast_precision_loss, reason = "ticks of a few seconds")]
    fn load(&mut self, now: Ticks) -> Option<f64> {
        // After a counter that went back (iowait may, proc(5)) earlier readings are useless.
        if self.0.back().is_some_and(|last| now.total <= last.total) {
            self.0.clear();
        }
        self.0.push_back(now);
        if self.0.len() > WINDOW + 1 {
            self.0.pop_front();
        }
        let oldest = self.0.front().filter(|_| self.0.len() > 1)?;
        let busy = now.busy.saturating_sub(oldest.busy) as f64;
        Some((busy / (now.total - oldest.total) as f64).clamp(0.0, 1.0))
    }
}

/// The processors that this process may use (affinity and cgroup quota heeded), at least 1.
#[must_use]
pub fn total_cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The processors that this process may use: a fraction where the quota of its control group is one.
#[must_use]
pub fn capacity(groups: &Cgroups) -> f64 {
    let machine = machine_cores();
    groups.cpu_quota().map_or(machine, |quota| quota.min(machine))
}

/// The processors that this process may run on, without quotas.
#[expect(clippy::cast_precision_loss, reason = "a number of processors")]
fn machine_cores() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    cgroup_files::processors(&status).unwrap_or_else(total_cores) as f64
}

/// The loads of control groups with a quota.
#[derive(Debug, Default)]
struct GroupLoads(HashMap<PathBuf, GroupLoad>);

#[derive(Debug)]
struct GroupLoad {
    window: Window,
    /// What the group could have used so far, in microseconds.
    available: u64,
    read: Duration,
}

impl GroupLoads {
    /// Adds readings. Returns the load of the busiest of the groups that have less than `machine` processors; `None`
    /// where there is none, and for the first reading. `now`: since any moment.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "microseconds since the start")]
    fn load(&mut self, now: Duration, groups: &[CpuGroup], machine: f64) -> Option<f64> {
        let limited = groups.iter().filter(|group| group.cores < machine);
        let loads = limited.filter_map(|group| {
            let new = || GroupLoad { window: Window::default(), available: 0, read: now };
            let load = self.0.entry(group.dir.clone()).or_insert_with(new);
            let elapsed = now.saturating_sub(std::mem::replace(&mut load.read, now));
            load.available += (elapsed.as_secs_f64() * group.cores * 1e6) as u64;
            load.window.load(Ticks { busy: group.used.as_micros() as u64, total: load.available })
        });
        loads.max_by(f64::total_cmp)
    }
}

/// Measures the load, 0…1, once a second until cancelled. The sender's initial value stands for the
/// first second.
pub async fn measure(load: watch::Sender<f64>, cancel: CancellationToken) {
    let (mut window, mut groups) = (Window::default(), GroupLoads::default());
    let (own, machine, begun) = (Cgroups::of_this_process(), machine_cores(), Instant::now());
    if let Some(cores) = own.cpu_quota().filter(|cores| *cores < machine) {
        info!(cores, machine, "the load is that of this node's control group, which has a quota of processors");
    }
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut warned = false;
    while cancel.run_until_cancelled(ticks.tick()).await.is_some() {
        let limited = own.limited_cpu();
        if limited.iter().any(|group| group.cores < machine) {
            if let Some(now) = groups.load(begun.elapsed(), &limited, machine) {
                load.send_replace(now);
            }
            continue;
        }
        let Some(reading) = std::fs::read_to_string("/proc/stat").ok().as_deref().and_then(parse) else {
            if !std::mem::replace(&mut warned, true) {
                warn!(
                    code = %codes::LOAD_UNKNOWN,
                    "/proc/stat cannot be read: the load of this machine is not known to the fleet"
                );
            }
            continue;
        };
        if let Some(now) = window.load(reading) {
            load.send_replace(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_are_read_as_proc_5_says() {
        let stat = "cpu  100 20 30 800 50 1 2 3 40 5\ncpu0 1 2 3 4 5 6 7 8 9 10\nintr 1\n";
        assert_eq!(parse(stat), Some(Ticks { busy: 156, total: 1006 }));
        assert_eq!(parse("cpu  1 2 3 4\n"), Some(Ticks { busy: 6, total: 10 }));
        for bad in ["", "cpu  1 2\n", "cpu  a b c d\n", "cpu0 1 2 3 4\n"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_load_is_that_of_the_last_five_seconds() {
        let mut window = Window::default();
        let at = |second: u64, busy| Ticks { busy, total: second * 200 };
        assert_eq!(window.load(at(1, 0)), None);
        assert_eq!(window.load(at(2, 200)), Some(1.0));
        for second in 3..=6 {
            window.load(at(second, 200));
        }
        // One of five seconds was busy; a second later it is out of the window.
        assert_eq!(window.load(at(6 + 1, 200)), Some(0.0));
        assert_eq!(window.load(at(8, 300)), Some(0.1));
        // The counters were reset.
        assert_eq!(window.load(at(1, 0)), None);
        assert_eq!(window.load(at(2, 100)), Some(0.5));
    }

    #[test]
    fn the_load_of_a_group_is_what_it_uses_of_its_quota() {
        let mut loads = GroupLoads::default();
        let mut reading = |second, used_ms, cores, machine| {
            let dir = PathBuf::from("/sys/fs/cgroup/pod");
            let groups = [CpuGroup { dir, cores, used: Duration::from_millis(used_ms) }];
            loads.load(Duration::from_secs(second), &groups, machine)
        };
        assert_eq!(reading(1, 700, 0.5, 8.0), None);
        // A quarter of a processor is half of the quota.
        assert_eq!(reading(2, 950, 0.5, 8.0), Some(0.5));
        assert_eq!(reading(3, 1450, 0.5, 8.0), Some(0.75));
        // A quota that is raised while it runs, and one that is above the machine.
        assert_eq!(reading(4, 1950, 1.0, 8.0), Some(0.625));
        assert_eq!(reading(5, 2450, 8.0, 8.0), None);
        let (pod, own) = (PathBuf::from("/pod"), PathBuf::from("/pod/own"));
        let both = |second: u64, share| {
            let used = Duration::from_millis(second * share);
            [(&own, 2.0), (&pod, 1.0)].map(|(dir, cores)| CpuGroup { dir: dir.clone(), cores, used })
        };
        loads.load(Duration::from_secs(10), &both(10, 600), 8.0);
        let busiest = loads.load(Duration::from_secs(11), &both(11, 600), 8.0).unwrap();
        assert!((busiest - 0.6).abs() < 0.001, "{busiest}");
    }

    #[test]
    fn a_node_has_no_more_processors_than_its_quota() {
        let groups = Cgroups::of_this_process();
        assert!(capacity(&groups) > 0.0 && capacity(&groups) <= machine_cores());
        assert!((capacity(&Cgroups::default()) - machine_cores()).abs() < f64::EPSILON);
    }

    #[tokio::test(start_paused = true)]
    async fn this_machine_has_a_load() {
        assert!(parse(&std::fs::read_to_string("/proc/stat").unwrap()).is_some());
        assert!(total_cores() >= 1);
        let cancel = CancellationToken::new();
        let (sender, mut receiver) = watch::channel(f64::NAN);
        let measuring = tokio::spawn(measure(sender, cancel.clone()));
        // The paused clock advances whenever all tasks sleep, so the counters are read until one has changed.
        receiver.changed().await.unwrap();
        assert!((0.0..=1.0).contains(&*receiver.borrow()), "{}", *receiver.borrow());
        cancel.cancel();
        measuring.await.unwrap();
    }
}
