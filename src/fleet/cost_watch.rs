//! Measures what the running recordings cost, from `/proc`.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::codes;
use crate::fleet::cost::{self, ChildProcesses, CostMeter, Costs};
use crate::fleet::slots::Slots;
use crate::process::procfs;

const INTERVAL: Duration = Duration::from_secs(5);
/// Measured at once when a recording begins or ends, but not more often than this.
const LEAST_INTERVAL: Duration = Duration::from_millis(500);
/// After this long `/proc` counts as not answering, and nothing is known of the costs.
const LIMIT: Duration = Duration::from_secs(10);

/// Measures the costs of a node's recordings.
#[derive(Debug)]
pub struct CostWatch {
    pub slots: Slots,
    /// The environment variable of a rig's processes; its value is the rig's.
    pub rig_variable: &'static str,
    /// What this node's transcodes, scripts and hooks take, in processors.
    pub background: watch::Sender<f64>,
}

impl CostWatch {
    /// Measures until cancelled.
    pub async fn run(self, cancel: CancellationToken) {
        let (mut meter, begun) = (CostMeter::default(), Instant::now());
        let mut running = self.slots.running();
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = async {
                tokio::select! {
                    _ = ticks.tick() => {}
                    Ok(()) = running.changed() => tokio::time::sleep(LEAST_INTERVAL).await,
                }
            };
            if cancel.run_until_cancelled(due).await.is_none() {
                return;
            }
            let Some(read) = cancel.run_until_cancelled(self.read()).await else { return };
            let Some(processes) = read else { return };
            let (costs, background) = meter.take(begun.elapsed(), &processes);
            debug!(?costs, background, "measured what recordings cost");
            self.background.send_replace(background);
            self.slots.measured(costs);
        }
    }

    /// The processes now. `/proc` answers at once, except for the environment of a process that waits for a disk.
    async fn read(&self) -> Option<ChildProcesses> {
        let variable = self.rig_variable;
        let mut reading = tokio::task::spawn_blocking(move || {
            let rig = |child: &procfs::Process| procfs::environment(child.pid, variable);
            cost::sort(&procfs::all(), std::process::id(), rig)
        });
        if let Ok(read) = tokio::time::timeout(LIMIT, &mut reading).await {
            return read.ok();
        }
        warn!(
            code = %codes::COST_UNKNOWN,
            "/proc does not answer: what the recordings cost is not known, and counts as typical for now"
        );
        self.slots.measured(Costs::default());
        reading.await.ok()
    }
}
