//! What must reach others: notices to the server, jobs to the work queue.

mod answer;
pub mod courier;
mod lane;
mod letter;
pub mod outbox;
pub(crate) mod post;
pub mod request;
