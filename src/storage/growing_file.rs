//! Reads a file that another process is still writing, from its first byte to its last.
//!
//! What was there before is read slowly, so that the disk stays free for who writes; once the file is complete, the rest
//! is read as fast as it can be.
//!
//! The file is open only while it is read. A file that this process has open on a disk in user space would hold up the
//! start of every child when that disk hangs: the child closes its copy before it executes its program.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags};
use tokio::sync::watch;

use crate::storage::detached;

/// How much is read at a time, in bytes.
const CHUNK: usize = 1 << 20;
/// The pause after a chunk while the file grows: 40 MB/s at the most.
const PAUSE: Duration = Duration::from_millis(25);
/// How often a file is looked at that has not grown.
const POLL: Duration = Duration::from_secs(1);
/// How long a disk may give no bytes.
const STALLED: Duration = Duration::from_secs(60);

/// Whether more will be written into a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    Growing,
    Complete,
}

/// A file that grows.
#[derive(Debug)]
pub struct GrowingFile {
    /// Names the file (`O_PATH`), wherever it is moved; closing it asks no disk.
    name: Arc<OwnedFd>,
    /// How much was read.
    at: u64,
    growth: watch::Receiver<Growth>,
    /// Something was read just now.
    busy: bool,
    /// Memory of an earlier chunk.
    memory: Vec<u8>,
}

/// Reads any bytes of a file, wherever it is moved.
#[derive(Clone, Debug)]
pub struct FileRanges {
    name: Arc<OwnedFd>,
}

impl GrowingFile {
    /// From here on the file may be moved.
    ///
    /// # Errors
    /// Where it cannot be opened, or its disk does not answer within 60 s.
    pub async fn open(path: &Path, growth: watch::Receiver<Growth>) -> io::Result<Self> {
        let path = path.to_owned();
        let open = move || Ok(rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?);
        let name = Arc::new(within(detached::run("follow", open)).await?);
        Ok(Self { name, at: 0, growth, busy: false, memory: Vec::new() })
    }

    /// The same file, to read what was read before.
    #[must_use]
    pub fn ranges(&self) -> FileRanges {
        FileRanges { name: Arc::clone(&self.name) }
    }

    /// The next bytes, at most a mebibyte, as soon as there are any. `None`: the file is complete, and there are no more.
    ///
    /// # Errors
    /// Where the file cannot be read, or its disk does not answer within 60 s.
    pub async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            // Asked before the file is read: what was written until it was complete is read then.
            let state = *self.growth.borrow_and_update();
            if state == Growth::Growing && self.busy {
                // Its end is no reason to wait on.
                let _ = tokio::time::timeout(PAUSE, self.growth.changed()).await;
            }
            let (name, at, memory) = (Arc::clone(&self.name), self.at, std::mem::take(&mut self.memory));
            let chunk = within(detached::run("follow", move || read(&name, at, CHUNK, memory))).await?;
            self.at += chunk.len() as u64;
            self.busy = !chunk.is_empty();
            match (self.busy, state) {
                (true, _) => return Ok(Some(chunk)),
                (false, Growth::Complete) => return Ok(None),
                (false, Growth::Growing) => {
                    self.memory = chunk;
                    drop(tokio::time::timeout(POLL, self.growth.changed()).await);
                }
            }
        }
    }

    /// Gives the memory of a chunk back, for the next one. Each chunk is read by a thread of its own, and what such threads
    /// allocate and others free stays with the process.
    pub fn recycle(&mut self, chunk: Vec<u8>) {
        self.memory = chunk;
    }
}

impl FileRanges {
    /// These bytes of the file, in `memory`, whose content does not matter ([`GrowingFile::recycle`]).
    ///
    /// # Errors
    /// Where the file cannot be read or is shorter, or its disk does not answer within 60 s.
    pub async fn read(&self, range: Range<u64>, memory: Vec<u8>) -> io::Result<Vec<u8>> {
        let limit = usize::try_from(range.end.saturating_sub(range.start)).map_err(io::Error::other)?;
        let name = Arc::clone(&self.name);
        let bytes = within(detached::run("follow", move || read(&name, range.start, limit, memory))).await?;
        if bytes.len() == limit { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// Up to `limit` bytes, in `memory`; fewer at the end of the file.
fn read(name: &OwnedFd, at: u64, limit: usize, memory: Vec<u8>) -> io::Result<Vec<u8>> {
    let file = File::open(format!("/proc/self/fd/{}", name.as_raw_fd()))?;
    let there = usize::try_from(file.metadata()?.len().saturating_sub(at)).unwrap_or(limit);
    let mut chunk = memory;
    chunk.clear();
    chunk.resize(limit.min(there), 0);
    let mut length = 0;
    while length < chunk.len() {
        match file.read_at(&mut chunk[length..], at + length as u64)? {
            0 => break,
            bytes => length += bytes,
        }
    }
    chunk.truncate(length);
    Ok(chunk)
}

async fn within<T>(read: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(STALLED, read).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[tokio::test]
    async fn a_file_is_read_to_its_end_whenever_that_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("grows");
        let mut file = File::create(&path).unwrap();
        file.write_all(&vec![1; CHUNK + 10]).unwrap();
        let (tell, growth) = watch::channel(Growth::Growing);
        let mut growing = GrowingFile::open(&path, growth).await.unwrap();
        std::fs::rename(&path, dir.path().join("moved")).unwrap();
        let mut sizes = Vec::new();
        for _ in 0..2 {
            sizes.push(growing.next().await.unwrap().unwrap().len());
        }
        file.write_all(b"the end").unwrap();
        tell.send_replace(Growth::Complete);
        while let Some(chunk) = growing.next().await.unwrap() {
            sizes.push(chunk.len());
        }
        assert_eq!(sizes, [CHUNK, 10, 7]);
    }
}
