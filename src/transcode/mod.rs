//! One transcoding job: what is to be done (pure), the run of ffmpeg, the check of its result, the worker around it.

pub mod claim;
pub mod decode;
pub mod ffmpeg;
mod filter_delay;
pub mod intake;
pub mod job;
pub mod join;
pub mod join_plan;
pub mod journal;
pub mod locate;
mod make;
pub mod media;
pub mod merge;
pub mod plan;
pub mod progress;
pub mod recipe;
pub mod settings;
pub mod summary;
pub mod verify;
pub mod worker;
