//! Whether an ffmpeg gets anywhere: it reports progress, or its file grows or changes.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// How often the file is looked at within the limit.
const LOOKS: u32 = 24;

/// Follows one ffmpeg.
pub(super) struct StallWatch<'a> {
    /// What ffmpeg writes.
    file: &'a Path,
    /// ffmpeg's latest `out_time_us`.
    out_time: Option<String>,
    /// Size and time of change of the file, when it was last looked at.
    seen: Option<(u64, SystemTime)>,
    last_change: Instant,
    limit: Duration,
    /// When [`Self::is_stalled`] is to be asked next.
    pub look_at: tokio::time::Instant,
}

impl<'a> StallWatch<'a> {
    /// `limit`: how long nothing may change.
    pub fn new(file: &'a Path, limit: Duration) -> Self {
        let look_at = tokio::time::Instant::now() + limit / LOOKS;
        Self { file, out_time: None, seen: None, last_change: Instant::now(), limit, look_at }
    }

    /// A line of ffmpeg's report (`-progress`).
    pub fn progress(&mut self, line: &str) {
        if let Some(("out_time_us", time)) = line.split_once('=')
            && self.out_time.as_deref() != Some(time)
        {
            self.out_time = Some(time.to_owned());
            self.last_change = Instant::now();
        }
    }

    /// Looks at the file: while its index is moved to the front, no progress is reported.
    pub async fn is_stalled(&mut self) -> bool {
        // On a share that is gone the look itself may hang.
        let every = self.limit / LOOKS;
        let look = tokio::time::timeout(every, tokio::fs::metadata(self.file)).await;
        self.look_at = tokio::time::Instant::now() + every;
        let file = look.ok().and_then(Result::ok).and_then(|file| Some((file.len(), file.modified().ok()?)));
        if file.is_some() && file != self.seen {
            self.seen = file;
            self.last_change = Instant::now();
        }
        self.last_change.elapsed() > self.limit
    }
}
