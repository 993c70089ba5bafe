//! Whether a Chrome that owes an answer is held up or hangs, from what its processes do meanwhile: pure.
//!
//! On an overloaded host an answer may take seconds. There, Chrome's processes want a processor or wait for a disk, and
//! get on now and then. One that hangs does neither: it is stopped, or all of it sleeps.

use std::time::Duration;

use crate::process::procfs::Process;

/// A Chrome that owes an answer for this long…
const OWING: Duration = Duration::from_secs(4);
/// …and of which every process has slept for this long hangs.
const ASLEEP: Duration = Duration::from_secs(3);

/// What Chrome's processes are doing at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessActivity {
    /// Processor time so far, in clock ticks, of them all.
    ticks: u64,
    /// One that is stopped (SIGSTOP).
    stopped: Option<u32>,
    /// One wants a processor or waits for a disk.
    wants: bool,
}

impl ProcessActivity {
    /// `None` where nothing is known of them.
    #[must_use]
    pub fn of(processes: &[Process]) -> Option<Self> {
        if processes.is_empty() {
            return None;
        }
        Some(Self {
            ticks: processes.iter().map(|process| process.ticks).sum(),
            stopped: processes.iter().find(|process| process.state == 'T').map(|process| process.pid),
            wants: processes.iter().any(|process| matches!(process.state, 'R' | 'D')),
        })
    }
}

/// Follows the pulse while an answer is owed.
#[derive(Clone, Copy, Debug, Default)]
pub struct HangDetector {
    /// When nothing was found to move any more, and the ticks since.
    still: Option<(Duration, u64)>,
}

impl HangDetector {
    /// The answer came.
    pub fn answered(&mut self) {
        self.still = None;
    }

    /// The pulse at `now`, where the last answer came at `answered`; any monotonic clock. How Chrome hangs, if it does.
    pub fn feel(&mut self, now: Duration, answered: Duration, pulse: Option<ProcessActivity>) -> Option<String> {
        // Unknown is no evidence.
        let Some(pulse) = pulse else {
            self.still = None;
            return None;
        };
        if let Some(pid) = pulse.stopped {
            return Some(format!("Chrome hangs (its process {pid} is stopped)"));
        }
        let since = match self.still {
            Some((since, ticks)) if ticks == pulse.ticks && !pulse.wants => since,
            _ => now,
        };
        self.still = Some((since, pulse.ticks));
        let hangs = now.saturating_sub(answered) >= OWING && now.saturating_sub(since) >= ASLEEP;
        let seconds = now.saturating_sub(answered).as_secs();
        hangs.then(|| {
            format!("Chrome hangs (the page has not answered for {seconds} s, and no process of it does anything)")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASLEEP_AT_100: ProcessActivity = ProcessActivity { ticks: 100, stopped: None, wants: false };

    /// Feels the pulse every half second from 1 to `last` seconds after the answer; when it was found to hang.
    fn found(last: u32, pulse: impl Fn(Duration) -> Option<ProcessActivity>) -> Option<(Duration, String)> {
        let mut vigil = HangDetector::default();
        let mut moments = (2..=2 * last).map(|n| Duration::from_millis(500) * n);
        moments.find_map(|now| Some((now, vigil.feel(now, Duration::ZERO, pulse(now))?)))
    }

    #[test]
    fn a_stopped_process_hangs_at_once() {
        let (at, cause) =
            found(60, |_| Some(ProcessActivity { stopped: Some(4711), wants: true, ..ASLEEP_AT_100 })).unwrap();
        assert_eq!((at, cause.as_str()), (Duration::from_secs(1), "Chrome hangs (its process 4711 is stopped)"));
    }

    #[test]
    fn a_chrome_that_sleeps_over_an_answer_hangs_after_four_seconds() {
        let (at, cause) = found(60, |_| Some(ASLEEP_AT_100)).unwrap();
        assert_eq!(at, Duration::from_secs(4));
        assert!(cause.contains("not answered for 4 s, and no process of it does anything"), "{cause}");
        // It got on a little, and then no more.
        let (at, _) = found(60, |now| Some(ProcessActivity { ticks: now.as_secs().min(10), ..ASLEEP_AT_100 })).unwrap();
        assert_eq!(at, Duration::from_secs(13));
    }

    #[test]
    fn a_chrome_that_is_held_up_does_not_hang() {
        // One tick every two seconds; none, but in need of a processor or a disk; of no known state.
        assert_eq!(found(60, |now| Some(ProcessActivity { ticks: now.as_secs() / 2, ..ASLEEP_AT_100 })), None);
        assert_eq!(found(60, |_| Some(ProcessActivity { wants: true, ..ASLEEP_AT_100 })), None);
        assert_eq!(found(60, |_| None), None);
    }

    #[test]
    fn an_answer_begins_it_anew() {
        let at = Duration::from_millis;
        let mut vigil = HangDetector::default();
        assert_eq!(vigil.feel(at(3500), at(0), Some(ASLEEP_AT_100)), None);
        vigil.answered();
        // What was seen before the answer does not count.
        assert_eq!(vigil.feel(at(6000), at(4000), Some(ASLEEP_AT_100)), None);
        assert_eq!(vigil.feel(at(8500), at(4000), Some(ASLEEP_AT_100)), None);
        assert!(vigil.feel(at(9000), at(4000), Some(ASLEEP_AT_100)).is_some());
    }

    #[test]
    fn the_pulse_is_that_of_all_processes() {
        let process = |state, ticks| Process { state, ticks, ..Process::default() };
        let pulse = |processes: &[Process]| ProcessActivity::of(processes);
        assert_eq!(pulse(&[]), None);
        assert_eq!(pulse(&[process('S', 60), process('Z', 1), process('S', 39)]), Some(ASLEEP_AT_100));
        for state in ['R', 'D'] {
            let wants = Some(ProcessActivity { wants: true, ..ASLEEP_AT_100 });
            assert_eq!(pulse(&[process('S', 60), process(state, 40)]), wants, "{state}");
        }
        // A debugger that looks at one (`t`) goes away again.
        assert_eq!(pulse(&[process('t', 100)]), Some(ASLEEP_AT_100));
        assert_eq!(
            pulse(&[process('S', 60), process('T', 40)]),
            Some(ProcessActivity { stopped: Some(0), ..ASLEEP_AT_100 })
        );
    }
}
