//! The numbers of this node for Prometheus (`OpenMetrics` 1.0). Whoever does something counts it here; no label holds an
//! id. All names begin with `plugnmeet_recorder_`.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

const PREFIX: &str = "plugnmeet_recorder";
/// Seconds from a START to the first frame: Chrome takes 2 to 5 s, an opening is given up after minutes.
const START_BUCKETS: [f64; 11] = [1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0, 40.0, 80.0, 160.0];
/// Seconds of recording per second of ffmpeg.
const SPEED_BUCKETS: [f64; 10] = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];
/// Seconds from the end of a recording to its MP4.
const READY_BUCKETS: [f64; 11] = [5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 14400.0, 86400.0];

/// A label set of one label.
type Label = [(&'static str, &'static str); 1];
type FloatCounter = Counter<f64, AtomicU64>;
type FloatGauge = Gauge<f64, AtomicU64>;

/// What became of a transcoding job at one of its deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobEnd {
    Success,
    /// It is delivered again later.
    Retried,
    /// A disk or a hook is at fault; this node tries it again.
    Waiting,
    /// The program ended first.
    Interrupted,
    GivenUp,
}

impl JobEnd {
    const ALL: [Self; 5] = [Self::Success, Self::Retried, Self::Waiting, Self::Interrupted, Self::GivenUp];

    fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Retried => "retried",
            Self::Waiting => "waiting",
            Self::Interrupted => "interrupted",
            Self::GivenUp => "given_up",
        }
    }
}

/// What became of a START that this node has referred to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReferralEnd {
    /// Another node has taken it on.
    Taken,
    /// No other node could.
    Nobody,
    /// The node that was asked has not said.
    Unknown,
}

impl ReferralEnd {
    const ALL: [Self; 3] = [Self::Taken, Self::Nobody, Self::Unknown];

    fn as_str(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Nobody => "nobody",
            Self::Unknown => "unknown",
        }
    }
}

/// A gauge that others set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeGauge {
    SlotsTotal,
    SlotsUsed,
    /// Slots that a START would get now: 0 while anything stands in the way.
    SlotsFree,
    Busy,
    JobsPending,
    JobsRunning,
    JobsGivenUp,
    JobsRemaining,
    OutboxMessages,
    OutboxOldestAge,
    UploadsWaiting,
    UploadsOldestAge,
    ArchivePiecesWaiting,
    HlsWaiting,
    NatsConnected,
    ServerReachable,
    Ready,
}

/// In the order of [`NodeGauge`]; the help texts get their full stop from the encoder.
const GAUGES: [(&str, &str); 17] = [
    ("slots_total", "Recordings and broadcasts that this node runs at once (recorder.max_limit)"),
    ("slots_used", "Recordings and broadcasts running"),
    ("slots_free", "Recordings and broadcasts that this node would take on now: 0 while anything stands in the way"),
    ("busy", "1 while this node records, broadcasts or transcodes"),
    ("jobs_pending", "Transcoding jobs in the queue of the whole fleet that no node has taken yet"),
    ("jobs_running", "Transcoding jobs that this node has in hand"),
    ("jobs_given_up", "Transcoding jobs that this node has given up, until an operator retries or drops them"),
    ("jobs_remaining_seconds", "Seconds until the MP4 is made that this node needs longest for, 0 where it makes none"),
    ("outbox_messages", "Notices and jobs that are not delivered yet"),
    ("outbox_oldest_age_seconds", "Age of the oldest of them, 0 where there is none"),
    ("uploads_waiting", "Recordings and raw files that are not in their store yet"),
    ("uploads_oldest_age_seconds", "Age of the oldest of them, 0 where there is none"),
    ("archive_pieces_waiting", "Pieces of running recordings that are not in the archive of storage.archive yet"),
    ("hls_waiting", "Recordings that are not there as HLS yet (hls.renditions)"),
    ("nats_connected", "1 while this node is connected to NATS"),
    ("server_reachable", "1 where the plugNmeet server answered the last HTTP request of a probe each 30 s"),
    ("ready", "1 while this node would take work, as /readyz says"),
];

/// The numbers of a node; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    gauges: [FloatGauge; GAUGES.len()],
    load: Family<Label, FloatGauge>,
    disk_free: Family<Label, FloatGauge>,
    recordings: Family<Label, Counter>,
    broadcasts: Family<Label, Counter>,
    referrals: Family<Label, Counter>,
    jobs: Family<Label, Counter>,
    capture_cpu: FloatCounter,
    frames: Counter,
    frames_dropped: Counter,
    silence: FloatCounter,
    start_latency: Histogram,
    transcode_speed: Histogram,
    mp4_ready_delay: Histogram,
    thumbnails: Counter,
}

/// Registers a metric and returns it.
fn add<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let all = &mut registry;
        all.register("build", "The version of this program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        let gauges = GAUGES.map(|(name, help)| add(all, name, help, FloatGauge::default()));
        let metrics = Self {
            gauges,
            load: add(
                all,
                "load_ratio",
                "Share of a resource of this machine that is in use, 0 to 1",
                Family::default(),
            ),
            disk_free: add(all, "disk_free_bytes", "Free space of a directory's file system", Family::default()),
            recordings: add(all, "recordings", "Recordings whose capture has ended", Family::default()),
            broadcasts: add(all, "broadcasts", "Broadcasts that have ended", Family::default()),
            referrals: add(
                all,
                "referred_starts",
                "STARTs that this node could not take on and has referred to other nodes",
                Family::default(),
            ),
            jobs: add(all, "jobs", "Attempts at transcoding jobs", Family::default()),
            capture_cpu: add(
                all,
                "capture_cpu_seconds",
                "Processor time of the processes and threads that capture",
                FloatCounter::default(),
            ),
            frames: add(all, "frames", "Frames that were given to ffmpeg", Counter::default()),
            frames_dropped: add(
                all,
                "frames_dropped",
                "Frames that ffmpeg was too slow for, and that are missing",
                Counter::default(),
            ),
            silence: add(all, "silence_seconds", "Captured time without any sound", FloatCounter::default()),
            start_latency: add(
                all,
                "start_latency_seconds",
                "From a START to the first frame in ffmpeg",
                Histogram::new(START_BUCKETS),
            ),
            transcode_speed: add(
                all,
                "transcode_speed_ratio",
                "Seconds of recording that ffmpeg makes an MP4 of in one second",
                Histogram::new(SPEED_BUCKETS),
            ),
            mp4_ready_delay: add(
                all,
                "mp4_ready_delay_seconds",
                "From the end of a recording to its MP4 in place, on this node",
                Histogram::new(READY_BUCKETS),
            ),
            thumbnails: add(
                all,
                "thumbnails",
                "Pictures that were made for those who look at the node's page",
                Counter::default(),
            ),
            registry: Arc::default(),
        };
        // Every series is there from the start: a rate needs the zero before the first one.
        for outcome in ["success", "failed"] {
            metrics.recordings.get_or_create_owned(&[("outcome", outcome)]);
            metrics.broadcasts.get_or_create_owned(&[("outcome", outcome)]);
        }
        for outcome in ReferralEnd::ALL {
            metrics.referrals.get_or_create_owned(&[("outcome", outcome.as_str())]);
        }
        for outcome in JobEnd::ALL {
            metrics.jobs.get_or_create_owned(&[("outcome", outcome.as_str())]);
        }
        Self { registry: Arc::new(registry), ..metrics }
    }
}

impl Metrics {
    /// All of them as text of the type [`Self::CONTENT_TYPE`].
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = text::encode(&mut text, &self.registry);
        text
    }

    pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// Sets a gauge; false and true are 0 and 1.
    pub fn set(&self, gauge: NodeGauge, value: impl Into<f64>) {
        self.gauges[gauge as usize].set(value.into());
    }

    #[must_use]
    pub fn get(&self, gauge: NodeGauge) -> f64 {
        self.gauges[gauge as usize].get()
    }

    /// `resource`: `cpu`, `memory` or `disk`; `share`: 0…1.
    pub fn set_load(&self, resource: &'static str, share: f64) {
        self.load.get_or_create_owned(&[("resource", resource)]).set(share);
    }

    /// `place`: `main_path`, `temporary_dir` or `state_dir`.
    #[expect(clippy::cast_precision_loss, reason = "a disk of 9 PB would be told to some bytes")]
    pub fn set_disk_free(&self, place: &'static str, bytes: u64) {
        self.disk_free.get_or_create_owned(&[("place", place)]).set(bytes as f64);
    }

    pub fn recording_ended(&self, success: bool) {
        self.recordings.get_or_create_owned(&outcome(success)).inc();
    }

    pub fn broadcast_ended(&self, success: bool) {
        self.broadcasts.get_or_create_owned(&outcome(success)).inc();
    }

    pub fn referral_ended(&self, result: ReferralEnd) {
        self.referrals.get_or_create_owned(&[("outcome", result.as_str())]).inc();
    }

    pub fn job_ended(&self, result: JobEnd) {
        self.jobs.get_or_create_owned(&[("outcome", result.as_str())]).inc();
    }

    pub fn capture_used(&self, cpu: Duration) {
        self.capture_cpu.inc_by(cpu.as_secs_f64());
    }

    /// What was captured since the last call.
    pub fn captured(&self, frames: u64, dropped: u64, silence: Duration) {
        self.frames.inc_by(frames);
        self.frames_dropped.inc_by(dropped);
        self.silence.inc_by(silence.as_secs_f64());
    }

    pub fn started_after(&self, latency: Duration) {
        self.start_latency.observe(latency.as_secs_f64());
    }

    /// `media`: length of the recording; `wall`: how long ffmpeg took for it.
    pub fn transcoded(&self, media: Duration, wall: Duration) {
        self.transcode_speed.observe(media.as_secs_f64() / wall.as_secs_f64().max(0.001));
    }

    /// A picture was made for the node's page.
    pub fn thumbnail_made(&self) {
        self.thumbnails.inc();
    }

    pub fn mp4_ready_after(&self, delay: Duration) {
        self.mp4_ready_delay.observe(delay.as_secs_f64());
    }
}

fn outcome(success: bool) -> Label {
    [("outcome", if success { "success" } else { "failed" })]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_get_their_suffix_and_every_outcome_is_there_from_the_start() {
        let metrics = Metrics::default();
        metrics.clone().recording_ended(true);
        metrics.set(NodeGauge::Ready, true);
        metrics.set_load("cpu", 0.25);
        metrics.started_after(Duration::from_millis(2500));
        let text = metrics.encode();
        for line in [
            "plugnmeet_recorder_recordings_total{outcome=\"success\"} 1",
            "plugnmeet_recorder_recordings_total{outcome=\"failed\"} 0",
            "plugnmeet_recorder_jobs_total{outcome=\"given_up\"} 0",
            "plugnmeet_recorder_ready 1.0",
            "plugnmeet_recorder_load_ratio{resource=\"cpu\"} 0.25",
            "plugnmeet_recorder_start_latency_seconds_bucket{le=\"3.0\"} 1",
            "plugnmeet_recorder_capture_cpu_seconds_total 0.0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
