//! Recordings in an archive while they run, and what becomes of those whose node is gone.

mod lines;
pub mod pieces;
mod takeover;
