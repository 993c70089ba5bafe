//! What others are told: notices to the plugNmeet server, jobs to the work queue.
//!
//! In: notices and jobs ([`dispatcher`]). Out: each at the other side, in the order of its recording, or kept in the [`outbox`]
//! and tried again until it is taken or an operator drops it. Each recording has two queues, of its notices and of its job
//! (`queue`); what an HTTP answer means is decided by `answer`, which is pure.

pub mod answer;
pub mod dispatcher;
pub mod message;
pub mod notify_client;
pub mod outbox;
mod queue;
pub mod queues;
pub mod retry_request;
