//! One ffmpeg that makes renditions of a raw file as it grows. It is fed through a pipe and read through pipes, so that who
//! writes the raw file is not touched by anything that stands still here.

use std::path::Path;
use std::time::Duration;

use futures::future::try_join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::process::ChildStdin;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::hls::live::arguments::LiveTracks;
use crate::hls::live::error::LiveError;
use crate::hls::live::fragments::{FragmentReader, TrackPiece};
use crate::media::ffmpeg;
use crate::process::child::{self, ChildSpec, FIRST_OUTPUT};
use crate::storage::growing_file::{GrowingFile, Growth};

/// Behind everything else.
const NICE: u8 = 19;
/// Bytes that are read from a pipe at once.
const CHUNK: usize = 64 << 10;
/// A read of the raw file that gives less has reached its end (`storage/growing_file.rs` reads a mebibyte).
const FULL_READ: usize = 1 << 20;
/// Time limit for an ffmpeg to exit that has closed its outputs.
const EXIT_LIMIT: Duration = Duration::from_secs(5);

/// A piece of the track of this number: a rung's, then the sound.
pub(super) type NumberedPiece = (usize, TrackPiece);

/// Makes renditions of one raw file.
pub(super) struct PartEncoder<'a> {
    pub file: &'a Path,
    pub tracks: &'a LiveTracks,
    /// How far it may be behind.
    pub limit: Duration,
}

impl PartEncoder<'_> {
    /// Runs until the file is complete and all of it is sent on; the bytes of the file. ffmpeg is killed where this is dropped.
    ///
    /// # Errors
    /// See [`LiveError`].
    pub async fn run(
        &self,
        growth: watch::Receiver<Growth>,
        pieces: mpsc::Sender<NumberedPiece>,
    ) -> Result<u64, LiveError> {
        let file = GrowingFile::open(self.file, growth).await.map_err(LiveError::Read)?;
        let mut ffmpeg = child::spawn(&self.spec()).await?;
        let Some(input) = ffmpeg.stdin.take() else { return Err(LiveError::Unfit("ffmpeg has no input".to_owned())) };
        let read = |(track, output): (usize, pipe::Receiver)| read(track, output, pieces.clone());
        let mut read =
            std::pin::pin!(try_join_all(std::mem::take(&mut ffmpeg.outputs).into_iter().enumerate().map(read)));
        let mut feeding = std::pin::pin!(feed(file, input, self.limit));
        let fed = tokio::select! {
            fed = &mut feeding => fed?,
            read = &mut read => {
                read?;
                None
            }
        };
        let Some(bytes) = fed else {
            ffmpeg::judge(ffmpeg.end_within(EXIT_LIMIT).await, &ffmpeg)?;
            return Err(LiveError::Unfit("ffmpeg ended before the raw file".to_owned()));
        };
        let rest = tokio::time::timeout(self.limit, read).await;
        rest.map_err(|_| LiveError::Behind(self.limit))??;
        ffmpeg::judge(ffmpeg.end_within(EXIT_LIMIT).await, &ffmpeg)?;
        Ok(bytes)
    }

    fn spec(&self) -> ChildSpec {
        let mut spec = ChildSpec::new("ffmpeg", "ffmpeg")
            .args(["-hide_banner", "-nostdin", "-nostats", "-loglevel", "warning"])
            .args(self.tracks.arguments(FIRST_OUTPUT))
            .nice(NICE);
        spec.pipe_stdin = true;
        spec.output_pipes = u8::try_from(self.tracks.count()).unwrap_or(u8::MAX);
        spec.log_level = tracing::Level::DEBUG;
        spec
    }
}

/// Writes the bytes of the file into the pipe until it is complete; its length. `None`: ffmpeg has closed the pipe.
async fn feed(mut file: GrowingFile, mut input: ChildStdin, limit: Duration) -> Result<Option<u64>, LiveError> {
    let (mut total, mut behind_since, mut at_end) = (0, Instant::now(), true);
    while let Some(chunk) = file.next().await.map_err(LiveError::Read)? {
        if at_end {
            behind_since = Instant::now();
        }
        at_end = chunk.len() < FULL_READ;
        total += chunk.len() as u64;
        match tokio::time::timeout_at(behind_since + limit, input.write_all(&chunk)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Ok(None),
            Err(_) => return Err(LiveError::Behind(limit)),
        }
    }
    Ok(Some(total))
}

async fn read(track: usize, mut output: pipe::Receiver, pieces: mpsc::Sender<NumberedPiece>) -> Result<(), LiveError> {
    let (mut reader, mut chunk) = (FragmentReader::default(), vec![0; CHUNK]);
    loop {
        let length = output.read(&mut chunk).await.map_err(LiveError::Read)?;
        if length == 0 {
            return Ok(());
        }
        let found = reader.take(&chunk[..length]).map_err(LiveError::unfit("what ffmpeg writes"))?;
        for piece in found {
            // Who receives them has failed, and says why.
            let _ = pieces.send((track, piece)).await;
        }
    }
}
