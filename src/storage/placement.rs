//! Moves files into their place so that a crash at any moment leaves a complete file.
//!
//! Within a file system: fsync the file → rename → fsync the directories. Across file systems: copy to a hidden name →
//! fsync → compare the size → rename → fsync the directory → remove the source. Each step may be repeated; an
//! interrupted move is completed by repeating it.
//!
//! A store that cannot rename gets a copy under the final name at once: fsync → compare the size → remove the source.
//!
//! A different file is never overwritten unless the caller allows it.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use crate::storage::advance_copy::AdvanceCopy;
use crate::storage::detached;
use crate::storage::files::{self, fsync_dir, hidden_beside, parent};
use crate::storage::main_path::{MainPath, StoreAbilities, StoreFault};

/// What to do where another file exists at the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfExists {
    /// Leave both files and fail with [`PlaceError::Exists`].
    Refuse,
    /// Replace the other file atomically.
    Replace,
}

/// How a file was moved to its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceMethod {
    Renamed,
    /// The target is on another file system.
    Copied,
    /// A file with the same content was there (an earlier move was interrupted); the source is removed.
    WasThere,
}

impl PlaceMethod {
    /// Name for the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Renamed => "renamed",
            Self::Copied => "copied",
            Self::WasThere => "was there",
        }
    }
}

/// A file could not be moved to its place. The source is still complete.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{path} is no regular file", path = .0.display())]
    NotAFile(PathBuf),
    #[error("{to} is there already and differs from {from}; neither was touched", to = to.display(), from = from.display())]
    Exists { from: PathBuf, to: PathBuf },
    #[error(transparent)]
    Store(#[from] StoreFault),
    #[error("the copy of {from} has {copied} bytes instead of {expected}", from = from.display())]
    Short { from: PathBuf, copied: u64, expected: u64 },
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> PlaceError + 'a {
    move |source| PlaceError::Io { action, path: path.to_owned(), source }
}

/// Moves the regular file `from` to `to`, also across file systems. Missing directories are created. When this returns,
/// the file is safe on disk under its new name.
///
/// # Errors
/// See [`PlaceError`]; `from` still exists then.
pub async fn place(from: &Path, to: &Path, existing: IfExists) -> Result<PlaceMethod, PlaceError> {
    place_in(&MainPath::unwatched(parent(to), StoreAbilities::ALL), from, to, existing).await
}

/// [`place`] for a target in `main_path`: nothing is written where that is another file system than before, and only
/// in ways that it is able to.
///
/// It runs on a thread of its own: on a lost share it may never return. Where this is dropped, it goes on.
///
/// # Errors
/// As [`place`].
pub async fn place_in(store: &MainPath, from: &Path, to: &Path, existing: IfExists) -> Result<PlaceMethod, PlaceError> {
    place_ahead(store, from, to, existing, None).await
}

/// [`place_in`] of a file of which the beginning was copied before, where it must be copied. `ahead`: it has the hidden
/// name that belongs to `to`.
///
/// # Errors
/// As [`place`].
pub async fn place_ahead(
    store: &MainPath,
    from: &Path,
    to: &Path,
    existing: IfExists,
    ahead: Option<AdvanceCopy>,
) -> Result<PlaceMethod, PlaceError> {
    let (store, source, target) = (store.clone(), from.to_owned(), to.to_owned());
    let placed = detached::start("placement", move || place_blocking(&store, &source, &target, existing, ahead));
    placed.await.unwrap_or_else(|_| Err(failed("move", from)(io::Error::other("no thread could be started"))))
}

/// Writes a small file in `main_path`; an existing file is replaced, atomically where that is possible.
///
/// # Errors
/// Where `main_path` is away, or the disk fails.
pub async fn write_in(store: &MainPath, to: &Path, bytes: Vec<u8>) -> io::Result<()> {
    let (store, to) = (store.clone(), to.to_owned());
    detached::run("write", move || write_blocking(&store, &to, &bytes)).await
}

/// [`write_blocking`] of a file that may be lost when the host dies: it is not synced. Its hidden name ends with
/// `.unfinished`.
///
/// # Errors
/// As [`write_in`].
pub fn write_unsynced_blocking(store: &MainPath, to: &Path, bytes: &[u8]) -> io::Result<()> {
    store.check().map_err(io::Error::other)?;
    if !store.abilities().rename {
        // A store that takes new files only refuses to open an existing one.
        let _ = fs::remove_file(to);
        return fs::write(to, bytes);
    }
    let hidden = hidden_beside(to, ".unfinished");
    fs::write(&hidden, bytes)?;
    fs::rename(hidden, to)
}

/// [`write_in`] on the calling thread.
///
/// # Errors
/// As [`write_in`].
pub fn write_blocking(store: &MainPath, to: &Path, bytes: &[u8]) -> io::Result<()> {
    store.check().map_err(io::Error::other)?;
    let StoreAbilities { rename, fsync, .. } = store.abilities();
    if rename && fsync {
        return files::write(to, bytes);
    }
    // A store that takes new files only refuses to open an existing one.
    let _ = fs::remove_file(to);
    let mut file = File::create(to)?;
    file.write_all(bytes)?;
    sync(store, &file)
}

/// [`place_in`] on the calling thread; blocks for the duration of a copy.
///
/// # Errors
/// As [`place`].
fn place_blocking(
    store: &MainPath,
    from: &Path,
    to: &Path,
    existing: IfExists,
    ahead: Option<AdvanceCopy>,
) -> Result<PlaceMethod, PlaceError> {
    let source = fs::symlink_metadata(from).map_err(failed("read", from))?;
    if !source.is_file() {
        return Err(PlaceError::NotAFile(from.to_owned()));
    }
    store.check()?;
    let dir = parent(to);
    create_dirs(dir)?;
    if let Some(placed) = check_existing(store, from, to, existing)? {
        return Ok(placed);
    }
    if !store.abilities().rename {
        copy_sequentially(store, from, to)?;
        return remove_source(store, from);
    }
    File::open(from).and_then(|file| sync_source(store, &file)).map_err(failed("sync", from))?;
    match rename(from, to, existing) {
        Ok(()) => {
            fsync_dir(dir).map_err(failed("sync", dir))?;
            let source_dir = parent(from);
            if source_dir != dir {
                fsync_dir(source_dir).map_err(failed("sync", source_dir))?;
            }
            Ok(PlaceMethod::Renamed)
        }
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            copy_into_place(store, from, to, existing, ahead)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(PlaceError::Exists { from: from.to_owned(), to: to.to_owned() })
        }
        Err(error) => Err(failed("rename", from)(error)),
    }
}

/// Where the target exists: nothing to move (`Some`), continue (`None`), or an error.
fn check_existing(
    store: &MainPath,
    from: &Path,
    to: &Path,
    existing: IfExists,
) -> Result<Option<PlaceMethod>, PlaceError> {
    let target = match fs::symlink_metadata(to) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", to)(error)),
    };
    if existing == IfExists::Replace {
        return Ok(None);
    }
    let same_file = is_same_file(from, to).map_err(failed("read", to))?;
    let same = same_file || (target.is_file() && same_content(from, to).map_err(failed("compare", to))?);
    if !same {
        return Err(PlaceError::Exists { from: from.to_owned(), to: to.to_owned() });
    }
    // An interrupted move may have renamed the copy without syncing its directory.
    File::open(to).and_then(|file| sync(store, &file)).map_err(failed("sync", to))?;
    fsync_dir(parent(to)).map_err(failed("sync", parent(to)))?;
    // If both paths are the same directory entry, it must not be removed.
    if fs::canonicalize(from).ok() != fs::canonicalize(to).ok() {
        fs::remove_file(from).map_err(failed("remove", from))?;
    }
    let _ = fs::remove_file(hidden_beside(to, ".copy"));
    Ok(Some(PlaceMethod::WasThere))
}

/// The second half of [`place_blocking`], for a target on another file system.
fn copy_into_place(
    store: &MainPath,
    from: &Path,
    to: &Path,
    existing: IfExists,
    ahead: Option<AdvanceCopy>,
) -> Result<PlaceMethod, PlaceError> {
    let dir = parent(to);
    let copy = hidden_beside(to, ".copy");
    if ahead.is_none() {
        AdvanceCopy::remove_left_behind(to);
    }
    // Of an interrupted attempt; a store that takes new files only refuses to open it.
    let _ = fs::remove_file(&copy);
    let copied = copy_and_sync(store, from, &copy, ahead).and_then(|()| {
        // A copy takes long enough for a share to go.
        store.check()?;
        rename(&copy, to, existing).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => PlaceError::Exists { from: from.to_owned(), to: to.to_owned() },
            _ => failed("rename", &copy)(error),
        })
    });
    if let Err(error) = copied {
        // The incomplete copy is useless; the source is complete.
        let _ = fs::remove_file(&copy);
        return Err(error);
    }
    fsync_dir(dir).map_err(failed("sync", dir))?;
    remove_source(store, from)
}

/// Copies to the final name, from the first byte to the last: for a store that cannot rename.
fn copy_sequentially(store: &MainPath, from: &Path, to: &Path) -> Result<(), PlaceError> {
    // A store that takes new files only refuses to open an existing one.
    let _ = fs::remove_file(to);
    let copied = copy_and_sync(store, from, to, None);
    if copied.is_err() {
        // The incomplete copy has the final name. Where it cannot be removed, the next attempt replaces it.
        let _ = fs::remove_file(to);
    }
    copied
}

/// The last step: the source goes only if its copy is in `main_path`.
fn remove_source(store: &MainPath, from: &Path) -> Result<PlaceMethod, PlaceError> {
    store.check()?;
    fs::remove_file(from).map_err(failed("remove", from))?;
    Ok(PlaceMethod::Copied)
}

fn copy_and_sync(store: &MainPath, from: &Path, copy: &Path, ahead: Option<AdvanceCopy>) -> Result<(), PlaceError> {
    let mut source = File::open(from).map_err(failed("open", from))?;
    let metadata = source.metadata().map_err(failed("read", from))?;
    let target = if let Some(ahead) = ahead {
        ahead.complete(&mut source, copy).map_err(failed("complete", copy))?
    } else {
        let mut target = File::create(copy).map_err(failed("create", copy))?;
        io::copy(&mut source, &mut target).map_err(failed("copy to", copy))?;
        target
    };
    // A file system without permissions (CIFS, FAT) is no error.
    let _ = target.set_permissions(metadata.permissions());
    sync(store, &target).map_err(failed("sync", copy))?;
    drop(target);
    // Asked anew, after the file was closed: an object store knows its size only then.
    let copied = fs::symlink_metadata(copy).map_err(failed("read", copy))?.len();
    let expected = source.metadata().map_err(failed("read", from))?.len();
    if copied == expected { Ok(()) } else { Err(PlaceError::Short { from: from.to_owned(), copied, expected }) }
}

/// Writes a file in `main_path` to its disk, where that can be done. Blocks.
///
/// # Errors
/// Where it cannot be opened, or the disk fails; an error is told once, whoever asks.
pub fn sync_blocking(store: &MainPath, path: &Path) -> io::Result<()> {
    File::open(path).and_then(|file| sync(store, &file))
}

/// Syncs what is to be moved, which may be in `main_path` already.
fn sync_source(store: &MainPath, file: &File) -> io::Result<()> {
    let unable = |error: &io::Error| {
        let errno = Errno::from_io_error(error);
        matches!(errno, Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP))
    };
    match file.sync_all() {
        Err(error) if !store.abilities().fsync && unable(&error) => Ok(()),
        synced => synced,
    }
}

/// Syncs a file in `main_path`, where that can be done.
fn sync(store: &MainPath, file: &File) -> io::Result<()> {
    if store.abilities().fsync { file.sync_all() } else { Ok(()) }
}

fn rename(from: &Path, to: &Path, existing: IfExists) -> io::Result<()> {
    if existing == IfExists::Replace {
        return fs::rename(from, to);
    }
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // File systems without RENAME_NOREPLACE (NFS, for example): check, then rename; see renameat2(2).
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            if fs::symlink_metadata(to).is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            fs::rename(from, to)
        }
        other => Ok(other?),
    }
}

/// `create_dir_all` that syncs each created directory.
fn create_dirs(dir: &Path) -> Result<(), PlaceError> {
    let missing = dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).count();
    fs::create_dir_all(dir).map_err(failed("create the directory", dir))?;
    for made in dir.ancestors().take(missing) {
        let above = parent(made);
        fsync_dir(above).map_err(failed("sync", above))?;
    }
    Ok(())
}

fn is_same_file(a: &Path, b: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let (a, b) = (fs::symlink_metadata(a)?, fs::symlink_metadata(b)?);
    Ok((a.dev(), a.ino()) == (b.dev(), b.ino()))
}

fn same_content(a: &Path, b: &Path) -> io::Result<bool> {
    const CHUNK: u64 = 1 << 20;
    let (mut a, mut b) = (File::open(a)?, File::open(b)?);
    if a.metadata()?.len() != b.metadata()?.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (Vec::new(), Vec::new());
    loop {
        left.clear();
        right.clear();
        Read::by_ref(&mut a).take(CHUNK).read_to_end(&mut left)?;
        Read::by_ref(&mut b).take(CHUNK).read_to_end(&mut right)?;
        if left != right {
            return Ok(false);
        }
        if left.is_empty() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anywhere() -> MainPath {
        MainPath::unwatched(Path::new("/"), StoreAbilities::ALL)
    }

    fn place_here(from: &Path, to: &Path, existing: IfExists) -> Result<PlaceMethod, PlaceError> {
        place_blocking(&anywhere(), from, to, existing, None)
    }

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The copying half only.
    #[test]
    fn a_copy_leaves_the_target_only() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::write(&from, "media").unwrap();
        // Of a program that was killed.
        fs::write(dir.path().join(".to.ahead"), "me").unwrap();
        assert_eq!(copy_into_place(&anywhere(), &from, &to, IfExists::Refuse, None).unwrap(), PlaceMethod::Copied);
        assert_eq!(read(&to), "media");
        assert_eq!(names(dir.path()), ["to"]);
        fs::write(&from, "other").unwrap();
        let error = copy_into_place(&anywhere(), &from, &to, IfExists::Refuse, None).unwrap_err();
        assert!(matches!(error, PlaceError::Exists { .. }), "{error}");
        assert_eq!((read(&from), read(&to)), ("other".into(), "media".into()));
        assert_eq!(names(dir.path()), ["from", "to"]);
    }

    #[test]
    fn a_file_crosses_file_systems() {
        use std::os::unix::fs::MetadataExt as _;
        let (dir, far) = (tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm").unwrap());
        let device = |dir: &tempfile::TempDir| fs::metadata(dir.path()).unwrap().dev();
        assert_ne!(device(&dir), device(&far), "TMPDIR must be on another file system than /dev/shm");
        let (from, to) = (far.path().join("raw"), dir.path().join("a/b c/raw"));
        fs::write(&from, vec![7; 3_000_000]).unwrap();
        assert_eq!(place_here(&from, &to, IfExists::Refuse).unwrap(), PlaceMethod::Copied);
        assert_eq!(fs::read(&to).unwrap(), vec![7; 3_000_000]);
        assert!(!from.exists());
        assert_eq!(names(to.parent().unwrap()), ["raw"]);
    }

    #[test]
    fn a_different_file_is_overwritten_only_when_told_to() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::write(&from, "new").unwrap();
        fs::write(&to, "old").unwrap();
        let error = place_here(&from, &to, IfExists::Refuse).unwrap_err();
        assert!(error.to_string().contains("is there already"), "{error}");
        assert_eq!((read(&from), read(&to)), ("new".into(), "old".into()));
        assert_eq!(place_here(&from, &to, IfExists::Replace).unwrap(), PlaceMethod::Renamed);
        assert_eq!(read(&to), "new");
        assert!(!from.exists());
    }

    #[test]
    fn an_interrupted_move_is_completed_by_repeating_it() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::write(&from, "media").unwrap();
        fs::write(&to, "media").unwrap();
        // The state after a kill during an earlier copy.
        fs::write(dir.path().join(".to.copy"), "med").unwrap();
        assert_eq!(place_here(&from, &to, IfExists::Refuse).unwrap(), PlaceMethod::WasThere);
        assert_eq!(names(dir.path()), ["to"]);
        assert_eq!(read(&to), "media");
    }

    #[test]
    fn a_file_moved_onto_itself_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("it");
        fs::write(&path, "media").unwrap();
        for existing in [IfExists::Refuse, IfExists::Replace] {
            place_here(&path, &path, existing).unwrap();
            assert_eq!(read(&path), "media");
        }
    }

    #[test]
    fn only_regular_files_are_moved() {
        let dir = tempfile::tempdir().unwrap();
        let (link, to) = (dir.path().join("link"), dir.path().join("to"));
        fs::write(dir.path().join("file"), "x").unwrap();
        std::os::unix::fs::symlink(dir.path().join("file"), &link).unwrap();
        assert!(matches!(place_here(&link, &to, IfExists::Refuse), Err(PlaceError::NotAFile(_))));
        assert!(matches!(place_here(dir.path(), &to, IfExists::Refuse), Err(PlaceError::NotAFile(_))));
        let missing = place_here(&dir.path().join("missing"), &to, IfExists::Refuse).unwrap_err();
        assert!(missing.to_string().contains("missing"), "{missing}");
        assert!(!to.exists());
    }
}
