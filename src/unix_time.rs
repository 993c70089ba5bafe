//! Wall-clock time for the wire and for records. Durations are measured by the monotonic clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970; 0 if the clock is set before that.
#[must_use]
pub fn unix_ms() -> u64 {
    unix_ms_of(SystemTime::now())
}

/// [`unix_ms`] of any moment.
#[must_use]
pub fn unix_ms_of(moment: SystemTime) -> u64 {
    u64::try_from(moment.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}
