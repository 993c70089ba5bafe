//! Detects an ffmpeg that makes no progress: it neither reports any, nor does its output file change.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// Number of checks of the file within the limit.
const CHECKS: u32 = 24;

/// Watches one ffmpeg.
pub(super) struct StallWatch<'a> {
    /// The output file of ffmpeg.
    file: &'a Path,
    /// ffmpeg's latest `out_time_us`.
    out_time: Option<String>,
    /// Size and modification time of the file at the last check.
    last_state: Option<(u64, SystemTime)>,
    last_change: Instant,
    limit: Duration,
    /// Time of the next call of [`Self::is_stalled`].
    pub next_check: tokio::time::Instant,
}

impl<'a> StallWatch<'a> {
    /// `limit`: how long nothing may change.
    pub fn new(file: &'a Path, limit: Duration) -> Self {
        let next_check = tokio::time::Instant::now() + limit / CHECKS;
        Self { file, out_time: None, last_state: None, last_change: Instant::now(), limit, next_check }
    }

    /// Reads a line of ffmpeg's progress output.
    pub fn progress(&mut self, line: &str) {
        if let Some(("out_time_us", time)) = line.split_once('=')
            && self.out_time.as_deref() != Some(time)
        {
            self.out_time = Some(time.to_owned());
            self.last_change = Instant::now();
        }
    }

    /// Checks the file, because ffmpeg reports no progress while it moves the index to the front.
    pub async fn is_stalled(&mut self) -> bool {
        // The check itself may hang on a lost share.
        let every = self.limit / CHECKS;
        let check = tokio::time::timeout(every, tokio::fs::metadata(self.file)).await;
        self.next_check = tokio::time::Instant::now() + every;
        let file = check.ok().and_then(Result::ok).and_then(|file| Some((file.len(), file.modified().ok()?)));
        if file.is_some() && file != self.last_state {
            self.last_state = file;
            self.last_change = Instant::now();
        }
        self.last_change.elapsed() > self.limit
    }
}
