//! A file system under a directory of the recorder, which breaks and is well again.

use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::run::files;
use super::schedule::DiskFault;
use crate::standin::faulty_fs::{Abilities, Fault, FaultyFs, Requests};

pub struct Disk {
    place: PathBuf,
    behind: PathBuf,
    /// `None` while it is not mounted.
    mounted: Option<FaultyFs>,
}

impl Disk {
    /// Mounts one at `place`; its files are in a directory of the same name in `behind`.
    pub fn new(place: &Path, behind: &Path) -> Self {
        let behind = behind.join(place.file_name().unwrap_or_default());
        let mounted = Some(FaultyFs::mount(&behind, place, Abilities::ALL));
        Self { place: place.to_owned(), behind, mounted }
    }

    pub fn break_down(&self, fault: DiskFault) {
        let Some(disk) = &self.mounted else { return };
        let (requests, fault) = match fault {
            DiskFault::Hangs => (Requests::All, Fault::Hang),
            DiskFault::Full => (Requests::Changes, Fault::Error(Errno::NOSPC.raw_os_error())),
            DiskFault::ReadOnly => (Requests::Changes, Fault::Error(Errno::ROFS.raw_os_error())),
            DiskFault::Fails => (Requests::Changes, Fault::Error(Errno::IO.raw_os_error())),
        };
        disk.break_down(requests, fault);
    }

    pub fn heal(&self) {
        if let Some(disk) = &self.mounted {
            disk.heal();
        }
    }

    pub fn unmount(&mut self) {
        self.mounted = None;
    }

    /// Mounts it again. Returns what was written into the bare directory meanwhile, and removes that.
    pub fn mount(&mut self) -> Vec<PathBuf> {
        let written = files(&self.place);
        for path in &written {
            // What cannot be removed is hidden from now on.
            let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        }
        self.mounted = Some(FaultyFs::mount(&self.behind, &self.place, Abilities::ALL));
        written
    }
}
