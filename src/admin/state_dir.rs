//! Reads the state directory without changing it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::admin::error::AdminError;
use crate::admin::http::node_state::NodeState;
use crate::config::{Config, Mode};
use crate::delivery::message::RecordingMessages;
use crate::delivery::outbox;
use crate::hls::{self, record::HlsRecord};
use crate::protocol::job::Job;
use crate::protocol::request::{Kind, RecordingInfo};
use crate::recording::journal::{self, RecordingRecord};
use crate::storage::journal::{ReadError, Record as _};
use crate::storage::{files, lock, state_version};
use crate::store::record::{self, UploadRecord};
use crate::transcode::job_files::UNDECODABLE;
use crate::transcode::journal as jobs;
use crate::unix_time::unix_ms_of;

/// A node's state directory.
#[derive(Clone, Debug)]
pub struct StateDir {
    pub recorder: String,
    pub mode: Mode,
    /// Absolute, as the other paths.
    pub dir: PathBuf,
    pub temporary_dir: PathBuf,
    /// A description of the running daemon that uses it.
    pub daemon: Option<String>,
}

/// A record file: its id, and its content or why that cannot be read.
#[derive(Clone, Debug)]
pub struct Readable<T> {
    pub id: String,
    pub read: Result<T, String>,
}

/// A recording's record with the sizes of its parts on disk in bytes, `None` for a missing file.
#[derive(Clone, Debug)]
pub struct RecordingState {
    pub info: RecordingInfo,
    pub record: RecordingRecord,
    pub sizes: Vec<Option<u64>>,
}

/// A payload of the queue that is no job.
#[derive(Clone, Debug)]
pub struct Undecodable {
    /// The id that this program gave it.
    pub id: String,
    pub why: String,
    /// When it was received, Unix milliseconds.
    pub at: u64,
    pub path: PathBuf,
}

impl StateDir {
    /// # Errors
    /// Where the directory does not exist or cannot be read, or is a newer version's.
    pub fn open(config: &Config) -> Result<Self, AdminError> {
        let recorder = &config.recorder;
        let dir = files::absolute(&recorder.state_dir);
        match fs::read_dir(&dir) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(AdminError::NoState(dir)),
            Err(source) => return Err(AdminError::Unreadable { path: dir, source }),
        }
        state_version::check(&dir)?;
        Ok(Self {
            recorder: recorder.id.to_string(),
            mode: recorder.mode,
            daemon: lock::holder(&dir),
            dir,
            temporary_dir: files::absolute(&recorder.temporary_dir),
        })
    }

    /// That of the node that runs in this process.
    #[must_use]
    pub fn of_node(node: &NodeState) -> Self {
        Self {
            recorder: node.id.to_string(),
            mode: node.mode,
            dir: files::absolute(&node.dirs.state_dir),
            temporary_dir: files::absolute(&node.dirs.temporary_dir),
            daemon: Some(format!("pid {}", std::process::id())),
        }
    }

    #[must_use]
    pub fn runs(&self) -> bool {
        self.daemon.is_some()
    }

    /// # Errors
    /// Where the directory cannot be read.
    pub fn recordings(&self, kind: Kind) -> Result<Vec<Readable<RecordingState>>, AdminError> {
        each(&self.dir.join(journal::dir_of(kind)), |path| {
            let record = RecordingRecord::read(path).map_err(|error| error.to_string())?;
            let size = |part: &journal::RecordingPart| {
                fs::symlink_metadata(self.temporary_dir.join(&part.file)).ok().map(|file| file.len())
            };
            Ok(RecordingState { info: record.info()?, sizes: record.parts.iter().map(size).collect(), record })
        })
    }

    /// # Errors
    /// Where the directory cannot be read.
    pub fn jobs(&self) -> Result<Vec<Readable<jobs::JobRecord>>, AdminError> {
        each(&self.dir.join(jobs::DIR), |path| jobs::JobRecord::read(path).map_err(|error| error.to_string()))
    }

    /// The payloads of the queue that are no jobs, oldest first; none where their directory does not exist.
    ///
    /// # Errors
    /// Where the directory cannot be read.
    pub fn undecodable(&self) -> Result<Vec<Undecodable>, AdminError> {
        let dir = self.temporary_dir.join(UNDECODABLE);
        let mut found = Vec::new();
        for path in paths(&dir)? {
            let Some(id) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".bin")) else { continue };
            let why = match fs::read(&path) {
                Ok(bytes) => {
                    Job::decode(&bytes).err().map_or_else(|| "it can be decoded now".to_owned(), |why| why.to_string())
                }
                // The file was removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => ReadError::Io(error).to_string(),
            };
            let at = fs::metadata(&path).and_then(|file| file.modified()).map_or(0, unix_ms_of);
            found.push(Undecodable { id: id.to_owned(), why, at, path });
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    /// The file of this payload, if it exists.
    pub fn undecodable_path(&self, id: &str) -> Option<PathBuf> {
        Some(self.temporary_dir.join(UNDECODABLE).join(format!("{id}.bin"))).filter(|path| path.is_file())
    }

    /// # Errors
    /// Where the directory cannot be read.
    pub fn uploads(&self) -> Result<Vec<Readable<UploadRecord>>, AdminError> {
        each(&self.dir.join(record::DIR), |path| UploadRecord::read(path).map_err(|error| error.to_string()))
    }

    /// # Errors
    /// Where the directory cannot be read.
    pub fn hls(&self) -> Result<Vec<Readable<HlsRecord>>, AdminError> {
        each(&self.dir.join(hls::record::DIR), |path| HlsRecord::read(path).map_err(|error| error.to_string()))
    }

    /// # Errors
    /// Where the directory cannot be read.
    pub fn outbox(&self) -> Result<Vec<Readable<RecordingMessages>>, AdminError> {
        each(&self.dir.join(outbox::DIR), |path| RecordingMessages::read(path).map_err(|error| error.to_string()))
    }
}

/// All records of a directory, by name, with those that the daemon has put aside; none where the directory does not
/// exist.
fn each<T>(dir: &Path, read: impl Fn(&Path) -> Result<T, String>) -> Result<Vec<Readable<T>>, AdminError> {
    let mut found = Vec::new();
    for path in paths(dir)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // A hidden file is being written.
        if name.starts_with('.') {
            continue;
        }
        if let Some(id) = name.strip_suffix(".json") {
            match read(&path) {
                // The daemon has removed the record meanwhile.
                Err(_) if matches!(path.try_exists(), Ok(false)) => {}
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

/// The entries of a directory; none where it does not exist.
fn paths(dir: &Path) -> Result<Vec<PathBuf>, AdminError> {
    let entries = fs::read_dir(dir).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    match entries {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries.map_err(|source| AdminError::Unreadable { path: dir.to_owned(), source }),
    }
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
        let mut remaining: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        remaining.sort();
        assert_eq!(remaining, names);
        assert_eq!(each(&dir.path().join("gone"), |_| Ok(())).unwrap().len(), 0);
        // A record that is removed while it is read does not count.
        let gone = each(dir.path(), |path| -> Result<(), String> {
            fs::remove_file(path).unwrap();
            Err("No such file".to_owned())
        });
        assert_eq!(gone.unwrap().into_iter().map(|found| found.id).collect::<Vec<_>>(), ["d"]);
    }
}
