//! The node: its parts, wired together.
//!
//! [`boot`] starts them in numbered phases and ends them in reverse; [`preflight`] says first what the host lacks;
//! [`shutdown`] is how a node is told to drain or to end. Nothing is decided here that concerns one recording or one job.

mod availability;
pub mod boot;
pub mod preflight;
pub mod shutdown;
mod supervisor;
