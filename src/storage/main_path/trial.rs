//! Finds out by trying what a directory can do. Nothing is left behind.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use crate::storage::main_path::abilities::StoreAbilities;
use crate::storage::main_path::marker;

const SIZE: usize = 8192;
const REWRITTEN: usize = 512;

/// Tries on `dir` what is needed of a directory for results: writing a file, then rewriting, renaming and syncing it.
///
/// # Errors
/// Where no file can be written, read and removed.
pub fn try_out(dir: &Path) -> io::Result<StoreAbilities> {
    // Several nodes may try at the same time.
    let id = marker::new_id();
    let (first, second) = (dir.join(format!(".trial-{id}")), dir.join(format!(".trial-{id}.renamed")));
    let tried = try_files(&first, &second);
    // Every file is closed by now: some stores refuse to remove an open one.
    for path in [&first, &second] {
        match fs::remove_file(path) {
            Err(error) if tried.is_ok() && error.kind() != io::ErrorKind::NotFound => {
                return Err(io::Error::new(error.kind(), format!("{} cannot be removed: {error}", path.display())));
            }
            _ => {}
        }
    }
    tried
}

fn try_files(first: &Path, second: &Path) -> io::Result<StoreAbilities> {
    let bytes = [b'a'; SIZE];
    let mut file = OpenOptions::new().write(true).create_new(true).open(first)?;
    file.write_all(&bytes)?;
    let fsync = file.sync_all().is_ok();
    drop(file);
    if read(first)? != bytes {
        return Err(io::Error::other("a file does not hold what was written to it"));
    }
    let rename = fs::rename(first, second).is_ok() && read(second)? == bytes;
    let path = if rename { second } else { first };
    // Last: a store may take the whole file back when its rewriting fails.
    let rewrite = rewrite(path).is_ok();
    Ok(StoreAbilities { rewrite, rename, fsync })
}

/// Writes the beginning of a new file again after its end, as ffmpeg does for `+faststart`.
fn rewrite(path: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(&[b'a'; SIZE])?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&[b'b'; REWRITTEN])?;
    drop(file);
    let found = read(path)?;
    let expected = found.len() == SIZE
        && found[..REWRITTEN].iter().all(|byte| *byte == b'b')
        && found[REWRITTEN..].iter().all(|byte| *byte == b'a');
    if expected { Ok(()) } else { Err(io::Error::other("the rewritten bytes are not there")) }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut found = Vec::new();
    File::open(path)?.read_to_end(&mut found)?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_directory_can_do_all_and_nothing_is_left_in_it() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(try_out(dir.path()).unwrap(), StoreAbilities::ALL);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(try_out(Path::new("/proc")).is_err());
    }
}
