//! The sound: a private PulseAudio, and its sink's monitor as samples on the picture's clock.
//!
//! In: what Chrome plays into [`pulseaudio`]. Out: PCM without gaps into the encoder's stream ([`recorder`]). [`av_sync`] and
//! [`silence_detector`] are pure. No sample is ever dropped.

pub mod av_sync;
pub mod pulseaudio;
pub mod recorder;
pub mod silence_detector;
pub mod silence_warning;
