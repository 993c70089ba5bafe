//! This node among the others: what it takes on, how busy it is, and announcing both.
//!
//! [`admission`] is the policy, pure; [`slots`] shares it. [`heartbeat`] announces to the bucket what [`load`] measures.

pub mod admission;
pub mod heartbeat;
pub mod load;
pub mod slots;
