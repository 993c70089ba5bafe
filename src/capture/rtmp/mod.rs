//! Between ffmpeg and the far end of a broadcast.
//!
//! In: RTMP of our own ffmpeg under made-up names. Out: the same to the far end under the real ones, by TLS where it is asked
//! for ([`relay`]). [`chunk_stream`] and [`command`] are pure. The stream key is never in a command line or a file.

pub mod chunk_stream;
pub mod command;
pub mod relay;
