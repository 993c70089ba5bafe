//! Notices to the server (PROTOCOL 5).

use crate::protocol::ids::RecorderId;
use crate::protocol::messages::{RecorderToPlugNmeet, RecordingTasks};
use crate::protocol::request::{Kind, RecordingInfo};

/// Value of `from` in notices.
const RECORDER: &str = "recorder";

/// How something ended: well, or with the cause that the user is shown.
pub type Outcome = Result<(), String>;

/// A notice about a recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    pub info: RecordingInfo,
    /// The node that recorded, whichever node sends the notice; for a merge the `merged-recording` of its job.
    pub recorder_id: RecorderId,
    pub event: NoticeEvent,
}

/// The event of a notice.
#[derive(Clone, Debug, PartialEq)]
pub enum NoticeEvent {
    /// Media flows.
    Started(Kind),
    /// The cause of a failure is sent in `msg`.
    Ended(Kind, Outcome),
    /// The MP4 is in its place.
    Proceeded {
        /// Relative to `main_path`.
        file_path: String,
        /// Bytes; sent in MB (10⁶ bytes) with two decimals.
        file_size: u64,
        /// 0 full screen, 1 media only.
        variant: i32,
        /// A remark about the MP4, sent in `msg`.
        note: Option<String>,
    },
    /// The transcoding job has ended.
    Finished(Outcome),
}

impl NoticeEvent {
    /// The task number of this event.
    #[must_use]
    pub fn task(&self) -> RecordingTasks {
        match self {
            Self::Started(Kind::Recording) => RecordingTasks::StartRecording,
            Self::Started(Kind::Broadcast) => RecordingTasks::StartRtmp,
            Self::Ended(Kind::Recording, _) => RecordingTasks::EndRecording,
            Self::Ended(Kind::Broadcast, _) => RecordingTasks::EndRtmp,
            Self::Proceeded { .. } => RecordingTasks::RecordingProceeded,
            Self::Finished(_) => RecordingTasks::RecordingTranscodingFinished,
        }
    }
}

impl Notice {
    /// The message on the wire.
    #[must_use]
    pub fn to_message(&self) -> RecorderToPlugNmeet {
        let outcome = match &self.event {
            NoticeEvent::Ended(_, outcome) | NoticeEvent::Finished(outcome) => outcome.clone(),
            NoticeEvent::Started(_) | NoticeEvent::Proceeded { .. } => Ok(()),
        };
        let mut message = RecorderToPlugNmeet {
            from: RECORDER.to_owned(),
            task: self.event.task() as i32,
            status: outcome.is_ok(),
            msg: outcome.err().unwrap_or_else(|| "success".to_owned()),
            recording_id: self.info.recording_id.to_string(),
            room_table_id: self.info.room_table_id,
            room_id: self.info.room_id.to_string(),
            room_sid: self.info.room_sid.as_str().to_owned(),
            recorder_id: self.recorder_id.to_string(),
            ..RecorderToPlugNmeet::default()
        };
        if let NoticeEvent::Proceeded { file_path, file_size, variant, note } = &self.event {
            message.file_path.clone_from(file_path);
            message.file_size = megabytes(*file_size);
            message.recording_variant = Some(*variant);
            if let Some(note) = note {
                message.msg.clone_from(note);
            }
        }
        message
    }
}

/// Bytes as MB (10⁶ bytes), rounded to two decimals, as the server stores them.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "two decimals of a size are all that is told"
)]
pub fn megabytes(bytes: u64) -> f32 {
    ((bytes as f64 / 1e4).round() / 100.0) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "the very number that goes onto the wire")]
    fn sizes_are_megabytes_with_two_decimals() {
        assert_eq!(megabytes(12_344_999), 12.34);
        assert_eq!(megabytes(12_345_001), 12.35);
        assert_eq!(megabytes(0), 0.0);
    }
}
