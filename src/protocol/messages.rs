//! plugNmeet's protobuf messages with the field numbers of PROTOCOL 3, 5 and 6.
//!
//! Written by hand so that a build needs no `protoc`; `tests/suite/wire.rs` compares each with golden bytes made from
//! the public definitions. Received contents are *not* checked here: see [`super::request`] and [`super::job`] for
//! checked types.

/// A request of the server (PROTOCOL 3).
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct PlugNmeetToRecorder {
    #[prost(string, tag = "1")]
    pub from: String,
    #[prost(enumeration = "RecordingTasks", tag = "2")]
    pub task: i32,
    #[prost(int64, tag = "3")]
    pub room_table_id: i64,
    #[prost(string, tag = "4")]
    pub room_id: String,
    #[prost(string, tag = "5")]
    pub room_sid: String,
    #[prost(string, tag = "6")]
    pub recording_id: String,
    #[prost(string, tag = "7")]
    pub recorder_id: String,
    #[prost(string, tag = "8")]
    pub access_token: String,
    #[prost(string, optional, tag = "9")]
    pub rtmp_url: Option<String>,
}

/// The answer to a request (PROTOCOL 3). `status = false` is the default and therefore absent on the wire.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CommonResponse {
    #[prost(bool, tag = "1")]
    pub status: bool,
    #[prost(string, tag = "2")]
    pub msg: String,
    #[prost(enumeration = "StatusCode", tag = "3")]
    pub status_code: i32,
}

/// The answer of the server's token check (PROTOCOL 3), without fields that are not needed.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TokenStatus {
    #[prost(bool, tag = "1")]
    pub status: bool,
    /// A key of a translated text.
    #[prost(string, tag = "2")]
    pub msg: String,
}

/// A notice to the server (PROTOCOL 5).
#[derive(Clone, PartialEq, prost::Message)]
pub struct RecorderToPlugNmeet {
    #[prost(string, tag = "1")]
    pub from: String,
    #[prost(enumeration = "RecordingTasks", tag = "2")]
    pub task: i32,
    #[prost(bool, tag = "3")]
    pub status: bool,
    #[prost(string, tag = "4")]
    pub msg: String,
    #[prost(string, tag = "5")]
    pub recording_id: String,
    #[prost(int64, tag = "11")]
    pub room_table_id: i64,
    #[prost(string, tag = "6")]
    pub room_id: String,
    #[prost(string, tag = "7")]
    pub room_sid: String,
    #[prost(string, tag = "8")]
    pub recorder_id: String,
    #[prost(string, tag = "9")]
    pub file_path: String,
    /// Megabytes (10⁶ bytes), two decimals.
    #[prost(float, tag = "10")]
    pub file_size: f32,
    /// 0 full screen, 1 media only; explicit presence, so 0 is on the wire when set.
    #[prost(int32, optional, tag = "12")]
    pub recording_variant: Option<i32>,
}

/// A job in the work queue (PROTOCOL 6).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TranscodingTask {
    #[prost(string, tag = "1")]
    pub recording_id: String,
    #[prost(string, tag = "2")]
    pub room_id: String,
    #[prost(string, tag = "3")]
    pub room_sid: String,
    #[prost(int64, tag = "4")]
    pub room_table_id: i64,
    #[prost(string, tag = "5")]
    pub recorder_id: String,
    #[prost(oneof = "transcoding_task::Work", tags = "6, 7")]
    pub work: Option<transcoding_task::Work>,
}

/// The two kinds of job.
pub mod transcoding_task {
    /// The work of a job.
    #[derive(Clone, PartialEq, Eq, prost::Oneof)]
    pub enum Work {
        #[prost(message, tag = "6")]
        PostRecording(super::TranscodingTaskPostRecording),
        #[prost(message, tag = "7")]
        MergeRecordings(super::TranscodingTaskMergeRecordings),
    }
}

/// Convert one raw file to an MP4.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TranscodingTaskPostRecording {
    /// Directory of the raw file.
    #[prost(string, tag = "1")]
    pub file_path: String,
    #[prost(string, tag = "2")]
    pub file_name: String,
    #[prost(int32, tag = "3")]
    pub recording_variant: i32,
}

/// Join finished MP4s in order.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TranscodingTaskMergeRecordings {
    /// Relative to `main_path`.
    #[prost(string, repeated, tag = "1")]
    pub file_paths: Vec<String>,
}

/// The subject of a message; shared by requests and notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum RecordingTasks {
    StartRecording = 0,
    StopRecording = 1,
    StartRtmp = 2,
    StopRtmp = 3,
    EndRecording = 4,
    EndRtmp = 5,
    RecordingProceeded = 6,
    Stop = 7,
    RecordingTranscodingFinished = 8,
}

/// Result of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum StatusCode {
    Unknown = 0,
    Success = 1,
    NotFound = 3,
    Conflict = 4,
    Internal = 7,
    InvalidParameters = 8,
}
