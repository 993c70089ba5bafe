//! `/healthz`: whether the program is alive. What it lacks to take work is told by `/readyz`; here only what a restart
//! may mend, since an orchestrator ends the program, with all of its recordings, where this fails.

use std::time::Duration;

use crate::admin::http::node_state::NodeState;
use crate::admin::http::readiness::Reason;
use crate::codes;
use crate::storage::directory_check::DirectoryCheck;

/// A thread of a capture may stand still for longer than any load explains; the watchdog ends such a capture after 12 s.
const THREAD_LIMIT: Duration = Duration::from_secs(30);
/// Time limit for the runtime and the disk to answer: probes wait some seconds.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// What is not alive; empty where all is.
pub(super) async fn faults(node: &NodeState) -> Vec<Reason> {
    let (runtime, disk) = tokio::join!(runtime(), disk(node));
    let thread = node
        .recordings
        .still_thread(THREAD_LIMIT)
        .map(|still| Reason::new("capture_thread", codes::CAPTURE_THREAD_STILL, &still));
    [runtime, thread, disk].into_iter().flatten().collect()
}

/// Whether new tasks run, also those that may block.
async fn runtime() -> Option<Reason> {
    let task = tokio::spawn(async { tokio::task::spawn_blocking(|| ()).await });
    let answered = tokio::time::timeout(ANSWER_LIMIT, task).await;
    answered.is_err().then(|| {
        let detail = "new tasks do not run: all threads are busy or hang; the log may say with which disk";
        Reason::new("runtime", codes::TASKS_DO_NOT_RUN, detail)
    })
}

/// Whether the journal's disk answers, be it with an error: that is told by `/readyz`, and no restart mends it.
async fn disk(node: &NodeState) -> Option<Reason> {
    let dir = &node.dirs.state_dir;
    // One check at a time, however many ask: a disk that hangs holds one thread.
    let check = DirectoryCheck::start(dir);
    match tokio::time::timeout(ANSWER_LIMIT, check.clone().answer()).await {
        Ok(_) => None,
        Err(_) => check.failure().map(|why| {
            let detail = format!("recorder.state_dir {} {why}", dir.display());
            Reason::new("state_dir", codes::REFUSED_STATE_DIR, &detail)
        }),
    }
}
