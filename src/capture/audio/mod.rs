//! The audio: a private PulseAudio, and the monitor of its sink as samples on the clock of the video.
//!
//! In: what Chrome plays into [`pulseaudio`]. Out: PCM without gaps into the encoder's stream ([`recorder`]).
//! [`av_sync`] and [`silence_detector`] are pure. The recorder never drops a sample.

pub mod av_sync;
pub mod chunks;
pub mod pulseaudio;
pub mod recorder;
pub mod silence_detector;
pub mod silence_warning;
