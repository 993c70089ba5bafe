//! Hands a stored recording over to the work queue: runs the operator's `post_recording` hooks, if any, then publishes
//! the job. Where a hook fails, the raw file and the recording's record are kept, and the hooks are run again.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::codes;
use crate::config::HookStage;
use crate::delivery::dispatcher::Dispatcher;
use crate::protocol::ids::RecorderId;
use crate::protocol::job::{Job, RawFileName, Work};
use crate::protocol::request::RecordingInfo;
use crate::recording::journal::{FailedTry, RecordingEntry, RecordingRecord};
use crate::recording::raw_file::RawFile;
use crate::retry::RetrySchedule;
use crate::scripts::hooks::payload::HookPayload;
use crate::scripts::hooks::{HookError, Hooks, store_answer};
use crate::storage::{files, placement};
use crate::store::raw_store::RawStore;
use crate::telemetry::redact;
use crate::unix_time::unix_ms;

/// Time limit for reading and for writing the summary in `main_path`.
const SUMMARY_LIMIT: Duration = Duration::from_secs(10);

/// Hands recordings over; clones share the hooks.
#[derive(Clone, Debug)]
pub struct JobHandoff {
    pub recorder: RecorderId,
    pub hooks: Hooks,
    pub dispatcher: Dispatcher,
    /// The store of `storage.raw`, which gets raw files before their jobs are published; `None`: they stay in `main_path`.
    pub raw_store: Option<RawStore>,
    /// Waits after failures of the hooks, and of the store.
    pub waits: RetrySchedule,
    /// The program is to end: a running hook may finish, a failed one is left for the next start.
    pub drain: CancellationToken,
    /// The program ends now: a running hook is stopped.
    pub end: CancellationToken,
}

impl JobHandoff {
    /// Whether there are `post_recording` hooks.
    #[must_use]
    pub fn has_hooks(&self) -> bool {
        !self.hooks.is_empty(HookStage::PostRecording)
    }

    /// The job of a stored raw file.
    #[must_use]
    pub fn job(&self, info: &RecordingInfo, raw: &RawFile) -> Job {
        let work = Work::PostRecording { dir: raw.dir.clone(), file_name: raw.name.clone(), variant: 0 };
        Job { info: info.clone(), recorder_id: self.recorder.clone(), work }
    }

    /// Runs the hooks until they succeed; the job as they leave it. `None`: the program ends first, and the next start
    /// continues.
    pub async fn after_hooks(&self, info: &RecordingInfo, raw: &RawFile, entry: &RecordingEntry) -> Option<Job> {
        loop {
            let error = match self.try_once(info, raw, entry).await {
                Ok(job) => return Some(job),
                Err(error) => error,
            };
            let HookError::Failed { .. } = error else {
                tracing::info!("the post_recording hooks are left for the next start");
                return None;
            };
            let failures = entry.record().hooked.map_or(0, |hooked| hooked.failures).saturating_add(1);
            let wait = self.waits.after(failures.into());
            tracing::error!(
                code = %codes::HOOKS_KEEP_RAW,
                %error, tries = failures, retry_s = wait.as_secs(), raw = %raw.dir.join(raw.name.as_str()).display(),
                "the post_recording hooks failed; the raw file is kept, and no job is published before they succeed"
            );
            let last_error = redact::scrub(&error.to_string()).into_owned();
            let next_try = unix_ms().saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
            let failed = FailedTry { failures, last_error, next_try };
            entry.update(move |record| record.hooked = Some(failed)).await;
            if self.drain.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                tracing::info!("the post_recording hooks are left for the next start");
                return None;
            }
        }
    }

    async fn try_once(&self, info: &RecordingInfo, raw: &RawFile, entry: &RecordingEntry) -> Result<Job, HookError> {
        let path = raw.dir.join(raw.name.as_str());
        let bytes = tokio::fs::metadata(&path).await.ok().map(|file| file.len());
        let payload = HookPayload::single(info, &self.recorder, &raw.dir, raw.name.as_str(), bytes);
        let answer = self.hooks.run(HookStage::PostRecording, payload, &self.end).await?;
        if let Some(store) = &answer.store {
            note_store(raw, store).await;
        }
        let mut job = self.job(info, raw);
        if let Work::PostRecording { dir, file_name, .. } = &mut job.work {
            replace(dir, file_name, answer);
        }
        entry.update(|record: &mut RecordingRecord| record.hooked = None).await;
        Ok(job)
    }
}

/// Leaves the store that the hooks have answered where the node that transcodes finds it: the job has no field for it, but the
/// summary is read beside the raw file. Where the hooks take the raw file elsewhere, it stays behind.
async fn note_store(raw: &RawFile, answer: &str) {
    let noted = match store_answer::name(answer) {
        Ok(name) => note_in_summary(raw, name).await.map_err(|error| format!("the summary does not take it: {error}")),
        Err(why) => Err(why),
    };
    if let Err(why) = noted {
        tracing::warn!(code = %codes::HOOK_STORE_REFUSED, why, "the store that a post_recording hook has answered is not used");
    }
}

async fn note_in_summary(raw: &RawFile, name: String) -> io::Result<()> {
    let path = raw.summary().ok_or_else(|| io::Error::other("the raw file has no name for one"))?;
    let at = path.clone();
    let text = files::on_disk_within(SUMMARY_LIMIT, move || std::fs::read(at)).await?;
    let mut summary: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&text)?;
    summary.insert(store_answer::SUMMARY_FIELD.to_owned(), name.into());
    let written = placement::write_in(raw.store(), &path, serde_json::to_vec_pretty(&summary)?);
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    tokio::time::timeout(SUMMARY_LIMIT, written).await.map_err(late)?
}

/// Replaces directory and name by those of the hooks' answer.
fn replace(dir: &mut PathBuf, file_name: &mut RawFileName, answer: HookPayload) {
    if let Some(output) = answer.output_path {
        tracing::info!(from = %dir.display(), to = %output.display(), "the post_recording hooks say where the raw file is");
        *dir = output;
    }
    let Some(name) = answer.file_name else { return };
    match RawFileName::parse(&name) {
        Ok(name) => *file_name = name,
        Err(error) => {
            tracing::error!(
                code = %codes::HOOK_NAME_UNUSABLE, %error,
                "the post_recording hooks answered with a file_name that is none; the old one is kept"
            );
        }
    }
}
