//! Transcoding jobs: from the work queue to the MP4 in its place.
//!
//! [`worker`] takes jobs as the [`fetch_gate`] lets it and settles each at the queue by the [`job`]'s outcome. A job is
//! looked up on disk ([`input_files`]), planned ([`plan`], pure), produced (`produce`), verified and told. [`journal`] remembers
//! each job across restarts; [`claim`] keeps two nodes from telling of the same one. Nothing outside `main_path` is opened, and
//! a raw file goes only after its MP4 was verified in its place.

pub mod claim;
mod failure;
pub mod fetch_gate;
pub mod ffmpeg_arguments;
mod filter_delay;
pub mod input_files;
pub mod job;
pub mod journal;
pub mod merge;
pub mod plan;
mod produce;
pub mod settings;
pub mod summary;
pub mod worker;
