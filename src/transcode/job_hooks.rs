//! The `pre_transcoding` and `post_transcoding` hooks of a job.

use std::path::Path;

use tokio_util::sync::CancellationToken;

use crate::codes;
use crate::config::HookStage;
use crate::protocol::job::{Job, RawFileName, Work};
use crate::scripts::hooks::payload::{HookPayload, HookTask};
use crate::scripts::hooks::{HookError, Hooks, store_answer};
use crate::transcode::failure::JobFailure;
use crate::transcode::journal::JobEntry;
use crate::transcode::plan;
use crate::transcode::produce::FetchedInput;
use crate::transcode::result_writer::JobResult;

/// The hooks of one job.
pub(super) struct JobHooks<'a> {
    pub job: &'a Job,
    pub entry: &'a JobEntry,
    pub hooks: &'a Hooks,
    pub cancel: &'a CancellationToken,
    /// It is the job's last delivery.
    pub last: bool,
}

impl JobHooks<'_> {
    /// Runs the `pre_transcoding` hooks; where they have fetched the input to, if anywhere.
    pub async fn run_before(&self) -> Result<Option<FetchedInput>, JobFailure> {
        let Self { hooks, cancel, .. } = self;
        if hooks.is_empty(HookStage::PreTranscoding) {
            return Ok(None);
        }
        let answer = hooks.run(HookStage::PreTranscoding, HookPayload::of_job(self.job), cancel).await;
        // A store that is closed now may open, and a script may be mended.
        let answer = answer.map_err(|error| match JobFailure::from(error) {
            JobFailure::Cause(cause) => JobFailure::Outside(cause),
            failure => failure,
        })?;
        let job_dir = match &self.job.work {
            Work::PostRecording { dir, .. } => Some(dir),
            Work::Merge { .. } => None,
        };
        // The directory that the job names: as without a hook.
        let Some(dir) = answer.output_path.filter(|dir| Some(dir) != job_dir) else { return Ok(None) };
        if answer.should_cleanup {
            let fetched = dir.clone();
            self.entry.update(move |record| record.steps.fetched = Some(fetched)).await;
        }
        if !dir.is_absolute() {
            return Err(JobFailure::Cause(format!(
                "the pre_transcoding hooks answered with the output_path {}, which is not absolute",
                dir.display()
            )));
        }
        let file_name = match (answer.file_name, &self.job.work) {
            (Some(name), Work::PostRecording { .. }) => {
                RawFileName::parse(&name).map_err(JobFailure::of)?.as_str().to_owned()
            }
            _ => String::new(),
        };
        tracing::info!(dir = %dir.display(), "the pre_transcoding hooks say where the input is");
        Ok(Some(FetchedInput { dir, file_name, home: None }))
    }

    /// Runs the `post_transcoding` hooks; the path for the server.
    pub async fn run_after(&self, result: &JobResult) -> Result<String, JobFailure> {
        let Self { hooks, cancel, .. } = self;
        let (mut path, mut store) = (result.file_path.clone(), None);
        if !hooks.is_empty(HookStage::PostTranscoding) {
            let (info, node) = (&self.job.info, &self.job.recorder_id);
            let dir = result.mp4.parent().unwrap_or(Path::new("/"));
            let name = plan::mp4_name(&info.recording_id);
            let mut payload = HookPayload::single(info, node, dir, &name, Some(result.size));
            match &self.job.work {
                Work::PostRecording { dir, file_name, .. } => {
                    payload = payload.with_source(&dir.join(file_name.as_str()));
                }
                Work::Merge { paths } => {
                    payload.task = HookTask::Merge;
                    payload.input_paths.clone_from(paths);
                }
            }
            match hooks.run(HookStage::PostTranscoding, payload, cancel).await {
                Ok(answer) => {
                    if let Some(output) = answer.output_path {
                        path = output.display().to_string();
                    }
                    store = answer.store.as_deref().and_then(hook_store);
                }
                // A failed hook must not keep the finished recording from the server.
                Err(error @ HookError::Failed { .. }) if self.last => {
                    tracing::error!(
                        code = %codes::POST_HOOKS_FAILED, %error, mp4 = %result.mp4.display(),
                        "the post_transcoding hooks failed for the last time: the MP4 is told of where it is"
                    );
                }
                Err(error) => return Err(error.into()),
            }
        }
        let told = path.clone();
        self.entry.update(move |record| (record.steps.told_path, record.steps.hook_store) = (Some(told), store)).await;
        Ok(path)
    }
}

/// The store that the hooks have answered, without secrets.
fn hook_store(answer: &str) -> Option<String> {
    let refused = |why: &String| {
        tracing::warn!(code = %codes::HOOK_STORE_REFUSED, why, "the store that a hook has answered is not used");
    };
    store_answer::name(answer).inspect_err(refused).ok()
}
