//! When a recording that is encoded as its MP4 while it runs can no longer be: the node has too little left for that, or
//! frames are lost.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::capture::encoder::arguments::EncoderSettings;
use crate::capture::encoder::counters::CaptureCounters;
use crate::capture::encoder::replacement::READY_LIMIT;
use crate::capture::frame_loss::FrameLoss;
use crate::retry::RetrySchedule;

/// How often lost frames are counted.
const LOOK: Duration = Duration::from_secs(1);

/// The fast encoder of a recording that is encoded as its MP4.
#[derive(Clone, Debug)]
pub struct FallbackSpec {
    pub settings: EncoderSettings,
    /// The file in which the recording goes on then.
    pub file: PathBuf,
    /// Becomes true where the node has too little left.
    pub wanted: watch::Receiver<bool>,
}

/// How long a change to the fast encoder may take, and when it is tried again.
#[derive(Clone, Copy, Debug)]
pub struct FallbackLimits {
    /// From its start until its file has a header.
    pub ready: Duration,
    pub retry: RetrySchedule,
}

impl Default for FallbackLimits {
    fn default() -> Self {
        Self { ready: READY_LIMIT, retry: RetrySchedule::MINUTES }
    }
}

/// Watches one recording.
#[derive(Debug)]
pub struct EncoderFallback {
    wanted: watch::Receiver<bool>,
    counters: Arc<CaptureCounters>,
    loss: FrameLoss,
    ticks: Interval,
    limits: FallbackLimits,
    /// How often the fast encoder could not be started.
    failures: u64,
    /// No fallback before this.
    not_before: Instant,
}

impl EncoderFallback {
    #[must_use]
    pub fn new(wanted: watch::Receiver<bool>, counters: Arc<CaptureCounters>) -> Self {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (loss, limits) = (FrameLoss::default(), FallbackLimits::default());
        Self { wanted, counters, loss, ticks, limits, failures: 0, not_before: Instant::now() }
    }

    #[must_use]
    pub fn with_limits(self, limits: FallbackLimits) -> Self {
        Self { limits, ..self }
    }

    #[must_use]
    pub fn ready_limit(&self) -> Duration {
        self.limits.ready
    }

    /// Resolves when the fast encoder is to take over; the reason is logged. Cancel-safe.
    pub async fn needed(&mut self) {
        tokio::time::sleep_until(self.not_before).await;
        loop {
            tokio::select! {
                // Nobody wants it any more where the sender is gone.
                Ok(_) = self.wanted.wait_for(|wanted| *wanted) => {
                    tracing::info!(
                        "the node needs its processors: this recording goes on with the fast encoder, and what \
                         follows is encoded for its MP4 after its end"
                    );
                    return;
                }
                _ = self.ticks.tick() => {
                    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
                    let dropped = count(&self.counters.frames_dropped);
                    if let Some(lost) = self.loss.look(count(&self.counters.frames_sent), dropped) {
                        tracing::info!(
                            lost,
                            "ffmpeg cannot encode this recording as its MP4 as fast as it runs: it goes on with the \
                             fast encoder, and what follows is encoded for its MP4 after its end"
                        );
                        return;
                    }
                }
            }
        }
    }

    /// The fast encoder could not be started: it is tried again after the time that is returned.
    pub fn not_started(&mut self) -> Duration {
        self.failures += 1;
        let wait = self.limits.retry.after(self.failures);
        self.not_before = Instant::now() + wait;
        wait
    }
}
