//! What must reach others: notices to the server, jobs to the work queue.

pub mod jobs;
pub mod notifier;
mod post;
