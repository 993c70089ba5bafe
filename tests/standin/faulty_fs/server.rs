//! Answers the kernel's requests from the directory behind the mount.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::{Abilities, Gate, Requests};

/// Nothing is cached by the kernel, so that a fault is met at once.
const TTL: Duration = Duration::ZERO;
pub(super) struct Server {
    pub(super) backing: PathBuf,
    pub(super) abilities: Abilities,
    pub(super) gate: Arc<Gate>,
    /// The path of each known inode, relative to `backing`.
    pub(super) paths: Mutex<HashMap<u64, PathBuf>>,
    pub(super) files: Mutex<HashMap<u64, Arc<File>>>,
    pub(super) next_handle: AtomicU64,
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_i32(error.raw_os_error().unwrap_or(5))
}

fn unsupported() -> io::Error {
    rustix::io::Errno::OPNOTSUPP.into()
}

impl Server {
    fn path(&self, inode: INodeNo) -> io::Result<PathBuf> {
        let paths = self.paths.lock().unwrap();
        let path = paths.get(&inode.0).ok_or(io::Error::from(ErrorKind::NotFound))?;
        Ok(self.backing.join(path))
    }

    fn child(&self, parent: INodeNo, name: &OsStr) -> io::Result<PathBuf> {
        Ok(self.path(parent)?.join(name))
    }

    fn attributes(&self, path: &Path) -> io::Result<FileAttr> {
        let found = std::fs::symlink_metadata(path)?;
        let root = path == self.backing || path == self.backing.join("");
        let inode = if root { INodeNo::ROOT.0 } else { found.ino() };
        if !root {
            let relative = path.strip_prefix(&self.backing).unwrap().to_owned();
            self.paths.lock().unwrap().insert(inode, relative);
        }
        Ok(attributes(inode, &found))
    }

    fn file(&self, handle: FileHandle) -> io::Result<Arc<File>> {
        self.files.lock().unwrap().get(&handle.0).cloned().ok_or(rustix::io::Errno::BADF.into())
    }

    fn keep(&self, file: File) -> FileHandle {
        let handle = self.next_handle.fetch_add(1, Ordering::Relaxed);
        self.files.lock().unwrap().insert(handle, Arc::new(file));
        FileHandle(handle)
    }

    fn open_file(&self, inode: INodeNo, flags: OpenFlags) -> io::Result<FileHandle> {
        let flags = u32::try_from(flags.0).unwrap_or(0);
        let write = flags & 0o3 != 0;
        self.gate.pass(if write { Requests::Changes } else { Requests::All })?;
        let truncate = flags & 0o1000 != 0;
        let path = self.path(inode)?;
        if write && !truncate && !self.abilities.rewrite && std::fs::metadata(&path)?.len() > 0 {
            return Err(unsupported());
        }
        let file = OpenOptions::new().read(true).write(write).truncate(truncate && write).open(path)?;
        Ok(self.keep(file))
    }

    fn make_file(&self, parent: INodeNo, name: &OsStr, mode: u32) -> io::Result<(FileAttr, FileHandle)> {
        self.gate.pass(Requests::Changes)?;
        let path = self.child(parent, name)?;
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(mode).open(&path)?;
        Ok((self.attributes(&path)?, self.keep(file)))
    }

    fn write_at(&self, handle: FileHandle, offset: u64, data: &[u8]) -> io::Result<u32> {
        let file = self.file(handle)?;
        self.gate.pass_contents(&file)?;
        if !self.abilities.rewrite && offset != file.metadata()?.len() {
            return Err(unsupported());
        }
        file.write_all_at(data, offset)?;
        Ok(u32::try_from(data.len()).unwrap())
    }

    fn read_at(&self, handle: FileHandle, offset: u64, size: u32) -> io::Result<Vec<u8>> {
        self.gate.pass(Requests::ReadsBeyond(offset + u64::from(size)))?;
        let file = self.file(handle)?;
        let mut data = vec![0; usize::try_from(size).unwrap()];
        let mut filled = 0;
        while filled < data.len() {
            match file.read_at(&mut data[filled..], offset + u64::try_from(filled).unwrap())? {
                0 => break,
                read => filled += read,
            }
        }
        data.truncate(filled);
        Ok(data)
    }

    fn sync(&self, handle: Option<FileHandle>) -> io::Result<()> {
        self.gate.pass(Requests::Fsync)?;
        if !self.abilities.fsync {
            return Err(unsupported());
        }
        let Some(handle) = handle else {
            self.gate.synced_directories.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        };
        self.file(handle)?.sync_all()
    }

    fn change(&self, inode: INodeNo, mode: Option<u32>, size: Option<u64>) -> io::Result<FileAttr> {
        self.gate.pass(Requests::Changes)?;
        let path = self.path(inode)?;
        if let Some(mode) = mode {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode & 0o7777))?;
        }
        if let Some(size) = size {
            let file = OpenOptions::new().write(true).open(&path)?;
            if !self.abilities.rewrite && size != 0 && size != file.metadata()?.len() {
                return Err(unsupported());
            }
            file.set_len(size)?;
        }
        self.attributes(&path)
    }

    fn make_dir(&self, parent: INodeNo, name: &OsStr, mode: u32) -> io::Result<FileAttr> {
        self.gate.pass(Requests::Changes)?;
        let path = self.child(parent, name)?;
        std::fs::DirBuilder::new().mode(mode).create(&path)?;
        self.attributes(&path)
    }

    fn remove(&self, parent: INodeNo, name: &OsStr, dir: bool) -> io::Result<()> {
        self.gate.pass(Requests::Removals)?;
        let path = self.child(parent, name)?;
        if dir { std::fs::remove_dir(path) } else { std::fs::remove_file(path) }
    }

    fn move_file(&self, from: (INodeNo, &OsStr), to: (INodeNo, &OsStr), flags: RenameFlags) -> io::Result<()> {
        self.gate.pass(Requests::Changes)?;
        if !self.abilities.rename {
            return Err(unsupported());
        }
        let (from, to) = (self.child(from.0, from.1)?, self.child(to.0, to.1)?);
        let flags = rustix::fs::RenameFlags::from_bits_truncate(flags.bits());
        rustix::fs::renameat_with(rustix::fs::CWD, &from, rustix::fs::CWD, &to, flags)?;
        let relative = |path: &Path| path.strip_prefix(&self.backing).unwrap().to_owned();
        let (old, new) = (relative(&from), relative(&to));
        for path in self.paths.lock().unwrap().values_mut() {
            if let Ok(below) = path.strip_prefix(&old) {
                *path = if below.as_os_str().is_empty() { new.clone() } else { new.join(below) };
            }
        }
        Ok(())
    }

    fn hard_link(&self, inode: INodeNo, parent: INodeNo, name: &OsStr) -> io::Result<FileAttr> {
        self.gate.pass(Requests::Changes)?;
        if !self.abilities.link {
            return Err(unsupported());
        }
        let path = self.child(parent, name)?;
        std::fs::hard_link(self.path(inode)?, &path)?;
        self.attributes(&path)
    }

    fn list(&self, inode: INodeNo, offset: u64, reply: &mut ReplyDirectory) -> io::Result<()> {
        self.gate.pass(Requests::All)?;
        let mut entries = vec![(inode.0, FileType::Directory, ".".into()), (inode.0, FileType::Directory, "..".into())];
        for entry in std::fs::read_dir(self.path(inode)?)? {
            let entry = entry?;
            let found = entry.metadata()?;
            let kind = FileType::from_std(found.file_type()).unwrap_or(FileType::RegularFile);
            entries.push((found.ino(), kind, entry.file_name()));
        }
        for (position, (inode, kind, name)) in (1..).zip(entries).skip(usize::try_from(offset).unwrap()) {
            if reply.add(INodeNo(inode), position, kind, name) {
                break;
            }
        }
        Ok(())
    }
}

fn attributes(inode: u64, found: &Metadata) -> FileAttr {
    FileAttr {
        ino: INodeNo(inode),
        size: found.len(),
        blocks: found.blocks(),
        atime: found.accessed().unwrap_or(SystemTime::UNIX_EPOCH),
        mtime: found.modified().unwrap_or(SystemTime::UNIX_EPOCH),
        ctime: found.modified().unwrap_or(SystemTime::UNIX_EPOCH),
        crtime: SystemTime::UNIX_EPOCH,
        kind: FileType::from_std(found.file_type()).unwrap_or(FileType::RegularFile),
        perm: u16::try_from(found.mode() & 0o7777).unwrap(),
        nlink: u32::try_from(found.nlink()).unwrap_or(1),
        uid: found.uid(),
        gid: found.gid(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// Sends a result by the reply's own method, or the error.
macro_rules! answer {
    ($reply:ident, $result:expr, $ok:pat => $sent:expr) => {
        match $result {
            Ok($ok) => $sent,
            Err(error) => $reply.error(errno(&error)),
        }
    };
}

impl Filesystem for Server {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.gate.pass(Requests::All).and_then(|()| self.attributes(&self.child(parent, name)?));
        answer!(reply, found, found => reply.entry(&TTL, &found, Generation(0)));
    }

    fn getattr(&self, _: &Request, inode: INodeNo, handle: Option<FileHandle>, reply: ReplyAttr) {
        let found = self.gate.pass(Requests::All).and_then(|()| match handle {
            // The file may have been removed.
            Some(handle) => Ok(attributes(inode.0, &self.file(handle)?.metadata()?)),
            None => self.attributes(&self.path(inode)?),
        });
        answer!(reply, found, found => reply.attr(&TTL, &found));
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        answer!(reply, self.change(inode, mode, size), found => reply.attr(&TTL, &found));
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        answer!(reply, self.make_dir(parent, name, mode & !umask), found => reply.entry(&TTL, &found, Generation(0)));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(reply, self.remove(parent, name, false), () => reply.ok());
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(reply, self.remove(parent, name, true), () => reply.ok());
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        answer!(reply, self.move_file((parent, name), (new_parent, new_name), flags), () => reply.ok());
    }

    fn link(&self, _: &Request, inode: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        answer!(reply, self.hard_link(inode, parent, name), made => reply.entry(&TTL, &made, Generation(0)));
    }

    fn open(&self, _: &Request, inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        answer!(reply, self.open_file(inode, flags), handle => reply.opened(handle, FopenFlags::empty()));
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        answer!(reply, self.make_file(parent, name, mode & !umask), (found, handle) => {
            reply.created(&TTL, &found, Generation(0), handle, FopenFlags::empty());
        });
    }

    fn read(
        &self,
        _: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        answer!(reply, self.read_at(handle, offset, size), data => reply.data(&data));
    }

    fn write(
        &self,
        _: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        answer!(reply, self.write_at(handle, offset, data), written => reply.written(written));
    }

    fn flush(&self, _: &Request, _inode: INodeNo, _handle: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        answer!(reply, self.gate.pass(Requests::All), () => reply.ok());
    }

    fn release(
        &self,
        _: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.files.lock().unwrap().remove(&handle.0);
        reply.ok();
    }

    fn fsync(&self, _: &Request, _inode: INodeNo, handle: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        answer!(reply, self.sync(Some(handle)), () => reply.ok());
    }

    fn fsyncdir(&self, _: &Request, _inode: INodeNo, _handle: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        answer!(reply, self.sync(None), () => reply.ok());
    }

    fn readdir(&self, _: &Request, inode: INodeNo, _handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        answer!(reply, self.list(inode, offset, &mut reply), () => reply.ok());
    }

    fn statfs(&self, _: &Request, _inode: INodeNo, reply: ReplyStatfs) {
        let found = self.gate.pass(Requests::All).and_then(|()| Ok(rustix::fs::statvfs(&self.backing)?));
        let small = |number: u64| u32::try_from(number).unwrap_or(4096);
        answer!(reply, found, found => reply.statfs(
            found.f_blocks, found.f_bfree, found.f_bavail, found.f_files, found.f_ffree,
            small(found.f_bsize), small(found.f_namemax), small(found.f_frsize),
        ));
    }
}
