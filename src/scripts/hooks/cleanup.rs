//! Removes what a hook has put somewhere and wants removed (`should_cleanup`), and nothing else.
//!
//! A hook's answer is untrusted text, and the tree at its path may change during the removal. Therefore nothing is
//! accessed by path: from `/` on each directory is opened by its name in the one before, never through a symbolic link
//! (openat2(2), `RESOLVE_NO_SYMLINKS`), and below the returned path never across a mount (`RESOLVE_NO_XDEV`). Each is
//! compared with the protected directories by device and inode, which no other name or bind mount can disguise.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::config::RecorderConfig;

/// The deepest tree that is removed: each level holds a file descriptor.
const MAX_DEPTH: usize = 64;

/// The directories that are never removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtectedPaths {
    /// It is not removed, nor anything in it, nor a directory that contains it.
    pub main_path: PathBuf,
    /// They are not removed, nor directories that contain them; other things in them may be.
    pub dirs: Vec<PathBuf>,
}

impl ProtectedPaths {
    /// Protects the directories of this node, of its user, and of the process.
    #[must_use]
    pub fn of(recorder: &RecorderConfig) -> Self {
        let mut dirs = vec![recorder.temporary_dir.clone(), recorder.state_dir.clone(), std::env::temp_dir()];
        dirs.extend(std::env::var_os("HOME").map(PathBuf::from));
        dirs.extend(std::env::current_dir());
        dirs.extend(std::env::current_exe());
        Self { main_path: recorder.main_path.clone(), dirs }
    }
}

/// Why something was not removed.
#[derive(Debug, thiserror::Error)]
pub enum CleanupError {
    #[error("{path} is left where it is: {why}", path = .path.display())]
    Refused { path: PathBuf, why: &'static str },
    /// A part of it may be removed.
    #[error("cannot remove {path}: {source}", path = .path.display())]
    Disk { path: PathBuf, source: io::Error },
}

/// Device and inode, which identify a directory under any name.
type Identity = (u64, u64);

/// Removes the directory or file `returned` with its content; does nothing where it does not exist. Blocks.
///
/// # Errors
/// Where the removal is refused or the disk fails. A refusal has removed nothing, except where a mount or a protected
/// directory was found further down in the tree.
pub fn remove(returned: &Path, protected: &ProtectedPaths) -> Result<(), CleanupError> {
    let refused = |why| CleanupError::Refused { path: returned.to_owned(), why };
    if !returned.is_absolute() {
        return Err(refused("it is no absolute path"));
    }
    let mut names = Vec::new();
    for part in returned.components() {
        match part {
            Component::RootDir => {}
            Component::Normal(name) => names.push(name),
            _ => return Err(refused("it holds `..`")),
        }
    }
    let Some((last, parents)) = names.split_last() else { return Err(refused("it is the root directory")) };
    if parents.is_empty() {
        return Err(refused("it lies directly under the root directory"));
    }
    let guard = ProtectedIdentities::new(protected).map_err(|(path, source)| CleanupError::Disk { path, source })?;
    let failed = |errno: Errno| match errno {
        Errno::LOOP => refused("a symbolic link leads to it, or it is one"),
        Errno::XDEV => refused("something is mounted there"),
        errno => CleanupError::Disk { path: returned.to_owned(), source: errno.into() },
    };
    let at_root = rustix::fs::open("/", OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let mut dir = at_root.map_err(failed)?;
    for name in parents {
        let inner = if_present(open_dir(&dir, name, OFlags::PATH, ResolveFlags::empty())).map_err(failed)?;
        // Without the parent there is nothing to remove.
        let Some(inner) = inner else { return Ok(()) };
        dir = inner;
        if guard.main_path == identity(&dir).map_err(failed)? {
            return Err(refused("it lies in recorder.copy_to_path.main_path"));
        }
    }
    let Some(kind) = if_present(kind(&dir, last)).map_err(failed)? else { return Ok(()) };
    match kind {
        FileType::RegularFile => unlink(&dir, last, AtFlags::empty()).map_err(failed),
        FileType::Directory => {
            let tree = open_dir(&dir, last, OFlags::RDONLY, ResolveFlags::NO_XDEV).map_err(failed)?;
            if guard.contains_protected(identity(&tree).map_err(failed)?) {
                return Err(refused("it is, or contains, a directory of the recorder, of its user or of the system"));
            }
            remove_contents(&tree, returned, &guard, MAX_DEPTH)?;
            unlink(&dir, last, AtFlags::REMOVEDIR).map_err(failed)
        }
        FileType::Symlink => Err(failed(Errno::LOOP)),
        _ => Err(refused("it is neither a directory nor a file")),
    }
}

/// Removes everything in `dir`, which errors call `path`.
fn remove_contents(dir: &OwnedFd, path: &Path, guard: &ProtectedIdentities, depth: usize) -> Result<(), CleanupError> {
    let refused = |why| CleanupError::Refused { path: path.to_owned(), why };
    let failed = |errno: Errno| CleanupError::Disk { path: path.to_owned(), source: errno.into() };
    let Some(depth) = depth.checked_sub(1) else { return Err(refused("its tree is too deep")) };
    // A protected directory may have been moved into the tree after the first check.
    if guard.protects(identity(dir).map_err(failed)?) {
        return Err(refused("it is a directory of the recorder, of its user or of the system"));
    }
    for entry in Dir::read_from(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let inner = path.join(name);
        let refused = |why| CleanupError::Refused { path: inner.clone(), why };
        let failed_inside = |errno: Errno| CleanupError::Disk { path: inner.clone(), source: errno.into() };
        let Some(kind) = if_present(kind(dir, name)).map_err(failed)? else { continue };
        let flags = if kind == FileType::Directory {
            match open_dir(dir, name, OFlags::RDONLY, ResolveFlags::NO_XDEV | ResolveFlags::BENEATH) {
                Ok(child) => remove_contents(&child, &inner, guard, depth)?,
                Err(Errno::NOENT) => continue,
                Err(Errno::XDEV) => return Err(refused("something is mounted there")),
                Err(Errno::LOOP | Errno::NOTDIR) => return Err(refused("it is changed while it is removed")),
                Err(errno) => return Err(failed_inside(errno)),
            }
            AtFlags::REMOVEDIR
        } else {
            // A symbolic link is removed itself, not its target.
            AtFlags::empty()
        };
        unlink(dir, name, flags).map_err(failed_inside)?;
    }
    Ok(())
}

/// Opens the directory `name` in `dir`, not following a link. `access`: `PATH` needs no right to list it.
fn open_dir(dir: impl AsFd, name: &OsStr, access: OFlags, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    let flags = access | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = resolve | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(&dir, name, flags, Mode::empty(), resolve) {
        // `O_DIRECTORY` on a symbolic link.
        Err(Errno::NOTDIR) if kind(&dir, name) == Ok(FileType::Symlink) => Err(Errno::LOOP),
        opened => opened,
    }
}

fn kind(dir: impl AsFd, name: &OsStr) -> Result<FileType, Errno> {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| FileType::from_raw_mode(stat.st_mode))
}

/// `None` where the file does not exist (any more).
fn if_present<T>(result: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match result {
        Err(Errno::NOENT) => Ok(None),
        result => result.map(Some),
    }
}

/// Removes `name`; does nothing where it does not exist.
fn unlink(dir: impl AsFd, name: &OsStr, flags: AtFlags) -> Result<(), Errno> {
    if_present(rustix::fs::unlinkat(dir, name, flags)).map(drop)
}

fn identity(dir: impl AsFd) -> Result<Identity, Errno> {
    rustix::fs::fstat(dir).map(|stat| (stat.st_dev, stat.st_ino))
}

/// The protected directories, as they are on disk.
struct ProtectedIdentities {
    main_path: Identity,
    /// `main_path` and the other protected directories.
    own: Vec<Identity>,
    /// The directories that contain one of them.
    above: Vec<Identity>,
}

impl ProtectedIdentities {
    /// # Errors
    /// Where `main_path` does not exist: nothing can be compared with it.
    fn new(protected: &ProtectedPaths) -> Result<Self, (PathBuf, io::Error)> {
        let of = |path: &Path| fs::metadata(path).map(|data| (data.dev(), data.ino()));
        let main_path = of(&protected.main_path).map_err(|error| (protected.main_path.clone(), error))?;
        let (mut own, mut above) = (vec![main_path], Vec::new());
        for path in protected.dirs.iter().chain([&protected.main_path]) {
            // A missing directory cannot be removed.
            own.extend(of(path));
            // The ancestors by its name, and by the target of its symbolic links.
            let named = std::path::absolute(path).into_iter().chain(fs::canonicalize(path));
            for path in named {
                above.extend(path.ancestors().skip(1).filter_map(|path| of(path).ok()));
            }
        }
        Ok(Self { main_path, own, above })
    }

    fn protects(&self, dir: Identity) -> bool {
        self.own.contains(&dir)
    }

    fn contains_protected(&self, dir: Identity) -> bool {
        self.protects(dir) || self.above.contains(&dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct Place {
        dir: tempfile::TempDir,
        protected: ProtectedPaths,
    }

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let base = fs::canonicalize(dir.path()).unwrap();
            for name in ["main/room", "tmp/parts/.state", "got/a/b"] {
                fs::create_dir_all(base.join(name)).unwrap();
            }
            for name in ["main/room/x.mp4", "got/x.mkv", "got/a/b/y"] {
                fs::write(base.join(name), name).unwrap();
            }
            let dirs = vec![base.join("tmp/parts"), base.join("tmp/parts/.state"), base.join("gone")];
            Self { dir, protected: ProtectedPaths { main_path: base.join("main"), dirs } }
        }

        fn at(&self, name: &str) -> PathBuf {
            self.protected.main_path.parent().unwrap().join(name)
        }

        fn remove(&self, name: &str) -> Result<(), CleanupError> {
            remove(&self.at(name), &self.protected)
        }

        /// The removal is refused, and every file still exists.
        fn refuses(&self, path: &Path, why: &str) {
            let error = remove(path, &self.protected).unwrap_err();
            assert!(matches!(error, CleanupError::Refused { .. }), "{}: {error}", path.display());
            assert!(error.to_string().contains(why), "{}: {error}", path.display());
            for name in ["main/room/x.mp4", "got/x.mkv", "got/a/b/y", "tmp/parts/.state"] {
                assert!(self.at(name).exists(), "{name} is gone after {}", path.display());
            }
        }
    }

    #[test]
    fn a_hooks_directory_is_removed_and_removing_it_again_is_no_error() {
        let place = Place::new();
        place.remove("got/a/b/y").unwrap();
        assert!(!place.at("got/a/b/y").exists() && place.at("got/a/b").exists());
        for _ in 0..2 {
            place.remove("got/").unwrap();
            assert!(!place.at("got").exists());
        }
        place.remove("got/a").unwrap();
        // A hook may have a directory of its own in the other directories.
        fs::create_dir_all(place.at("tmp/parts/download")).unwrap();
        place.remove("tmp/parts/download").unwrap();
        assert!(place.at("tmp/parts/.state").exists() && place.at("main/room/x.mp4").exists());
        assert!(place.dir.path().exists());
    }

    #[test]
    fn a_protected_directory_is_refused_under_any_name() {
        let place = Place::new();
        symlink(place.at("main"), place.at("link")).unwrap();
        symlink(place.at("got"), place.at("other")).unwrap();
        for (name, why) in [
            ("main", "is, or contains"),
            ("main/room", "lies in"),
            ("main/room/x.mp4", "lies in"),
            ("tmp", "is, or contains"),
            ("tmp/parts", "is, or contains"),
            ("tmp/parts/.state", "is, or contains"),
            ("", "is, or contains"),
            ("link", "symbolic link"),
            ("link/room", "symbolic link"),
            ("other", "symbolic link"),
            ("other/a", "symbolic link"),
            ("got/../main/room", "`..`"),
        ] {
            place.refuses(&place.at(name), why);
        }
        for (path, why) in [("/", "root"), ("/usr", "directly under"), ("got", "absolute"), ("", "absolute")] {
            place.refuses(Path::new(path), why);
        }
        let proc = PathBuf::from(format!("/proc/{}/cwd", std::process::id()));
        place.refuses(&proc, "symbolic link");
        // main_path is protected under any other name too.
        let by_link = ProtectedPaths { main_path: place.at("link"), dirs: Vec::new() };
        for name in ["main", "main/room"] {
            assert!(matches!(remove(&place.at(name), &by_link), Err(CleanupError::Refused { .. })), "{name}");
        }
        assert!(place.at("main/room/x.mp4").exists());
        // Without main_path nothing is removed.
        let unmounted = ProtectedPaths { main_path: place.at("gone"), dirs: Vec::new() };
        assert!(matches!(remove(&place.at("got"), &unmounted), Err(CleanupError::Disk { .. })));
        assert!(place.at("got/a/b/y").exists());
    }

    #[test]
    fn links_within_a_tree_are_removed_and_their_targets_stay() {
        let place = Place::new();
        symlink(place.at("main"), place.at("got/a/to_main")).unwrap();
        symlink(place.at("main/room/x.mp4"), place.at("got/a/b/to_file")).unwrap();
        symlink("..", place.at("got/up")).unwrap();
        symlink("loop", place.at("got/loop")).unwrap();
        place.remove("got").unwrap();
        assert!(!place.at("got").exists() && place.at("main/room/x.mp4").exists() && place.at("tmp").exists());
    }

    #[test]
    fn a_protected_directory_that_was_moved_into_the_tree_stays() {
        let place = Place::new();
        let guard = ProtectedIdentities::new(&place.protected).map_err(|(_, error)| error).unwrap();
        fs::rename(place.at("main"), place.at("got/a/main")).unwrap();
        let tree = rustix::fs::open(place.at("got"), OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()).unwrap();
        let error = remove_contents(&tree, &place.at("got"), &guard, MAX_DEPTH).unwrap_err();
        assert!(matches!(error, CleanupError::Refused { .. }), "{error}");
        assert!(place.at("got/a/main/room/x.mp4").exists());
    }

    #[test]
    fn too_deep_a_tree_and_a_mount_are_refused() {
        let place = Place::new();
        let mut deep = place.at("deep");
        for _ in 0..=MAX_DEPTH {
            deep.push("d");
        }
        fs::create_dir_all(&deep).unwrap();
        let error = place.remove("deep").unwrap_err();
        assert!(error.to_string().contains("too deep"), "{error}");
        // On every Linux something is mounted at one of these.
        for mount in ["/dev/shm", "/dev/pts"] {
            if fs::metadata(mount).is_ok_and(|of| of.dev() != fs::metadata("/dev").map_or(0, |dev| dev.dev())) {
                place.refuses(Path::new(mount), "mounted");
            }
        }
    }

    /// A thread exchanges a directory for a link to `main_path` and back, as fast as it can, while it is removed.
    #[test]
    fn a_directory_exchanged_for_a_link_is_not_followed() {
        let place = Place::new();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let _ = symlink(place.at("main"), place.at("got/swap"));
                    let _ = fs::remove_file(place.at("got/swap"));
                    let _ = fs::create_dir_all(place.at("got/swap/room"));
                    let _ = fs::remove_dir_all(place.at("got/swap"));
                }
            });
            for _ in 0..300 {
                let _ = fs::create_dir_all(place.at("got/a"));
                // A refusal is as good as a removal here.
                let _ = place.remove("got");
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        assert!(place.at("main/room/x.mp4").exists());
    }
}
