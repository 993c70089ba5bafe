//! This node as a member of the fleet: what it accepts, how busy it is, and how it announces both.
//!
//! [`admission`] is the policy, pure; [`slots`] shares it between tasks. [`cost`] decides by what recordings cost, which
//! [`cost_watch`] measures; [`recording_needs`] are what `size` has measured on one machine. [`availability`] holds what stands in the way of new work, [`overload_watch`] notes by
//! [`overload`] that processors or memory do, and [`choice_log`] tells of it. [`holder`] decides whose the recorder id
//! is, pure; [`id_claim`] takes it. [`heartbeat`] announces all this in the bucket, and what [`load`] measures.

pub mod admission;
pub mod availability;
pub mod choice_log;
pub mod cost;
pub mod cost_watch;
pub mod heartbeat;
pub mod holder;
pub mod id_claim;
pub mod load;
pub mod overload;
pub mod overload_watch;
pub mod recording_needs;
pub mod slots;
