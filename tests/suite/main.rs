//! Every integration test, in one binary.

#[path = "../measure/mod.rs"]
mod measure;
#[path = "../standin/mod.rs"]
mod standin;

mod breaks;
mod broadcast;
mod capture;
mod config;
mod delivery;
mod driver;
mod endurance;
mod fleet;
mod logs;
mod matroska;
mod nats_server;
mod node;
mod recorder;
mod recording;
mod rig;
mod scripts;
#[path = "standin.rs"]
mod standin_itself;
mod tls;
mod transcode;
mod wire;
