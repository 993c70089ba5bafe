//! What the service manager is told, and when (`sd_notify(3)`). Pure.
//!
//! ```text
//! Starting ── READY=1 ──▶ Running ── STOPPING=1 ──▶ Draining ──▶ Closing
//! EXTEND   each time                                each time    once
//! ```
//!
//! Every message is also a sign of life (`WATCHDOG=1`). A start waits for disks, and a drain for meetings, for as long as
//! they take: both extend the manager's limits (`TimeoutStartSec`, `TimeoutStopSec`) again and again, so that those only
//! end a program that stands still. Closing has limits of its own, and extends once.

use sd_notify::NotifyState;

/// By how much a start and a drain extend their limit each time, in microseconds: 30 s.
const EXTENSION_US: u32 = 30_000_000;
/// How long closing may take, in microseconds: 150 s. Handing jobs back may take 90 s, delivery 10 s.
const CLOSING_US: u32 = 150_000_000;

/// Where a node is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LifePhase {
    #[default]
    Starting,
    Running,
    /// Running recordings and jobs go on to their end.
    Draining,
    /// They are ended.
    Closing,
}

/// A node as its status line shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NodeStatus {
    pub phase: LifePhase,
    /// Recordings and broadcasts running; `None`: this node takes none, and none of an earlier run is left.
    pub recordings: Option<usize>,
    /// Transcoding jobs in work; `None`: this node does none.
    pub jobs: Option<usize>,
    /// Whether the connection to NATS is up.
    pub connected: bool,
    /// Why no recordings are taken; `None`: they are, or this node never takes any.
    pub obstacle: Option<&'static str>,
}

impl NodeStatus {
    /// One line, as `systemctl status` shows it.
    fn text(&self) -> String {
        let recordings = self.recordings.map(|count| match count {
            1 => "1 recording runs".to_owned(),
            count => format!("{count} recordings run"),
        });
        let jobs = self.jobs.map(|count| match count {
            1 => "1 job in work".to_owned(),
            count => format!("{count} jobs in work"),
        });
        let what = match (self.phase, self.obstacle) {
            (LifePhase::Starting, _) => return "starting".to_owned(),
            (LifePhase::Draining, _) => "draining: nothing new is taken on",
            (LifePhase::Closing, _) => "ending: recordings are closed, jobs handed back",
            (LifePhase::Running, _) if !self.connected => "waiting for NATS",
            (LifePhase::Running, Some(obstacle)) => obstacle,
            (LifePhase::Running, None) => "ready",
        };
        let counts: Vec<String> = recordings.into_iter().chain(jobs).collect();
        // None are known where the end comes during the start.
        if counts.is_empty() { what.to_owned() } else { format!("{}; {what}", counts.join(", ")) }
    }
}

/// What was told so far.
#[derive(Debug, Default)]
pub(super) struct ServiceReport {
    ready: bool,
    stopping: bool,
    closing: bool,
    text: String,
}

impl ServiceReport {
    /// The next message, one assignment a line, about a node that is so.
    pub fn message(&mut self, status: &NodeStatus) -> String {
        let text = status.text();
        let mut assignments = Vec::new();
        if status.phase == LifePhase::Running && !std::mem::replace(&mut self.ready, true) {
            assignments.push(NotifyState::Ready);
        }
        if status.phase >= LifePhase::Draining && !std::mem::replace(&mut self.stopping, true) {
            assignments.push(NotifyState::Stopping);
        }
        match status.phase {
            LifePhase::Starting | LifePhase::Draining => assignments.push(NotifyState::ExtendTimeoutUsec(EXTENSION_US)),
            LifePhase::Closing if !std::mem::replace(&mut self.closing, true) => {
                assignments.push(NotifyState::ExtendTimeoutUsec(CLOSING_US));
            }
            LifePhase::Running | LifePhase::Closing => {}
        }
        if text != self.text {
            assignments.push(NotifyState::Status(&text));
        }
        assignments.push(NotifyState::Watchdog);
        let lines = assignments.iter().map(ToString::to_string);
        let message = lines.fold(String::new(), |message, line| message + &line + "\n");
        self.text = text;
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_told_from_its_start_to_its_end() {
        let mut report = ServiceReport::default();
        let mut status = NodeStatus::default();
        let starting = "EXTEND_TIMEOUT_USEC=30000000\n";
        assert_eq!(report.message(&status), format!("{starting}STATUS=starting\nWATCHDOG=1\n"));
        assert_eq!(report.message(&status), format!("{starting}WATCHDOG=1\n"));
        (status.phase, status.recordings, status.jobs) = (LifePhase::Running, Some(0), Some(2));
        let waiting = "STATUS=0 recordings run, 2 jobs in work; waiting for NATS\n";
        assert_eq!(report.message(&status), format!("READY=1\n{waiting}WATCHDOG=1\n"));
        (status.connected, status.recordings, status.jobs) = (true, Some(1), Some(1));
        assert_eq!(report.message(&status), "STATUS=1 recording runs, 1 job in work; ready\nWATCHDOG=1\n");
        // A node that does no jobs, and one that takes no recordings.
        status.jobs = None;
        assert_eq!(report.message(&status), "STATUS=1 recording runs; ready\nWATCHDOG=1\n");
        (status.recordings, status.jobs) = (None, Some(0));
        assert_eq!(report.message(&status), "STATUS=0 jobs in work; ready\nWATCHDOG=1\n");
        (status.recordings, status.jobs) = (Some(1), Some(1));
        assert_eq!(report.message(&status), "STATUS=1 recording runs, 1 job in work; ready\nWATCHDOG=1\n");
        assert_eq!(report.message(&status), "WATCHDOG=1\n");
        status.obstacle = Some("this recorder's disk is nearly full");
        let full = "STATUS=1 recording runs, 1 job in work; this recorder's disk is nearly full\nWATCHDOG=1\n";
        assert_eq!(report.message(&status), full);
        status.phase = LifePhase::Draining;
        let draining = "STATUS=1 recording runs, 1 job in work; draining: nothing new is taken on\n";
        assert_eq!(report.message(&status), format!("STOPPING=1\n{starting}{draining}WATCHDOG=1\n"));
        assert_eq!(report.message(&status), format!("{starting}WATCHDOG=1\n"));
        status.phase = LifePhase::Closing;
        let closing = "STATUS=1 recording runs, 1 job in work; ending: recordings are closed, jobs handed back\n";
        assert_eq!(report.message(&status), format!("EXTEND_TIMEOUT_USEC=150000000\n{closing}WATCHDOG=1\n"));
        assert_eq!(report.message(&status), "WATCHDOG=1\n");
    }

    #[test]
    fn a_node_that_ends_at_once_is_stopping_all_the_same() {
        let mut report = ServiceReport::default();
        let message = report.message(&NodeStatus { phase: LifePhase::Closing, ..NodeStatus::default() });
        let closing = "STOPPING=1\nEXTEND_TIMEOUT_USEC=150000000\nSTATUS=ending: recordings are closed";
        assert!(message.starts_with(closing), "{message}");
    }
}
