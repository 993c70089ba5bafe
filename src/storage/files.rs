//! Small files and directories, written so that a crash at any moment leaves the old file or the new one.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::codes;

/// The end of the name of a record that was put aside.
const PUT_ASIDE: &str = ".unreadable";

/// The path of a hidden file beside `path`: `.NAMEsuffix`.
#[must_use]
pub fn hidden_beside(path: &Path, suffix: &str) -> PathBuf {
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(path.file_name().unwrap_or_default());
    hidden.push(suffix);
    path.with_file_name(hidden)
}

/// Writes a small file atomically: to a hidden name → fsync → rename → fsync of the directory. An existing file is
/// replaced.
///
/// # Errors
/// Where the directory is missing or the disk fails; an existing file is unchanged then.
pub fn write(to: &Path, bytes: &[u8]) -> io::Result<()> {
    // The default mode: other users may read the file if the umask allows it.
    write_with(to, bytes, 0o666)
}

/// [`write()`], readable by this user only.
///
/// # Errors
/// As [`write()`].
pub fn write_private(to: &Path, bytes: &[u8]) -> io::Result<()> {
    write_with(to, bytes, 0o600)
}

fn write_with(to: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    write_unsynced(to, bytes, mode, || true)?;
    fsync_dir(parent(to))
}

/// [`write_private()`] without the last step: the caller syncs the directory. Where `wanted` says no once the bytes are
/// on disk, the file does not get its name.
pub(super) fn write_private_unsynced(to: &Path, bytes: &[u8], wanted: impl FnOnce() -> bool) -> io::Result<()> {
    write_unsynced(to, bytes, 0o600, wanted)
}

fn write_unsynced(to: &Path, bytes: &[u8], mode: u32, wanted: impl FnOnce() -> bool) -> io::Result<()> {
    // A temporary name per call: concurrent writers of one file each write a complete one.
    let hidden = hidden_beside(to, "");
    let mut file = tempfile::Builder::new()
        .prefix(hidden.file_name().unwrap_or_default())
        .permissions(fs::Permissions::from_mode(mode))
        .tempfile_in(parent(to))?;
    io::Write::write_all(&mut file, bytes)?;
    file.as_file().sync_all()?;
    // Dropped, it is removed.
    if wanted() {
        file.persist(to).map_err(|error| error.error)?;
    }
    Ok(())
}

/// Removes a file and syncs its directory; a missing file is no error.
///
/// # Errors
/// Where it cannot be removed or the disk fails.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => fsync_dir(parent(path)),
    }
}

/// [`remove()`] without its last step: the caller syncs the directory.
///
/// # Errors
/// Where it cannot be removed.
pub fn remove_unsynced(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// The `.json` files of a directory with their names (without the extension), sorted. A missing directory has none.
///
/// # Errors
/// Where the directory cannot be read.
pub fn records(dir: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for path in entries(dir)? {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if let Some(id) = name.strip_suffix(".json").filter(|id| !id.starts_with('.')) {
            found.push((id.to_owned(), path.clone()));
        }
    }
    found.sort();
    Ok(found)
}

/// The names of a directory's records, also of those that were put aside. A missing directory has none.
///
/// # Errors
/// Where the directory cannot be read.
pub fn record_ids(dir: &Path) -> io::Result<Vec<String>> {
    let name = |path: PathBuf| {
        let name = path.file_name()?.to_str()?;
        let id = name.strip_suffix(PUT_ASIDE).unwrap_or(name).strip_suffix(".json")?;
        (!id.starts_with('.')).then(|| id.to_owned())
    };
    Ok(entries(dir)?.into_iter().filter_map(name).collect())
}

/// Removes temporary files of [`write()`] calls that a crash interrupted. Only for a directory that nobody writes to: at
/// the start.
///
/// # Errors
/// Where the directory cannot be read.
pub fn remove_unfinished(dir: &Path) -> io::Result<()> {
    for path in entries(dir)? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // The file itself is still there, with its earlier content.
        if name.starts_with('.') && name.contains(".json") {
            remove(&path)?;
        }
    }
    Ok(())
}

fn entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.map(|entry| Ok(entry?.path())).collect(),
    }
}

/// Renames a record that cannot be read, for an operator to inspect, and logs it.
pub fn put_aside(path: &Path, why: &str) {
    let mut name = path.as_os_str().to_owned();
    name.push(PUT_ASIDE);
    let kept = PathBuf::from(name);
    match fs::rename(path, &kept) {
        Ok(()) => {
            tracing::error!(
                code = %codes::RECORD_PUT_ASIDE, kept = %kept.display(), why,
                "a record cannot be read and is put aside: its recording or job does not go on by itself"
            );
        }
        Err(error) => {
            tracing::error!(
                code = %codes::RECORD_NOT_PUT_ASIDE, path = %path.display(), why, %error,
                "a record cannot be read, nor put aside: its recording or job does not go on by itself; move the file away"
            );
        }
    }
}

/// `path` made absolute by the working directory; unchanged where that is unknown.
#[must_use]
pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Runs blocking disk I/O on a blocking thread.
///
/// # Errors
/// Those of `work`, and where the runtime shuts down.
pub async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// [`on_disk`], but waits no longer than `limit`; the work goes on all the same.
///
/// # Errors
/// Those of `work`, [`io::ErrorKind::TimedOut`], and where the runtime shuts down.
pub async fn on_disk_within<T: Send + 'static>(
    limit: std::time::Duration,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let late = || {
        io::Error::new(io::ErrorKind::TimedOut, format!("the disk has not answered within {} s", limit.as_secs_f64()))
    };
    tokio::time::timeout(limit, on_disk(work)).await.unwrap_or_else(|_| Err(late()))
}

/// Creates a directory that only this user may enter, unless it exists; its parents with the default mode.
///
/// # Errors
/// Where it cannot be created.
pub fn create_private_dir(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(parent(dir))?;
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        // The permissions of an existing directory are its owner's choice.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        made => made,
    }
}

/// Makes the entries of a directory safe on disk after renames and removals.
///
/// # Errors
/// Where the directory cannot be opened or the disk fails. A file system that cannot sync directories (CIFS, some FUSE)
/// is no error.
pub fn fsync_dir(dir: &Path) -> io::Result<()> {
    match File::open(dir)?.sync_all() {
        Err(error)
            if matches!(
                Errno::from_io_error(&error),
                Some(Errno::INVAL | Errno::OPNOTSUPP | Errno::BADF | Errno::NOSYS)
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// The directory of `path`; the working directory for a bare name.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_file_is_written_atomically_and_replaces_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("a/state");
        create_private_dir(&state).unwrap();
        create_private_dir(&state).unwrap();
        assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
        for text in ["first", "second, longer"] {
            write(&state.join("it.json"), text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(state.join("it.json")).unwrap(), text);
        }
        assert_eq!(entries(&state).unwrap(), [state.join("it.json")]);
        assert!(write(&state.join("none/it.json"), b"x").is_err());
        assert!(create_private_dir(&state.join("it.json")).is_err());
    }

    #[test]
    fn a_record_that_was_put_aside_still_has_its_id() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.json", "b.json.unreadable", ".c.jsonXYZ", "d.txt"] {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        let mut ids = record_ids(dir.path()).unwrap();
        ids.sort();
        assert_eq!(ids, ["a", "b"]);
        assert!(record_ids(&dir.path().join("none")).unwrap().is_empty());
    }

    #[test]
    fn a_hidden_name_lies_beside_its_file() {
        assert_eq!(hidden_beside(Path::new("/a/rec_raw.mkv"), ".parts"), Path::new("/a/.rec_raw.mkv.parts"));
        assert_eq!(hidden_beside(Path::new("rec_raw.mkv"), ".parts"), Path::new(".rec_raw.mkv.parts"));
    }
}
