//! What the making of HLS needs from the rest of the node, and its limits.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::HlsConfig;
use crate::media::final_encoding::FinalEncoding;
use crate::protocol::ids::RecorderId;
use crate::storage::main_path::MainPath;
use crate::store::uploads::Uploads;
use crate::telemetry::metrics::Metrics;

/// Waits between two attempts at a recording. An attempt may be hours of ffmpeg.
const FIRST_WAIT: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);
/// A viewer who is so far behind the meeting is better served by the whole recording later; and a busy host is not busier.
const BEHIND: Duration = Duration::from_secs(60);
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
    /// How recordings are encoded as their MP4 while they run, where that is known.
    pub encoding: Option<FinalEncoding>,
    /// The pictures of raw files have a keyframe each `hls.segment`.
    pub keyframes: bool,
}

/// The first and the longest wait between two attempts, that for the MP4, and by how much what is published may be behind
/// the recording.
#[derive(Clone, Copy, Debug)]
pub struct HlsWaits {
    pub first: Duration,
    pub longest: Duration,
    pub mp4: Duration,
    pub behind: Duration,
}

impl Default for HlsWaits {
    fn default() -> Self {
        Self { first: FIRST_WAIT, longest: LONGEST_WAIT, mp4: MP4_POLL, behind: BEHIND }
    }
}
