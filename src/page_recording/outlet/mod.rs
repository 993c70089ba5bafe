//! `--hls` and `--rtmp`: what else becomes of a recording while it runs.
//!
//! The capture writes its raw file as without them. Each outlet has an ffmpeg of its own that is fed with that file as it
//! grows ([`raw_feed`]) and copies the picture: into segments and a playlist ([`hls`]), or through the relay of broadcasts
//! to a far end ([`rtmp`]). So a disk that is full or hangs there, and a far end that is down or takes nothing, cost the
//! recording nothing: the outlet is begun anew until it works ([`outlets`]).

pub mod hls;
pub mod outlets;
pub mod raw_feed;
pub mod rtmp;
