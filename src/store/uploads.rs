//! All files on their way into stores: a task for each ([`super::upload_task`]), taken up again at each start, and what
//! operators and the server ask of them.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::config::StorageConfig;
use crate::config::store_url::StoreUrl;
use crate::storage::durable_tasks::{AttemptWaits, DurableTasks};
use crate::storage::files;
use crate::storage::record_writer::RecordWriter;
use crate::storage::task_record::TaskRecord as _;
use crate::store::error::StoreError;
use crate::store::handle::Store;
use crate::store::record::UploadRecord;
pub use crate::store::settings::{MakePictures, Tell, UploadSettings, UploadWaits};
use crate::store::upload_task::UploadContext;

/// How often it is looked whether the store has a recording.
const STORED_POLL: Duration = Duration::from_secs(1);
/// Time limit for the disks.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// The uploads of a node; clones share them.
#[derive(Clone)]
pub struct Uploads {
    tasks: DurableTasks<UploadContext>,
}

impl std::fmt::Debug for Uploads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uploads").field("stores", &self.context().stores).finish_non_exhaustive()
    }
}

impl Uploads {
    /// `cancel`: the node ends; what is unfinished is left to the next start.
    #[must_use]
    pub fn new(settings: UploadSettings, cancel: CancellationToken) -> Self {
        let waits = AttemptWaits { first: settings.waits.first, longest: settings.waits.longest };
        let state_dir = settings.state_dir.clone();
        let context = UploadContext::new(settings, cancel.clone());
        Self { tasks: DurableTasks::new(context, state_dir, waits, cancel) }
    }

    fn context(&self) -> &UploadContext {
        self.tasks.work()
    }

    /// The configuration of the stores.
    #[must_use]
    pub fn storage(&self) -> &StorageConfig {
        &self.context().settings.storage
    }

    /// Where an object is that the server was told of: in which store, and its name there. `None`: in none into which
    /// this node delivers.
    #[must_use]
    pub fn of_object(&self, object: &str) -> Option<(&StoreUrl, String)> {
        self.context().stores.of_object(object)
    }

    /// Files that their stores do not have yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.tasks.records().values().filter(|record| record.stored.is_none()).count()
    }

    /// What writes the records.
    #[must_use]
    pub fn writer(&self) -> &RecordWriter {
        self.tasks.journal().writer()
    }

    /// A configured store.
    ///
    /// # Errors
    /// Where its client cannot be made.
    pub async fn store(&self, url: &StoreUrl) -> Result<&Store, StoreError> {
        self.context().stores.open(&url.to_string()).await
    }

    /// Takes a file on: its record is on disk when this returns, or the disk is late. An earlier one of this id ends.
    pub async fn add(&self, mut record: UploadRecord) {
        let id = record.id();
        if let Some(earlier) = self.tasks.stop(&id).await {
            // Its parts may be those of this very file; else they are given up.
            let known = earlier.record();
            if known.store == record.store && known.key == record.key {
                (record.begun, record.transfer) = (known.begun, known.transfer);
            } else {
                self.context().abort(&earlier).await;
            }
        }
        self.tasks.begin(record).await;
    }

    /// Waits until the store has this recording, or it is not on its way any more.
    pub async fn wait_until_stored(&self, id: &str) {
        while self.is_waiting(id).await {
            tokio::time::sleep(STORED_POLL).await;
        }
    }

    async fn is_waiting(&self, id: &str) -> bool {
        if let Some(record) = self.tasks.record(id) {
            return record.stored.is_none();
        }
        // It may not be resumed yet.
        let (journal, path) = (self.tasks.journal().clone(), self.tasks.journal().path(id));
        match files::on_disk_within(READ_LIMIT, move || journal.read(&path)).await {
            Ok(record) => record.is_some_and(|record| record.stored.is_none()),
            Err(_) => true,
        }
    }

    /// The recording of this object is deleted: its upload ends, and the local file that waited to be removed goes.
    ///
    /// # Errors
    /// Where the disk of `main_path` fails.
    pub async fn forget(&self, store: &StoreUrl, key: &str) -> Result<(), StoreError> {
        // One that the store does not have yet is none that the server can ask for.
        let of_object =
            |record: &UploadRecord| record.key == key && record.store == store.to_string() && record.stored.is_some();
        let Some((id, _)) = self.tasks.records().into_iter().find(|(_, record)| of_object(record)) else {
            return Ok(());
        };
        let Some(entry) = self.tasks.stop(&id).await else { return Ok(()) };
        let record = entry.record();
        // A file that the server knows by its own path is the server's to delete.
        if record.keep_s.is_some() && record.told {
            let (main_path, mp4) = (self.context().settings.main_path.clone(), record.file.clone());
            let remove = move || {
                main_path.check().map_err(std::io::Error::other)?;
                files::remove(&mp4)
            };
            let removed = files::on_disk_within(READ_LIMIT, remove).await;
            if let Err(error) = removed {
                self.tasks.start(&id, entry);
                return Err(StoreError::local(format!("removing {}", record.file.display()))(error));
            }
        }
        self.tasks.forget(&entry).await;
        Ok(())
    }

    /// Goes on with what an earlier run has left, and obeys orders, until the node ends.
    pub async fn run(self) {
        self.tasks.run().await;
    }
}
