//! A copy of a file on another file system that was made while the file was still being written, so that
//! [`crate::storage::placement`] has only its end to copy when it is complete.
//!
//! The copy is believed in nothing: each block of the complete file is compared with what was copied, by its checksum, and
//! copied again where they differ, as they do at the beginning of a Matroska file, which is written last.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::storage::files::hidden_beside;

/// Length of a block in bytes.
const BLOCK: usize = 1 << 20;

/// A copy of the beginning of a file; removed when dropped.
#[derive(Debug)]
pub struct AdvanceCopy {
    path: PathBuf,
    checksums: BlockChecksums,
}

/// The checksums (CRC-32) of the whole blocks that were copied.
#[derive(Debug, Default)]
struct BlockChecksums {
    whole: Vec<u32>,
    /// Of the block that is not whole yet, and how many bytes that has.
    open: crc32fast::Hasher,
    bytes: usize,
}

impl BlockChecksums {
    fn add(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (head, rest) = bytes.split_at(bytes.len().min(BLOCK - self.bytes));
            self.open.update(head);
            self.bytes += head.len();
            if self.bytes == BLOCK {
                self.whole.push(std::mem::take(&mut self.open).finalize());
                self.bytes = 0;
            }
            bytes = rest;
        }
    }
}

impl AdvanceCopy {
    /// An empty copy of a file that will have its place at `to`.
    #[must_use]
    pub fn new(to: &Path) -> Self {
        Self { path: hidden_path(to), checksums: BlockChecksums::default() }
    }

    /// The hidden file, beside that place, that somebody writes.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// These bytes are its next ones.
    pub fn add(&mut self, bytes: &[u8]) {
        self.checksums.add(bytes);
    }

    /// Removes what a run of the program that was killed has left of a copy with this place.
    pub fn remove_left_behind(to: &Path) {
        // There hardly ever is one.
        let _ = std::fs::remove_file(hidden_path(to));
    }

    /// Makes it a whole copy of `source` by the name of `copy`, and returns that file, which is not synced. Blocks.
    ///
    /// # Errors
    /// Where a file cannot be read or written.
    pub fn complete(self, source: &mut File, copy: &Path) -> io::Result<File> {
        std::fs::rename(&self.path, copy)?;
        let target = File::options().write(true).open(copy)?;
        let (mut block, mut at, mut again) = (Vec::with_capacity(BLOCK), 0, 0);
        for index in 0.. {
            block.clear();
            io::Read::by_ref(source).take(BLOCK as u64).read_to_end(&mut block)?;
            if block.is_empty() {
                break;
            }
            if self.checksums.whole.get(index) != Some(&crc32fast::hash(&block)) || block.len() < BLOCK {
                target.write_all_at(&block, at)?;
                again += block.len() as u64;
            }
            at += block.len() as u64;
        }
        target.set_len(at)?;
        tracing::debug!(bytes = at, written_now = again, "a copy that was made in advance is completed");
        Ok(target)
    }
}

impl Drop for AdvanceCopy {
    fn drop(&mut self) {
        // There is none if it was completed.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn hidden_path(to: &Path) -> PathBuf {
    hidden_beside(to, ".ahead")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    type Change = fn(&mut Vec<u8>);

    #[test]
    fn a_copy_in_advance_becomes_the_file_whatever_was_changed_since() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to, copy) = (dir.path().join("from"), dir.path().join("to"), dir.path().join("copy"));
        let before: Vec<u8> = (0..=250).cycle().take(3 * BLOCK + 77).collect();
        let ahead = || {
            let mut ahead = AdvanceCopy::new(&to);
            fs::write(ahead.path(), &before).unwrap();
            before.chunks(700_001).for_each(|chunk| ahead.add(chunk));
            ahead
        };
        let changes: [(&str, Change); 6] = [
            ("none", |_| {}),
            ("its beginning", |bytes| bytes[40] ^= 1),
            ("a byte within", |bytes| bytes[BLOCK + 5] ^= 1),
            ("longer", |bytes| bytes.extend(vec![9; 2 * BLOCK])),
            ("shorter", |bytes| bytes.truncate(2 * BLOCK + 1)),
            ("nothing", Vec::clear),
        ];
        for (case, change) in changes {
            let mut after = before.clone();
            change(&mut after);
            fs::write(&from, &after).unwrap();
            ahead().complete(&mut File::open(&from).unwrap(), &copy).unwrap();
            assert!(fs::read(&copy).unwrap() == after, "{case}");
        }
        fs::remove_file(&copy).unwrap();
        drop(ahead());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "only the file itself is left");
    }
}
