//! What uploads need from the rest of the node, and their limits.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use crate::config::store_url::StoreUrl;
use crate::protocol::notice::Notice;
use crate::storage::main_path::MainPath;
use crate::store::connect::StoreTimes;
use crate::telemetry::metrics::Metrics;

/// Waits between two attempts at a recording.
const FIRST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);

/// Puts notices into the outbox; true: they are on disk.
pub type Tell = Arc<dyn Fn(Vec<Notice>) -> BoxFuture<'static, bool> + Send + Sync>;

/// What uploads need from the rest of the node.
pub struct UploadSettings {
    /// `storage.deliver`; `None`: what waits of an earlier configuration is told with its local file.
    pub url: Option<StoreUrl>,
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
