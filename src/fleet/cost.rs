//! What a recording costs in processor time, and whether `recorder.max_load` allows one more. Pure.
//!
//! Costs are in processors: 0.5 is half of one, all the time. A recording costs what its processes took over its last
//! minute, with its share of what this program took. In its first minute it counts with at least the average of the
//! others: starts that come in a burst have not cost anything yet.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use crate::process::procfs::{self, Process};

/// What a recording is averaged over, and how long it counts as young.
const WINDOW: Duration = Duration::from_secs(60);
/// What a recording counts with before any was measured: a meeting with four webcams at 1920x1080 (docs/benchmarks.md).
const TYPICAL: f64 = 0.5;
/// Readings kept of one recording.
const READINGS: usize = 64;
/// Once over the limit, one more is allowed at an expected load this much below it.
const HYSTERESIS: f64 = 0.05;

/// What the running recordings cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Costs {
    /// Each one whose processes run, in processors.
    pub recordings: Vec<f64>,
    /// What one more is expected to cost.
    pub typical: f64,
}

impl Default for Costs {
    fn default() -> Self {
        Self { recordings: Vec::new(), typical: TYPICAL }
    }
}

impl Costs {
    /// What so many recordings are expected to cost: those without processes yet count as typical.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "at most 1000 recordings")]
    pub fn expected(&self, running: usize) -> f64 {
        let unmeasured = running.saturating_sub(self.recordings.len());
        self.recordings.iter().sum::<f64>() + unmeasured as f64 * self.typical
    }
}

/// `recorder.max_load` of this node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CostLimit {
    /// The processors that all recordings together may cost.
    pub cores: f64,
}

/// One more would be too much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Excess {
    pub running: usize,
    pub expected: f64,
    pub one_more: f64,
    pub limit: f64,
}

impl CostLimit {
    /// Why one more recording is not allowed. An idle node is allowed one: else a low limit would turn it off. `was_over`:
    /// it was not allowed before.
    #[must_use]
    pub fn excess(&self, running: usize, costs: &Costs, was_over: bool) -> Option<Excess> {
        let (expected, one_more) = (costs.expected(running), costs.typical);
        let limit = if was_over { self.cores * (1.0 - HYSTERESIS) } else { self.cores };
        let over = running > 0 && expected + one_more > limit;
        over.then_some(Excess { running, expected, one_more, limit: self.cores })
    }
}

/// The processes of this program by what they are for.
#[derive(Clone, Debug, Default)]
pub struct ChildProcesses {
    /// Processor time of the program itself, in clock ticks.
    pub own: u64,
    /// Of each rig, by its name.
    pub rigs: BTreeMap<String, Vec<Process>>,
    /// Of all else: transcodes, scripts, hooks.
    pub background: Vec<Process>,
}

/// Sorts the descendants of process `own`. `rig`: the name of the rig that a child of it belongs to.
#[must_use]
pub fn sort(all: &[Process], own: u32, mut rig: impl FnMut(&Process) -> Option<String>) -> ChildProcesses {
    let mut children: HashMap<u32, Vec<&Process>> = HashMap::new();
    for process in all {
        children.entry(process.parent).or_default().push(process);
    }
    let ticks = all.iter().find(|process| process.pid == own).map_or(0, |process| process.ticks);
    let mut sorted = ChildProcesses { own: ticks, ..ChildProcesses::default() };
    for child in children.remove(&own).unwrap_or_default() {
        let mut members = vec![*child];
        let mut next = 0;
        // Each parent is taken out of the map, so that this ends whatever `/proc` says.
        while let Some(parent) = members.get(next).map(|process| process.pid) {
            members.extend(children.remove(&parent).unwrap_or_default().into_iter().copied());
            next += 1;
        }
        match rig(child) {
            Some(name) => sorted.rigs.entry(name).or_default().extend(members),
            None => sorted.background.extend(members),
        }
    }
    sorted
}

/// One rig's processor time.
#[derive(Clone, Debug, Default)]
struct Meter {
    began: Duration,
    /// Seconds of processor time since then.
    seconds: f64,
    /// Some earlier readings: when, and the seconds then.
    readings: VecDeque<(Duration, f64)>,
}

impl Meter {
    fn take(&mut self, now: Duration, seconds: f64) {
        self.seconds += seconds;
        self.readings.push_back((now, self.seconds));
        // The oldest one kept is at least a minute old, if there is one.
        while self.readings.get(1).is_some_and(|(at, _)| now.saturating_sub(*at) >= WINDOW)
            || self.readings.len() > READINGS
        {
            self.readings.pop_front();
        }
    }

    fn is_young(&self, now: Duration) -> bool {
        now.saturating_sub(self.began) < WINDOW
    }

    /// Over the last minute; of a young one, as if the rest of its minute cost nothing.
    fn cost(&self, now: Duration) -> f64 {
        let oldest = self.readings.front().copied().unwrap_or_default();
        let (since, before, least) =
            if self.is_young(now) { (self.began, 0.0, WINDOW) } else { (oldest.0, oldest.1, Duration::from_secs(1)) };
        (self.seconds - before) / now.saturating_sub(since).max(least).as_secs_f64()
    }
}

/// Measures the costs of recordings, and of the background.
#[derive(Clone, Debug)]
pub struct CostMeter {
    typical: f64,
    rigs: BTreeMap<String, Meter>,
    /// The ticks of each process at the last reading, by pid and start.
    ticks: HashMap<(u32, u64), u64>,
    own: Option<u64>,
    last: Duration,
}

impl Default for CostMeter {
    fn default() -> Self {
        let last = Duration::ZERO;
        Self { typical: TYPICAL, rigs: BTreeMap::new(), ticks: HashMap::new(), own: None, last }
    }
}

impl CostMeter {
    /// Takes a reading. Returns the costs of the recordings, and what the background took since the last reading, in
    /// processors.
    #[expect(clippy::cast_precision_loss, reason = "at most 1000 recordings")]
    pub fn take(&mut self, now: Duration, processes: &ChildProcesses) -> (Costs, f64) {
        let own = procfs::seconds(processes.own.saturating_sub(self.own.unwrap_or(processes.own)));
        self.own = Some(processes.own);
        let before = std::mem::take(&mut self.ticks);
        let mut spent = |members: &[Process]| {
            let ticks = members.iter().map(|process| {
                let key = (process.pid, process.started);
                self.ticks.insert(key, process.ticks);
                process.ticks.saturating_sub(before.get(&key).copied().unwrap_or_default())
            });
            procfs::seconds(ticks.sum())
        };
        let background = spent(&processes.background) / now.saturating_sub(self.last).as_secs_f64().max(0.1);
        self.last = now;
        self.rigs.retain(|name, _| processes.rigs.contains_key(name));
        let share = own / processes.rigs.len().max(1) as f64;
        for (name, members) in &processes.rigs {
            let seconds = spent(members) + share;
            let new = || Meter { began: now, ..Meter::default() };
            self.rigs.entry(name.clone()).or_insert_with(new).take(now, seconds);
        }
        let grown: Vec<f64> =
            self.rigs.values().filter(|meter| !meter.is_young(now)).map(|meter| meter.cost(now)).collect();
        if !grown.is_empty() {
            self.typical = grown.iter().sum::<f64>() / grown.len() as f64;
        }
        let counted = |meter: &Meter| {
            let cost = meter.cost(now);
            if meter.is_young(now) { cost.max(self.typical) } else { cost }
        };
        (Costs { recordings: self.rigs.values().map(counted).collect(), typical: self.typical }, background)
    }
}

#[cfg(test)]
mod tests;
