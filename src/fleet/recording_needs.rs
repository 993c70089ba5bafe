//! What one recording takes of a machine. Pure.
//!
//! `plugnmeet-recorder size` measures it on the machine that it runs on; [`MEASURED`] is what it has measured on one, by
//! which `check` judges the limits of others.

use serde::Serialize;

const MIB: u64 = 1 << 20;

/// What a recording takes while it runs, as an average of those that ran at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct RecordingNeeds {
    /// Processors: 0.5 is half of one, all the time.
    pub cores: f64,
    /// Bytes of memory: of Chrome with its processes, Xvfb, PulseAudio, ffmpeg, and the recorder's own share.
    pub memory: u64,
    /// Bytes of `/dev/shm`, through which Chrome hands its pictures.
    pub shared_memory: u64,
    /// Processes and threads.
    pub tasks: u64,
    /// Open files of the recorder itself: pipes and sockets.
    pub open_files: u64,
    /// Bytes that it writes in a second.
    pub bytes_per_second: u64,
}

/// Placeholder until measured.
pub const MEASURED: RecordingNeeds = RecordingNeeds {
    cores: 0.4,
    memory: 700 * MIB,
    shared_memory: 128 * MIB,
    tasks: 250,
    open_files: 64,
    bytes_per_second: 1_500_000,
};
