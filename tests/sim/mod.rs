//! A fleet in one process: many nodes with the real requests, admission and heartbeat on a rig that stands in for
//! Chrome, one real nats-server, and a server that selects a node for each START by its formula (PROTOCOL 2).
//!
//! `node` is one node, `server` selects and asks, `run` draws the load from a seed, `report` counts what came of it,
//! `cost` reads what it took.
//!
//! Whoever includes this includes `measure`, `standin` and `dice` beside it.
#![allow(dead_code, reason = "the suite and the example each use a part")]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "thousands of recordings and percents are far from any limit"
)]
#![allow(clippy::missing_panics_doc, reason = "a lock is poisoned only by a panic of another task")]

mod cost;
pub mod node;
pub mod report;
mod run;
mod server;

pub use node::WhenFull;
pub use run::{Options, run};
#[allow(unused_imports, reason = "the suite and the example each use a part")]
pub use server::{Choice, Outcome};
