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

/// Of slides with four webcams at 1920×1080, of five that ran at once: measured by `size` in November 2026 on a virtual
/// machine with 2 processors of an AMD EPYC, Debian 12, ffmpeg 5.1.9, Chromium 156, which uses no `/dev/shm`.
pub const MEASURED: RecordingNeeds = RecordingNeeds {
    cores: 0.29,
    memory: 361 * MIB,
    shared_memory: 0,
    tasks: 119,
    open_files: 26,
    bytes_per_second: 980_000,
};
/// Pixels of the picture of [`MEASURED`].
pub const MEASURED_PIXELS: u64 = 1920 * 1080;
/// Bytes of `/dev/shm` of a recording whose Chrome uses it, as those before 2026 do: an estimate.
pub const SHARED_MEMORY_OF_OLDER_CHROMES: u64 = 128 * MIB;

/// What is to be there for so many recordings of which one takes `each`: a quarter more, as real meetings differ from the
/// measured scene. `max_limit` is four fifths of what holds for the same reason.
#[must_use]
pub fn with_margin(each: u64, recordings: u32) -> u64 {
    let all = each.saturating_mul(u64::from(recordings));
    all.saturating_add(all / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_need_has_a_margin() {
        assert_eq!([with_margin(100, 1), with_margin(100, 4), with_margin(100, 0)], [125, 500, 0]);
        assert_eq!(with_margin(u64::MAX, 2), u64::MAX);
    }
}
