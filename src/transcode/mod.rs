//! One transcoding job: what is to be done (pure), the run of ffmpeg, the check of its result, the worker around it.

pub mod ffmpeg;
pub mod job;
pub mod journal;
pub mod locate;
pub mod media;
pub mod plan;
pub mod recipe;
pub mod verify;
pub mod worker;
