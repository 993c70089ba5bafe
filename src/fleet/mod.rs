//! This node as a member of the fleet: what it accepts, how busy it is, and how it announces both.
//!
//! [`admission`] is the policy, pure; [`slots`] shares it between tasks. [`heartbeat`] announces in the bucket what
//! [`load`] measures.

pub mod admission;
pub mod heartbeat;
pub mod load;
pub mod slots;
