//! The cryptography behind `tls://` and `https://`: rustls with ring, one provider for the whole process, and whom it trusts.
//!
//! Trusted are the host's own root certificates (Debian: package `ca-certificates`; `SSL_CERT_FILE` and `SSL_CERT_DIR` stand
//! in for them) and those of `plugNmeet_info.ca_file`, for NATS and HTTP alike. Chrome has roots of its own; it is given
//! what it lacks (`capture/trust.rs`).

pub mod ca_file;
pub mod roots;
pub mod validity;

/// Makes ring the process's provider; to be called before a TLS client is built, any number of times.
pub fn provide_crypto() {
    // `Err` only says that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
