//! The encoder: one bounded queue of frames and samples, and the ffmpeg that they are written into.
//!
//! In: frames and samples with their times ([`stream`]). Out: a file, or a stream to the relay ([`ffmpeg`]).
//! [`arguments`] and [`matroska`] are pure. When ffmpeg cannot keep up, frames are dropped and counted; audio never is.

pub mod arguments;
pub mod ffmpeg;
pub mod matroska;
pub mod stream;
