//! A recording's parts into the archive of the fleet ([`crate::archive`]), while they are recorded.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use crate::archive::description::PartDescription;
use crate::archive::handle::Archive;
use crate::archive::names::ArchivedRecording;
use crate::archive::part_upload::{ArchivedFile, PartUpload};
use crate::codes;
use crate::protocol::request::{RecordingInfo, Start};
use crate::recording::journal::RecordingEntry;
use crate::recording::raw_file::{RawFile, continuation};
use crate::retry::RetrySchedule;
use crate::storage::growing_file::Growth;
use crate::store::error::StoreError;

/// How often it is looked whether another node has taken a recording over.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);
/// How long a recording of an earlier run waits to hear whether another node has it: a meeting should not wait longer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// The uploads of one recording; dropped, they end.
#[derive(Debug)]
pub(super) struct RecordingArchive {
    archive: Archive,
    recording: ArchivedRecording,
    uploads: Vec<PartUpload>,
    /// Says that this node has the recording, and then looks whether another node has taken it over.
    watch: Option<AbortOnDropHandle<()>>,
    /// That node.
    taken_by: watch::Receiver<Option<String>>,
}

/// The place of a recording in an archive.
#[must_use]
pub fn archived(info: &RecordingInfo) -> ArchivedRecording {
    ArchivedRecording { room: info.room_id.clone(), recording: info.recording_id.clone() }
}

impl RecordingArchive {
    pub fn new(archive: &Archive, info: &RecordingInfo) -> Self {
        let (archive, recording) = (archive.clone(), archived(info));
        Self { archive, recording, uploads: Vec::new(), watch: None, taken_by: watch::channel(None).1 }
    }

    /// Resolves with the node that has taken the recording over; never where none does.
    pub async fn taken(&mut self) -> String {
        match self.taken_by.wait_for(Option::is_some).await.map(|node| node.clone()) {
            Ok(Some(node)) => node,
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// Has the latest part archived, whose media flow. What earlier parts lack in the archive is sent again.
    pub fn part_opened(&mut self, start: &Start, raw: &RawFile, entry: &RecordingEntry) {
        if self.watch.is_none() {
            self.begin(entry);
            self.hand_in(start, raw, entry, entry.record().parts.len().saturating_sub(1));
        }
        self.part_is_complete();
        let (file, goes_on) = (self.archive.new_part(), self.archive.new_part());
        let places = [file, goes_on];
        let noted = places.to_vec();
        drop(entry.change(move |record| {
            if let Some(part) = record.parts.last_mut() {
                part.archived_as = noted;
            }
        }));
        let last = entry.record().parts.len().saturating_sub(1);
        self.archive_part(start, raw, entry, last, Growth::Growing);
    }

    /// Sends what the archive lacks of the first `parts` parts.
    pub fn hand_in(&mut self, start: &Start, raw: &RawFile, entry: &RecordingEntry, parts: usize) {
        for part in 0..parts {
            self.archive_part(start, raw, entry, part, Growth::Complete);
        }
    }

    /// The latest part has ended.
    pub fn part_is_complete(&self) {
        for upload in &self.uploads {
            upload.complete();
        }
    }

    /// Returns when the archive has all that was recorded here, for the node that has taken the recording over.
    pub async fn hand_in_to(mut self, node: &str, start: &Start, raw: &RawFile, entry: &RecordingEntry) {
        if self.uploads.is_empty() {
            tracing::warn!(
                code = %codes::LOST_TO_ANOTHER_NODE, node,
                "another node has taken this recording over while this one was away: what the archive lacks is sent there"
            );
            self.hand_in(start, raw, entry, entry.record().parts.len());
        }
        // The other node waits for what comes. Not all depends on it.
        if let Err(error) = self.archive.hand_in(&self.recording, false).await {
            tracing::debug!(%error, "the archive does not say that this node sends what it lacks");
        }
        for upload in self.uploads {
            upload.finish().await;
        }
        let mut tries = 0;
        let forget = async || {
            self.archive.hand_in(&self.recording, true).await?;
            self.archive.forget(&self.recording, self.archive.node()).await
        };
        while let Err(error) = forget().await {
            tries += 1;
            tracing::info!(%error, "the archive does not know yet that this node has the recording no more");
            tokio::time::sleep(RetrySchedule::MINUTES.after(tries)).await;
        }
        // It is not over: the other node has it.
        entry.update(|record| record.archived = false).await;
        tracing::info!(node, "all that was recorded here is in the archive; the recording is the other node's now");
    }

    fn archive_part(&mut self, start: &Start, raw: &RawFile, entry: &RecordingEntry, index: usize, growth: Growth) {
        let record = entry.record();
        let Some(part) = record.parts.get(index) else { return };
        let file = raw.part(&part.file);
        let description = PartDescription {
            lease: record.lease,
            recording_began_at: record.began_at,
            began_at: part.began_at,
            claims: start.access.claims(),
            ..PartDescription::new(&start.info, self.archive.node(), index + 1)
        };
        // An encoder that takes over writes the second file, which usually is never there.
        for (place, (file, goes_on)) in
            part.archived_as.iter().zip([(file.clone(), false), (continuation(&file), true)])
        {
            let archived = ArchivedFile {
                recording: self.recording.clone(),
                part: place.clone(),
                description: PartDescription { goes_on, ..description.clone() },
                file,
            };
            self.uploads.push(PartUpload::start(&self.archive, archived, growth));
        }
    }

    fn begin(&mut self, entry: &RecordingEntry) {
        drop(entry.change(|record| record.archived = true));
        let (archive, recording, lease) = (self.archive.clone(), self.recording.clone(), entry.record().lease);
        let (taken, taken_by) = watch::channel(None);
        self.taken_by = taken_by;
        let begin = async move {
            let mut tries = 0;
            while let Err(error) = archive.begin(&recording).await {
                tries += 1;
                if tries == 1 {
                    tracing::warn!(
                        code = %codes::NOT_ARCHIVED_YET, store = %archive.url(), %error,
                        "a recording begins and is not archived yet, so that no other node could finish it; trying on; {}",
                        error.remedy()
                    );
                }
                tokio::time::sleep(RetrySchedule::MINUTES.after(tries)).await;
            }
            loop {
                tokio::time::sleep(LOOK_INTERVAL).await;
                // While the store is away nobody takes anything over.
                if let Ok(Some(node)) = archive.holder(&recording, lease + 1).await {
                    taken.send_replace(Some(node));
                    std::future::pending::<()>().await;
                }
            }
        };
        self.watch = Some(AbortOnDropHandle::new(tokio::spawn(begin.in_current_span())));
    }
}

/// The node that has taken over a recording of an earlier run, if that can be known now.
pub(super) async fn taken_meanwhile(archive: &Archive, entry: &RecordingEntry) -> Option<String> {
    let record = entry.record();
    let recording = archived(&record.info().ok().filter(|_| record.archived)?);
    let ask = async {
        let holder = archive.holder(&recording, record.lease + 1).await?;
        // The archive of one that is delivered is gone.
        let ended = holder.is_none() && archive.has_ended(&recording).await?;
        Ok::<_, StoreError>(holder.or_else(|| ended.then(|| "another node".to_owned())))
    };
    tokio::time::timeout(ANSWER_LIMIT, ask).await.ok()?.ok().flatten()
}

/// Notes in the archive that a recording is handed over, so that no other node takes it over; tried until it succeeds.
/// False: the program ends first.
pub(super) async fn end(
    archive: &Archive,
    recording: &ArchivedRecording,
    waits: RetrySchedule,
    drain: &CancellationToken,
) -> bool {
    let mut tries = 0;
    while let Err(error) = archive.end(recording).await {
        tries += 1;
        let wait = waits.after(tries);
        tracing::warn!(
            code = %codes::ARCHIVE_NOT_ENDED, store = %archive.url(), %error, retry_s = wait.as_secs(),
            "a recording is over, and the archive does not know it: if this host were destroyed now, another node would \
             deliver it a second time; trying on; {}", error.remedy()
        );
        if drain.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
            return false;
        }
    }
    true
}
