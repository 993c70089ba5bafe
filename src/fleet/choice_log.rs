//! Tells in the log when this node leaves the server's choice, and why, and when it is back.
//!
//! A node that fills and empties all the time does not flood the log: of what happens quickly, the state that comes out of
//! it is told, with the number of changes.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::fleet::availability::{Obstacle, Obstacles};

/// Lines at once.
const BURST: u32 = 4;
/// After each of them, how long until there may be one more.
const GAP: Duration = Duration::from_secs(30);

/// What is told, and when.
#[derive(Debug)]
struct ChoiceLog {
    /// What the log said last: the first obstacle, or none.
    told: Option<Obstacle>,
    now: Option<Obstacle>,
    /// Changes that were not told.
    untold: u32,
    /// Lines that may follow at once.
    lines: u32,
    /// Since when the next one is waited for.
    since: Instant,
}

impl ChoiceLog {
    fn new(now: Instant) -> Self {
        Self { told: None, now: None, untold: 0, lines: BURST, since: now }
    }

    fn observe(&mut self, first: Option<Obstacle>) {
        if self.now != first {
            self.now = first;
            self.untold += 1;
        }
    }

    /// Whether to tell now, and of how many changes; the state counts as told.
    fn due(&mut self, now: Instant) -> Option<u32> {
        while self.lines < BURST && now.duration_since(self.since) >= GAP {
            self.lines += 1;
            self.since += GAP;
        }
        if self.now == self.told || self.lines == 0 {
            return None;
        }
        if self.lines == BURST {
            self.since = now;
        }
        self.lines -= 1;
        self.told = self.now;
        Some(std::mem::take(&mut self.untold))
    }

    /// When there may be a line about the state; `None`: there is nothing to tell.
    fn next(&self) -> Option<Instant> {
        (self.now != self.told).then(|| self.since + GAP)
    }
}

/// Tells until cancelled.
pub async fn run(mut obstacles: watch::Receiver<Obstacles>, cancel: CancellationToken) {
    let mut log = ChoiceLog::new(Instant::now());
    loop {
        let first = obstacles.borrow_and_update().first_key_value().map(|(first, detail)| (*first, detail.clone()));
        // It was in no choice yet.
        let first = first.filter(|(obstacle, _)| *obstacle != Obstacle::Starting);
        log.observe(first.as_ref().map(|(obstacle, _)| *obstacle));
        if let Some(changes) = log.due(Instant::now()) {
            tell(first, changes);
        }
        let next = log.next();
        tokio::select! {
            () = cancel.cancelled() => return,
            changed = obstacles.changed() => if changed.is_err() { return },
            () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
        }
    }
}

fn tell(first: Option<(Obstacle, String)>, changes: u32) {
    const BACK: &str = "this node takes new recordings again";
    const OUT: &str = "this node takes no new recording for now: the server does not choose it";
    match first {
        None => info!(changes, "{BACK}"),
        // Only told here. Who notes another one tells of the fault itself.
        Some((obstacle @ (Obstacle::Overload | Obstacle::Memory), why)) => {
            warn!(code = %obstacle.code(), reason = obstacle.refusal(), why, changes, "{OUT}");
        }
        Some((obstacle, why)) => info!(reason = obstacle.refusal(), why, changes, "{OUT}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_fills_and_empties_all_the_time_has_few_lines_and_the_last_one_is_true() {
        let start = Instant::now();
        let mut log = ChoiceLog::new(start);
        let mut lines = Vec::new();
        let mut told = 0;
        // Full in every other second of ten minutes, and then full.
        for second in 0..=700u64 {
            let full = second % 2 == 0 || second > 600;
            log.observe(full.then_some(Obstacle::Full));
            if let Some(changes) = log.due(start + Duration::from_secs(second)) {
                lines.push((second, full));
                told += changes;
            }
        }
        assert_eq!(lines[..4], [(0, true), (1, false), (2, true), (3, false)]);
        assert!(lines.len() <= 4 + 700 / 30, "{lines:?}");
        assert!(lines.last().unwrap().1, "{lines:?}");
        assert!((500..=601).contains(&told), "the changes are counted: {told}");
        assert_eq!(log.next(), None);
        log.observe(None);
        assert!(log.next().is_some() && log.due(start + Duration::from_secs(800)).is_some());
    }
}
