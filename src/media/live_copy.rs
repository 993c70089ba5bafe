//! Copies a raw file that is still being written into its MP4, and lists its packets meanwhile, which is what measuring
//! it would do once it is complete.
//!
//! ```text
//! raw file ── read as it grows ──┬── pipe ── ffmpeg, copying ── MP4
//!                                └── pipe ── ffprobe ── list of packets
//! ```
//!
//! Who writes the raw file is not touched by anything that stands still here: both programs only get what is in the
//! file.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::watch;

use crate::media::ffmpeg::{self, FfmpegError};
use crate::media::ffmpeg_arguments::FfmpegArguments;
use crate::media::ffprobe::{self, MediaInfo, file_url};
use crate::media::packet_times::FilePackets;
use crate::process::child::{self, ChildSpec, SpawnError};
use crate::storage::growing_file::{GrowingFile, Growth};

/// How long a program may take no bytes.
const STALLED: Duration = Duration::from_secs(60);
/// Time limit for an ffmpeg that has closed its input to end.
const GRACE: Duration = Duration::from_secs(2);

/// A copy of a growing raw file.
#[derive(Clone, Copy, Debug)]
pub struct LiveCopy<'a> {
    pub raw: &'a Path,
    /// Of a copy that leaves room for the index of the packets of [`Self::room`].
    pub arguments: &'a FfmpegArguments,
    /// With the most packets that each stream may have.
    pub room: &'a MediaInfo,
    /// The MP4; an existing file is overwritten.
    pub output: &'a Path,
    /// 0…19, see [`ChildSpec::nice`].
    pub nice: u8,
}

/// What was copied.
#[derive(Debug)]
pub struct CopiedFile {
    /// The length of the raw file in bytes.
    pub bytes: u64,
    pub packets: FilePackets,
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum LiveCopyError {
    #[error("the raw file has more packets than there is room for in the index of the MP4")]
    RoomExceeded,
    #[error("the raw file cannot be read: {0}")]
    Read(io::Error),
    #[error("a program that copies the raw file takes no more of it for {} s", STALLED.as_secs())]
    Stalled,
    #[error("a program that copies the raw file takes no more of it: {0}")]
    Write(io::Error),
    #[error(transparent)]
    Start(#[from] SpawnError),
    #[error(transparent)]
    Ffmpeg(#[from] FfmpegError),
}

impl LiveCopy<'_> {
    /// Copies until the file is complete. The MP4 is complete only after `Ok`; if this is dropped, both programs are
    /// killed.
    ///
    /// # Errors
    /// See [`LiveCopyError`].
    pub async fn run(&self, growth: watch::Receiver<Growth>) -> Result<CopiedFile, LiveCopyError> {
        // Before all else: it will be moved.
        let file = GrowingFile::open(self.raw, growth).await.map_err(LiveCopyError::Read)?;
        let mut ffmpeg = child::spawn(&self.ffmpeg()).await?;
        let mut ffprobe = child::spawn(&ffprobe::list_of_piped_packets().nice(self.nice)).await?;
        let pipes = [ffmpeg.stdin.take(), ffprobe.stdin.take()].into_iter().flatten().collect();
        let list = ffprobe.stdout.take();
        let copied = tokio::try_join!(follow(file, pipes), self.list(list));
        if matches!(copied, Err(LiveCopyError::Write(_))) {
            // It says more than that it takes nothing.
            ffmpeg::judge(ffmpeg.end_within(GRACE).await, &ffmpeg)?;
        }
        let (bytes, packets) = copied?;
        ffmpeg::judge(ffmpeg.end_within(STALLED).await, &ffmpeg)?;
        ffprobe.end_within(STALLED).await;
        Ok(CopiedFile { bytes, packets })
    }

    fn ffmpeg(&self) -> ChildSpec {
        let mut spec = ChildSpec::new("ffmpeg", "ffmpeg")
            .args(["-nostdin", "-hide_banner", "-nostats", "-loglevel", "warning"])
            .args(&self.arguments.pre_input)
            .args(["-protocol_whitelist", "pipe", "-f", "matroska", "-i", "pipe:0"])
            .args(&self.arguments.post_input)
            .args(["-f", "mp4", "-y"])
            .args([file_url(self.output)])
            .nice(self.nice);
        spec.pipe_stdin = true;
        spec
    }

    async fn list(&self, list: Option<ChildStdout>) -> Result<FilePackets, LiveCopyError> {
        let mut packets = FilePackets::default();
        let Some(list) = list else { return Ok(packets) };
        let mut lines = BufReader::with_capacity(64 << 10, list).lines();
        while let Some(line) = lines.next_line().await.map_err(LiveCopyError::Read)? {
            packets.add(&line);
            let is_full = |(index, stream): (usize, &ffprobe::MediaStream)| {
                stream.packets.is_some_and(|room| packets.count(index) > room)
            };
            if self.room.streams.iter().enumerate().any(is_full) {
                return Err(LiveCopyError::RoomExceeded);
            }
        }
        Ok(packets)
    }
}

/// Writes the bytes of the file into both pipes until it is complete; its length.
async fn follow(mut file: GrowingFile, mut pipes: Vec<ChildStdin>) -> Result<u64, LiveCopyError> {
    let mut total = 0;
    while let Some(chunk) = file.next().await.map_err(LiveCopyError::Read)? {
        total += chunk.len() as u64;
        for pipe in &mut pipes {
            let written = tokio::time::timeout(STALLED, pipe.write_all(&chunk)).await;
            written.map_err(|_| LiveCopyError::Stalled)?.map_err(LiveCopyError::Write)?;
        }
    }
    Ok(total)
}
