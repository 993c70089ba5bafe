//! The RTMP relay between ffmpeg and the far end of a broadcast.
//!
//! In: RTMP of the recorder's ffmpeg with placeholder names ([`encoder_connection`]). Out: the same stream to the far end
//! with the real names, over TLS where the URL asks for it ([`far_end`]), and to it again where it was lost ([`relay`]).
//! [`chunk_stream`], [`amf`], [`command`], [`dialogue`], [`media_queue`], [`bit_rate`] and [`adobe_auth`] are pure. The stream
//! key is never in a command line or a log line.

pub mod adaptation;
pub mod adobe_auth;
pub mod amf;
pub mod bit_rate;
pub mod chunk_stream;
pub mod command;
pub mod dialogue;
pub mod encoder_connection;
pub mod encoder_turn;
pub mod encoders;
pub mod far_end;
pub mod media;
pub mod media_queue;
pub mod relay;
