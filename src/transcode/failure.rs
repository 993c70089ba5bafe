//! Why an attempt at a job ended without a result.

use std::io;
use std::time::Duration;

use crate::scripts::hooks::HookError;
use crate::storage::detached;
use crate::storage::main_path::{self, MainPath};

/// How long `main_path` may take to answer before a failure is taken for its own.
const LOOK_DEADLINE: Duration = Duration::from_secs(10);

/// Why an attempt at a job ended without a result.
#[derive(Debug)]
pub(super) enum JobFailure {
    /// The cause, for the log and the server.
    Cause(String),
    /// A disk fails, is full or away, or an operator's hook fails: the same attempt may succeed later.
    Outside(String),
    /// Another node works on the job or has finished it; the details.
    Elsewhere(String),
    /// This program is shutting down.
    Stopped,
}

impl JobFailure {
    pub(super) fn of(error: impl std::fmt::Display) -> Self {
        Self::Cause(error.to_string())
    }
}

/// What the C library says of a disk that is full, away or not to be written, in the words of programs that pass it on.
const DISK_FAULTS: [&str; 12] = [
    "No space left on device",
    "Disk quota exceeded",
    "Read-only file system",
    "Stale file handle",
    "Permission denied",
    "Transport endpoint is not connected",
    "Connection timed out",
    "Host is down",
    "No route to host",
    "No such device",
    "Too many open files",
    "Cannot allocate memory",
];

/// The failure of an attempt for this cause: that of a disk, or of the job. Where the cause does not say, it is tried
/// whether `main_path` can be used.
pub(super) async fn judge(store: &MainPath, cause: String) -> JobFailure {
    if is_outside(&cause) {
        return JobFailure::Outside(cause);
    }
    let store = store.clone();
    let look = detached::run("main_path", move || {
        store.look().map_err(io::Error::other)?;
        main_path::try_out(store.path())
    });
    match tokio::time::timeout(LOOK_DEADLINE, look).await {
        Ok(Ok(_)) => JobFailure::Cause(cause),
        Ok(Err(fault)) => JobFailure::Outside(format!("{cause}; main_path: {fault}")),
        Err(_) => JobFailure::Outside(format!("{cause}; main_path does not answer")),
    }
}

/// Whether a cause is the fault of a disk or of this host, and not of the job.
fn is_outside(cause: &str) -> bool {
    DISK_FAULTS.iter().any(|fault| cause.contains(fault))
}

impl From<HookError> for JobFailure {
    fn from(error: HookError) -> Self {
        match error {
            HookError::Stopped { .. } => Self::Stopped,
            HookError::Failed { .. } => Self::of(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_or_missing_disk_is_not_the_fault_of_the_job() {
        for (cause, outside) in [
            ("ffmpeg failed (exit code 228): av_interleaved_write_frame(): No space left on device", true),
            ("cannot create /srv/.a.copy: Read-only file system (os error 30)", true),
            ("ffmpeg failed (exit code 1): Unknown encoder 'x'", false),
            ("no a_raw.mkv under main_path for /srv/a; looked in /srv/a (not in it)", false),
        ] {
            assert_eq!(is_outside(cause), outside, "{cause}");
        }
    }
}
