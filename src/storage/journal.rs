//! A small file with what one task must remember, and the same in memory.
//!
//! A disk that fails costs nothing but the memory of a crash: what is in memory goes on.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::storage::files::{self, on_disk};

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
