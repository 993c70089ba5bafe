//! The load of the machine, from the counters of `/proc/stat` (proc(5)).

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How often the counters are read.
const INTERVAL: Duration = Duration::from_secs(1);
/// The number of intervals that the load is averaged over: one busy second is no reason to send work elsewhere.
const WINDOW: usize = 5;

/// Processor time since the machine's start, in clock ticks, all processors together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    busy: u64,
    total: u64,
}

/// Parses the first line of `/proc/stat`: `cpu user nice system idle iowait irq softirq steal guest guest_nice`. `user`
/// and `nice` include the guest time; stolen time counts as busy, since it is not available here.
fn parse(stat: &str) -> Option<Ticks> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<u64> = line.split_ascii_whitespace().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
    let idle = fields.get(3)? + fields.get(4).unwrap_or(&0);
    let total: u64 = fields.iter().sum();
    Some(Ticks { busy: total.saturating_sub(idle), total })
}

/// The latest readings.
#[derive(Debug, Default)]
struct Window(VecDeque<Ticks>);

impl Window {
    /// Adds a reading. Returns the busy share of the processors since the oldest reading, 0…1; `None` for the first
    /// one.
    #[expect(clippy::cast_precision_loss, reason = "ticks of a few seconds")]
    fn load(&mut self, now: Ticks) -> Option<f64> {
        // After a counter that went back (iowait may, proc(5)) earlier readings are useless.
        if self.0.back().is_some_and(|last| now.total <= last.total) {
            self.0.clear();
        }
        self.0.push_back(now);
        if self.0.len() > WINDOW + 1 {
            self.0.pop_front();
        }
        let oldest = self.0.front().filter(|_| self.0.len() > 1)?;
        let busy = now.busy.saturating_sub(oldest.busy) as f64;
        Some((busy / (now.total - oldest.total) as f64).clamp(0.0, 1.0))
    }
}

/// The processors that this process may use (affinity and cgroup quota heeded), at least 1.
#[must_use]
pub fn total_cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Measures the load of the machine, 0…1, once a second until cancelled. The sender's initial value stands for the
/// first second.
pub async fn measure(load: watch::Sender<f64>, cancel: CancellationToken) {
    let mut window = Window::default();
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut warned = false;
    while cancel.run_until_cancelled(ticks.tick()).await.is_some() {
        let Some(reading) = std::fs::read_to_string("/proc/stat").ok().as_deref().and_then(parse) else {
            if !std::mem::replace(&mut warned, true) {
                warn!("/proc/stat cannot be read: the load of this machine is not known to the fleet");
            }
            continue;
        };
        if let Some(now) = window.load(reading) {
            load.send_replace(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_are_read_as_proc_5_says() {
        let stat = "cpu  100 20 30 800 50 1 2 3 40 5\ncpu0 1 2 3 4 5 6 7 8 9 10\nintr 1\n";
        assert_eq!(parse(stat), Some(Ticks { busy: 156, total: 1006 }));
        assert_eq!(parse("cpu  1 2 3 4\n"), Some(Ticks { busy: 6, total: 10 }));
        for bad in ["", "cpu  1 2\n", "cpu  a b c d\n", "cpu0 1 2 3 4\n"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_load_is_that_of_the_last_five_seconds() {
        let mut window = Window::default();
        let at = |second: u64, busy| Ticks { busy, total: second * 200 };
        assert_eq!(window.load(at(1, 0)), None);
        assert_eq!(window.load(at(2, 200)), Some(1.0));
        for second in 3..=6 {
            window.load(at(second, 200));
        }
        // One of five seconds was busy; a second later it is out of the window.
        assert_eq!(window.load(at(6 + 1, 200)), Some(0.0));
        assert_eq!(window.load(at(8, 300)), Some(0.1));
        // The counters were reset.
        assert_eq!(window.load(at(1, 0)), None);
        assert_eq!(window.load(at(2, 100)), Some(0.5));
    }

    #[tokio::test(start_paused = true)]
    async fn this_machine_has_a_load() {
        assert!(parse(&std::fs::read_to_string("/proc/stat").unwrap()).is_some());
        assert!(total_cores() >= 1);
        let cancel = CancellationToken::new();
        let (sender, mut receiver) = watch::channel(f64::NAN);
        let measuring = tokio::spawn(measure(sender, cancel.clone()));
        // The paused clock advances whenever all tasks sleep, so the counters are read until one has changed.
        receiver.changed().await.unwrap();
        assert!((0.0..=1.0).contains(&*receiver.borrow()), "{}", *receiver.borrow());
        cancel.cancel();
        measuring.await.unwrap();
    }
}
