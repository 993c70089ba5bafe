//! Why a command failed.

use std::io;
use std::path::PathBuf;

use crate::codes::{self, Code};
use crate::protocol::ids::RecordingId;
use crate::storage::state_version::NewerState;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error(
        "there is no {path} (recorder.state_dir): no recorder has run with this configuration yet, or from this working directory",
        path = .0.display()
    )]
    NoState(PathBuf),
    #[error(transparent)]
    NewerState(#[from] NewerState),
    #[error("cannot read {path}: {source}; ask as the user that the recorder runs as", path = .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("this node holds no job {id} (there is no {path}); `jobs list` shows those it holds", path = .path.display())]
    NoJob { id: RecordingId, path: PathBuf },
    #[error("the record of job {id} cannot be read: {why} ({path})", path = .path.display())]
    NoRecord { id: RecordingId, path: PathBuf, why: String },
    #[error("job {id}: {why}")]
    Refused { id: RecordingId, why: String },
    #[error("job {id}: cannot {action} {path}: {source}", path = .path.display())]
    Disk { id: RecordingId, action: &'static str, path: PathBuf, source: io::Error },
    #[error("this node has nothing to tell of {id} (there is no {path}); `outbox list` shows what it has", path = .path.display())]
    NoLetters { id: RecordingId, path: PathBuf },
    #[error("outbox {id}: {why}")]
    OutboxRefused { id: RecordingId, why: String },
    #[error("outbox {id}: cannot write {path}: {source}", path = .path.display())]
    OutboxDisk { id: RecordingId, path: PathBuf, source: io::Error },
    #[error(
        "this node knows no recording {id}: no job, no record in recorder.state_dir, and no {id}_raw.mkv, {id}_raw.mp4 or \
         {id}.mp4 under {main_path}",
        main_path = main_path.display()
    )]
    NoRecording { id: RecordingId, main_path: PathBuf },
    #[error("this node delivers no recording {id} (there is no {path}); `store list` shows those that wait", path = .path.display())]
    NoUpload { id: RecordingId, path: PathBuf },
    #[error("store {id}: cannot write {path}: {source}", path = .path.display())]
    UploadDisk { id: RecordingId, path: PathBuf, source: io::Error },
    #[error("this node has no HLS of {id} to make (there is no {path}); `hls list` shows what waits", path = .path.display())]
    NoHls { id: RecordingId, path: PathBuf },
    #[error("hls {id}: cannot write {path}: {source}", path = .path.display())]
    HlsDisk { id: RecordingId, path: PathBuf, source: io::Error },
    /// What is wrong with the URL, without its secrets.
    #[error("there is no store for this: {0}")]
    NoStore(String),
    #[error("the hooks cannot be run: {0}")]
    Start(String),
    /// Why NATS did not tell of the fleet, and what to do.
    #[error("the fleet cannot be asked: {0}")]
    Nats(String),
    /// What is none, and what may be meant.
    #[error("{0}; `plugnmeet-recorder explain --list` shows all of them")]
    UnknownCode(String),
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

impl AdminError {
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::NoState(_) => codes::NO_STATE,
            Self::NewerState(_) => codes::NEWER_STATE,
            Self::Unreadable { .. } => codes::STATE_UNREADABLE,
            Self::NoJob { .. } => codes::UNKNOWN_JOB,
            Self::NoRecord { .. } => codes::JOB_UNREADABLE,
            Self::Refused { .. } => codes::JOB_ORDER_REFUSED,
            Self::Disk { .. } => codes::JOB_ORDER_NOT_WRITTEN,
            Self::NoLetters { .. } => codes::UNKNOWN_MESSAGES,
            Self::OutboxRefused { .. } => codes::OUTBOX_ORDER_REFUSED,
            Self::OutboxDisk { .. } => codes::OUTBOX_ORDER_NOT_WRITTEN,
            Self::NoRecording { .. } => codes::UNKNOWN_RECORDING,
            Self::NoUpload { .. } => codes::UNKNOWN_UPLOAD,
            Self::UploadDisk { .. } => codes::UPLOAD_ORDER_NOT_WRITTEN,
            Self::NoHls { .. } => codes::UNKNOWN_HLS,
            Self::HlsDisk { .. } => codes::HLS_ORDER_NOT_WRITTEN,
            Self::NoStore(_) => codes::NO_STORE,
            Self::Start(_) => codes::COMMAND_NOT_STARTED,
            Self::Nats(_) => codes::FLEET_NOT_ASKED,
            Self::UnknownCode(_) => codes::UNKNOWN_CODE,
            Self::Output(_) => codes::OUTPUT_NOT_WRITTEN,
        }
    }
}
