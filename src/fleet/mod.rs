//! This node as a member of the fleet: what it accepts, how busy it is, and how it announces both.
//!
//! [`admission`] is the policy, pure; [`slots`] shares it between tasks. [`availability`] holds what stands in the way of
//! new work. [`holder`] decides whose the recorder id is, pure; [`id_claim`] takes it. [`heartbeat`] announces all this in the bucket, and what [`load`] measures.

pub mod admission;
pub mod availability;
pub mod heartbeat;
pub mod holder;
pub mod id_claim;
pub mod load;
pub mod slots;
