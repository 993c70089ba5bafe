//! Fetches what the archive of the fleet has of a recording that was taken over: at once, and again when it ends.
//!
//! ```text
//! taken over ── what is there is fetched ── recorded on ── ended ── what has come since is fetched ── joined
//!                                                                      ▲ │ while the earlier owner is back, and
//!                                                                      └─┘ sends what it has, for up to 30 s
//! ```

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::archive::handle::Archive;
use crate::archive::names::{ArchiveListing, ArchivedRecording};
use crate::codes;
use crate::recording::journal::{RecordingEntry, RecordingPart, RecordingStage};
use crate::recording::part_merge::{FoundFile, fetches, merge};
use crate::recording::raw_file::{RawFile, continuation};
use crate::store::error::StoreError;

/// How long an ended recording waits for a node that sends what it has recorded while it was cut off.
const WAIT_LIMIT: Duration = Duration::from_secs(30);
/// How long it waits where what has come is still being fetched then.
const FETCH_LIMIT: Duration = Duration::from_secs(120);
/// How often it is looked whether more has come. A store may list an object some time after it has taken it.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// The files of parts with media, and what is said of each.
///
/// # Errors
/// See [`StoreError`].
pub async fn find(
    archive: &Archive,
    recording: &ArchivedRecording,
    listing: ArchiveListing,
) -> Result<Vec<FoundFile>, StoreError> {
    let mut found = Vec::new();
    for listed in listing.parts {
        if listed.has_beginning()
            && let Some(description) = archive.description(recording, &listed).await?
        {
            found.push(FoundFile { listed, description });
        }
    }
    Ok(found)
}

/// The parts of the recording, of which so many are known: those of other nodes are fetched.
///
/// # Errors
/// See [`StoreError`]: where the disk has no room too. It may be repeated with the same `parts`.
pub async fn fetch(
    archive: &Archive,
    recording: &ArchivedRecording,
    raw: &RawFile,
    parts: &[RecordingPart],
    found: &[FoundFile],
) -> Result<Vec<RecordingPart>, StoreError> {
    let merged = merge(parts, found, |n| raw.part_name(n));
    let steps = fetches(parts, &merged);
    let listed = |place: &str| found.iter().map(|file| &file.listed).find(|listed| listed.dir == place);
    let bytes = steps.iter().filter_map(|step| Some(listed(&step.place)?.bytes_from(step.from))).sum();
    archive.require_room(&raw.parts_dir(), bytes).await?;
    for step in steps {
        let Some(part) = listed(&step.place) else { continue };
        let file = raw.part(&step.file);
        let to: PathBuf = if step.goes_on { continuation(&file) } else { file };
        archive.fetch(recording, part, step.from, &to).await?;
        for (from_ms, to_ms) in part.gaps() {
            tracing::warn!(
                code = %codes::TAKEN_OVER, part = part.dir, from_ms, to_ms,
                "the archive lacks a piece of the recording: its MP4 has a gap there"
            );
        }
    }
    Ok(merged)
}

/// Fetches, once, what has come into the archive since a recording was taken over, which has ended now.
pub(super) async fn fetch_late(
    archive: &Archive,
    recording: &ArchivedRecording,
    raw: &RawFile,
    entry: &RecordingEntry,
    drain: &CancellationToken,
) {
    let record = entry.record();
    let is_whole = record.stage != RecordingStage::Parts || record.placing || record.late_parts_fetched;
    if is_whole || record.parts.iter().all(|part| part.taken.is_none()) {
        return;
    }
    let look = look_until_complete(archive, recording, raw, entry, drain);
    let why = match tokio::time::timeout(FETCH_LIMIT, look).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error),
        Err(_) => Some(StoreError::Late(FETCH_LIMIT)),
    };
    if let Some(why) = why {
        tracing::warn!(
            code = %codes::LATE_PARTS_NOT_FETCHED, store = %archive.url(), %why,
            "a recording that was taken over has ended, and what its earlier recorder has handed in since cannot be \
             fetched: its MP4 is made of what is here, and its gaps are in the summary"
        );
    }
    // Before a part is cut: bytes are never added to one that was.
    entry.update(|record| record.late_parts_fetched = true).await;
}

async fn look_until_complete(
    archive: &Archive,
    recording: &ArchivedRecording,
    raw: &RawFile,
    entry: &RecordingEntry,
    drain: &CancellationToken,
) -> Result<(), StoreError> {
    let end = Instant::now() + WAIT_LIMIT;
    loop {
        let before = entry.record().parts;
        let looked = async {
            let listing = archive.listing(recording).await?;
            let is_handing_in = listing.handing_in;
            let found = find(archive, recording, listing).await?;
            let parts = fetch(archive, recording, raw, &before, &found).await?;
            Ok::<_, StoreError>((is_handing_in, parts))
        };
        match looked.await {
            Ok((is_handing_in, parts)) => {
                let has_come = parts != before;
                if has_come {
                    tracing::info!(
                        parts = parts.len(),
                        is_handing_in,
                        "what an earlier recorder of this recording has handed in since is fetched"
                    );
                    entry.update(move |record| record.parts = parts).await;
                }
                if !is_handing_in && !has_come {
                    return Ok(());
                }
                if Instant::now() >= end {
                    tracing::info!("an earlier recorder still hands in what it has: its rest is not waited for");
                    return Ok(());
                }
            }
            Err(error) if Instant::now() >= end || matches!(error, StoreError::Local { .. }) => return Err(error),
            Err(error) => tracing::debug!(%error, "the archive cannot be looked at now"),
        }
        if drain.run_until_cancelled(tokio::time::sleep(LOOK_INTERVAL)).await.is_none() {
            return Ok(());
        }
    }
}
