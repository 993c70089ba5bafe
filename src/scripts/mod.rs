//! The operator's own programs, run at fixed points of a recording's way.

pub mod post_processing;
