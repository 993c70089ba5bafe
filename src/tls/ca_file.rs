//! `plugNmeet_info.ca_file`: certificates of a private CA, trusted besides those of the host.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::tls::validity::valid_until;

/// How the errors name the option.
pub const KEY: &str = "plugNmeet_info.ca_file";

/// What is wrong with the file, with advice.
#[derive(Debug, thiserror::Error)]
pub enum CaFileError {
    #[error(
        "{KEY}: cannot read {path}: {source}; name the file with the CA's certificate, readable for the user this runs as"
    )]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{KEY}: {path} holds no certificate; it must be PEM, with a line -----BEGIN CERTIFICATE-----")]
    NoCertificate { path: PathBuf },
    #[error("{KEY}: certificate {number} in {path} cannot be read ({why}); copy it anew, as PEM")]
    Malformed { path: PathBuf, number: usize, why: String },
    #[error(
        "{KEY}: all certificates in {path} have expired, the last on {on}; put the renewed certificate of the CA there"
    )]
    Expired { path: PathBuf, on: String },
}

/// The certificates of the file, expired ones included.
///
/// # Errors
/// Where the file cannot be read, or is not PEM with at least one certificate.
pub fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, CaFileError> {
    let path_buf = || path.to_owned();
    let text = std::fs::read(path).map_err(|source| CaFileError::Unreadable { path: path_buf(), source })?;
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let number = certificates.len() + 1;
        let malformed = |why| CaFileError::Malformed { path: path_buf(), number, why };
        let certificate = certificate.map_err(|error| malformed(error.to_string()))?;
        if valid_until(&certificate).is_none() || webpki_refuses(&certificate) {
            return Err(malformed("it is no X.509 certificate".to_owned()));
        }
        certificates.push(certificate);
    }
    if certificates.is_empty() {
        return Err(CaFileError::NoCertificate { path: path_buf() });
    }
    Ok(certificates)
}

/// Whether rustls rejects the certificate as a root.
fn webpki_refuses(certificate: &CertificateDer<'_>) -> bool {
    rustls::RootCertStore::empty().add(certificate.clone()).is_err()
}

/// Checks the file at the start of the program. Returns the ends (RFC 3339) of the certificates that have expired at
/// `now`, if others are still valid.
///
/// # Errors
/// As [`read`], and where all certificates have expired.
pub fn check(path: &Path, now: SystemTime) -> Result<Vec<String>, CaFileError> {
    let now = humantime::format_rfc3339_seconds(now).to_string();
    let mut ends: Vec<String> = read(path)?.iter().filter_map(|certificate| valid_until(certificate)).collect();
    ends.sort_unstable();
    match ends.last() {
        Some(last) if *last < now => Err(CaFileError::Expired { path: path.to_owned(), on: last.clone() }),
        _ => Ok(ends.into_iter().filter(|end| *end < now).collect()),
    }
}
