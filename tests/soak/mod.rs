//! A soak: several recordings at once, begun and ended at random, while everything around them breaks at random; and at its
//! end a ledger in which each of them is delivered, or failed with a reason.
//!
//! `schedule` draws what happens from a seed, `run` and `strikes` do it to a real daemon ([`node`]) and its disks ([`disk`]), `gather` collects what became of it,
//! `ledger` judges that.
//!
//! Whoever includes this includes `measure`, `standin` and `dice` beside it.
#![allow(clippy::missing_panics_doc, reason = "a lock is poisoned only by a panic of another task")]

mod disk;
mod gather;
pub mod ledger;
mod node;
mod run;
mod schedule;
mod strikes;
mod table;

pub use run::{Options, run};
