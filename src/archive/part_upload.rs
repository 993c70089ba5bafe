//! One file of a part on its way into the archive, as it grows.
//!
//! ```text
//! ffmpeg ──► file on the local disk ──► cut into pieces ──► numbers of bytes ──► read again, put into the store
//! ```
//!
//! What waits for the store are places in the file, not bytes. Each piece is tried until the store has it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use crate::archive::description::PartDescription;
use crate::archive::handle::{Archive, WaitingPieces};
use crate::archive::names::{ArchiveListing, ArchivedRecording, DESCRIPTION};
use crate::archive::piece_cutter::{Piece, PieceCutter};
use crate::codes;
use crate::retry::Backoff;
use crate::storage::growing_file::{FileRanges, GrowingFile, Growth};
use crate::store::error::StoreError;
use crate::telemetry::log_throttle::LogThrottle;

/// How often a file is looked for that is not there yet.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// A store that is back gets what waits soon: until then a crash of this host loses it.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// Pieces whose place is known, at most: ten hours. What is behind them is cut later.
const PIECES: usize = 9000;

/// What is archived.
#[derive(Clone, Debug)]
pub struct ArchivedFile {
    pub recording: ArchivedRecording,
    /// The place of the part, see [`Archive::new_part`].
    pub part: String,
    pub description: PartDescription,
    pub file: PathBuf,
}

/// An upload that goes on until the file is complete and in the store; dropped, it ends.
#[derive(Debug)]
pub struct PartUpload {
    growth: watch::Sender<Growth>,
    task: AbortOnDropHandle<()>,
}

impl PartUpload {
    /// `growth`: a file that is complete need not be there; what the archive has of it is not sent again.
    #[must_use]
    pub fn start(archive: &Archive, file: ArchivedFile, growth: Growth) -> Self {
        let (growth, growing) = watch::channel(growth);
        let upload = Upload { archive: archive.clone(), file, log: LogThrottle::default(), failing: false };
        let task = AbortOnDropHandle::new(tokio::spawn(upload.run(growing).in_current_span()));
        Self { growth, task }
    }

    /// Nothing more is written into the file.
    pub fn complete(&self) {
        self.growth.send_replace(Growth::Complete);
    }

    /// Returns when all of the file is in the store.
    pub async fn finish(self) {
        self.complete();
        let _ = self.task.await;
    }
}

struct Upload {
    archive: Archive,
    file: ArchivedFile,
    log: LogThrottle,
    failing: bool,
}

impl Upload {
    async fn run(mut self, mut growth: watch::Receiver<Growth>) {
        let begun = *growth.borrow();
        let file = loop {
            match GrowingFile::open(&self.file.file, growth.clone()).await {
                Ok(file) => break file,
                Err(_) if *growth.borrow() == Growth::Complete => return,
                // It is there as soon as its ffmpeg writes.
                Err(_) => drop(tokio::time::timeout(LOOK_INTERVAL, growth.changed()).await),
            }
        };
        let waiting = WaitingPieces::new(&self.archive);
        let (sender, pieces) = mpsc::channel(PIECES);
        let ranges = file.ranges();
        let send = self.send(ranges, pieces, &waiting, begun == Growth::Complete);
        let cut = async {
            let cut = cut(file, sender, &waiting);
            if let Err(error) = cut.await {
                tracing::info!(%error, "the file of a recording cannot be read for its archive, which ends here");
            }
        };
        tokio::join!(cut, send);
    }

    async fn send(
        &mut self,
        ranges: FileRanges,
        mut pieces: mpsc::Receiver<Piece>,
        waiting: &WaitingPieces,
        again: bool,
    ) {
        let there = if again { self.listed().await } else { BTreeSet::new() };
        if again && there.is_empty() {
            // Not even what says of which recording it is.
            self.describe().await;
        }
        let (mut described, mut memory) = (again, Vec::new());
        while let Some(piece) = pieces.recv().await {
            if !described {
                // Only now: a part without media needs none.
                self.describe().await;
                described = true;
            }
            if !there.contains(&piece.name.number) {
                match ranges.read(piece.bytes.clone(), memory).await {
                    Ok(bytes) => memory = self.put(&piece.name.to_string(), bytes).await,
                    Err(error) => {
                        tracing::info!(%error, "the file of a recording cannot be read for its archive, which ends here");
                        return;
                    }
                }
            }
            waiting.remove();
        }
    }

    async fn describe(&mut self) {
        let description = serde_json::to_vec(&self.file.description).unwrap_or_default();
        self.put(DESCRIPTION, description).await;
    }

    /// The numbers of the pieces that the store has already.
    async fn listed(&mut self) -> BTreeSet<u32> {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let listing: ArchiveListing = loop {
            match self.archive.listing(&self.file.recording).await {
                Ok(listing) => break listing,
                Err(error) => self.failed(&error),
            }
            tokio::time::sleep(backoff.wait()).await;
        };
        let part = listing.parts.into_iter().find(|part| part.dir == self.file.part);
        part.into_iter().flat_map(|part| part.pieces).map(|piece| piece.name.number).collect()
    }

    /// Returns the memory of the bytes.
    async fn put(&mut self, name: &str, bytes: Vec<u8>) -> Vec<u8> {
        let bytes = Bytes::from(bytes);
        let name = self.file.recording.part(&format!("{}/{name}", self.file.part));
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        loop {
            let put = async { self.archive.store().await?.put(&name, bytes.clone()).await };
            match put.await {
                Ok(()) => break,
                Err(error) => self.failed(&error),
            }
            tokio::time::sleep(backoff.wait()).await;
        }
        if std::mem::take(&mut self.failing) {
            tracing::info!(store = %self.archive.url(), "the archive takes the recording again");
        }
        // Copied where the connection still holds it.
        bytes.into()
    }

    fn failed(&mut self, error: &StoreError) {
        self.failing = true;
        if self.log.due(Instant::now()) {
            tracing::warn!(
                code = %codes::NOT_ARCHIVED_YET, store = %self.archive.url(), waiting = self.archive.waiting(), %error,
                "a recording goes on and is not archived now: if this host is destroyed, what waits is lost; trying on; {}",
                error.remedy()
            );
        }
    }
}

/// Cuts the file as it grows.
async fn cut(mut file: GrowingFile, pieces: mpsc::Sender<Piece>, waiting: &WaitingPieces) -> std::io::Result<()> {
    let mut cutter = PieceCutter::default();
    let send = async |piece: Piece| {
        waiting.add();
        // Nobody receives any more where the file cannot be read.
        let _ = pieces.send(piece).await;
    };
    while let Some(bytes) = file.next().await? {
        for piece in cutter.take(&bytes) {
            send(piece).await;
        }
        file.recycle(bytes);
    }
    if let Some(piece) = cutter.end() {
        send(piece).await;
    }
    Ok(())
}
