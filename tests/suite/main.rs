//! Every integration test, in one binary.

#[path = "../standin/mod.rs"]
mod standin;

#[path = "../measure/mod.rs"]
mod measure;

mod config;
mod config;
mod delivery;
mod fleet;
mod logs;
mod nats_server;
mod scripts;
#[path = "standin.rs"]
mod standin_itself;
mod tls;
mod transcode;
