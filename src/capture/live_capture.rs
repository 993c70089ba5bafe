//! A running capture as somebody sees it who looks at this node: its numbers of this moment, and its picture.

use std::sync::Arc;
use std::time::Instant;

use crate::capture::capture_report::CaptureReport;
use crate::capture::encoder::counters::CaptureCounters;
use crate::capture::running_capture;
use crate::capture::video::preview::Preview;

/// A running capture; clones show the same one. It outlives the capture, and then shows its end.
#[derive(Clone, Debug)]
pub struct LiveCapture {
    /// The name of its rig, as in the environment of the rig's processes ([`crate::capture::process_tag::VARIABLE`]).
    pub rig: String,
    pub preview: Preview,
    pub(super) counters: Arc<CaptureCounters>,
    pub(super) started: Instant,
}

impl LiveCapture {
    /// The report up to now.
    #[must_use]
    pub fn report(&self) -> CaptureReport {
        running_capture::capture_report(&self.counters, self.started.elapsed())
    }

    /// The level of the sound in dBFS, -60 to 0; `None`: silence.
    #[must_use]
    pub fn level_dbfs(&self) -> Option<f64> {
        self.counters.audio().level_dbfs()
    }

    /// How long it has been silent, and how long its picture has stood still, in seconds.
    #[must_use]
    pub fn quiet_s(&self) -> (u64, u64) {
        let silent = self.counters.audio().silent_for();
        (silent.as_secs(), self.counters.video().still_for(self.started.elapsed()).as_secs())
    }
}
