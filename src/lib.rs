//! plugnmeet-recorder: records plugNmeet meetings and turns the recordings into MP4s.

pub mod backoff;
pub mod capture;
pub mod cli;
pub mod config;
pub mod delivery;
pub mod fleet;
pub mod nats;
pub mod process;
pub mod protocol;
pub mod scripts;
pub mod storage;
pub mod telemetry;
pub mod tls;
pub mod transcode;
