//! The cryptography behind `tls://` and `https://`: rustls with ring, one provider for the whole process.
//!
//! Root certificates are the host's own (Debian: package `ca-certificates`; `SSL_CERT_FILE` and `SSL_CERT_DIR` are
//! heeded), for NATS and HTTP alike.

/// Makes ring the process's provider; to be called before a TLS client is built, any number of times.
pub fn provide_crypto() {
    // `Err` only says that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
