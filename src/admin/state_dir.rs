//! What is in the state directory, read and left as it is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::admin::AdminError;
use crate::config::{Config, Mode};
use crate::delivery::message::RecordingMessages;
use crate::delivery::outbox;
use crate::protocol::job::Job;
use crate::protocol::request::{Kind, RecordingInfo};
use crate::recording::journal::{self, RecordingRecord};
use crate::storage::journal::Record as _;
use crate::storage::lock;
use crate::transcode::journal as jobs;
use crate::transcode::worker::UNDECODABLE;
use crate::unix_time::unix_ms_of;

/// A node's state directory, and whose it is.
#[derive(Clone, Debug)]
pub struct StateDir {
    pub recorder: String,
    pub mode: Mode,
    /// Absolute, as are the others.
    pub dir: PathBuf,
    pub temporary_dir: PathBuf,
    /// The daemon that runs on it, in words.
    pub daemon: Option<String>,
}

/// A file of the state directory: whose it is, and what is in it or why that cannot be read.
#[derive(Clone, Debug)]
pub struct Readable<T> {
    pub id: String,
    pub read: Result<T, String>,
}

/// A recording's record with what its parts hold on the disk, in bytes; `None`: there is no such file.
#[derive(Clone, Debug)]
pub struct RecordingState {
    pub info: RecordingInfo,
    pub record: RecordingRecord,
    pub sizes: Vec<Option<u64>>,
}

/// What came from the queue and is no job.
#[derive(Clone, Debug)]
pub struct Undecodable {
    /// The name that this program gave it.
    pub id: String,
    pub why: String,
    /// When it came, Unix milliseconds.
    pub at: u64,
    pub path: PathBuf,
}

impl StateDir {
    /// # Errors
    /// Where the directory is not there or may not be looked into.
    pub fn open(config: &Config) -> Result<Self, AdminError> {
        let recorder = &config.recorder;
        let dir = absolute(&recorder.state_dir);
        match fs::read_dir(&dir) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(AdminError::NoState(dir)),
            Err(source) => return Err(AdminError::Unreadable { path: dir, source }),
        }
        Ok(Self {
            recorder: recorder.id.to_string(),
            mode: recorder.mode,
            daemon: lock::holder(&dir),
            dir,
            temporary_dir: absolute(&recorder.temporary_dir),
        })
    }

    #[must_use]
    pub fn runs(&self) -> bool {
        self.daemon.is_some()
    }

    /// # Errors
    /// Where the directory cannot be read.
    pub fn recordings(&self, kind: Kind) -> Result<Vec<Readable<RecordingState>>, AdminError> {
        each(&self.dir.join(journal::dir_of(kind)), |path| {
            let record = RecordingRecord::read(path)?;
            let size = |part: &journal::RecordingPart| {
                fs::symlink_metadata(self.temporary_dir.join(&part.file)).ok().map(|file| file.len())
            };
            Ok(RecordingState { info: record.info()?, sizes: record.parts.iter().map(size).collect(), record })
        })
    }

    /// # Errors
    /// Where the directory cannot be read.
    pub fn jobs(&self) -> Result<Vec<Readable<jobs::JobRecord>>, AdminError> {
        each(&self.dir.join(jobs::DIR), jobs::JobRecord::read)
    }

    /// What came from the queue and is no job, oldest first. A directory that is not there has none.
    ///
    /// # Errors
    /// Where the directory cannot be read.
    pub fn undecodable(&self) -> Result<Vec<Undecodable>, AdminError> {
        let dir = self.temporary_dir.join(UNDECODABLE);
        let failed = |source| AdminError::Unreadable { path: dir.clone(), source };
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            let Some(id) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".bin")) else { continue };
            // One that goes in this moment is none.
            let Ok(bytes) = fs::read(&path) else { continue };
            let why =
                Job::decode(&bytes).err().map_or_else(|| "it can be decoded now".to_owned(), |why| why.to_string());
            let at = fs::metadata(&path).and_then(|file| file.modified()).map_or(0, unix_ms_of);
            found.push(Undecodable { id: id.to_owned(), why, at, path: path.clone() });
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    /// Where it is kept, if it is there.
    pub fn undecodable_path(&self, id: &str) -> Option<PathBuf> {
        Some(self.temporary_dir.join(UNDECODABLE).join(format!("{id}.bin"))).filter(|path| path.is_file())
    }

    /// # Errors
    /// Where the directory cannot be read.
    pub fn outbox(&self) -> Result<Vec<Readable<RecordingMessages>>, AdminError> {
        each(&self.dir.join(outbox::DIR), RecordingMessages::read)
    }
}

/// Every record of a directory, by name; also those that the daemon has put aside. A directory that is not there has none.
fn each<T>(dir: &Path, read: impl Fn(&Path) -> Result<T, String>) -> Result<Vec<Readable<T>>, AdminError> {
    let failed = |source| AdminError::Unreadable { path: dir.to_owned(), source };
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // A hidden one is being written.
        if name.starts_with('.') {
            continue;
        }
        if let Some(id) = name.strip_suffix(".json") {
            match read(&path) {
                // The daemon runs, and was done with it in this very moment.
                Err(_) if !path.exists() => {}
                read => found.push(Readable { id: id.to_owned(), read }),
            }
        } else if let Some(id) = name.strip_suffix(".json.unreadable") {
            let why = read(&path).err().unwrap_or_else(|| "it can be read now".to_owned());
            found.push(Readable { id: id.to_owned(), read: Err(format!("{why}; put aside as {}", path.display())) });
        }
    }
    found.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(found)
}

/// As it is told to the operator, who may be in another directory.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_read_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let names = [".b.json123", "a.json", "c.json", "d.json.unreadable", "e.txt"];
        for name in names {
            fs::write(dir.path().join(name), name).unwrap();
        }
        let found = each(dir.path(), |path| {
            let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
            if text == "a.json" { Ok(text) } else { Err("no record".to_owned()) }
        });
        let found: Vec<_> = found.unwrap().into_iter().map(|found| (found.id, found.read)).collect();
        let aside = format!("no record; put aside as {}/d.json.unreadable", dir.path().display());
        assert_eq!(
            found,
            [
                ("a".to_owned(), Ok("a.json".to_owned())),
                ("c".to_owned(), Err("no record".to_owned())),
                ("d".to_owned(), Err(aside))
            ]
        );
        let mut left: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, names);
        assert_eq!(each(&dir.path().join("gone"), |_| Ok(())).unwrap().len(), 0);
        // One that goes while it is read is none.
        let gone = each(dir.path(), |path| -> Result<(), String> {
            fs::remove_file(path).unwrap();
            Err("No such file".to_owned())
        });
        assert_eq!(gone.unwrap().into_iter().map(|found| found.id).collect::<Vec<_>>(), ["d"]);
    }
}
