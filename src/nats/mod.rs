//! The connection to NATS: authentication at each connect, requests, bucket, work queue.
//!
//! The server's credentials allow the subjects of PROTOCOL 1 only, so no call here may use another: no STREAM.INFO of
//! the jobs' stream, no creating of consumers (a KV watch or `keys()` creates one), no inbox prefix of our own.
//! `tests/suite/fleet.rs` runs every call against a NATS server with exactly these rights.
//!
//! Nothing is published while the client is disconnected: it would send it, outdated, after the reconnect.

mod address;
mod bucket;
mod connect;
mod connect_error;
mod connection;
mod jobs;
pub mod probe;
mod referrals;
mod requests;
mod survey;

pub use bucket::{Bucket, BucketEntry, UpdateError};
pub use connect_error::ConnectError;
pub use connection::{Nats, NatsError};
pub use jobs::{JobMessage, Jobs, WorkQueueState};
pub use referrals::Conversation;
pub use requests::{Incoming, RequestMessage, Requests};
