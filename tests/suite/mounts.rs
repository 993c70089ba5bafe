//! Mounts of the tests' own. They need root, as the machines that run the tests give it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted directory; unmounted when dropped, also while a process has a file open there.
pub struct Mount(PathBuf);

impl Mount {
    /// Shows `dir` at `at`, which must exist.
    pub fn bind(dir: &Path, at: &Path) -> Self {
        mount(&["--bind", dir.to_str().unwrap(), at.to_str().unwrap()]);
        Self(at.to_owned())
    }

    /// A file system in memory at `at`, which must exist, for so many bytes.
    pub fn small(at: &Path, bytes: u64) -> Self {
        mount(&["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs", at.to_str().unwrap()]);
        Self(at.to_owned())
    }

    pub fn read_only(&self, read_only: bool) {
        let options = if read_only { "remount,bind,ro" } else { "remount,bind,rw" };
        mount(&["-o", options, self.0.to_str().unwrap()]);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn mount(arguments: &[&str]) {
    let status = Command::new("mount").args(arguments).status().unwrap();
    assert!(status.success(), "mount {arguments:?}");
}
