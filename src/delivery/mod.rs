//! What must reach others: notices to the server, jobs to the work queue.

pub mod notifier;
