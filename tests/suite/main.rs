//! Every integration test, in one binary.

#[path = "../standin/mod.rs"]
mod standin;

#[path = "../measure/mod.rs"]
mod measure;

mod config;
#[path = "standin.rs"]
mod standin_itself;
mod delivery;
mod fleet;
mod logs;
mod nats_server;
mod tls;
mod config;
mod scripts;
mod transcode;
