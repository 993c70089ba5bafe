//! Notes that the processors or the memory of this node are overloaded.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::fleet::availability::{Availability, Obstacle};
use crate::fleet::load;
use crate::fleet::overload::{CpuOverload, MemoryWatch, Shortage};
use crate::process::cgroup::Cgroups;

const INTERVAL: Duration = Duration::from_secs(1);

/// Looks at processors and memory.
#[derive(Debug)]
pub struct OverloadWatch {
    /// The load, 0…1, from which the processors are overloaded; `None`: they never are.
    pub cpu_limit: Option<f64>,
    /// The load, 0…1.
    pub load: watch::Receiver<f64>,
    /// What of it is this node's own background work, in processors.
    pub background: watch::Receiver<f64>,
    pub availability: Availability,
}

impl OverloadWatch {
    /// Looks every second until cancelled.
    pub async fn run(self, cancel: CancellationToken) {
        let groups = Cgroups::of_this_process();
        if groups.cpu_pressure().is_none() || groups.memory_pressure().is_none() {
            debug!(
                "this kernel does not tell how much is waited for (PSI): overload is judged by load and free memory"
            );
        }
        let mut cpu = self.cpu_limit.map(CpuOverload::new);
        let mut memory = MemoryWatch::default();
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while cancel.run_until_cancelled(ticks.tick()).await.is_some() {
            if let Some(cpu) = &mut cpu {
                self.look_at_processors(cpu, &groups);
            }
            self.look_at_memory(&mut memory, &groups);
        }
    }

    fn look_at_processors(&self, cpu: &mut CpuOverload, groups: &Cgroups) {
        let cores = load::capacity(groups);
        let load = (*self.load.borrow() - *self.background.borrow() / cores).max(0.0);
        let waiting = groups.cpu_pressure().map(|pressure| pressure.some_minute);
        let Some(average) = cpu.update(load, waiting) else {
            self.availability.clear(Obstacle::Overload);
            return;
        };
        let waited = waiting.map_or(String::new(), |share| {
            format!(", and {:.0} % of the time something waited for one", share * 100.0)
        });
        self.note(Obstacle::Overload, || {
            format!(
                "{cores:.2} processors were {:.0} % busy for a minute, besides what this node transcodes{waited}: \
                 lower recorder.max_limit or set recorder.max_load, look what else runs here, or add a node",
                average * 100.0
            )
        });
    }

    fn look_at_memory(&self, watch: &mut MemoryWatch, groups: &Cgroups) {
        let memory = groups.memory();
        let shortage = watch.shortage(&memory, groups.memory_pressure());
        if !watch.update(shortage.as_ref()) {
            self.availability.clear(Obstacle::Memory);
            return;
        }
        let mib = |bytes: u64| bytes >> 20;
        let why = shortage.map(|shortage| match shortage {
            Shortage::Limit { memory, reserve } => format!(
                "{} MiB of {} MiB are free ({}), and one more recording may need {} MiB",
                mib(memory.free),
                mib(memory.limit),
                memory.name,
                mib(reserve)
            ),
            Shortage::Pressure(share) => {
                format!("{:.0} % of the last 10 s nothing went on for want of memory", share * 100.0)
            }
        });
        if let Some(why) = why {
            self.note(Obstacle::Memory, || {
                format!("{why}: raise the limit, lower recorder.max_limit, or look what else takes memory here")
            });
        }
    }

    /// Notes an obstacle, with the detail of its beginning: each change of it is a ping.
    fn note(&self, obstacle: Obstacle, detail: impl FnOnce() -> String) {
        if !self.availability.is_noted(obstacle) {
            self.availability.block(obstacle, detail());
        }
    }
}
