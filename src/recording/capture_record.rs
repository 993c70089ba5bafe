//! What a part did, as it stands in the journal. Apart from what the capture reports: a field that comes later has a default
//! here, so that a record of an earlier version is still read.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::capture::audio::av_sync::SyncCorrections;
use crate::capture::browser::call_sync::CallOffset;
use crate::capture::quality::{AudioStats, VideoStats};
use crate::capture::rig::CaptureReport;

/// [`CaptureReport`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CaptureRecord {
    duration: Duration,
    frames_sent: u64,
    frames_dropped: u64,
    frames_late: u64,
    picture: VideoRecord,
    sound: AudioRecord,
    corrections: SyncRecord,
    call_offset: CallOffsetRecord,
    parts: u32,
    bytes: u64,
    meeting_until: Option<Duration>,
}

impl From<CaptureReport> for CaptureRecord {
    fn from(of: CaptureReport) -> Self {
        Self {
            duration: of.duration,
            frames_sent: of.frames_sent,
            frames_dropped: of.frames_dropped,
            frames_late: of.frames_late,
            picture: of.picture.into(),
            sound: of.sound.into(),
            corrections: of.corrections.into(),
            call_offset: of.call_offset.into(),
            parts: of.parts,
            bytes: of.bytes,
            meeting_until: of.meeting_until,
        }
    }
}

impl From<CaptureRecord> for CaptureReport {
    fn from(of: CaptureRecord) -> Self {
        Self {
            duration: of.duration,
            frames_sent: of.frames_sent,
            frames_dropped: of.frames_dropped,
            frames_late: of.frames_late,
            picture: of.picture.into(),
            sound: of.sound.into(),
            corrections: of.corrections.into(),
            call_offset: of.call_offset.into(),
            parts: of.parts,
            bytes: of.bytes,
            meeting_until: of.meeting_until,
        }
    }
}

/// [`VideoStats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct VideoRecord {
    longest_freeze: Duration,
    black_share: f64,
}

impl From<VideoStats> for VideoRecord {
    fn from(of: VideoStats) -> Self {
        Self { longest_freeze: of.longest_freeze, black_share: of.black_share }
    }
}

impl From<VideoRecord> for VideoStats {
    fn from(of: VideoRecord) -> Self {
        Self { longest_freeze: of.longest_freeze, black_share: of.black_share }
    }
}

/// [`AudioStats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct AudioRecord {
    silence_share: f64,
    longest_silence: Duration,
    peak_dbfs: Option<f64>,
    mean_dbfs: Option<f64>,
}

impl From<AudioStats> for AudioRecord {
    fn from(of: AudioStats) -> Self {
        Self {
            silence_share: of.silence_share,
            longest_silence: of.longest_silence,
            peak_dbfs: of.peak_dbfs,
            mean_dbfs: of.mean_dbfs,
        }
    }
}

impl From<AudioRecord> for AudioStats {
    fn from(of: AudioRecord) -> Self {
        Self {
            silence_share: of.silence_share,
            longest_silence: of.longest_silence,
            peak_dbfs: of.peak_dbfs,
            mean_dbfs: of.mean_dbfs,
        }
    }
}

/// [`SyncCorrections`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct SyncRecord {
    gaps: u64,
    gaps_ms: u64,
    offsets: u64,
    put_in_ms: u64,
    left_out_ms: u64,
}

impl From<SyncCorrections> for SyncRecord {
    fn from(of: SyncCorrections) -> Self {
        Self {
            gaps: of.gaps,
            gaps_ms: of.gaps_ms,
            offsets: of.offsets,
            put_in_ms: of.put_in_ms,
            left_out_ms: of.left_out_ms,
        }
    }
}

impl From<SyncRecord> for SyncCorrections {
    fn from(of: SyncRecord) -> Self {
        Self {
            gaps: of.gaps,
            gaps_ms: of.gaps_ms,
            offsets: of.offsets,
            put_in_ms: of.put_in_ms,
            left_out_ms: of.left_out_ms,
        }
    }
}

/// [`CallOffset`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct CallOffsetRecord {
    seconds: u64,
    mean_ms: f64,
    max_ms: f64,
}

impl From<CallOffset> for CallOffsetRecord {
    fn from(of: CallOffset) -> Self {
        Self { seconds: of.seconds, mean_ms: of.mean_ms, max_ms: of.max_ms }
    }
}

impl From<CallOffsetRecord> for CallOffset {
    fn from(of: CallOffsetRecord) -> Self {
        Self { seconds: of.seconds, mean_ms: of.mean_ms, max_ms: of.max_ms }
    }
}
