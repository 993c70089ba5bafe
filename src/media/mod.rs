//! Media files: what they hold, and ffmpeg's work on them. What live recordings and transcoding jobs both use.
//!
//! In: paths and ffmpeg's options. Out: what a file holds ([`ffprobe`]), a finished file or the cause in ffmpeg's own words
//! ([`ffmpeg`], [`concat`]), whether it is what it should be ([`verification`], [`decode_check`]). Nothing here knows of
//! recordings, jobs or the server, and no content of a file makes ffmpeg open another.

pub mod concat;
pub mod concat_plan;
pub mod decode_check;
pub mod error_text;
pub mod ffmpeg;
pub mod ffprobe;
pub mod progress;
mod stall_watch;
pub mod unfinished_file;
pub mod verification;
