//! Decides from the state of Chrome's processes whether a Chrome that does not answer hangs or is only slow: pure.
//!
//! On an overloaded host an answer may take seconds; Chrome's processes then wait for a processor or a disk and use
//! processor time now and then. A Chrome that hangs does neither: a process of it is stopped, or all sleep.

use std::time::Duration;

use crate::process::procfs::Process;

/// Chrome hangs if it has not answered for this long…
const UNANSWERED: Duration = Duration::from_secs(4);
/// …and every process of it has slept for this long.
const ASLEEP: Duration = Duration::from_secs(3);

/// What Chrome's processes are doing at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessActivity {
    /// Processor time of all processes so far, in clock ticks.
    ticks: u64,
    /// Pid of a stopped process (SIGSTOP).
    stopped: Option<u32>,
    /// Whether a process waits for a processor or a disk.
    waits: bool,
}

impl ProcessActivity {
    /// `None` for an empty list, which means that nothing is known.
    #[must_use]
    pub fn of(processes: &[Process]) -> Option<Self> {
        if processes.is_empty() {
            return None;
        }
        Some(Self {
            ticks: processes.iter().map(|process| process.ticks).sum(),
            stopped: processes.iter().find(|process| process.state == 'T').map(|process| process.pid),
            waits: processes.iter().any(|process| matches!(process.state, 'R' | 'D')),
        })
    }
}

/// Follows the activity of Chrome's processes while an answer is missing.
#[derive(Clone, Copy, Debug, Default)]
pub struct HangDetector {
    /// Since when all processes have slept, and their ticks at that time.
    still: Option<(Duration, u64)>,
}

impl HangDetector {
    /// Chrome has answered.
    pub fn answered(&mut self) {
        self.still = None;
    }

    /// Records the activity at `now`, with the last answer at `answered` (both of one monotonic clock). Returns the cause
    /// once Chrome hangs.
    pub fn observe(&mut self, now: Duration, answered: Duration, activity: Option<ProcessActivity>) -> Option<String> {
        // Unknown activity is no evidence.
        let Some(activity) = activity else {
            self.still = None;
            return None;
        };
        if let Some(pid) = activity.stopped {
            return Some(format!("Chrome hangs (its process {pid} is stopped)"));
        }
        let since = match self.still {
            Some((since, ticks)) if ticks == activity.ticks && !activity.waits => since,
            _ => now,
        };
        self.still = Some((since, activity.ticks));
        let hangs = now.saturating_sub(answered) >= UNANSWERED && now.saturating_sub(since) >= ASLEEP;
        let seconds = now.saturating_sub(answered).as_secs();
        hangs.then(|| {
            format!("Chrome hangs (the page has not answered for {seconds} s, and no process of it does anything)")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASLEEP_AT_100: ProcessActivity = ProcessActivity { ticks: 100, stopped: None, waits: false };

    /// Observes the activity every half second from 1 to `last` seconds after the answer. Returns when Chrome was found to
    /// hang, and the cause.
    fn found(last: u32, activity: impl Fn(Duration) -> Option<ProcessActivity>) -> Option<(Duration, String)> {
        let mut detector = HangDetector::default();
        let mut moments = (2..=2 * last).map(|n| Duration::from_millis(500) * n);
        moments.find_map(|now| Some((now, detector.observe(now, Duration::ZERO, activity(now))?)))
    }

    #[test]
    fn a_stopped_process_hangs_at_once() {
        let (at, cause) =
            found(60, |_| Some(ProcessActivity { stopped: Some(4711), waits: true, ..ASLEEP_AT_100 })).unwrap();
        assert_eq!((at, cause.as_str()), (Duration::from_secs(1), "Chrome hangs (its process 4711 is stopped)"));
    }

    #[test]
    fn a_sleeping_chrome_hangs_after_four_seconds_without_answer() {
        let (at, cause) = found(60, |_| Some(ASLEEP_AT_100)).unwrap();
        assert_eq!(at, Duration::from_secs(4));
        assert!(cause.contains("not answered for 4 s, and no process of it does anything"), "{cause}");
        // The processes used a little time, and then none.
        let (at, _) = found(60, |now| Some(ProcessActivity { ticks: now.as_secs().min(10), ..ASLEEP_AT_100 })).unwrap();
        assert_eq!(at, Duration::from_secs(13));
    }

    #[test]
    fn a_slow_chrome_does_not_hang() {
        // One tick every two seconds; no ticks, but waiting for a processor or a disk; unknown state.
        assert_eq!(found(60, |now| Some(ProcessActivity { ticks: now.as_secs() / 2, ..ASLEEP_AT_100 })), None);
        assert_eq!(found(60, |_| Some(ProcessActivity { waits: true, ..ASLEEP_AT_100 })), None);
        assert_eq!(found(60, |_| None), None);
    }

    #[test]
    fn an_answer_restarts_the_detection() {
        let at = Duration::from_millis;
        let mut detector = HangDetector::default();
        assert_eq!(detector.observe(at(3500), at(0), Some(ASLEEP_AT_100)), None);
        detector.answered();
        // Observations before the answer do not count.
        assert_eq!(detector.observe(at(6000), at(4000), Some(ASLEEP_AT_100)), None);
        assert_eq!(detector.observe(at(8500), at(4000), Some(ASLEEP_AT_100)), None);
        assert!(detector.observe(at(9000), at(4000), Some(ASLEEP_AT_100)).is_some());
    }

    #[test]
    fn the_activity_covers_all_processes() {
        let process = |state, ticks| Process { state, ticks, ..Process::default() };
        let activity = |processes: &[Process]| ProcessActivity::of(processes);
        assert_eq!(activity(&[]), None);
        assert_eq!(activity(&[process('S', 60), process('Z', 1), process('S', 39)]), Some(ASLEEP_AT_100));
        for state in ['R', 'D'] {
            let waits = Some(ProcessActivity { waits: true, ..ASLEEP_AT_100 });
            assert_eq!(activity(&[process('S', 60), process(state, 40)]), waits, "{state}");
        }
        // A process under a debugger (`t`) is not stopped.
        assert_eq!(activity(&[process('t', 100)]), Some(ASLEEP_AT_100));
        assert_eq!(
            activity(&[process('S', 60), process('T', 40)]),
            Some(ProcessActivity { stopped: Some(0), ..ASLEEP_AT_100 })
        );
    }
}
