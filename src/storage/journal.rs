//! Records that survive a crash: small JSON files in one directory, each with the version of its format.
//!
//! A disk that fails costs nothing but the memory of a crash: what is in memory goes on.

use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::storage::files::{self, on_disk};

/// What a journal keeps one file of for each recording or job.
pub trait Record: Clone + Serialize + DeserializeOwned + Send + 'static {
    /// Of the format that is written, and the only one that is read: fields that come later have defaults.
    const VERSION: u32;

    /// Of the format of this record.
    fn version(&self) -> u32;

    /// # Errors
    /// What is wrong with what was read, though it is JSON of this version.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// # Errors
    /// Where the file cannot be read or is none of this version: why.
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

/// The records of one kind.
#[derive(Debug)]
pub struct Journal<T> {
    dir: PathBuf,
    /// What the records are of, for the log.
    of: &'static str,
    records: PhantomData<fn() -> T>,
}

impl<T> Clone for Journal<T> {
    fn clone(&self) -> Self {
        Self { dir: self.dir.clone(), of: self.of, records: PhantomData }
    }
}

impl<T: Record> Journal<T> {
    /// `of`: what the records are of, for the log.
    #[must_use]
    pub fn new(dir: PathBuf, of: &'static str) -> Self {
        Self { dir, of, records: PhantomData }
    }

    /// Where the record of this name is.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.json"))
    }

    /// Removes what an earlier run has left half written.
    pub fn remove_unfinished(&self) {
        if let Err(error) = files::remove_unfinished(&self.dir) {
            self.complain(&error);
        }
    }

    /// Every record that is there. One that cannot be read is put aside, with an error line.
    #[must_use]
    pub fn all(&self) -> Vec<(PathBuf, T)> {
        let records = files::records(&self.dir).unwrap_or_else(|error| {
            self.complain(&error);
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

    /// Whether there are any; nothing is read or put aside.
    #[must_use]
    pub fn has_any(&self) -> bool {
        files::records(&self.dir).is_ok_and(|records| !records.is_empty())
    }

    fn complain(&self, error: &io::Error) {
        tracing::error!(dir = %self.dir.display(), %error, "the records of {} cannot be read", self.of);
    }
}

/// One record; clones are the same.
#[derive(Debug)]
pub struct RecordFile<T> {
    shared: Arc<Shared<T>>,
}

#[derive(Debug)]
struct Shared<T> {
    path: PathBuf,
    value: Mutex<T>,
    /// Held while the file is written: what is written is always the newest.
    writing: Mutex<()>,
}

impl<T> Clone for RecordFile<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T: Clone + Serialize + Send + 'static> RecordFile<T> {
    /// Nothing is written yet.
    #[must_use]
    pub fn new(path: PathBuf, value: T) -> Self {
        Self { shared: Arc::new(Shared { path, value: Mutex::new(value), writing: Mutex::default() }) }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// What it says now.
    #[must_use]
    pub fn get(&self) -> T {
        self.shared.value.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes it, in memory at once; on disk when this returns, readable for this user only. Given up in between, it is still
    /// written.
    ///
    /// # Errors
    /// Where the disk fails; the directory is made if need be.
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

    /// Removes the file, for good.
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
    async fn what_is_written_is_the_newest_whatever_was_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let record = RecordFile::new(dir.path().join("new/a.json"), 0);
        for n in 1..200 {
            // Given up after it was begun.
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
