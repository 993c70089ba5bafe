//! The rows of the lists, made of records at a given moment. Pure.
//!
//! A row has fields for programs (`--json`; times in Unix milliseconds) and cells for people. No field holds a secret,
//! such as the access token.

mod hls;
mod job;
mod message;
mod node;
mod recording;
mod status;
mod upload;

pub use hls::HlsRow;
pub use job::JobRow;
pub use message::MessageRow;
pub use node::NodeRow;
pub use recording::RecordingRow;
pub use status::{Moment, RowStatus};
pub use upload::UploadRow;
