//! Why a recording is not published any more while it runs.

use std::io;
use std::time::Duration;

use crate::media::ffmpeg::FfmpegError;
use crate::media::ffprobe::ProbeError;
use crate::process::child::SpawnError;

#[derive(Debug, thiserror::Error)]
pub(super) enum LiveError {
    /// ffmpeg is too slow, or what it makes is not taken by `main_path`.
    #[error("what is published is {} s behind the recording", .0.as_secs())]
    Behind(Duration),
    #[error("the raw file cannot be read: {0}")]
    Read(io::Error),
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error(transparent)]
    Start(#[from] SpawnError),
    #[error(transparent)]
    Ffmpeg(#[from] FfmpegError),
    #[error("{0}")]
    Unfit(String),
    /// The recording is not this node's any more, or has no file.
    #[error("{0}")]
    GivenUp(String),
}

impl LiveError {
    pub fn unfit(track: &str) -> impl Fn(&'static str) -> Self {
        move |why| Self::Unfit(format!("{track}: {why}"))
    }

    /// What an operator does about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Behind(_) => {
                "leave a rendition out of hls.renditions, lower recorder.max_limit, or look at the disk of main_path"
            }
            Self::Unfit(_) => {
                "leave options about keyframes, B-frames and codecs out of ffmpeg_settings.recording and post_recording"
            }
            Self::Read(_) => "look at the disk of recorder.temporary_dir",
            Self::Probe(_) | Self::Start(_) | Self::Ffmpeg(_) => "see that ffmpeg runs and plays the raw file",
            Self::GivenUp(_) => "nothing is to be done",
        }
    }
}
