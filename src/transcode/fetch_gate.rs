//! When the next job is fetched: when the processors are not too busy with recordings, but no job waits for that for
//! ever.

use std::pin::pin;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::codes;
use crate::nats::{JobMessage, Jobs, WorkQueueState};

/// Once over the limit, jobs are fetched again at a load this much below it: else each job would start and stop the
/// fetching.
const HYSTERESIS: f64 = 0.1;
/// How often at most it is checked whether the next job has waited too long.
const AGE_CHECK_INTERVAL: Duration = Duration::from_secs(30);
/// How long an overdue job is asked for: another node may have taken it.
const OVERDUE_FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether the load admits jobs.
#[derive(Clone, Copy, Debug)]
pub struct LoadGate {
    /// A share of the processors, 0…1.
    limit: f64,
    open: bool,
}

impl LoadGate {
    #[must_use]
    pub fn new(limit: f64) -> Self {
        Self { limit, open: true }
    }

    /// Takes a measurement; returns whether jobs are admitted.
    pub fn update(&mut self, load: f64) -> bool {
        // A low limit must still be reachable from above.
        let open_at = if self.open { self.limit } else { (self.limit - HYSTERESIS).max(self.limit / 2.0) };
        self.open = load <= open_at;
        self.open
    }
}

/// How long the job at the head of the queue has been waiting, as observed by this node.
#[derive(Clone, Copy, Debug, Default)]
pub struct QueueAge {
    seen: Option<(u64, Instant)>,
}

impl QueueAge {
    /// Takes an observation of the queue; returns how long its next job was observed to wait.
    pub fn update(&mut self, now: Instant, queue: WorkQueueState) -> Duration {
        if queue.pending == 0 {
            self.seen = None;
            return Duration::ZERO;
        }
        match self.seen {
            Some((last_delivered, since)) if last_delivered == queue.last_delivered => {
                now.saturating_duration_since(since)
            }
            _ => {
                self.seen = Some((queue.last_delivered, now));
                Duration::ZERO
            }
        }
    }
}

/// Fetches jobs as the load allows.
#[derive(Debug)]
pub struct FetchGate {
    jobs: Jobs,
    /// `None`: there is no limit, or the load is no longer measured; then jobs are fetched at any load.
    gate: Option<LoadGate>,
    load: watch::Receiver<f64>,
    max_wait: Duration,
}

/// Why a job may be fetched.
enum Admit {
    UnderLimit,
    Overdue,
}

impl FetchGate {
    /// `limit` is the highest `load` (the busy share of all processors, 0…1) at which jobs are fetched.
    #[must_use]
    pub fn new(jobs: Jobs, limit: Option<f64>, load: watch::Receiver<f64>, max_wait: Duration) -> Self {
        Self { jobs, gate: limit.map(LoadGate::new), load, max_wait }
    }

    /// How often a job is delivered at most; `None`: without limit.
    #[must_use]
    pub fn max_deliver(&self) -> Option<u64> {
        self.jobs.max_deliver()
    }

    /// The next job; `None` when cancelled.
    pub async fn next(&mut self, cancel: &CancellationToken) -> Option<JobMessage> {
        loop {
            let fetch = cancel.child_token();
            let message = match cancel.run_until_cancelled(self.admission()).await? {
                Admit::UnderLimit => {
                    let (gate, load) = (self.gate, self.load.clone());
                    let mut waiting = pin!(self.jobs.next(&fetch));
                    tokio::select! {
                        message = &mut waiting => message,
                        // Cancelled, not dropped: a job already on its way is still received, else it would wait for
                        // AckWait.
                        () = closed(gate, load) => {
                            fetch.cancel();
                            waiting.await
                        }
                    }
                }
                Admit::Overdue => {
                    let mut waiting = pin!(self.jobs.next(&fetch));
                    tokio::select! {
                        message = &mut waiting => message,
                        () = tokio::time::sleep(OVERDUE_FETCH_TIMEOUT) => {
                            fetch.cancel();
                            waiting.await
                        }
                    }
                }
            };
            if message.is_some() || cancel.is_cancelled() {
                return message;
            }
        }
    }

    /// Waits until a job may be fetched; logs when the waiting begins and ends.
    async fn admission(&mut self) -> Admit {
        let Some(gate) = &mut self.gate else { return Admit::UnderLimit };
        let limit = gate.limit;
        let load = *self.load.borrow_and_update();
        if gate.update(load) {
            return Admit::UnderLimit;
        }
        tracing::info!(load, limit, "no transcoding jobs are fetched: the processors are busy");
        let mut age = QueueAge::default();
        let mut check = tokio::time::interval(AGE_CHECK_INTERVAL.min(self.max_wait / 2));
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = self.load.changed() => {
                    let load = *self.load.borrow_and_update();
                    if changed.is_err() {
                        self.gate = None;
                        return Admit::UnderLimit;
                    }
                    if gate.update(load) {
                        tracing::info!(load, limit, "transcoding jobs are fetched again");
                        return Admit::UnderLimit;
                    }
                }
                _ = check.tick() => {
                    let Some(queue) = self.jobs.queue().await else { continue };
                    let waited = age.update(Instant::now(), queue);
                    if waited >= self.max_wait {
                        let waited_s = waited.as_secs();
                        tracing::warn!(
                            code = %codes::QUEUE_OVERDUE,
                            waited_s, max_wait_s = self.max_wait.as_secs(), jobs = queue.pending,
                            "a job has waited for longer than transcoder.max_wait: it is taken though the processors are busy"
                        );
                        return Admit::Overdue;
                    }
                }
            }
        }
    }
}

/// Resolves when the load rises over the limit; never without a limit.
async fn closed(gate: Option<LoadGate>, mut load: watch::Receiver<f64>) {
    if let Some(mut gate) = gate {
        while gate.update(*load.borrow_and_update()) {
            if load.changed().await.is_err() {
                break;
            }
        }
        if !gate.open {
            return;
        }
    }
    std::future::pending::<()>().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_that_closed_opens_only_well_below_its_limit() {
        let mut gate = LoadGate::new(0.8);
        let seen: Vec<bool> = [0.5, 0.8, 0.81, 0.79, 0.71, 0.7, 0.79, 0.9].map(|load| gate.update(load)).into();
        assert_eq!(seen, [true, true, false, false, false, true, true, false]);
        // A low limit can be reached again.
        let mut gate = LoadGate::new(0.05);
        assert_eq!([0.06, 0.03, 0.02].map(|load| gate.update(load)), [false, false, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_head_of_the_queue_waits_until_it_is_delivered() {
        let (mut age, begin) = (QueueAge::default(), Instant::now());
        let second = Duration::from_secs;
        let mut check = |after, pending, last_delivered| {
            age.update(
                begin + second(after),
                WorkQueueState { pending, ack_pending: 0, redelivered: 0, last_delivered, max_deliver: None },
            )
        };
        assert_eq!(check(0, 2, 7), second(0));
        assert_eq!(check(30, 3, 7), second(30));
        assert_eq!(check(60, 2, 8), second(0), "another one is at the head");
        assert_eq!(check(90, 0, 9), second(0));
        assert_eq!(check(120, 1, 9), second(0), "it was empty meanwhile");
        assert_eq!(check(150, 1, 9), second(30));
    }
}
