//! Every integration test, in one binary.

mod delivery;
mod fleet;
mod logs;
mod nats_server;
mod tls;
