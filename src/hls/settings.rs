//! What the making of HLS needs from the rest of the node, and its limits.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::HlsConfig;
use crate::protocol::ids::RecorderId;
use crate::storage::main_path::MainPath;
use crate::store::uploads::Uploads;
use crate::telemetry::metrics::Metrics;

/// Waits between two attempts at a recording. An attempt may be hours of ffmpeg.
const FIRST_WAIT: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);
/// How often it is looked whether the store has the MP4, which comes first.
const MP4_POLL: Duration = Duration::from_secs(5);

/// What the making of HLS needs from the rest of the node.
pub struct HlsSettings {
    /// `None`: what waits of an earlier configuration is let go.
    pub config: Option<HlsConfig>,
    pub recorder_id: RecorderId,
    pub state_dir: PathBuf,
    /// Where the renditions are made where `main_path` takes files only from their first byte to their last.
    pub temporary_dir: PathBuf,
    pub main_path: MainPath,
    /// The stores into which they are delivered, if any, and whether they stay in `main_path` then, as the MP4 does.
    pub uploads: Uploads,
    pub metrics: Metrics,
    pub waits: HlsWaits,
}

/// The first and the longest wait between two attempts, and that for the MP4.
#[derive(Clone, Copy, Debug)]
pub struct HlsWaits {
    pub first: Duration,
    pub longest: Duration,
    pub mp4: Duration,
}

impl Default for HlsWaits {
    fn default() -> Self {
        Self { first: FIRST_WAIT, longest: LONGEST_WAIT, mp4: MP4_POLL }
    }
}
