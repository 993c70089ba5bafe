//! A file that is removed unless it is finished.

use std::fs;
use std::path::{Path, PathBuf};

/// An unfinished file; removed when dropped.
#[derive(Debug)]
pub struct UnfinishedFile(PathBuf);

impl UnfinishedFile {
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Keeps the finished file.
    pub fn keep(mut self) {
        // An empty path names no file.
        self.0 = PathBuf::new();
    }
}

impl Drop for UnfinishedFile {
    fn drop(&mut self) {
        // There is no file if it was moved into its place or was never created.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_file_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("part");
        fs::write(&path, "x").unwrap();
        UnfinishedFile::new(path.clone()).keep();
        assert!(path.exists());
        drop(UnfinishedFile::new(path.clone()));
        assert!(!path.exists());
        drop(UnfinishedFile::new(path));
    }
}
