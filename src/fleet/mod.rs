//! This machine among the others: what it takes on, how busy it is, and telling both.

pub mod admission;
pub mod heartbeat;
pub mod load;
pub mod permits;
