//! Progress of an ffmpeg from its `-progress` output: pure.

use std::time::Duration;

/// Progress of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FfmpegProgress {
    /// Duration of the finished media.
    pub done: Duration,
    /// Duration of all media.
    pub total: Duration,
    /// Seconds of media per second; `None`: not known yet.
    pub speed: Option<f64>,
}

impl FfmpegProgress {
    /// Percent, 0…100.
    #[must_use]
    pub fn percent(&self) -> f64 {
        if self.total.is_zero() {
            return 0.0;
        }
        (100.0 * self.done.as_secs_f64() / self.total.as_secs_f64()).min(100.0)
    }

    /// Time to the end at the current speed.
    #[must_use]
    pub fn eta(&self) -> Option<Duration> {
        let speed = self.speed.filter(|speed| *speed > 0.0)?;
        Duration::try_from_secs_f64(self.total.saturating_sub(self.done).as_secs_f64() / speed).ok()
    }
}

/// Decides when progress is logged: at once, after a minute, then at every tenth percent or ten minutes.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProgressThrottle {
    lines: u32,
    at: Duration,
    percent: f64,
}

impl ProgressThrottle {
    const MINUTE: Duration = Duration::from_secs(60);
    const LONG: Duration = Duration::from_secs(600);

    /// Whether to log at `after` (since the run's start); `true` counts as logged.
    pub fn due(&mut self, after: Duration, percent: f64) -> bool {
        let since = after.saturating_sub(self.at);
        let due = match self.lines {
            0 => true,
            1 => after >= Self::MINUTE,
            _ => since >= Self::LONG || (since >= Self::MINUTE && percent >= self.percent + 10.0),
        };
        if due {
            *self = Self { lines: self.lines.saturating_add(1), at: after, percent };
        }
        due
    }
}

/// Reads the progress output line by line.
#[derive(Debug)]
pub struct ProgressReader {
    current: FfmpegProgress,
}

impl ProgressReader {
    #[must_use]
    pub fn new(total: Duration) -> Self {
        Self { current: FfmpegProgress { total, ..FfmpegProgress::default() } }
    }

    /// Reads a line `key=value`. Returns the progress at the end of each block (`progress=…`).
    pub fn line(&mut self, line: &str) -> Option<FfmpegProgress> {
        let (key, value) = line.split_once('=')?;
        match key {
            // The value is `N/A` at the start, and negative where a stream begins before the first.
            "out_time_us" => {
                if let Ok(micros) = value.trim().parse() {
                    self.current.done = Duration::from_micros(micros);
                }
            }
            "speed" => {
                let speed = value.trim().trim_end_matches('x').parse().ok();
                self.current.speed = speed.filter(|speed: &f64| speed.is_finite() && *speed > 0.0);
            }
            "progress" => return Some(self.current),
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_becomes_percent_and_remaining_time() {
        let mut reader = ProgressReader::new(Duration::from_secs(100));
        let report = "frame=7\nout_time_us=N/A\nspeed=N/A\nprogress=continue\nout_time_us=-33\nout_time_us=25000000\n\
                      total_size=9\nspeed=2.50x\nprogress=continue\nout_time_us=101000000\nspeed= 1e+03x\nprogress=end\n\
                      no report";
        let seen: Vec<_> = report.lines().filter_map(|line| reader.line(line)).collect();
        let shown = |at: usize| (seen[at].percent(), seen[at].eta());
        assert_eq!(seen.len(), 3);
        assert_eq!(shown(0), (0.0, None));
        assert_eq!(shown(1), (25.0, Some(Duration::from_secs(30))));
        assert_eq!(shown(2), (100.0, Some(Duration::ZERO)));
        assert!(FfmpegProgress::default().percent() < f64::EPSILON);
    }

    #[test]
    fn a_long_run_is_logged_ever_more_rarely() {
        let logged = |hours: u32| {
            let (mut telling, seconds) = (ProgressThrottle::default(), hours * 3600);
            let due =
                |s: &u32| telling.due(Duration::from_secs((*s).into()), 100.0 * f64::from(*s) / f64::from(seconds));
            (10..=seconds).step_by(10).filter(due).collect::<Vec<_>>()
        };
        assert_eq!(logged(1)[..4], [10, 60, 420, 780]);
        assert_eq!(logged(10)[..4], [10, 60, 660, 1260]);
        assert_eq!((logged(1).len(), logged(10).len()), (11, 61));
        // A run of two minutes does not fill the log.
        let mut telling = ProgressThrottle::default();
        let few =
            (10..=120u32).step_by(10).filter(|s| telling.due(Duration::from_secs((*s).into()), f64::from(*s) / 1.2));
        assert_eq!(few.collect::<Vec<_>>(), [10, 60, 120]);
    }
}
