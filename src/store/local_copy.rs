//! The copy of a file into the directory of a `file://` store: into a hidden file, fsync, read back, rename, fsync of the
//! directory.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::fs::{Advice, fadvise};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use crate::storage::files;

/// What the hidden file's name ends with.
const SUFFIX: &str = ".upload";
const BUFFER: usize = 1 << 20;

/// Copies `from` to `key` below `root`, which must exist. Returns the size. Takes the place of what an earlier attempt has
/// left.
///
/// # Errors
/// Where a disk fails, or does not give back what it was given; [`io::ErrorKind::Interrupted`] where it is cancelled.
pub(super) fn copy(from: &Path, root: &Path, key: &str, cancel: &CancellationToken) -> io::Result<u64> {
    if !root.is_dir() {
        let why =
            format!("there is no directory {}: its file system is not mounted, or it was not made", root.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, why));
    }
    let to = root.join(key);
    let dir = to.parent().unwrap_or(root);
    fs::create_dir_all(dir)?;
    let hidden = files::hidden_beside(&to, SUFFIX);
    let mut target = File::create(&hidden)?;
    let (sent, size) = pass(&mut File::open(from)?, Some(&mut target), cancel)?;
    target.sync_all()?;
    let mut written = File::open(&hidden)?;
    // What is read back comes from the disk. Where the system does not know how, from its memory.
    let _ = fadvise(written.as_fd(), 0, None, Advice::DontNeed);
    if pass(&mut written, None, cancel)? != (sent, size) {
        return Err(io::Error::other(format!("{} does not read as it was written", hidden.display())));
    }
    fs::rename(&hidden, &to)?;
    files::fsync_dir(dir)?;
    Ok(size)
}

/// Removes what an attempt has left that was given up.
pub(super) fn remove_unfinished(root: &Path, key: &str) -> io::Result<()> {
    match files::remove(&files::hidden_beside(&root.join(key), SUFFIX)) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(()),
        removed => removed,
    }
}

/// Reads all of a file, and writes it to another one; its SHA-256 and its size.
fn pass(from: &mut File, mut to: Option<&mut File>, cancel: &CancellationToken) -> io::Result<([u8; 32], u64)> {
    let (mut buffer, mut hash, mut size) = (vec![0; BUFFER], Sha256::new(), 0);
    loop {
        if cancel.is_cancelled() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let read = match from.read(&mut buffer) {
            Ok(0) => return Ok((hash.finalize().into(), size)),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hash.update(&buffer[..read]);
        if let Some(to) = to.as_deref_mut() {
            to.write_all(&buffer[..read])?;
        }
        size += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_takes_the_place_of_what_an_earlier_attempt_has_left() {
        let dir = tempfile::tempdir().unwrap();
        let (from, root) = (dir.path().join("a.mp4"), dir.path().join("store"));
        fs::write(&from, vec![7; 3 * BUFFER + 1]).unwrap();
        let cancel = CancellationToken::new();
        let away = copy(&from, &root, "n/r/a.mp4", &cancel).unwrap_err();
        assert!(away.to_string().contains("not mounted") && !root.exists(), "{away}");
        fs::create_dir_all(root.join("n/r")).unwrap();
        fs::write(root.join("n/r/.a.mp4.upload"), vec![1; 9 * BUFFER]).unwrap();
        assert_eq!(copy(&from, &root, "n/r/a.mp4", &cancel).unwrap(), 3 * BUFFER as u64 + 1);
        assert_eq!(fs::read(root.join("n/r/a.mp4")).unwrap(), fs::read(&from).unwrap());
        assert_eq!(fs::read_dir(root.join("n/r")).unwrap().count(), 1);
        cancel.cancel();
        assert_eq!(copy(&from, &root, "n/b.mp4", &cancel).unwrap_err().kind(), io::ErrorKind::Interrupted);
        remove_unfinished(&root, "n/b.mp4").unwrap();
        remove_unfinished(&root, "none/b.mp4").unwrap();
        assert_eq!(fs::read_dir(root.join("n")).unwrap().count(), 1);
    }
}
