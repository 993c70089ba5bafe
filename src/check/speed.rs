//! Whether disks are fast enough. Pure: times and bytes are arguments.

use std::time::Duration;

use crate::check::report::Finding;
use crate::fleet::recording_needs::{MEASURED, MEASURED_PIXELS, with_margin};
use crate::storage::disk_space::ByteSize;

/// A start is refused where its record is not on disk after 0.8 s.
const RECORD_FAULT: Duration = Duration::from_millis(800);
const RECORD_WARNING: Duration = Duration::from_millis(100);
/// A disk that is just fast enough for recordings is too slow for the MP4s that are made beside them.
const HEADROOM: f64 = 3.0;

/// Of one small file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Writing and syncing it.
    pub sync: Duration,
    /// Renaming it, and syncing the directory.
    pub rename: Duration,
}

/// Judges `state_dir`.
#[must_use]
pub fn latency(latencies: &[Latency]) -> Finding {
    const NAME: &str = "state_dir speed";
    let median = |of: fn(&Latency) -> Duration| {
        let mut sorted: Vec<Duration> = latencies.iter().map(of).collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    };
    let (Some(sync), Some(rename)) = (median(|one| one.sync), median(|one| one.rename)) else {
        return Finding::skipped(NAME, "nothing was written");
    };
    let text = format!("fsync {} ms, rename {} ms", sync.as_millis(), rename.as_millis());
    let what = "use a faster disk, a local one, or one that is less busy";
    match sync + rename {
        record if record >= RECORD_FAULT => {
            Finding::fault(NAME, format!("{text}: starts are refused whose record takes longer than 0.8 s; {what}"))
        }
        record if record >= RECORD_WARNING => {
            Finding::warning(NAME, format!("{text}: each start and each notice waits for that; {what}"))
        }
        _ => Finding::ok(NAME, text),
    }
}

/// Judges `temporary_dir`. `pixels`: of a recording's picture.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a speed is told with two figures")]
pub fn throughput(bytes: u64, took: Duration, recordings: u32, pixels: u64) -> Finding {
    const NAME: &str = "temporary_dir speed";
    if bytes == 0 {
        return Finding::skipped(NAME, "nothing was written");
    }
    let has = bytes as f64 / took.as_secs_f64().max(1e-6);
    let need = with_margin(MEASURED.bytes_per_second, recordings) as f64 * pixels as f64 / MEASURED_PIXELS as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "no disk writes 2^63 bytes a second")]
    let shown = |bytes: f64| ByteSize(bytes as u64).to_string();
    let text = format!("{} a second; recordings write up to {} (max_limit {recordings})", shown(has), shown(need));
    let what = "use a faster disk, or lower recorder.max_limit";
    if has < need {
        Finding::fault(NAME, format!("{text}: {what}"))
    } else if has < need * HEADROOM {
        Finding::warning(NAME, format!("{text}, and their MP4s as much again: {what}"))
    } else {
        Finding::ok(NAME, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::report::Verdict;

    #[test]
    fn a_disk_on_which_a_start_would_be_refused_is_a_fault() {
        let all = |sync, rename| {
            let [sync, rename] = [sync, rename].map(Duration::from_millis);
            latency(&[Latency { sync, rename }; 3]).verdict
        };
        assert_eq!([all(10, 5), all(90, 10), all(500, 300)], [Verdict::Ok, Verdict::Warning, Verdict::Fault]);
        assert_eq!(latency(&[]).verdict, Verdict::Skipped);
        // One that was held up once says nothing.
        let mut latencies = vec![Latency { sync: Duration::ZERO, rename: Duration::ZERO }; 4];
        latencies[1].sync = Duration::from_secs(3);
        assert_eq!(latency(&latencies).verdict, Verdict::Ok);
    }

    #[test]
    fn a_disk_is_judged_by_what_max_limit_recordings_write() {
        let second = Duration::from_secs(1);
        let judged = |recordings| throughput(100 << 20, second, recordings, 1920 * 1080).verdict;
        assert_eq!([judged(10), judged(30), judged(90)], [Verdict::Ok, Verdict::Warning, Verdict::Fault]);
        assert_eq!(throughput(0, second, 1, 100).verdict, Verdict::Skipped);
    }
}
