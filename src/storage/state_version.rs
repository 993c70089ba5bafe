//! Which version of the program `state_dir` belongs to: an older one would put aside what it cannot read, and forget it.
//!
//! ```text
//! <state_dir>/version.json   { "format": 1, "readable_since": "0.1.0", "written_by": "0.1.0" }
//! no such file               a version before the file existed: format 1
//! a larger `format`          a newer version: nothing is read, written or made there
//! ```

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::codes;
use crate::storage::files;
use crate::storage::journal::{self, ReadError};

/// Number of the format that is written. It is raised by a version whose records an older version would misread or put
/// aside (a new `Record::VERSION`), and never by a field with a default.
pub const FORMAT: u32 = 1;
/// The first version of the program that reads [`FORMAT`].
const READABLE_SINCE: &str = "0.1.0";

const NAME: &str = "version.json";

/// The content of the file. All versions keep these fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct StateVersion {
    format: u32,
    #[serde(default)]
    readable_since: String,
    /// For who looks at it.
    #[serde(default)]
    written_by: String,
}

/// A state directory that this version cannot use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "recorder.state_dir {dir} was written by version {written_by} of plugnmeet-recorder, in format {format}; this is version {this}, \
     which reads formats up to {FORMAT}. Nothing in it was changed. Install version {readable_since} or newer; or set \
     recorder.state_dir to another directory: what the old one holds (recordings, jobs, messages) then waits until a newer \
     version runs on it",
    dir = .dir.display(), this = env!("CARGO_PKG_VERSION")
)]
pub struct NewerState {
    dir: PathBuf,
    format: u32,
    readable_since: String,
    written_by: String,
}

/// Looks whether this version may use `state_dir`, and changes nothing. A file that cannot be read, or holds no version,
/// is no reason against it: its records tell then.
///
/// # Errors
/// Where a newer version has written it.
pub fn check(state_dir: &Path) -> Result<(), NewerState> {
    match journal::read_json::<StateVersion>(&state_dir.join(NAME)) {
        Ok(StateVersion { format, readable_since, written_by }) if format > FORMAT => {
            let named = |version: String| if version.is_empty() { "unknown".to_owned() } else { version };
            let [readable_since, written_by] = [readable_since, written_by].map(named);
            Err(NewerState { dir: state_dir.to_owned(), format, readable_since, written_by })
        }
        _ => Ok(()),
    }
}

/// Writes the file, unless it says the same already. For who holds the lock of `state_dir`.
///
/// # Errors
/// Where the disk fails.
pub fn write(state_dir: &Path) -> io::Result<()> {
    let path = state_dir.join(NAME);
    let version = StateVersion {
        format: FORMAT,
        readable_since: READABLE_SINCE.to_owned(),
        written_by: env!("CARGO_PKG_VERSION").to_owned(),
    };
    match journal::read_json::<StateVersion>(&path) {
        Ok(there) if there == version => return Ok(()),
        Ok(_) => {}
        Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            tracing::warn!(
                code = %codes::STATE_VERSION_UNKNOWN, path = %path.display(), %error,
                "this file does not tell the version of recorder.state_dir, and is written anew; nothing is to be done"
            );
        }
    }
    files::write(&path, serde_json::to_string(&version)?.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_larger_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        check(dir.path()).unwrap();
        for same in ["", "null", "{}", r#"{"format":0}"#, r#"{"format":1,"written_by":"9.0.0","more":[]}"#] {
            std::fs::write(&path, same).unwrap();
            check(dir.path()).unwrap();
        }
        std::fs::write(&path, r#"{"format":2,"readable_since":"0.4.0","written_by":"0.5.1","more":[]}"#).unwrap();
        let refused = check(dir.path()).unwrap_err().to_string();
        for said in
            ["by version 0.5.1", "in format 2", "up to 1", "Install version 0.4.0 or newer", "another directory"]
        {
            assert!(refused.contains(said), "{said}: {refused}");
        }
        std::fs::write(&path, r#"{"format":2}"#).unwrap();
        assert!(check(dir.path()).is_err());
    }

    #[test]
    fn it_is_written_once_and_by_each_version_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        write(dir.path()).unwrap();
        let written = || std::fs::metadata(&path).unwrap().modified().unwrap();
        let first = written();
        write(dir.path()).unwrap();
        assert_eq!(written(), first);
        for other in ["", r#"{"format":1,"readable_since":"0.1.0","written_by":"0.0.9"}"#] {
            std::fs::write(&path, other).unwrap();
            write(dir.path()).unwrap();
            let read: StateVersion = journal::read_json(&path).unwrap();
            assert_eq!((read.format, read.written_by.as_str()), (FORMAT, env!("CARGO_PKG_VERSION")));
        }
    }
}
