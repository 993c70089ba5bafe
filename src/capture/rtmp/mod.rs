//! The RTMP relay between ffmpeg and the far end of a broadcast.
//!
//! In: RTMP of the recorder's ffmpeg with placeholder names. Out: the same stream to the far end with the real names,
//! over TLS where the URL asks for it ([`relay`]). [`chunk_stream`] and [`command`] are pure. The stream key is never
//! in a command line or a file.

pub mod chunk_stream;
pub mod command;
pub mod relay;
