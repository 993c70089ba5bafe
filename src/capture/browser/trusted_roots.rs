//! Certificates that Chrome trusts. Chrome has its own roots and ignores `/etc/ssl/certs` and `SSL_CERT_FILE`. At
//! start, the certificates that the operator added there, and those of `plugNmeet_info.ca_file`, are written to an NSS
//! database. Each Chrome gets a copy as its user database, `$HOME/.pki/nssdb`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::CertificateDer;

use crate::config::ServerConfig;
use crate::process::child;
use crate::process::programs::find_program;
use crate::storage::files;
use crate::tls::ca_file::{self, CaFileError};
use crate::tls::roots;

/// The program that writes NSS databases, and its Debian package.
pub const PROGRAM: (&str, &str) = ("certutil", "libnss3-tools");

/// In `state_dir`; recreated at each start.
const DIR: &str = "chrome-trust";
const DATABASE: &str = "db";
/// Chrome's user database, relative to `HOME`.
const IN_HOME: &str = ".pki/nssdb";
/// Time limit for certutil. It takes 50 ms per certificate on a slow disk, and `ca_file` may be a large bundle.
const LIMIT: Duration = Duration::from_secs(60);

/// Why the database for Chrome could not be written.
#[derive(Debug, thiserror::Error)]
pub enum TrustedRootsError {
    #[error(transparent)]
    CaFile(#[from] CaFileError),
    #[error("Chrome's certificates cannot be written below {dir}: {source}")]
    Write { dir: PathBuf, source: std::io::Error },
    #[error("certutil cannot add the certificates for Chrome ({exit}): {said}")]
    Certutil { exit: String, said: String },
    #[error(transparent)]
    Spawn(#[from] child::SpawnError),
}

/// The certificates that Chrome needs besides its own for the pages of this server; none without https.
///
/// # Errors
/// Where `ca_file` cannot be read.
pub fn certificates(server: &ServerConfig) -> Result<Vec<CertificateDer<'static>>, CaFileError> {
    if !server.page_is_https() {
        return Ok(Vec::new());
    }
    let mut certificates = server.ca_file.as_deref().map(ca_file::read).transpose()?.unwrap_or_default();
    certificates.extend(roots::of_host().added);
    certificates.sort_unstable_by(|one, other| one.as_ref().cmp(other.as_ref()));
    certificates.dedup();
    Ok(certificates)
}

/// Replaces the database for all Chromes of this run. Without certificates or without certutil there is none.
///
/// # Errors
/// Where `ca_file` cannot be read or the database cannot be written.
pub async fn prepare(state_dir: &Path, server: &ServerConfig) -> Result<(), TrustedRootsError> {
    let dir = state_dir.join(DIR);
    match std::fs::remove_dir_all(&dir) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            return Err(TrustedRootsError::Write { dir, source });
        }
        _ => {}
    }
    let certificates = certificates(server)?;
    if certificates.is_empty() || find_program(Path::new(PROGRAM.0)).is_none() {
        return Ok(());
    }
    let written = write(&dir, &certificates).await;
    if written.is_err() {
        // An incomplete database is not used.
        let _ = std::fs::remove_dir_all(&dir);
    }
    written?;
    let certificates = certificates.len();
    tracing::info!(
        certificates,
        "Chrome trusts more than its own: plugNmeet_info.ca_file and what was added to this host"
    );
    Ok(())
}

/// The database for one Chrome that trusts the certificates of `ca_file` and those that were added to this host; `None`
/// where there are none. It is in `dir`, which is created.
///
/// # Errors
/// As [`prepare`]; without certutil where there is a `ca_file`.
pub async fn of_page(dir: &Path, ca_file: Option<&Path>) -> Result<Option<PathBuf>, TrustedRootsError> {
    let mut certificates = ca_file.map(ca_file::read).transpose()?.unwrap_or_default();
    certificates.extend(roots::of_host().added);
    let is_missing = find_program(Path::new(PROGRAM.0)).is_none();
    if certificates.is_empty() || (is_missing && ca_file.is_none()) {
        return Ok(None);
    }
    write(dir, &certificates).await?;
    Ok(Some(dir.join(DATABASE)))
}

async fn write(dir: &Path, certificates: &[CertificateDer<'_>]) -> Result<(), TrustedRootsError> {
    let failed = |source| TrustedRootsError::Write { dir: dir.to_owned(), source };
    let database = dir.join(DATABASE);
    files::create_private_dir(&database).map_err(failed)?;
    let mut batch = String::new();
    for (n, certificate) in certificates.iter().enumerate() {
        std::fs::write(dir.join(format!("{n}.der")), certificate).map_err(failed)?;
        // `C`: trusted as a CA for servers. `P`: trusted as a server's own certificate. Writing to a `String` cannot
        // fail.
        let _ = writeln!(batch, "-A -n {n} -t CP,, -i {n}.der");
    }
    std::fs::write(dir.join("batch"), batch).map_err(failed)?;
    certutil(dir, &["-N", "--empty-password"]).await?;
    certutil(dir, &["-B", "-i", "batch"]).await
}

/// Runs certutil in `dir`, because its batch file accepts no path with spaces.
async fn certutil(dir: &Path, args: &[&str]) -> Result<(), TrustedRootsError> {
    let mut spec =
        child::ChildSpec::new(PROGRAM.0, PROGRAM.0).args(["-d", &format!("sql:{DATABASE}")]).args(args.iter().copied());
    spec.current_dir = Some(dir.to_owned());
    spec.log_level = tracing::Level::DEBUG;
    let mut child = child::spawn(&spec).await?;
    let exit = child.end_within(LIMIT).await;
    if exit.success() {
        return Ok(());
    }
    Err(TrustedRootsError::Certutil { exit: exit.to_string(), said: child.tail().last_lines(2) })
}

/// The database that [`prepare`] has written, if any.
#[must_use]
pub fn database(state_dir: &Path) -> Option<PathBuf> {
    Some(state_dir.join(DIR).join(DATABASE)).filter(|database| database.is_dir())
}

/// Copies `database` to the user database of a Chrome with this `HOME`.
///
/// # Errors
/// Where a file cannot be copied.
pub fn copy_to_home(database: &Path, home: &Path) -> std::io::Result<()> {
    let to = home.join(IN_HOME);
    files::create_private_dir(&to)?;
    for entry in std::fs::read_dir(database)? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
