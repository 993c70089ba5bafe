//! A file that is being written, and does not stay unless it is finished.

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

    /// It is finished: it stays.
    pub fn keep(mut self) {
        // An empty path names no file that could be removed.
        self.0 = PathBuf::new();
    }
}

impl Drop for UnfinishedFile {
    fn drop(&mut self) {
        // It has been moved into its place, or was never begun: then there is nothing to remove.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_is_not_finished_is_removed() {
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
