//! The trusted root certificates, and those of them that the host's operator has added.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use crate::tls::ca_file::{self, CaFileError};

/// Where distributions install Mozilla's roots, and nothing else: Debian and derivatives, Alpine; Red Hat.
const DISTRIBUTION: [&str; 2] = ["/usr/share/ca-certificates", "/usr/share/pki/ca-trust-source"];

/// TLS configuration for a `tls://` client: the host's roots and those of `ca_file`.
///
/// # Errors
/// Where `ca_file` cannot be read.
pub fn client_config(ca_file: Option<&Path>) -> Result<ClientConfig, CaFileError> {
    super::provide_crypto();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots.add_parsable_certificates(ca_file.map(ca_file::read).transpose()?.unwrap_or_default());
    Ok(ClientConfig::builder().with_root_certificates(Arc::new(roots)).with_no_client_auth())
}

/// The certificates of `ca_file` for an `https://` client, which trusts the host's roots already.
///
/// # Errors
/// Where `ca_file` cannot be read.
pub fn for_http(ca_file: Option<&Path>) -> Result<Vec<reqwest::Certificate>, CaFileError> {
    let certificates = ca_file.map(ca_file::read).transpose()?.unwrap_or_default();
    // A certificate that reqwest rejects is left out, and the connection is refused.
    Ok(certificates.iter().filter_map(|certificate| reqwest::Certificate::from_der(certificate).ok()).collect())
}

/// The root certificates of the host.
#[derive(Debug, Default)]
pub struct HostRoots {
    /// Roots that are not the distribution's: added to the system's store, or by `SSL_CERT_FILE` and `SSL_CERT_DIR`.
    pub added: Vec<CertificateDer<'static>>,
    /// Errors of reading them: mostly a path in `SSL_CERT_FILE` or `SSL_CERT_DIR`.
    pub errors: Vec<String>,
}

/// Reads the host's certificates: some hundred kilobytes of files.
#[must_use]
pub fn of_host() -> HostRoots {
    let found = rustls_native_certs::load_native_certs();
    let mut known = HashSet::new();
    for dir in DISTRIBUTION {
        collect(Path::new(dir), &mut known);
    }
    HostRoots {
        added: found.certs.into_iter().filter(|certificate| !known.contains(certificate.as_ref())).collect(),
        errors: found.errors.iter().map(ToString::to_string).collect(),
    }
}

/// All certificates in the files of `dir` and below; files that cannot be read are skipped.
fn collect(dir: &Path, into: &mut HashSet<Vec<u8>>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&path, into);
        } else if let Ok(certificates) = CertificateDer::pem_file_iter(&path) {
            into.extend(certificates.flatten().map(|certificate| certificate.to_vec()));
        }
    }
}
