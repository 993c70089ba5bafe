//! plugnmeet-recorder: records plugNmeet meetings and turns the recordings into MP4s.
//!
//! ARCHITECTURE.md describes these modules; [`node::boot`] starts them.

pub mod admin;
pub mod archive;
pub mod capture;
pub mod check;
pub mod cli;
pub mod codes;
pub mod config;
pub mod delivery;
pub mod fleet;
pub mod hls;
pub mod http;
pub mod media;
pub mod nats;
pub mod node;
pub mod page_recording;
pub mod process;
pub mod protocol;
pub mod recording;
pub mod retry;
pub mod scripts;
pub mod sizing;
pub mod storage;
pub mod store;
pub mod telemetry;
pub mod tls;
pub mod transcode;
pub mod unix_time;
