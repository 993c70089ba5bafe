//! When the next job is fetched: with a hand free for it, and with the processors not too busy with recordings; but none
//! waits for that for ever.

use std::pin::pin;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::nats::{JobMessage, Jobs, Queue};

/// Once held back, jobs are fetched again when the load is so much below the limit: else each job would start and stop it.
const HYSTERESIS: f64 = 0.1;
/// How often it is looked at most whether the next job has waited for too long.
const LOOK: Duration = Duration::from_secs(30);
/// How long a job is asked for that has waited for too long: it may be another node's by now.
const ASK_ANYWAY: Duration = Duration::from_secs(5);

/// Whether the load lets jobs in.
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

    /// Takes a measurement; whether jobs are let in now.
    pub fn on(&mut self, load: f64) -> bool {
        // A limit near zero must still be reached from above.
        let open_at = if self.open { self.limit } else { (self.limit - HYSTERESIS).max(self.limit / 2.0) };
        self.open = load <= open_at;
        self.open
    }
}

/// For how long the job at the head of the queue has been waiting, as far as was seen from here.
#[derive(Clone, Copy, Debug, Default)]
pub struct QueueAge {
    seen: Option<(u64, Instant)>,
}

impl QueueAge {
    /// Takes a look at the queue; how long its next job has been seen waiting.
    pub fn on(&mut self, now: Instant, queue: Queue) -> Duration {
        if queue.pending == 0 {
            self.seen = None;
            return Duration::ZERO;
        }
        match self.seen {
            Some((handed_out, since)) if handed_out == queue.handed_out => now.saturating_duration_since(since),
            _ => {
                self.seen = Some((queue.handed_out, now));
                Duration::ZERO
            }
        }
    }
}

/// Fetches jobs.
#[derive(Debug)]
pub struct FetchGate {
    jobs: Jobs,
    /// `None`: there is no limit, or nobody measures any more: better to work than to wait for ever.
    gate: Option<LoadGate>,
    load: watch::Receiver<f64>,
    max_wait: Duration,
}

/// Why a job may be fetched.
enum Admit {
    Calm,
    Overdue,
}

impl FetchGate {
    /// `limit`: of `load`, the share of the processors that is busy, 0…1.
    #[must_use]
    pub fn new(jobs: Jobs, limit: Option<f64>, load: watch::Receiver<f64>, max_wait: Duration) -> Self {
        Self { jobs, gate: limit.map(LoadGate::new), load, max_wait }
    }

    /// How often a job is handed out at most; `None`: for ever.
    #[must_use]
    pub fn max_deliver(&self) -> Option<u64> {
        self.jobs.max_deliver()
    }

    /// The next job. `None`: cancelled.
    pub async fn next(&mut self, cancel: &CancellationToken) -> Option<JobMessage> {
        loop {
            let fetch = cancel.child_token();
            let message = match cancel.run_until_cancelled(self.admitted()).await? {
                Admit::Calm => {
                    let (gate, load) = (self.gate, self.load.clone());
                    let mut waiting = pin!(self.jobs.next(&fetch));
                    tokio::select! {
                        message = &mut waiting => message,
                        // Not dropped but cancelled: a job that is on its way is still taken, else it would wait for AckWait.
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
                        () = tokio::time::sleep(ASK_ANYWAY) => {
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

    /// Waits until a job may be fetched; says so once if it has to, and once when it is over.
    async fn admitted(&mut self) -> Admit {
        let Some(gate) = &mut self.gate else { return Admit::Calm };
        let limit = gate.limit;
        let load = *self.load.borrow_and_update();
        if gate.on(load) {
            return Admit::Calm;
        }
        tracing::info!(load, limit, "no transcoding jobs are fetched: the processors are busy");
        let mut head = QueueAge::default();
        let mut look = tokio::time::interval(LOOK.min(self.max_wait / 2));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = self.load.changed() => {
                    let load = *self.load.borrow_and_update();
                    if changed.is_err() {
                        self.gate = None;
                        return Admit::Calm;
                    }
                    if gate.on(load) {
                        tracing::info!(load, limit, "transcoding jobs are fetched again");
                        return Admit::Calm;
                    }
                }
                _ = look.tick() => {
                    let Some(queue) = self.jobs.queue().await else { continue };
                    let waited = head.on(Instant::now(), queue);
                    if waited >= self.max_wait {
                        let waited_s = waited.as_secs();
                        tracing::warn!(
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

/// Resolves when the load closes the gate; never where there is none.
async fn closed(gate: Option<LoadGate>, mut load: watch::Receiver<f64>) {
    if let Some(mut gate) = gate {
        while gate.on(*load.borrow_and_update()) {
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
        let seen: Vec<bool> = [0.5, 0.8, 0.81, 0.79, 0.71, 0.7, 0.79, 0.9].map(|load| gate.on(load)).into();
        assert_eq!(seen, [true, true, false, false, false, true, true, false]);
        // A low limit can be reached again.
        let mut gate = LoadGate::new(0.05);
        assert_eq!([0.06, 0.03, 0.02].map(|load| gate.on(load)), [false, false, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_head_of_the_queue_waits_until_it_is_handed_out() {
        let (mut head, begin) = (QueueAge::default(), Instant::now());
        let second = Duration::from_secs;
        let mut look = |after, pending, handed_out| {
            head.on(begin + second(after), Queue { pending, handed_out, max_deliver: None })
        };
        assert_eq!(look(0, 2, 7), second(0));
        assert_eq!(look(30, 3, 7), second(30));
        assert_eq!(look(60, 2, 8), second(0), "another one is at the head");
        assert_eq!(look(90, 0, 9), second(0));
        assert_eq!(look(120, 1, 9), second(0), "it was empty meanwhile");
        assert_eq!(look(150, 1, 9), second(30));
    }
}
