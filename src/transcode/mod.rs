//! Transcoding jobs: from the work queue to the MP4 in its place.
//!
//! [`worker`] takes jobs when the [`fetch_gate`] admits them, and settles each in the queue by the [`job`]'s outcome.
//! For a job its files are located and measured ([`input_files`]), its work is planned ([`plan`], pure), the MP4 is
//! produced and verified (`produce`), and the server is notified. [`journal`] keeps each job across restarts; [`claim`]
//! keeps two nodes from reporting the same result. No file outside `main_path` is opened but those that a hook names, or
//! that were fetched from this node's own stores (`fetched_objects`), and a raw file is removed only after its MP4 was
//! verified in its final place.

mod acknowledgement;
mod archive_cleanup;
pub mod claim;
pub mod copy_ahead;
mod drain_watch;
mod early_result;
mod fail_store;
mod failure;
pub mod fetch_gate;
mod fetched_objects;
mod hand_over;
pub mod input_files;
pub mod job;
pub mod job_files;
mod job_hooks;
mod job_report;
pub mod journal;
mod last_resort;
pub mod merge;
pub mod merge_inputs;
pub mod plan;
mod produce;
pub mod raw_claim;
pub mod raw_object;
mod result_check;
mod result_writer;
mod running_jobs;
pub mod settings;
mod settling;
mod splice;
pub mod splice_plan;
pub mod summary;
pub mod worker;
