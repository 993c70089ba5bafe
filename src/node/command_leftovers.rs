//! What killed commands of this program (`check`, `size`, `record`) have left on this host. Each is removed by the next
//! run of the same command, which may never come, and by the next start of the daemon: here. Nothing waits for it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::capture::cleanup::CleanupReport;
use crate::config::Config;
use crate::page_recording::leftovers;
use crate::{check, sizing};

/// Time limit; processes that are killed have 5 s to end, and a disk has as much to answer.
const LIMIT: Duration = Duration::from_secs(60);

/// Removes it, and says so where there was any. `config_file`: the path that `config` was read from. Ends early when
/// cancelled; the next start goes on with it.
pub async fn remove(config: Arc<Config>, config_file: PathBuf, cancel: CancellationToken) {
    let removal = async {
        let mut report = check::remove_leftovers(&config.recorder).await;
        report += sizing::remove_all_leftovers(&config.recorder, &config_file).await;
        report += leftovers::remove(&std::env::temp_dir()).await;
        report
    };
    let removal = cancel.run_until_cancelled(tokio::time::timeout(LIMIT, removal)).await;
    let Some(Ok(report)) = removal else { return };
    if report != CleanupReport::default() {
        let CleanupReport { rigs, processes, displays, kept } = report;
        tracing::info!(
            rigs,
            processes,
            displays,
            kept,
            "a command of this program (check, size or record) was killed: removed what it has left"
        );
    }
}
