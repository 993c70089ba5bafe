//! Media files: their content, and conversions by ffmpeg, for live recordings and transcoding jobs.
//!
//! In: paths and ffmpeg's options. Out: the content of a file ([`ffprobe`]), a finished file or the cause from ffmpeg's
//! output ([`ffmpeg`], [`mod@concat`]), whether a result is correct ([`verification`], [`decode_check`]). Nothing here
//! knows of recordings, jobs or the server, and no content of a file makes ffmpeg open another file.

pub mod cluster_times;
pub mod clusters;
pub mod concat;
pub mod concat_plan;
pub mod decode_check;
pub mod early_mp4;
pub mod encoded_span;
pub mod error_text;
pub mod ffmpeg;
pub mod ffmpeg_arguments;
pub mod ffprobe;
pub mod ffprobe_report;
pub mod filter_delay;
pub mod final_encoding;
pub mod index_space;
pub mod joined_mark;
pub mod live_copy;
pub mod packet_times;
pub mod progress;
mod stall_watch;
pub mod thumbnail_plan;
pub mod thumbnails;
pub mod unfinished_file;
pub mod verification;
