//! This host's clock against that of others. Pure: times are durations since the Unix epoch.

use std::time::Duration;

use crate::check::report::Finding;

/// The server takes a token that is off by a minute (PROTOCOL 3), and NATS none from the future.
const FAULT_S: f64 = 60.0;
/// More than networks and full seconds explain.
const WARNING_S: f64 = 3.0;
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Another's clock, asked between two moments of this host's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockSample {
    /// Whose it is, for the text.
    pub of: &'static str,
    pub asked: Duration,
    pub answered: Duration,
    /// What it said.
    pub told: Duration,
    /// Of what it tells: a second where it tells only those.
    pub resolution: Duration,
}

impl ClockSample {
    /// By how many seconds this host is ahead; 0 where the sample cannot tell.
    fn ahead(&self) -> f64 {
        let [asked, answered, told] = [self.asked, self.answered, self.told].map(|time| time.as_secs_f64());
        // It was between these two when it was told, and is so much more than that at most.
        let (low, high) = (asked - (told + self.resolution.as_secs_f64()), answered - told);
        if low > 0.0 {
            low
        } else if high < 0.0 {
            high
        } else {
            0.0
        }
    }
}

/// Judges the sample that is furthest off.
#[must_use]
pub fn judge(samples: &[ClockSample]) -> Finding {
    let worst = samples.iter().max_by(|one, other| one.ahead().abs().total_cmp(&other.ahead().abs()));
    let Some(worst) = worst else {
        return Finding::skipped("clock", "neither the server nor NATS tells its time");
    };
    let ahead = worst.ahead();
    let whose = samples.iter().map(|sample| sample.of).collect::<Vec<_>>().join(" and ");
    if ahead.abs() < WARNING_S {
        return Finding::ok("clock", format!("agrees with {whose}"));
    }
    let side = if ahead > 0.0 { "ahead of" } else { "behind" };
    let text = format!(
        "this host's clock is {:.0} s {side} that of {}, and tokens are valid for minutes: synchronise both \
         (systemd-timesyncd, chrony)",
        ahead.abs(),
        worst.of
    );
    if ahead.abs() < FAULT_S { Finding::warning("clock", text) } else { Finding::fault("clock", text) }
}

/// The time of an HTTP `Date` header: `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7).
#[must_use]
pub fn http_date(text: &str) -> Option<Duration> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = words[..] else { return None };
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    // Also the library's own format has these numbers in this order.
    rfc3339(&format!("{year}-{month:02}-{day:0>2}T{time}Z"))
}

/// The time of a text such as `2026-11-27T04:52:15.5Z`.
#[must_use]
pub fn rfc3339(text: &str) -> Option<Duration> {
    humantime::parse_rfc3339(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::report::Verdict;

    fn sample(asked: f64, answered: f64, told: f64) -> ClockSample {
        let [asked, answered, told] = [asked, answered, told].map(|seconds| Duration::from_secs_f64(1e9 + seconds));
        ClockSample { of: "the server", asked, answered, told, resolution: Duration::from_secs(1) }
    }

    #[test]
    fn a_date_in_full_seconds_and_a_slow_answer_are_no_difference() {
        assert_eq!(judge(&[sample(0.9, 1.0, 0.0)]).verdict, Verdict::Ok);
        assert_eq!(judge(&[sample(0.0, 9.0, 8.0)]).verdict, Verdict::Ok);
        assert_eq!(judge(&[sample(0.0, 9.0, 0.0)]).verdict, Verdict::Ok);
        assert_eq!(judge(&[]).verdict, Verdict::Skipped);
    }

    #[test]
    fn a_clock_that_is_off_is_told_with_its_side() {
        let found = judge(&[sample(0.0, 0.1, 0.0), sample(3600.0, 3600.1, 0.0)]);
        assert!(
            found.verdict == Verdict::Fault && found.text.contains("3599 s ahead of that of the server"),
            "{found:?}"
        );
        let found = judge(&[sample(0.0, 0.1, 20.1)]);
        assert!(found.verdict == Verdict::Warning && found.text.contains("20 s behind"), "{found:?}");
    }

    #[test]
    fn dates_are_read_as_http_and_nats_write_them() {
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(784_111_777)));
        for bad in
            ["", "Sun, 06 Nov 1994 08:49:37 CET", "Sun, 06 Abc 1994 08:49:37 GMT", "Sun, 99 Nov 1994 08:49:37 GMT"]
        {
            assert_eq!(http_date(bad), None, "{bad}");
        }
        assert_eq!(rfc3339("1994-11-06T08:49:37.5Z"), Some(Duration::from_millis(784_111_777_500)));
    }
}
