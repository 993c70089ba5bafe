//! `recorder.post_processing_scripts` (PROTOCOL 7): after a successful transcode the programs of the list are run in
//! order. Each gets a JSON object as its only argument, and the path of the recording's summary in its environment. A
//! failing program is logged and reported in the summary; the other programs still run, and the recording is not
//! affected.
//!
//! No shell is involved. Processes that a program leaves in its process group are ended with it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::codes;
use crate::process::child::{self, ChildSpec, Exit};
use crate::process::output::OutputBudget;

/// The variable with the path of the recording's summary, if there is one.
pub const SUMMARY_VARIABLE: &str = "PNM_SUMMARY";
/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(10);

/// The argument, as PROTOCOL 7 names its fields.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScriptPayload {
    pub recording_id: String,
    pub room_table_id: i64,
    pub room_id: String,
    pub room_sid: String,
    /// The MP4's name.
    pub file_name: String,
    /// The MP4's absolute path.
    pub file_path: PathBuf,
    /// MB (10⁶ bytes), two decimals: see [`megabytes`].
    pub file_size: f64,
    /// The node that recorded it.
    pub recorder_id: String,
}

/// Bytes as MB (10⁶), rounded to two decimals.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "two decimals of a size are all that is told")]
pub fn megabytes(bytes: u64) -> f64 {
    (bytes as f64 / 1e4).round() / 100.0
}

/// How one program ended.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    #[error(transparent)]
    Start(#[from] child::SpawnError),
    #[error("it failed ({0})")]
    Failed(Exit),
    #[error("it was still running after {limit:?} and was ended ({exit})")]
    Timeout { limit: Duration, exit: Exit },
    #[error("it was ended because the program is shutting down ({0})")]
    Stopped(Exit),
    #[error("its argument cannot be written: {0}")]
    Argument(#[from] serde_json::Error),
}

/// The results of the programs.
#[derive(Debug, Default)]
pub struct ScriptsReport {
    /// The number of programs that succeeded.
    pub succeeded: usize,
    pub failed: Vec<(PathBuf, ScriptError)>,
    /// The programs that were not started because this program is shutting down.
    pub not_run: Vec<PathBuf>,
}

impl ScriptsReport {
    /// Adds the results of further programs.
    pub fn add(&mut self, rest: Self) {
        self.succeeded += rest.succeeded;
        self.failed.extend(rest.failed);
        self.not_run.extend(rest.not_run);
    }

    /// Whether every program of the list has run.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.not_run.is_empty() && !self.failed.iter().any(|(_, error)| matches!(error, ScriptError::Stopped(_)))
    }
}

/// Runs the programs. `recording`: the file of the recording's summary, if there is one. `limit`: the time limit of
/// each program. Failures are logged here.
pub async fn run(
    scripts: &[PathBuf],
    payload: &ScriptPayload,
    recording: Option<&Path>,
    limit: Duration,
    cancel: &CancellationToken,
) -> ScriptsReport {
    let mut summary = ScriptsReport::default();
    for script in scripts {
        if cancel.is_cancelled() {
            tracing::warn!(
                code = %codes::SCRIPT_NOT_RUN, script = %script.display(),
                "post-processing script not run: shutting down"
            );
            summary.not_run.push(script.clone());
            continue;
        }
        let started = Instant::now();
        let ended = run_one(script, payload, recording, limit, cancel).await;
        let seconds = crate::telemetry::seconds(started.elapsed());
        match ended {
            Ok(()) => {
                tracing::info!(script = %script.display(), seconds, "post-processing script done");
                summary.succeeded += 1;
            }
            Err(error) => {
                tracing::error!(
                    code = %codes::SCRIPT_FAILED, script = %script.display(), seconds, %error,
                    "post-processing script failed"
                );
                summary.failed.push((script.clone(), error));
            }
        }
    }
    summary
}

async fn run_one(
    script: &Path,
    payload: &ScriptPayload,
    recording: Option<&Path>,
    limit: Duration,
    cancel: &CancellationToken,
) -> Result<(), ScriptError> {
    let argument = serde_json::to_string(payload)?;
    let name = script.file_name().unwrap_or(script.as_os_str()).to_string_lossy();
    let mut spec = ChildSpec::new(name, script).args([argument]);
    spec.log_budget = OutputBudget::of_script(&script.to_string_lossy());
    spec.env.extend(recording.map(|path| (SUMMARY_VARIABLE.into(), path.into())));
    let mut child = child::spawn(&spec).await?;
    tokio::select! {
        exit = child.wait() => {
            return if exit.success() { Ok(()) } else { Err(ScriptError::Failed(exit)) };
        }
        () = tokio::time::sleep(limit) => {}
        () = cancel.cancelled() => {
            return Err(ScriptError::Stopped(child.stop(Signal::TERM, GRACE).await));
        }
    }
    Err(ScriptError::Timeout { limit, exit: child.stop(Signal::TERM, GRACE).await })
}

/// A program of the list that cannot run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("post-processing script {}: {}", .script.display(), .why)]
pub struct ScriptProblem {
    pub script: PathBuf,
    pub why: String,
}

/// The programs of the list that cannot run, for the start of the program.
#[must_use]
pub fn check(scripts: &[PathBuf]) -> Vec<ScriptProblem> {
    let problem =
        |script: &PathBuf| super::why_not_runnable(script).map(|why| ScriptProblem { script: script.clone(), why });
    scripts.iter().filter_map(problem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_megabytes_with_two_decimals() {
        assert_eq!(serde_json::to_string(&megabytes(12_344_999)).unwrap(), "12.34");
        assert_eq!(serde_json::to_string(&megabytes(400_000_000_000)).unwrap(), "400000.0");
    }

    #[test]
    fn a_script_that_cannot_run_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let plain = dir.path().join("plain.sh");
        std::fs::write(&plain, "#!/bin/sh\n").unwrap();
        let scripts =
            ["/bin/sh".into(), plain, dir.path().join("gone.sh"), dir.path().into(), "no-such-program-7f".into()];
        let problems: Vec<_> = check(&scripts).iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert!(problems[0].contains("plain.sh: it is not executable"), "{problems:?}");
        assert!(problems[1].contains("gone.sh: there is no such file"), "{problems:?}");
        assert!(problems[2].contains("it is a directory"), "{problems:?}");
        assert!(problems[3].contains("PATH"), "{problems:?}");
    }
}
