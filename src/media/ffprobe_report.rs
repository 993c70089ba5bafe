//! What ffprobe says of a file, for people.

use std::path::Path;

use tokio::io::AsyncReadExt as _;

use crate::media::ffprobe::{self, ProbeError};
use crate::process::child;

/// Options to say all that the headers say, or why they cannot be read.
const REPORT: [&str; 5] = ["-show_format", "-show_streams", "-show_error", "-of", "json"];

/// All that ffprobe says of a file, as JSON; also of one that it cannot read, where `error` says why.
///
/// # Errors
/// Where ffprobe cannot be started, does not answer, or says nothing.
pub async fn report(path: &Path) -> Result<String, ProbeError> {
    let mut child = child::spawn(&ffprobe::ffprobe(path, &REPORT)).await?;
    let mut answer = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        let read =
            tokio::time::timeout(ffprobe::PROBE_DEADLINE, stdout.take(ffprobe::ANSWER_LIMIT).read_to_end(&mut answer))
                .await;
        if read.is_err() {
            return Err(ffprobe::give_up(child, path).await);
        }
    }
    // Of a file that it cannot read it says so, and fails.
    let finished = ffprobe::finish(child, path).await;
    match String::from_utf8_lossy(&answer).trim() {
        "" | "{}" => finished.and_then(|()| Err(ProbeError::Empty(path.to_owned()))),
        text => Ok(format!("{text}\n")),
    }
}
