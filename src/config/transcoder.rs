//! The section `transcoder`: how this node fetches jobs.

use std::time::Duration;

use crate::config::reader::ConfigSection;
use crate::config::sections::TranscoderConfig;

/// Default of `max_wait`: how long an MP4 may be delayed by busy processors.
const MAX_WAIT: Duration = Duration::from_secs(30 * 60);
const MAX_WAIT_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

pub(super) fn read(root: &ConfigSection<'_>) -> TranscoderConfig {
    let section = root.section("transcoder");
    TranscoderConfig {
        max_jobs: usize::try_from(section.whole("max_jobs", 1..=64, 1)).unwrap_or(1),
        max_wait: section.duration("max_wait", Duration::from_secs(1)..=MAX_WAIT_MAX, MAX_WAIT),
        nice: u8::try_from(section.whole("nice", 0..=19, 10)).unwrap_or_default(),
    }
}
