//! Journals: records that survive a crash, as small JSON files in one directory, each with the version of its format.
//!
//! If the disk fails, only crash recovery is lost: the records in memory stay valid.

use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codes;
use crate::storage::files;
use crate::storage::record_writer::{PendingWrite, RecordWriter, WriteError};

/// How long the work waits for a record to be on disk before it goes on without.
pub const RECORD_LIMIT: Duration = Duration::from_secs(1);

/// Why a record's content is not known.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The disk or share fails, or this process has no file left to open: says nothing about the record.
    #[error("it cannot be read now: {0}")]
    Io(io::Error),
    /// The file was read and holds no such record.
    #[error("{0}")]
    Content(String),
}

/// A record of one recording or job, stored as one file.
pub trait Record: Clone + Serialize + DeserializeOwned + Send + 'static {
    /// Version of the format that is written and read. Fields that are added later have defaults.
    const VERSION: u32;

    /// Version of this record's format.
    fn version(&self) -> u32;

    /// Checks a record that was parsed.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// Reads a record from its file.
    ///
    /// # Errors
    /// Why the file cannot be read, or what is wrong with its content.
    fn read(path: &Path) -> Result<Self, ReadError> {
        let record: Self = read_json(path)?;
        if record.version() != Self::VERSION {
            return Err(ReadError::Content(format!("it is of version {}, not {}", record.version(), Self::VERSION)));
        }
        record.check().map_err(ReadError::Content)?;
        Ok(record)
    }
}

/// Reads a file of JSON.
///
/// # Errors
/// Only what was read and is no such value is [`ReadError::Content`].
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, ReadError> {
    let bytes = std::fs::read(path).map_err(ReadError::Io)?;
    serde_json::from_slice(&bytes).map_err(|error| ReadError::Content(error.to_string()))
}

/// What is known of the records in a directory.
#[derive(Debug)]
pub struct JournalContent<T> {
    pub records: Vec<(PathBuf, T)>,
    /// The files that cannot be read now. They are left in their place.
    pub unread: Vec<(PathBuf, io::Error)>,
}

/// All records of one kind, in one directory.
#[derive(Clone, Debug)]
pub struct Journal<T> {
    dir: PathBuf,
    /// What the records are about, for the log.
    of: &'static str,
    writer: RecordWriter,
    records: PhantomData<fn() -> T>,
}

impl<T: Record> Journal<T> {
    /// `of`: what the records are about, for the log.
    #[must_use]
    pub fn new(dir: PathBuf, of: &'static str) -> Self {
        let writer = RecordWriter::new(dir.clone(), of, true);
        Self { dir, of, writer, records: PhantomData }
    }

    /// What writes the records.
    #[must_use]
    pub fn writer(&self) -> &RecordWriter {
        &self.writer
    }

    /// The record with this name, in memory; nothing is written yet.
    #[must_use]
    pub fn record(&self, name: &str, value: T) -> RecordFile<T> {
        self.record_at(self.path(name), value)
    }

    /// A record that was read from this path of the directory.
    #[must_use]
    pub fn record_at(&self, path: PathBuf, value: T) -> RecordFile<T> {
        RecordFile::new(path, value, self.writer.clone())
    }

    /// Path of the record with this name.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.json"))
    }

    /// Removes temporary files of an earlier run.
    pub fn remove_unfinished(&self) {
        if let Err(error) = files::remove_unfinished(&self.dir) {
            self.log_error(&error);
        }
    }

    /// Reads every record. One whose content is wrong is put aside and logged as an error; one that cannot be read now is
    /// left in place.
    ///
    /// # Errors
    /// Where the directory cannot be listed.
    pub fn read_all(&self) -> io::Result<JournalContent<T>> {
        let mut content = JournalContent { records: Vec::new(), unread: Vec::new() };
        for (_, path) in files::records(&self.dir)? {
            match self.read(&path) {
                Ok(Some(record)) => content.records.push((path, record)),
                Ok(None) => {}
                Err(error) => content.unread.push((path, error)),
            }
        }
        Ok(content)
    }

    /// Reads one record. `None`: it is gone, or its content is wrong; then it is put aside and logged as an error.
    ///
    /// # Errors
    /// Where it cannot be read now.
    pub fn read(&self, path: &Path) -> io::Result<Option<T>> {
        match T::read(path) {
            Ok(record) => Ok(Some(record)),
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(ReadError::Io(error)) => Err(error),
            Err(ReadError::Content(why)) => {
                files::put_aside(path, &why);
                Ok(None)
            }
        }
    }

    /// Whether there are, or may be, any records; reads none.
    #[must_use]
    pub fn has_any(&self) -> bool {
        !files::records(&self.dir).is_ok_and(|records| records.is_empty())
    }

    fn log_error(&self, error: &io::Error) {
        tracing::error!(
            code = %codes::RECORDS_NOT_LISTED, dir = %self.dir.display(), %error,
            "the records of {} cannot be read", self.of
        );
    }
}

/// One record in memory and on disk; clones share it.
#[derive(Clone, Debug)]
pub struct RecordFile<T> {
    shared: Arc<Shared<T>>,
    writer: RecordWriter,
}

#[derive(Debug)]
struct Shared<T> {
    path: PathBuf,
    value: Mutex<T>,
}

impl<T: Clone + Serialize> RecordFile<T> {
    /// Creates a record in memory; nothing is written yet.
    fn new(path: PathBuf, value: T, writer: RecordWriter) -> Self {
        Self { shared: Arc::new(Shared { path, value: Mutex::new(value) }), writer }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// The current value.
    #[must_use]
    pub fn get(&self) -> T {
        self.shared.value.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the record in memory, and has it written (readable for this user only; the directory is created if it is
    /// missing). Waits for nothing.
    pub fn change(&self, change: impl FnOnce(&mut T)) -> PendingWrite {
        let mut value = self.shared.value.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut value);
        // Within the lock, so that the newest value is written last.
        self.writer.write_json(self.path(), &*value)
    }

    /// [`Self::change`], and waits up to [`RECORD_LIMIT`]. If this is cancelled, the record is written nevertheless.
    ///
    /// # Errors
    /// Where it is not on disk when this returns.
    pub async fn update(&self, change: impl FnOnce(&mut T)) -> Result<(), WriteError> {
        self.change(change).within(RECORD_LIMIT).await
    }

    /// Has the file removed; also one that is being written. Waits for nothing.
    pub fn withdraw(&self) -> PendingWrite {
        self.writer.remove(self.path())
    }

    /// Removes the file and syncs its directory; waits up to [`RECORD_LIMIT`].
    ///
    /// # Errors
    /// Where it is not removed when this returns.
    pub async fn remove(&self) -> Result<(), WriteError> {
        self.withdraw().within(RECORD_LIMIT).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
    struct Number(u32);

    impl Record for Number {
        const VERSION: u32 = 1;

        fn version(&self) -> u32 {
            1
        }
    }

    #[test]
    fn only_what_was_read_and_is_wrong_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::<Number>::new(dir.path().to_owned(), "numbers");
        let file = |name: &str| dir.path().join(name);
        std::fs::write(file("good.json"), "7").unwrap();
        std::fs::write(file("wrong.json"), "{").unwrap();
        // Reading a directory fails with EISDIR.
        std::fs::create_dir(file("away.json")).unwrap();
        let content = journal.read_all().unwrap();
        assert_eq!(content.records, [(file("good.json"), Number(7))]);
        assert_eq!(content.unread.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>(), [file("away.json")]);
        assert!(file("wrong.json.unreadable").exists() && file("away.json").is_dir());
        assert_eq!(journal.read(&file("gone.json")).unwrap(), None);
        assert!(Journal::<Number>::new(file("good.json"), "numbers").read_all().is_err());
    }

    #[tokio::test]
    async fn the_newest_value_is_written_even_if_updates_are_cancelled() {
        let dir = tempfile::tempdir().unwrap();
        let writer = RecordWriter::new(dir.path().join("new"), "numbers", true);
        let record = RecordFile::new(dir.path().join("new/a.json"), 0, writer);
        for n in 1..200 {
            // Cancelled after it was started.
            let _ = futures::FutureExt::now_or_never(record.update(|value| *value = -n));
            record.update(|value| *value = n).await.unwrap();
            let text = std::fs::read_to_string(record.path()).unwrap();
            assert_eq!((text, record.get()), (n.to_string(), n));
        }
        record.remove().await.unwrap();
        assert!(!record.path().exists());
        let writer = RecordWriter::new("/proc/no-such".into(), "numbers", true);
        let nowhere = RecordFile::new("/proc/no-such/a.json".into(), 1, writer);
        assert!(nowhere.update(|value| *value = 2).await.is_err());
        assert_eq!(nowhere.get(), 2);
    }
}
