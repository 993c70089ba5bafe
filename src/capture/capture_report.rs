//! Counters and quality of one capture. Pure.

use std::time::Duration;

use crate::capture::audio::av_sync::SyncCorrections;
use crate::capture::browser::call_sync::CallOffset;
use crate::capture::quality::{AudioStats, VideoStats};

/// How much newer than its time a frame's content may be: the screen is fetched after the time was taken, and a busy host
/// comes between.
const NEWER_CONTENT: Duration = Duration::from_millis(100);

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
    pub far_end: FarEndStats,
    /// Number of captures that were joined into the recording.
    pub parts: u32,
    /// Bytes that ffmpeg has written.
    pub bytes: u64,
    /// Time from the first frame to the end of the meeting, where the capture went on after it and shows the page that
    /// replaced the meeting.
    pub meeting_until: Option<Duration>,
}

/// What became of a broadcast on its way to the far end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FarEndStats {
    /// Pictures that were left out because the far end took too little.
    pub pictures_left_out: u64,
    /// How often the far end was lost.
    pub losses: u64,
    /// The lowest bit rate of the picture that the far end took, kbit/s; `None`: it was never lowered.
    pub lowest_bit_rate: Option<u32>,
}

impl std::ops::AddAssign for FarEndStats {
    fn add_assign(&mut self, other: Self) {
        self.pictures_left_out += other.pictures_left_out;
        self.losses += other.losses;
        self.lowest_bit_rate = [self.lowest_bit_rate, other.lowest_bit_rate].into_iter().flatten().min();
    }
}

/// What a running capture shows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CaptureGauge {
    pub report: CaptureReport,
    /// How often the loops of the threads `screen` and `sound` have turned.
    pub turns: [u64; 2],
}

impl CaptureReport {
    /// The same, ending where no frame shows the page that replaced the meeting, as far as the capture went on until
    /// then. `left`: time from the first frame to that replacement; `None`: there was none.
    #[must_use]
    pub fn cut_where_page_left(self, left: Option<Duration>) -> Self {
        let until = left.map(|left| left.saturating_sub(NEWER_CONTENT));
        let meeting_until = until.filter(|until| *until < self.duration);
        Self { meeting_until, duration: meeting_until.unwrap_or(self.duration), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_frame_that_was_fetched_late_and_shows_the_page_after_the_meeting_is_cut_off() {
        let report = CaptureReport { duration: millis(12_000), ..CaptureReport::default() };
        let left = millis(10_000);
        for late in [0, 1, 40, 99, 100] {
            // Its time was taken before the page left; its content was fetched when it had.
            let frame = left.saturating_sub(millis(late));
            let cut = report.cut_where_page_left(Some(left));
            let until = cut.meeting_until.expect("the capture went on after the meeting");
            assert!(
                frame >= until,
                "a frame of {frame:?} shows what came after the meeting, and all up to {until:?} is kept"
            );
            assert_eq!(cut.duration, until);
        }
    }

    #[test]
    fn a_capture_that_ended_before_the_page_left_is_whole() {
        let report = CaptureReport { duration: millis(9_900), ..CaptureReport::default() };
        assert_eq!(report.cut_where_page_left(None), report);
        assert_eq!(report.cut_where_page_left(Some(millis(10_000))), report);
        assert_eq!(report.cut_where_page_left(Some(Duration::ZERO)).meeting_until, Some(Duration::ZERO));
    }
}
