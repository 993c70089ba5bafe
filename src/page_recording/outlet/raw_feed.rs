//! Feeds an ffmpeg with the raw file as it grows.

use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use crate::media::clusters::{ClusterIndex, Clusters, HEAD};

/// How often the file is looked at where there is nothing new; it grows once a second.
const POLL: Duration = Duration::from_millis(100);
/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;
/// How long ffmpeg may take nothing: longer than a far end may take to accept a broadcast (18 s).
pub const STALL_LIMIT: Duration = Duration::from_secs(20);
/// So many bytes that are of no use any more are given back to the disk at once.
const RELEASED_AT_ONCE: u64 = 8 << 20;

/// Where ffmpeg begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With the recording.
    AtStart,
    /// With what is recorded now.
    Now,
}

/// Why ffmpeg has not got all.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    #[error("the raw file cannot be read: {0}")]
    Unreadable(io::Error),
    /// ffmpeg has ended, and says why.
    #[error("ffmpeg has ended")]
    Ended,
    #[error("ffmpeg takes nothing for {} s", STALL_LIMIT.as_secs())]
    Stalled,
}

/// The raw file of a recording that runs.
#[derive(Clone, Debug)]
pub struct RawFeed {
    path: PathBuf,
    /// Nothing more comes.
    complete: CancellationToken,
    /// Whether what was fed is of no further use: the disk gets it back.
    releases: bool,
    index: ClusterIndex,
    released: u64,
}

impl RawFeed {
    #[must_use]
    pub fn new(path: &Path, complete: CancellationToken, releases: bool) -> Self {
        Self { path: path.to_owned(), complete, releases, index: ClusterIndex::default(), released: 0 }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete.is_cancelled()
    }

    /// Resolves when nothing more comes.
    pub async fn complete(&self) {
        self.complete.cancelled().await;
    }

    /// Writes all of the file from there on, and closes `input`.
    ///
    /// # Errors
    /// See [`FeedError`].
    pub async fn feed(&mut self, mut input: impl AsyncWrite + Unpin, begin: Begin) -> Result<(), FeedError> {
        let file = &mut answered(File::options().read(true).write(self.releases).open(&self.path)).await?;
        let mut at = 0;
        if begin == Begin::Now {
            let Some(clusters) = self.wait_for_cluster(file).await? else {
                return Ok(());
            };
            let mut header = vec![0; usize::try_from(clusters.first).unwrap_or_default()];
            let read = async {
                file.seek(SeekFrom::Start(0)).await?;
                file.read_exact(&mut header).await
            };
            answered(read).await?;
            write(&mut input, &header).await?;
            at = clusters.last;
        }
        let mut buffer = vec![0; CHUNK];
        loop {
            // Before the look at the file: what was written before it is read.
            let complete = self.is_complete();
            let read = async {
                file.seek(SeekFrom::Start(at)).await?;
                file.read(&mut buffer).await
            };
            let read = answered(read).await?;
            if read > 0 {
                write(&mut input, &buffer[..read]).await?;
                at += read as u64;
                let release = async {
                    self.release(file, at).await;
                    Ok(())
                };
                answered(release).await?;
                continue;
            }
            if complete {
                return Ok(());
            }
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                () = self.complete.cancelled() => {}
            }
        }
    }

    /// Where the clusters are, as soon as there is one; `None`: there will be none.
    async fn wait_for_cluster(&mut self, file: &mut File) -> Result<Option<Clusters>, FeedError> {
        loop {
            let complete = self.is_complete();
            answered(self.look(file)).await?;
            if complete || self.index.clusters().is_some() {
                return Ok(self.index.clusters());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn look(&mut self, file: &mut File) -> io::Result<()> {
        let length = file.metadata().await?.len();
        let mut head = [0; HEAD];
        loop {
            file.seek(SeekFrom::Start(self.index.next())).await?;
            let read = file.read(&mut head).await?;
            if !self.index.take(&head[..read], length) {
                return Ok(());
            }
        }
    }

    /// Gives the disk back what is before the last cluster and before `until`, where that is of no further use. A file
    /// system that cannot do this keeps it.
    async fn release(&mut self, file: &mut File, until: u64) {
        if !self.releases || until < self.released + RELEASED_AT_ONCE || self.look(file).await.is_err() {
            return;
        }
        let Some(clusters) = self.index.clusters() else { return };
        let from = self.released.max(clusters.first);
        let until = until.min(clusters.last);
        self.released = until.max(self.released);
        let (Ok(file), true) = (file.try_clone().await, until > from) else { return };
        let file = file.into_std().await;
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let released = tokio::task::spawn_blocking(move || fallocate(&file, hole, from, until - from)).await;
        if !matches!(released, Ok(Ok(()))) {
            tracing::debug!(?released, "the disk keeps what was sent");
        }
    }
}

/// What the disk of the raw file does, with a limit: one that hangs answers never.
async fn answered<T>(work: impl Future<Output = io::Result<T>>) -> Result<T, FeedError> {
    let hangs =
        |_| Err(io::Error::new(io::ErrorKind::TimedOut, format!("its disk hangs for {} s", STALL_LIMIT.as_secs())));
    tokio::time::timeout(STALL_LIMIT, work).await.unwrap_or_else(hangs).map_err(FeedError::Unreadable)
}

async fn write(input: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), FeedError> {
    match tokio::time::timeout(STALL_LIMIT, input.write_all(bytes)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(FeedError::Ended),
        Err(_) => Err(FeedError::Stalled),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    /// A file of this many clusters of 1 MiB behind a header of 19 bytes.
    fn file(clusters: u8) -> Vec<u8> {
        let mut file = vec![0x1A, 0x45, 0xDF, 0xA3, 0x80, 0x18, 0x53, 0x80, 0x67, 0x01];
        file.extend([0xFF; 7]);
        file.extend([0xEC, 0x80]);
        for number in 0..clusters {
            file.extend([0x1F, 0x43, 0xB6, 0x75, 0x08, 0x00, 0x10, 0x00, 0x00]);
            file.extend(vec![number; 1 << 20]);
        }
        file
    }

    /// What comes out, and what the raw file then takes of the disk.
    async fn fed(whole: &[u8], before: usize, begin: Begin, releases: bool) -> (Vec<u8>, u64) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("raw");
        std::fs::write(&path, &whole[..before]).unwrap();
        let complete = CancellationToken::new();
        let mut feed = RawFeed::new(&path, complete.clone(), releases);
        let (input, mut output) = tokio::io::duplex(CHUNK);
        let mut out = Vec::new();
        let grow = async {
            // The rest comes when all of the first part is read.
            let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
            tokio::time::sleep(3 * POLL).await;
            io::Write::write_all(&mut file, &whole[before..]).unwrap();
            complete.cancel();
        };
        let (outcome, _, ()) = tokio::join!(feed.feed(input, begin), output.read_to_end(&mut out), grow);
        outcome.unwrap();
        (out, path.metadata().unwrap().blocks() * 512)
    }

    #[tokio::test]
    async fn all_of_a_growing_file_is_fed_or_all_from_its_last_cluster_on() {
        let whole = file(4);
        let cut = whole.len() - (1 << 20) - 5;
        let (all, used) = fed(&whole, cut, Begin::AtStart, false).await;
        assert!(all == whole && used >= whole.len() as u64);
        // The head of the last cluster is there in part: the one before it is the last.
        let (since, _) = fed(&whole, cut, Begin::Now, false).await;
        let cluster = 9 + (1 << 20);
        assert!(since == [&whole[..19], &whole[19 + 2 * cluster..]].concat(), "{} bytes", since.len());
    }

    #[tokio::test]
    async fn what_was_fed_and_is_of_no_use_takes_no_disk() {
        let whole = file(20);
        let (all, used) = fed(&whole, 100, Begin::Now, true).await;
        assert_eq!(all.len(), whole.len());
        assert!(all == whole, "nothing is released before it was fed");
        assert!(used < 12 << 20, "{used} bytes of {} are used", whole.len());
    }
}
