//! Why there is no connection.

use crate::tls::ca_file::CaFileError;

/// Why there is no connection. An unreachable server is no such reason: the client tries on.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("cancelled before NATS was reached")]
    Cancelled,
    /// Identified by its position, since it may hold a password.
    #[error("nats_info.nats_urls: entry {at} is no NATS URL: {why}")]
    Url { at: usize, why: String },
    #[error(transparent)]
    CaFile(#[from] CaFileError),
    #[error("no connection to NATS at {servers}: {why}; {advice}")]
    Unreachable { servers: String, why: String, advice: &'static str },
}
