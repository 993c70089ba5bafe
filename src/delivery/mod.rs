//! What must reach others: notices to the server, jobs to the work queue.

pub mod courier;
pub mod outbox;
pub(crate) mod post;
