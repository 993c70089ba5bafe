//! Journals: records that survive a crash, as small JSON files in one directory, each with the version of its format.
//!
//! If the disk fails, only crash recovery is lost: the records in memory stay valid.

use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::storage::files::{self, on_disk};

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
    /// Why the file cannot be read, or that it has another version.
    fn read(path: &Path) -> Result<Self, String> {
        let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
        let record: Self = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        if record.version() != Self::VERSION {
            return Err(format!("it is of version {}, not {}", record.version(), Self::VERSION));
        }
        record.check()?;
        Ok(record)
    }
}

/// All records of one kind, in one directory.
#[derive(Clone, Debug)]
pub struct Journal<T> {
    dir: PathBuf,
    /// What the records are about, for the log.
    of: &'static str,
    records: PhantomData<fn() -> T>,
}

impl<T: Record> Journal<T> {
    /// `of`: what the records are about, for the log.
    #[must_use]
    pub fn new(dir: PathBuf, of: &'static str) -> Self {
        Self { dir, of, records: PhantomData }
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

    /// Reads every record. A record that cannot be read is put aside and logged as an error.
    #[must_use]
    pub fn all(&self) -> Vec<(PathBuf, T)> {
        let records = files::records(&self.dir).unwrap_or_else(|error| {
            self.log_error(&error);
            Vec::new()
        });
        let read = |(_, path): (String, PathBuf)| match T::read(&path) {
            Ok(record) => Some((path, record)),
            Err(why) => {
                files::put_aside(&path, &why);
                None
            }
        };
        records.into_iter().filter_map(read).collect()
    }

    /// Whether there are any records; reads none.
    #[must_use]
    pub fn has_any(&self) -> bool {
        files::records(&self.dir).is_ok_and(|records| !records.is_empty())
    }

    fn log_error(&self, error: &io::Error) {
        tracing::error!(dir = %self.dir.display(), %error, "the records of {} cannot be read", self.of);
    }
}

/// One record in memory and on disk; clones share it.
#[derive(Clone, Debug)]
pub struct RecordFile<T> {
    shared: Arc<Shared<T>>,
}

#[derive(Debug)]
struct Shared<T> {
    path: PathBuf,
    value: Mutex<T>,
    /// Held while the file is written, so that the newest value is written last.
    writing: Mutex<()>,
}

impl<T: Clone + Serialize + Send + 'static> RecordFile<T> {
    /// Creates a record in memory; nothing is written yet.
    #[must_use]
    pub fn new(path: PathBuf, value: T) -> Self {
        Self { shared: Arc::new(Shared { path, value: Mutex::new(value), writing: Mutex::default() }) }
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

    /// Changes the record in memory at once; on disk (readable for this user only) when this returns. If this is
    /// cancelled, the record is written nevertheless.
    ///
    /// # Errors
    /// Where the disk fails. The directory is created if it is missing.
    pub async fn update(&self, change: impl FnOnce(&mut T)) -> io::Result<()> {
        change(&mut self.shared.value.lock().unwrap_or_else(PoisonError::into_inner));
        let record = self.clone();
        on_disk(move || {
            let _writing = record.writing();
            record.path().parent().map_or(Ok(()), files::create_private_dir)?;
            files::write_private(record.path(), &serde_json::to_vec_pretty(&record.get())?)
        })
        .await
    }

    /// Removes the file and syncs its directory.
    ///
    /// # Errors
    /// Where it cannot be removed or the disk fails.
    pub async fn remove(&self) -> io::Result<()> {
        let record = self.clone();
        on_disk(move || {
            let _writing = record.writing();
            files::remove(record.path())
        })
        .await
    }

    fn writing(&self) -> std::sync::MutexGuard<'_, ()> {
        self.shared.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_value_is_written_even_if_updates_are_cancelled() {
        let dir = tempfile::tempdir().unwrap();
        let record = RecordFile::new(dir.path().join("new/a.json"), 0);
        for n in 1..200 {
            // Cancelled after it was started.
            let given_up = record.update(|value| *value = -n);
            assert!(futures::FutureExt::now_or_never(given_up).is_none());
            record.update(|value| *value = n).await.unwrap();
            let text = std::fs::read_to_string(record.path()).unwrap();
            assert_eq!((text, record.get()), (n.to_string(), n));
        }
        record.remove().await.unwrap();
        assert!(!record.path().exists());
        let nowhere = RecordFile::new("/proc/no-such/a.json".into(), 1);
        assert!(nowhere.update(|value| *value = 2).await.is_err());
        assert_eq!(nowhere.get(), 2);
    }
}
