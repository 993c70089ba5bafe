//! TLS for `tls://` and `https://`: rustls with ring as the only provider of the process, and the trusted roots.
//!
//! In: `plugNmeet_info.ca_file`. Out: client configurations for NATS and HTTP that trust the host's own root
//! certificates (Debian: package `ca-certificates`; replaced by `SSL_CERT_FILE` and `SSL_CERT_DIR`) and those of the
//! file. Chrome has its own roots; `capture/browser/trusted_roots.rs` adds to them.

pub mod ca_file;
pub mod roots;
pub mod validity;

/// Installs ring as the provider of the process; must be called before a TLS client is built, and may be repeated.
pub fn provide_crypto() {
    // An error only means that a provider is already installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
