//! The encoder: one bounded queue of frames and samples, and the ffmpeg that they are written into.
//!
//! In: frames and samples with their times ([`stream_queue`], [`stream`]). Out: a file, or a stream to the relay
//! ([`ffmpeg`]), at another bit rate where the far end of a broadcast takes less ([`replacement`]). [`arguments`] and
//! [`matroska`] are pure. When ffmpeg cannot keep up, frames are dropped and counted; audio never is.

pub mod arguments;
pub mod counters;
pub mod ffmpeg;
pub mod matroska;
pub mod next_file;
pub mod replacement;
pub mod stream;
pub mod stream_queue;
