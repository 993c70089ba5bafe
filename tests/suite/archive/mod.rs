//! Recordings in an archive while they run, and what becomes of those whose node is gone.

mod pieces;
mod takeover;
