//! When a node has too little processor time or memory for one more recording. Pure: one reading a second comes in.
//!
//! A recording that opens takes every processor for some seconds, and so may several in turn; that is no reason to leave
//! the fleet. Only a whole minute is. What this node's own transcodes and scripts take does not count: they step back
//! behind recordings (`transcoder.nice`), and `transcoding_cpu_limit_both_mode` is their own limit.

use std::collections::VecDeque;

use crate::process::cgroup::Memory;
use crate::process::cgroup_files::Pressure;

/// Readings that the load is averaged over before the node is overloaded.
const BUSY_READINGS: usize = 60;
/// Readings that it is averaged over before it is so no more.
const CALM_READINGS: usize = 20;
/// The node is overloaded until the load is this much below the limit: else it would come and go.
const HYSTERESIS: f64 = 0.1;
/// The share of the time in which something must have waited for a processor: busy processors that nobody waits for are
/// well used. Unless the kernel does not tell.
const LEAST_PRESSURE: f64 = 0.1;

/// What one more recording may need: Chrome with a meeting takes some 300 to 500 MiB.
const RESERVE: u64 = 512 << 20;
/// The share of the time in which nothing at all went on for want of memory.
const MEMORY_PRESSURE: f64 = 0.1;
/// Readings in a row before memory is short, and before it is so no more.
const SHORT_READINGS: u32 = 5;
const ENOUGH_READINGS: u32 = 10;

/// Whether the processors are overloaded.
#[derive(Clone, Debug)]
pub struct CpuOverload {
    /// A share of the processors, 0…1.
    limit: f64,
    recent: VecDeque<f64>,
    overloaded: bool,
}

impl CpuOverload {
    #[must_use]
    pub fn new(limit: f64) -> Self {
        Self { limit, recent: VecDeque::new(), overloaded: false }
    }

    /// Takes the reading of a second: the load without this node's own background work, 0…1. `waiting`: the share of the
    /// last minute in which something waited for a processor. Returns the average load that makes the node overloaded.
    pub fn update(&mut self, load: f64, waiting: Option<f64>) -> Option<f64> {
        self.recent.push_back(load);
        if self.recent.len() > BUSY_READINGS {
            self.recent.pop_front();
        }
        if self.overloaded {
            let calm = (self.limit - HYSTERESIS).max(self.limit / 2.0);
            self.overloaded = self.average(CALM_READINGS).is_none_or(|load| load > calm);
        } else {
            let waited = waiting.is_none_or(|waiting| waiting >= LEAST_PRESSURE);
            self.overloaded = waited && self.average(BUSY_READINGS).is_some_and(|load| load >= self.limit);
        }
        self.average(BUSY_READINGS).filter(|_| self.overloaded)
    }

    /// Over so many of the latest readings; `None` where there are fewer.
    #[expect(clippy::cast_precision_loss, reason = "some readings")]
    fn average(&self, readings: usize) -> Option<f64> {
        let sum: f64 = self.recent.iter().rev().take(readings).sum();
        (self.recent.len() >= readings).then(|| sum / readings as f64)
    }
}

/// Why memory is short.
#[derive(Clone, Debug, PartialEq)]
pub enum Shortage<'a> {
    /// Less is free than one more recording may need.
    Limit { memory: &'a Memory, reserve: u64 },
    /// This share of the last 10 s nothing went on for want of memory.
    Pressure(f64),
}

/// Whether memory is short.
#[derive(Clone, Debug, Default)]
pub struct MemoryWatch {
    short: bool,
    /// Readings in a row that say otherwise.
    otherwise: u32,
}

impl MemoryWatch {
    /// Takes the reading of a second. Returns whether memory is short now.
    pub fn update(&mut self, shortage: Option<&Shortage<'_>>) -> bool {
        if shortage.is_some() == self.short {
            self.otherwise = 0;
            return self.short;
        }
        self.otherwise += 1;
        let enough = if self.short { ENOUGH_READINGS } else { SHORT_READINGS };
        if self.otherwise >= enough {
            self.short = !self.short;
            self.otherwise = 0;
        }
        self.short
    }

    /// What makes memory short, in this reading alone.
    #[must_use]
    pub fn shortage<'a>(&self, memory: &'a [Memory], pressure: Option<Pressure>) -> Option<Shortage<'a>> {
        let mut limits = memory.iter().map(|memory| Shortage::Limit { memory, reserve: reserve(memory.limit) });
        let short = limits.find(|shortage| match shortage {
            // A limit that was undercut must be exceeded by a quarter.
            Shortage::Limit { memory, reserve } if self.short => memory.free < reserve + reserve / 4,
            Shortage::Limit { memory, reserve } => memory.free < *reserve,
            Shortage::Pressure(_) => false,
        });
        let pressed = pressure.map(|pressure| pressure.full_10s);
        let limit = if self.short { MEMORY_PRESSURE / 2.0 } else { MEMORY_PRESSURE };
        short.or_else(|| pressed.filter(|share| *share >= limit).map(Shortage::Pressure))
    }
}

/// What must be free of a limit: never more than a quarter, so that a small group is not short from the start.
fn reserve(limit: u64) -> u64 {
    RESERVE.min(limit / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(cpu: &mut CpuOverload, load: f64, waiting: Option<f64>, seconds: usize) -> Vec<bool> {
        (0..seconds).map(|_| cpu.update(load, waiting).is_some()).collect()
    }

    #[test]
    fn only_a_busy_minute_is_an_overload_and_it_ends_with_twenty_calm_seconds() {
        let mut cpu = CpuOverload::new(0.95);
        // Several recordings open in turn.
        assert!(!feed(&mut cpu, 1.0, Some(0.9), 50).contains(&true));
        assert!(!feed(&mut cpu, 0.3, Some(0.9), 10).contains(&true));
        assert!(!feed(&mut cpu, 1.0, Some(0.9), 50).contains(&true));
        assert_eq!(feed(&mut cpu, 1.0, Some(0.9), 20).iter().position(|over| *over), Some(5));
        // Below the limit, but not calm.
        assert!(!feed(&mut cpu, 0.9, None, 100).contains(&false));
        let calm = feed(&mut cpu, 0.5, None, 30);
        assert_eq!(calm.iter().position(|over| !over), Some(2), "0.9 for 17 s and 0.5 for 3 s are 0.84");
        // It does not come back before another minute.
        assert!(!feed(&mut cpu, 1.0, None, 30).contains(&true));
    }

    #[test]
    fn busy_processors_that_nobody_waits_for_are_no_overload() {
        let mut cpu = CpuOverload::new(0.95);
        assert!(!feed(&mut cpu, 1.0, Some(0.01), 200).contains(&true));
        assert_eq!(cpu.update(1.0, Some(0.2)), Some(1.0));
        // A kernel that does not tell.
        let mut cpu = CpuOverload::new(0.95);
        assert_eq!(feed(&mut cpu, 1.0, None, 60).iter().filter(|over| **over).count(), 1);
    }

    fn memory(limit: u64, free: u64) -> Memory {
        Memory { name: String::new(), limit: limit << 20, free: free << 20 }
    }

    #[test]
    fn memory_is_short_where_one_more_recording_has_no_room() {
        let watch = MemoryWatch::default();
        for (limit, free, short) in [(8192, 511, true), (8192, 512, false), (1024, 255, true), (1024, 256, false)] {
            let all = [memory(limit, free), memory(100_000, 90_000)];
            assert_eq!(watch.shortage(&all, None).is_some(), short, "{free} of {limit}");
        }
        // Once it is, a little more does not end it.
        let watch = MemoryWatch { short: true, otherwise: 0 };
        assert!(watch.shortage(&[memory(8192, 600)], None).is_some());
        assert!(watch.shortage(&[memory(8192, 641)], None).is_none());
        let pressed = |full_10s| Some(Pressure { some_minute: 1.0, full_10s });
        assert_eq!(MemoryWatch::default().shortage(&[], pressed(0.2)), Some(Shortage::Pressure(0.2)));
        assert_eq!(MemoryWatch::default().shortage(&[], pressed(0.09)), None);
    }

    #[test]
    fn memory_is_judged_by_readings_in_a_row() {
        let mut watch = MemoryWatch::default();
        let short = Some(&Shortage::Pressure(0.5));
        let readings = [short, short, short, short, None, short, short, short, short, short];
        assert_eq!(readings.map(|reading| watch.update(reading)).iter().filter(|short| **short).count(), 1);
        assert_eq!((0..12).map(|_| watch.update(None)).take_while(|short| *short).count(), 9);
    }
}
