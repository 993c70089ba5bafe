//! Records of an earlier run that could not be read at the start, until they can.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::codes;
use crate::protocol::request::Kind;
use crate::recording::journal::{RecordingEntry, RecordingJournal};
use crate::storage::files::on_disk_within;
use crate::storage::journal::RECORD_LIMIT;
use crate::telemetry::log_throttle::LogThrottle;

/// How often they are read again.
pub(super) const READ_AGAIN_INTERVAL: Duration = Duration::from_secs(5);

/// The files of these records.
#[derive(Debug, Default)]
pub(super) struct UnreadRecords {
    files: Vec<(Kind, PathBuf)>,
    /// Held while they are read: on a disk that hangs each look would keep a thread.
    reading: Arc<tokio::sync::Mutex<()>>,
    logged: LogThrottle,
}

/// A record that was read again.
#[derive(Debug)]
pub(super) struct ReadAgain {
    pub kind: Kind,
    pub path: PathBuf,
    /// `None`: there is none any more.
    pub read: io::Result<Option<RecordingEntry>>,
}

impl UnreadRecords {
    pub fn push(&mut self, kind: Kind, path: PathBuf) {
        self.files.push((kind, path));
    }

    /// Whether there are any that are not being read.
    pub fn is_due(&self) -> bool {
        !self.files.is_empty()
    }

    /// Reads them; ends within [`RECORD_LIMIT`].
    pub fn read_again(
        &mut self,
        journal: RecordingJournal,
    ) -> impl Future<Output = Vec<ReadAgain>> + Send + use<> + 'static {
        let (files, reading) = (std::mem::take(&mut self.files), Arc::clone(&self.reading).try_lock_owned());
        async move {
            let all = files.clone();
            let read = async move {
                let reading = reading.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
                let look = move || {
                    let read =
                        |(kind, path): (Kind, PathBuf)| ReadAgain { read: journal.read_again(kind, &path), kind, path };
                    let read: Vec<_> = all.into_iter().map(read).collect();
                    drop(reading);
                    Ok(read)
                };
                on_disk_within(RECORD_LIMIT, look).await
            };
            read.await.unwrap_or_else(|error| {
                let late = |(kind, path)| ReadAgain { kind, path, read: Err(io::Error::from(error.kind())) };
                files.into_iter().map(late).collect()
            })
        }
    }

    /// Keeps one that still cannot be read, and logs that now and then.
    pub fn keep(&mut self, kind: Kind, path: &Path, error: &io::Error) {
        if self.logged.due(Instant::now()) {
            tracing::error!(
                code = %codes::RECORDS_UNREAD, path = %path.display(), %error,
                "the record of a recording of an earlier run still cannot be read: its recording waits; look at the disk of recorder.state_dir"
            );
        }
        self.push(kind, path.to_owned());
    }
}
