//! The node: starts and ends its parts.
//!
//! [`boot`] starts them in numbered phases and ends them in reverse; before that, [`preflight`] reports what the host
//! lacks, and then `self_test` whether it can record; [`shutdown`] makes a node drain or end. Nothing is decided here for a single recording or job.

mod availability;
pub mod boot;
mod command_leftovers;
mod hls;
mod outbox_cleanup;
mod overload;
pub mod preflight;
mod rigs;
mod self_test;
mod service_manager;
mod service_status;
pub mod shutdown;
pub mod start_watch;
pub mod state_dir;
mod supervisor;
mod uploads;
