//! Picture and sound of one meeting → one timestamped stream into ffmpeg.
//!
//! In the order the media walks: [`browser`] paints on a [`display`] and plays into an [`audio_server`]; [`screen`] and
//! [`sound`] take both from there, stamped by one [`clock`], through the one bounded queue of [`stream`] into the
//! [`encoder`]. [`rig`] opens and closes them all, in order. [`watch`] sees what a recording is like meanwhile. [`leftovers`] removes what
//! a killed daemon's rigs have left, by what [`owner`] wrote.

pub mod alarm;
pub mod attendance;
pub mod audio_server;
pub mod browser;
pub mod call_sync;
pub mod certificate;
pub mod clock;
pub mod damage;
pub mod display;
pub mod encoder;
pub mod encoder_options;
pub mod error_page;
pub mod family;
pub mod leftovers;
pub mod losses;
pub mod matroska;
pub mod owner;
pub mod pace;
pub mod page;
pub mod picture;
pub mod pool;
pub mod pulse;
pub mod relay;
pub mod rig;
pub mod rtmp;
pub mod rtmp_command;
pub mod sandbox;
pub mod screen;
pub mod screenshot;
pub mod silence;
pub mod sound;
pub mod stream;
pub mod trust;
pub mod watch;
pub mod window;

/// A part of the rig failed; the text is for the operator and, as the cause, for the user.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{part}: {why}")]
pub struct PartError {
    /// `Xvfb`, `PulseAudio`, `Chrome`, `ffmpeg`, `picture`, `sound`.
    pub part: &'static str,
    pub why: String,
}

impl PartError {
    pub fn new(part: &'static str, why: impl std::fmt::Display) -> Self {
        Self { part, why: why.to_string() }
    }
}
