//! Whom Chrome trusts: Chrome has roots of its own and heeds neither `/etc/ssl/certs` nor `SSL_CERT_FILE`. What the host's
//! operator has added to those, and `plugNmeet_info.ca_file`, is put into an NSS database at the start of the program,
//! of which each Chrome gets a copy where it looks for its user's: `$HOME/.pki/nssdb`.

use crate::process::programs::find_program;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::CertificateDer;

use crate::config::ServerConfig;
use crate::process::child;
use crate::storage::files;
use crate::tls::ca_file::{self, CaFileError};
use crate::tls::roots;

/// What writes NSS databases, and its Debian package.
pub const PROGRAM: (&str, &str) = ("certutil", "libnss3-tools");

/// In `state_dir`; made anew at each start.
const DIR: &str = "chrome-trust";
const DATABASE: &str = "db";
/// Where Chrome looks, below its `HOME`.
const IN_HOME: &str = ".pki/nssdb";
/// What certutil may take: 50 ms a certificate on a slow disk, of which there may be a whole bundle.
const LIMIT: Duration = Duration::from_secs(60);

/// Why Chrome cannot be told whom to trust.
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

/// What the pages of this server need in Chrome besides its own roots; none for one without https.
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

/// Writes the database for all Chromes of this run; none, and none of an earlier run, where there is nothing to add or no
/// certutil to add it with.
///
/// # Errors
/// Where `ca_file` cannot be read, or the database not be written.
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
        // Half a database is none.
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

async fn write(dir: &Path, certificates: &[CertificateDer<'_>]) -> Result<(), TrustedRootsError> {
    let failed = |source| TrustedRootsError::Write { dir: dir.to_owned(), source };
    let database = dir.join(DATABASE);
    files::create_private_dir(&database).map_err(failed)?;
    let mut batch = String::new();
    for (n, certificate) in certificates.iter().enumerate() {
        std::fs::write(dir.join(format!("{n}.der")), certificate).map_err(failed)?;
        // C: it vouches for servers. P: it may be a server's own.
        // Nothing can fail that writes into a text.
        let _ = writeln!(batch, "-A -n {n} -t CP,, -i {n}.der");
    }
    std::fs::write(dir.join("batch"), batch).map_err(failed)?;
    certutil(dir, &["-N", "--empty-password"]).await?;
    certutil(dir, &["-B", "-i", "batch"]).await
}

/// Runs certutil within `dir`, for its lists of files take no path with a blank in it.
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
    Err(TrustedRootsError::Certutil { exit: exit.to_string(), said: child.tail().words(2) })
}

/// The database that [`prepare`] has written, if there was anything to add.
#[must_use]
pub fn database(state_dir: &Path) -> Option<PathBuf> {
    Some(state_dir.join(DIR).join(DATABASE)).filter(|database| database.is_dir())
}

/// Puts a copy of `database` where a Chrome with this `HOME` looks for it.
///
/// # Errors
/// Where it cannot be copied.
pub fn give(database: &Path, home: &Path) -> std::io::Result<()> {
    let to = home.join(IN_HOME);
    files::create_private_dir(&to)?;
    for entry in std::fs::read_dir(database)? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
