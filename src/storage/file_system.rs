//! What kind of file system a directory is on.

use std::io;
use std::path::Path;

use rustix::io::Errno;

/// What the state of a node may expect of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystemKind {
    /// A disk of this host, as far as is known.
    Local,
    /// It is reached by a network or by another process, and may hang with it; its name.
    Remote(&'static str),
    /// It ends with the container or at a reboot; its name.
    Volatile(&'static str),
}

/// The numbers of statfs(2), as linux/magic.h has them.
const KINDS: [(u64, FileSystemKind); 12] = [
    (0x6969, FileSystemKind::Remote("NFS")),
    (0xff53_4d42, FileSystemKind::Remote("CIFS")),
    (0xfe53_4d42, FileSystemKind::Remote("SMB")),
    (0x517b, FileSystemKind::Remote("SMB")),
    (0x6573_5546, FileSystemKind::Remote("FUSE")),
    (0x00c3_6400, FileSystemKind::Remote("Ceph")),
    (0x5346_414f, FileSystemKind::Remote("AFS")),
    (0x0102_1997, FileSystemKind::Remote("9P")),
    (0x0bd0_0bd0, FileSystemKind::Remote("Lustre")),
    (0x0102_1994, FileSystemKind::Volatile("tmpfs")),
    (0x8584_58f6, FileSystemKind::Volatile("ramfs")),
    (0x794c_7630, FileSystemKind::Volatile("the writable layer of a container")),
];

/// The kind of the file system of `path`, or of its nearest existing parent directory.
///
/// # Errors
/// Where the file system cannot be asked.
pub fn kind(path: &Path) -> io::Result<FileSystemKind> {
    let path = std::path::absolute(path)?;
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for dir in path.ancestors() {
        match rustix::fs::statfs(dir) {
            Ok(found) => return Ok(of_number(found.f_type)),
            Err(error @ (Errno::NOENT | Errno::NOTDIR)) => last = error.into(),
            Err(error) => return Err(error.into()),
        }
    }
    Err(last)
}

/// The number has 32 bits, whatever type the platform gives it.
#[expect(clippy::cast_sign_loss, reason = "only its bits count")]
fn of_number(number: rustix::fs::FsWord) -> FileSystemKind {
    let number = number as u64 & 0xffff_ffff;
    KINDS.iter().find(|(of, _)| *of == number).map_or(FileSystemKind::Local, |(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_directory_is_of_the_kind_of_its_parent() {
        assert_eq!(kind(Path::new("/dev/shm/not/there")).unwrap(), FileSystemKind::Volatile("tmpfs"));
        assert_eq!(kind(Path::new("/proc/self")).unwrap(), FileSystemKind::Local);
    }
}
