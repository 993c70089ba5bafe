//! Delivery: notices go to the plugNmeet server, jobs to the work queue.
//!
//! In: notices and jobs ([`dispatcher`]). Out: each of them at its receiver, in the order of its recording; until then
//! it stays in the [`outbox`] and is tried again until it is accepted or an operator drops it. Each recording has two
//! queues, one for its notices and one for its job (`queue`). `answer`, which is pure, decides what an HTTP answer
//! means.

pub mod answer;
pub mod dispatcher;
pub mod message;
pub mod notify_client;
pub mod outbox;
pub mod probe;
mod queue;
pub mod queues;
pub mod retry_request;
