//! Every integration test, in one binary.

#[path = "../standin/mod.rs"]
mod standin;

#[path = "../measure/mod.rs"]
mod measure;

#[path = "standin.rs"]
mod standin_itself;
mod config;
mod scripts;
mod transcode;
