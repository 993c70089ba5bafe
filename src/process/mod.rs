//! Processes: children of ours, and what the kernel says of any.
//!
//! In: what to start, how, and when to end it. Out: a [`child`] that is always reaped, with its last lines; what
//! descends from one ([`tree`]); what `/proc` says ([`procfs`]). No shell is ever started here, and nothing here knows
//! what a child is for.

pub mod child;
pub mod procfs;
pub mod programs;
pub mod tree;
