//! What uploads need from the rest of the node, and their limits.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::config::StorageConfig;
use crate::protocol::notice::Notice;
use crate::storage::main_path::MainPath;
use crate::store::connect::StoreTimes;
use crate::store::sidecars::Pictures;
use crate::telemetry::metrics::Metrics;

/// Waits between two attempts at a recording.
const FIRST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);

/// Puts notices into the outbox; true: they are on disk.
pub type Tell = Arc<dyn Fn(Vec<Notice>) -> BoxFuture<'static, bool> + Send + Sync>;

/// Makes the pictures of an MP4, whose sprite has this address relative to its index; `None`: the MP4 has no picture. It
/// has a time limit, and once cancelled it returns when what it has started has ended.
pub type MakePictures = Arc<
    dyn Fn(PathBuf, String, CancellationToken) -> BoxFuture<'static, Result<Option<Pictures>, String>> + Send + Sync,
>;

/// What uploads need from the rest of the node.
pub struct UploadSettings {
    /// What waits of an earlier configuration, for a store that is in it no more, is told with its local file.
    pub storage: StorageConfig,
    pub pictures: MakePictures,
    pub state_dir: PathBuf,
    pub main_path: MainPath,
    pub metrics: Metrics,
    pub tell: Tell,
    pub waits: UploadWaits,
}

/// Limits of an upload, and the first and the longest wait between two attempts.
#[derive(Clone, Copy, Debug)]
pub struct UploadWaits {
    pub first: Duration,
    pub longest: Duration,
    pub times: StoreTimes,
}

impl Default for UploadWaits {
    fn default() -> Self {
        Self { first: FIRST_WAIT, longest: LONGEST_WAIT, times: StoreTimes::default() }
    }
}
