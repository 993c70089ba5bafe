//! The archive of a recording goes when its MP4 is made.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::archive::archives::Archives;
use crate::archive::names::ArchivedRecording;
use crate::retry::Backoff;
use crate::transcode::journal::JobRecord;

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// What is left then goes after a week.
const TRIES: u32 = 4;

/// Removes that of this job's recording, if there is one.
pub(super) async fn remove(archives: &Archives, job: &JobRecord, cancel: &CancellationToken) {
    let recording = ArchivedRecording::of_dir(&format!("{}/{}", job.room_id, job.recording_id));
    let Some(recording) = recording.filter(|_| !archives.keep()) else { return };
    let Some(archive) = archives.of_room(&recording.room) else { return };
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    for _ in 0..TRIES {
        match cancel.run_until_cancelled(archive.remove(&recording)).await {
            None | Some(Ok(())) => return,
            Some(Err(error)) => {
                tracing::info!(store = %archive.url(), %error, "the archive of a delivered recording cannot be removed now");
            }
        }
        if cancel.run_until_cancelled(tokio::time::sleep(backoff.wait())).await.is_none() {
            return;
        }
    }
}
