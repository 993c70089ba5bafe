//! What a simulation has shown: counts, and how evenly the recordings have landed. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::cost::CpuTime;
use super::node::WhenFull;

/// The requests while a share of all slots was to be taken.
#[derive(Clone, Debug, Default)]
pub struct Phase {
    /// Percent of the slots.
    pub share: usize,
    pub requests: usize,
    pub taken: usize,
    pub refused: usize,
    /// Of these, while a node had room when it was selected and when it refused.
    pub refused_with_room: usize,
    /// How often, by reason.
    pub refusals: BTreeMap<String, usize>,
    /// Not answered within the server's 3 s.
    pub silent: usize,
    /// No node was in the choice.
    pub no_node: usize,
    /// Of these, while a node had room: its slot had come free a moment before.
    pub no_node_with_room: usize,
    pub machines: Vec<Machines>,
}

/// The nodes with so many cores, while the share was reached.
#[derive(Clone, Debug, Default)]
pub struct Machines {
    pub cores: usize,
    pub max_limit: usize,
    pub nodes: usize,
    /// The share of its slots that a node had taken, over the time: mean and standard deviation of the nodes.
    pub used: f64,
    pub deviation: f64,
}

#[derive(Clone, Debug, Default)]
pub struct Report {
    pub nodes: usize,
    pub slots: usize,
    pub when_full: WhenFull,
    pub phases: Vec<Phase>,
    /// From the first START to the last STOP.
    pub lasted: Duration,
    /// Messages in the bucket meanwhile.
    pub messages: u64,
    pub cpu: CpuTime,
    /// Times from START to the answer, sorted.
    pub answers: Vec<Duration>,
    /// Recordings that were taken and did not come to the end that their STOP asked for, and what came of them.
    pub not_ended_well: Vec<String>,
    /// Restarts of nodes, one after the other.
    pub restarts: usize,
    /// Forbidden subjects, as the nats-server logged them.
    pub violations: Vec<String>,
}

impl Machines {
    /// `used`: of each node.
    pub fn of(cores: usize, max_limit: usize, used: &[f64]) -> Self {
        let nodes = used.len();
        let mean = used.iter().sum::<f64>() / nodes.max(1) as f64;
        let variance = used.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / nodes.max(1) as f64;
        Self { cores, max_limit, nodes, used: mean, deviation: variance.sqrt() }
    }
}

impl Report {
    pub fn sum(&self, count: impl Fn(&Phase) -> usize) -> usize {
        self.phases.iter().map(count).sum()
    }

    /// The time that so many percent of the answers took at the most.
    pub fn answer(&self, percent: usize) -> Duration {
        let at = (self.answers.len() * percent / 100).min(self.answers.len().saturating_sub(1));
        self.answers.get(at).copied().unwrap_or_default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let full = match self.when_full {
            WhenFull::Refer => "hides, and refers STARTs to others",
            WhenFull::Refuse => "hides, and refuses STARTs",
            WhenFull::Stay => "stays in the choice, and refuses STARTs",
        };
        writeln!(out, "{} nodes, {} slots; one that is full {full}", self.nodes, self.slots)?;
        writeln!(
            out,
            "| slots to be taken | requests | taken | refused | with room elsewhere | no node in the choice \
             | with room | slots taken, by cores |"
        )?;
        writeln!(out, "| --: | --: | --: | --: | --: | --: | --: | :-- |")?;
        for phase in &self.phases {
            let machines: Vec<String> = phase
                .machines
                .iter()
                .filter(|one| one.nodes > 0)
                .map(|one| format!("{}: {:.0} ± {:.0} %", one.cores, 100.0 * one.used, 100.0 * one.deviation))
                .collect();
            writeln!(
                out,
                "| {} % | {} | {} | {} | {} | {} | {} | {} |",
                phase.share,
                phase.requests,
                phase.taken,
                phase.refused + phase.silent,
                phase.refused_with_room,
                phase.no_node,
                phase.no_node_with_room,
                machines.join(", ")
            )?;
        }
        for phase in &self.phases {
            for (why, times) in &phase.refusals {
                writeln!(out, "{} %: {times} times {why:?}", phase.share)?;
            }
        }
        let seconds = self.lasted.as_secs_f64().max(0.001);
        let (nodes, per_node) = (self.cpu.nodes.as_secs_f64() / seconds, 1e3 / self.nodes.max(1) as f64);
        writeln!(
            out,
            "{seconds:.0} s; bucket: {:.0} messages a second; processor: nodes {:.2} ms a second each \
             ({:.0} % of one core together), nats-server {:.0} % of one core",
            self.messages as f64 / seconds,
            nodes * per_node,
            100.0 * nodes,
            100.0 * self.cpu.nats_server.as_secs_f64() / seconds
        )?;
        writeln!(
            out,
            "answers to START: half within {} ms, 99 % within {} ms, the last after {} ms; {} restarts of nodes",
            self.answer(50).as_millis(),
            self.answer(99).as_millis(),
            self.answer(100).as_millis(),
            self.restarts
        )?;
        writeln!(out, "ended otherwise than by their STOP: {}", self.not_ended_well.len())?;
        self.not_ended_well.iter().take(10).try_for_each(|what| writeln!(out, "  {what}"))?;
        self.violations.iter().take(10).try_for_each(|what| writeln!(out, "  {what}"))
    }
}
