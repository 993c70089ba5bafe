//! Counters and quality of one capture. Pure.

use std::time::Duration;

use crate::capture::audio::av_sync::SyncCorrections;
use crate::capture::browser::call_sync::CallOffset;
use crate::capture::quality::{AudioStats, VideoStats};

/// Counters and quality of one capture.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CaptureReport {
    /// From the first frame to the last one.
    pub duration: Duration,
    pub frames_sent: u64,
    pub frames_dropped: u64,
    pub frames_late: u64,
    pub picture: VideoStats,
    pub sound: AudioStats,
    pub corrections: SyncCorrections,
    pub call_offset: CallOffset,
    /// Number of captures that were joined into the recording.
    pub parts: u32,
    /// Bytes that ffmpeg has written.
    pub bytes: u64,
    /// Time from the first frame to the end of the meeting, where the capture went on after it and shows the page that
    /// replaced the meeting.
    pub meeting_until: Option<Duration>,
}

/// What a running capture shows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CaptureGauge {
    pub report: CaptureReport,
    /// How often the loops of the threads `screen` and `sound` have turned.
    pub turns: [u64; 2],
}
