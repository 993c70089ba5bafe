//! The archives of a node's configuration: of each room one, or none.

use crate::archive::handle::Archive;
use crate::config::{Reserve, StorageConfig};
use crate::protocol::ids::{RecorderId, RoomId};
use crate::telemetry::metrics::Metrics;

/// All archives; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Archives {
    storage: StorageConfig,
    all: Vec<Archive>,
}

impl Archives {
    /// Those of `storage.archive` and of its rules, for `node`. `reserve`: what is fetched leaves so much of the disk
    /// free. Nothing is asked of a store yet.
    #[must_use]
    pub fn new(storage: &StorageConfig, node: &RecorderId, reserve: Reserve, metrics: &Metrics) -> Self {
        let urls = storage.archive_stores().into_iter();
        let all = urls.map(|url| Archive::new(url, node, reserve, metrics.clone())).collect();
        Self { storage: storage.clone(), all }
    }

    /// That of a room; `None`: its recordings are not archived.
    #[must_use]
    pub fn of_room(&self, room: &RoomId) -> Option<&Archive> {
        let url = self.storage.archive_for(room)?;
        self.all.iter().find(|archive| archive.url() == url)
    }

    /// Each once.
    #[must_use]
    pub fn all(&self) -> &[Archive] {
        &self.all
    }

    /// Whether what was archived of a recording stays when its MP4 is made.
    #[must_use]
    pub fn keep(&self) -> bool {
        self.storage.archive_keep
    }
}
