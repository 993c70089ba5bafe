//! The journal's format of a [`CaptureReport`], apart from the report itself: each field that is missing in a record of
//! an earlier version has its default.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::capture::audio::av_sync::SyncCorrections;
use crate::capture::browser::call_sync::CallOffset;
use crate::capture::capture_report::{CaptureReport, FarEndStats};
use crate::capture::quality::{AudioStats, VideoStats};

#[derive(Serialize, Deserialize)]
#[serde(remote = "CaptureReport", default = "CaptureReport::default")]
pub struct CaptureRecord {
    duration: Duration,
    frames_sent: u64,
    frames_dropped: u64,
    frames_late: u64,
    #[serde(with = "VideoRecord")]
    picture: VideoStats,
    #[serde(with = "AudioRecord")]
    sound: AudioStats,
    #[serde(with = "SyncRecord")]
    corrections: SyncCorrections,
    #[serde(with = "CallOffsetRecord")]
    call_offset: CallOffset,
    #[serde(with = "FarEndRecord")]
    far_end: FarEndStats,
    parts: u32,
    bytes: u64,
    meeting_until: Option<Duration>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "VideoStats", default = "VideoStats::default")]
struct VideoRecord {
    longest_freeze: Duration,
    black_share: f64,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "AudioStats", default = "AudioStats::default")]
struct AudioRecord {
    silence_share: f64,
    longest_silence: Duration,
    peak_dbfs: Option<f64>,
    mean_dbfs: Option<f64>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "SyncCorrections", default = "SyncCorrections::default")]
struct SyncRecord {
    gaps: u64,
    gaps_ms: u64,
    offsets: u64,
    put_in_ms: u64,
    left_out_ms: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "FarEndStats", default = "FarEndStats::default")]
struct FarEndRecord {
    pictures_left_out: u64,
    losses: u64,
    lowest_bit_rate: Option<u32>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "CallOffset", default = "CallOffset::default")]
struct CallOffsetRecord {
    seconds: u64,
    mean_ms: f64,
    max_ms: f64,
}
