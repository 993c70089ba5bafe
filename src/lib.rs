//! plugnmeet-recorder: records plugNmeet meetings and turns the recordings into MP4s.

pub mod cli;
pub mod config;
pub mod delivery;
pub mod nats;
pub mod process;
pub mod protocol;
pub mod telemetry;
