//! Picture and sound of one meeting → one timestamped stream into ffmpeg.

pub mod clock;
pub mod damage;
pub mod matroska;
pub mod picture;
