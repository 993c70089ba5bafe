//! Files moved into place so that a crash at any moment leaves the file whole, in one place or the other.
//!
//! Within a file system: fsync the file → rename → fsync the directories. Across file systems: copy under a hidden
//! name → fsync → compare the size → rename → fsync the directory → only then remove the source. Every step may be
//! repeated: a move that was interrupted is finished by doing it again.
//!
//! Nothing here overwrites a different file unless its caller says so.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

/// What to do where another file has the target's name already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfExists {
    /// Leave both as they are and fail with [`PlaceError::Exists`].
    Refuse,
    /// The new file takes its place, at once.
    Replace,
}

/// How a file came to be in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceMethod {
    Renamed,
    /// The target is on another file system.
    Copied,
    /// A file with the very same content was there (an earlier move was interrupted); the source is removed.
    WasThere,
}

impl PlaceMethod {
    /// For the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Renamed => "renamed",
            Self::Copied => "copied",
            Self::WasThere => "was there",
        }
    }
}

/// A file could not be put into its place. The source is still whole.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{path} is no regular file", path = .0.display())]
    NotAFile(PathBuf),
    #[error("{to} is there already and differs from {from}; neither was touched", to = to.display(), from = from.display())]
    Exists { from: PathBuf, to: PathBuf },
    #[error("the copy of {from} has {copied} bytes instead of {expected}", from = from.display())]
    Short { from: PathBuf, copied: u64, expected: u64 },
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> PlaceError + 'a {
    move |source| PlaceError::Io { action, path: path.to_owned(), source }
}

/// Moves the regular file `from` to `to`, across file systems if need be. The directories of `to` are made. When this
/// returns, the file is safe on disk under its new name.
///
/// # Errors
/// See [`PlaceError`]; `from` is still there then.
pub async fn place(from: &Path, to: &Path, existing: IfExists) -> Result<PlaceMethod, PlaceError> {
    let (source, target) = (from.to_owned(), to.to_owned());
    match tokio::task::spawn_blocking(move || place_blocking(&source, &target, existing)).await {
        Ok(placed) => placed,
        // Only where the runtime is ending: the move may be repeated.
        Err(error) => Err(failed("move", from)(io::Error::other(error))),
    }
}

/// [`place`] on the calling thread; it may block for as long as a copy takes.
///
/// # Errors
/// As [`place`].
pub fn place_blocking(from: &Path, to: &Path, existing: IfExists) -> Result<PlaceMethod, PlaceError> {
    let source = fs::symlink_metadata(from).map_err(failed("read", from))?;
    if !source.is_file() {
        return Err(PlaceError::NotAFile(from.to_owned()));
    }
    let dir = parent(to);
    create_dirs(dir)?;
    if let Some(placed) = settle_existing(from, to, existing)? {
        return Ok(placed);
    }
    File::open(from).and_then(|file| file.sync_all()).map_err(failed("sync", from))?;
    match rename(from, to, existing) {
        Ok(()) => {
            fsync_dir(dir).map_err(failed("sync", dir))?;
            let left = parent(from);
            if left != dir {
                fsync_dir(left).map_err(failed("sync", left))?;
            }
            Ok(PlaceMethod::Renamed)
        }
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => copy_into_place(from, to, existing),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(PlaceError::Exists { from: from.to_owned(), to: to.to_owned() })
        }
        Err(error) => Err(failed("rename", from)(error)),
    }
}

/// Where the target exists: nothing to move (`Some`), free to go on (`None`), or an error.
fn settle_existing(from: &Path, to: &Path, existing: IfExists) -> Result<Option<PlaceMethod>, PlaceError> {
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
    // An interrupted copy may have been renamed into place but not have reached the disk's directory yet.
    File::open(to).and_then(|file| file.sync_all()).map_err(failed("sync", to))?;
    fsync_dir(parent(to)).map_err(failed("sync", parent(to)))?;
    // Two names of one file in one directory entry are one name: that must not be removed.
    if fs::canonicalize(from).ok() != fs::canonicalize(to).ok() {
        fs::remove_file(from).map_err(failed("remove", from))?;
    }
    let _ = fs::remove_file(copy_name(to));
    Ok(Some(PlaceMethod::WasThere))
}

/// The second half of [`place_blocking`], for a target on another file system.
fn copy_into_place(from: &Path, to: &Path, existing: IfExists) -> Result<PlaceMethod, PlaceError> {
    let dir = parent(to);
    let copy = copy_name(to);
    let copied = copy_and_sync(from, &copy).and_then(|()| {
        rename(&copy, to, existing).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => PlaceError::Exists { from: from.to_owned(), to: to.to_owned() },
            _ => failed("rename", &copy)(error),
        })
    });
    if let Err(error) = copied {
        // A copy that is not whole is of no use; the source is.
        let _ = fs::remove_file(&copy);
        return Err(error);
    }
    fsync_dir(dir).map_err(failed("sync", dir))?;
    fs::remove_file(from).map_err(failed("remove", from))?;
    Ok(PlaceMethod::Copied)
}

/// Where a copy grows until it is whole: hidden, beside its target.
fn copy_name(to: &Path) -> PathBuf {
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(to.file_name().unwrap_or_default());
    hidden.push(".copy");
    parent(to).join(hidden)
}

fn copy_and_sync(from: &Path, copy: &Path) -> Result<(), PlaceError> {
    let mut source = File::open(from).map_err(failed("open", from))?;
    let metadata = source.metadata().map_err(failed("read", from))?;
    let mut target = File::create(copy).map_err(failed("create", copy))?;
    io::copy(&mut source, &mut target).map_err(failed("copy to", copy))?;
    // A file system that keeps no permissions (CIFS, FAT) still keeps the recording.
    let _ = target.set_permissions(metadata.permissions());
    target.sync_all().map_err(failed("sync", copy))?;
    let copied = target.metadata().map_err(failed("read", copy))?.len();
    let expected = source.metadata().map_err(failed("read", from))?.len();
    if copied == expected { Ok(()) } else { Err(PlaceError::Short { from: from.to_owned(), copied, expected }) }
}

fn rename(from: &Path, to: &Path, existing: IfExists) -> io::Result<()> {
    if existing == IfExists::Replace {
        return fs::rename(from, to);
    }
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // File systems without RENAME_NOREPLACE (NFS among them): look, then rename; see renameat2(2).
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            if fs::symlink_metadata(to).is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            fs::rename(from, to)
        }
        other => Ok(other?),
    }
}

/// Writes a small file, whole or not at all: under a hidden name → fsync → rename → fsync of the directory. What had
/// the name before is replaced.
///
/// # Errors
/// Where the directory is not there or the disk fails; what had the name is still there then.
pub fn write(to: &Path, bytes: &[u8]) -> io::Result<()> {
    // As any new file: others may have to read it, where the umask lets them.
    write_with(to, bytes, 0o666)
}

/// [`write`], for this user's eyes only.
///
/// # Errors
/// As [`write`].
pub fn write_private(to: &Path, bytes: &[u8]) -> io::Result<()> {
    write_with(to, bytes, 0o600)
}

fn write_with(to: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    // A name of its own for each try: two writers of one file each write a whole one.
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(to.file_name().unwrap_or_default());
    let mut file = tempfile::Builder::new()
        .prefix(&hidden)
        .permissions(fs::Permissions::from_mode(mode))
        .tempfile_in(parent(to))?;
    io::Write::write_all(&mut file, bytes)?;
    file.as_file().sync_all()?;
    file.persist(to).map_err(|error| error.error)?;
    fsync_dir(parent(to))
}

/// Removes a file, for good; one that is not there is no error.
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

/// The small files of a directory that end in `.json`, by their names without it; a directory that is not there has none.
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

/// Removes what a [`write`] has left that was interrupted by the end of the program. Only for a directory that nobody writes
/// into: at a start.
///
/// # Errors
/// Where the directory cannot be read.
pub fn remove_unfinished(dir: &Path) -> io::Result<()> {
    for path in entries(dir)? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // The whole one is still there under its own name, as it was before.
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

/// Keeps a record that cannot be read under another name, and says so: it is nobody's any more, but may be looked at.
pub fn put_aside(path: &Path, why: &str) {
    let mut name = path.as_os_str().to_owned();
    name.push(".unreadable");
    let kept = PathBuf::from(name);
    match fs::rename(path, &kept) {
        Ok(()) => tracing::error!(kept = %kept.display(), why, "a record cannot be read and is put aside"),
        Err(error) => tracing::error!(path = %path.display(), why, %error, "a record cannot be read, nor put aside"),
    }
}

/// `path` made absolute by the working directory; unchanged where that is unknown.
#[must_use]
pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Does what waits for a disk on a thread that may wait.
///
/// # Errors
/// Those of `work`, and where the runtime is ending.
pub async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Makes a directory that only this user may look into, unless it is there; those above it as usual.
///
/// # Errors
/// Where it cannot be made.
pub fn create_private_dir(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(parent(dir))?;
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        // Its rights are its owner's choice.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        made => made,
    }
}

/// Makes the entries of a directory safe on disk: what was renamed into it or removed from it stays so.
///
/// # Errors
/// Where the directory cannot be opened or the disk fails. A file system that cannot sync directories (CIFS, some
/// FUSE) is no error.
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

/// `create_dir_all`, and each directory that was made is safe on disk.
fn create_dirs(dir: &Path) -> Result<(), PlaceError> {
    let missing = dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).count();
    fs::create_dir_all(dir).map_err(failed("create the directory", dir))?;
    for made in dir.ancestors().take(missing) {
        let above = parent(made);
        fsync_dir(above).map_err(failed("sync", above))?;
    }
    Ok(())
}

/// The directory of `path`; the working directory for a bare name.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
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
        a.by_ref().take(CHUNK).read_to_end(&mut left)?;
        b.by_ref().take(CHUNK).read_to_end(&mut right)?;
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

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The copying half by itself.
    #[test]
    fn a_copy_leaves_the_target_only() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::write(&from, "media").unwrap();
        assert_eq!(copy_into_place(&from, &to, IfExists::Refuse).unwrap(), PlaceMethod::Copied);
        assert_eq!(read(&to), "media");
        assert_eq!(names(dir.path()), ["to"]);
        fs::write(&from, "other").unwrap();
        let error = copy_into_place(&from, &to, IfExists::Refuse).unwrap_err();
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
        assert_eq!(place_blocking(&from, &to, IfExists::Refuse).unwrap(), PlaceMethod::Copied);
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
        let error = place_blocking(&from, &to, IfExists::Refuse).unwrap_err();
        assert!(error.to_string().contains("is there already"), "{error}");
        assert_eq!((read(&from), read(&to)), ("new".into(), "old".into()));
        assert_eq!(place_blocking(&from, &to, IfExists::Replace).unwrap(), PlaceMethod::Renamed);
        assert_eq!(read(&to), "new");
        assert!(!from.exists());
    }

    #[test]
    fn an_interrupted_move_is_finished_by_doing_it_again() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::write(&from, "media").unwrap();
        fs::write(&to, "media").unwrap();
        // What a kill in the middle of an earlier copy leaves.
        fs::write(dir.path().join(".to.copy"), "med").unwrap();
        assert_eq!(place_blocking(&from, &to, IfExists::Refuse).unwrap(), PlaceMethod::WasThere);
        assert_eq!(names(dir.path()), ["to"]);
        assert_eq!(read(&to), "media");
    }

    #[test]
    fn a_file_moved_onto_itself_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("it");
        fs::write(&path, "media").unwrap();
        for existing in [IfExists::Refuse, IfExists::Replace] {
            place_blocking(&path, &path, existing).unwrap();
            assert_eq!(read(&path), "media");
        }
    }

    #[test]
    fn a_small_file_is_written_whole_and_replaces_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("a/state");
        create_private_dir(&state).unwrap();
        create_private_dir(&state).unwrap();
        assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
        for text in ["first", "second, longer"] {
            write(&state.join("it.json"), text.as_bytes()).unwrap();
            assert_eq!(read(&state.join("it.json")), text);
        }
        assert_eq!(names(&state), ["it.json"]);
        assert!(write(&state.join("none/it.json"), b"x").is_err());
        assert!(create_private_dir(&state.join("it.json")).is_err());
    }

    #[test]
    fn what_is_no_file_is_not_moved() {
        let dir = tempfile::tempdir().unwrap();
        let (link, to) = (dir.path().join("link"), dir.path().join("to"));
        fs::write(dir.path().join("file"), "x").unwrap();
        std::os::unix::fs::symlink(dir.path().join("file"), &link).unwrap();
        assert!(matches!(place_blocking(&link, &to, IfExists::Refuse), Err(PlaceError::NotAFile(_))));
        assert!(matches!(place_blocking(dir.path(), &to, IfExists::Refuse), Err(PlaceError::NotAFile(_))));
        let missing = place_blocking(&dir.path().join("missing"), &to, IfExists::Refuse).unwrap_err();
        assert!(missing.to_string().contains("missing"), "{missing}");
        assert!(!to.exists());
    }
}
