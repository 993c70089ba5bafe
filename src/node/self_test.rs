//! Finds out whether this host can record, by recording a built-in page for a second: at the start, and again when
//! several openings in a row have failed. While it cannot, the node takes no work, since the server would choose it
//! again and again as the idlest one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, error, info, info_span, warn};

use crate::capture::rig::{CaptureReport, RigSpec};
use crate::check::test_recording;
use crate::codes;
use crate::fleet::availability::{Availability, Obstacle};
use crate::media::ffprobe::{self, MediaInfo};
use crate::recording::live_rig_factory::LiveRigFactory;
use crate::recording::open_failures::OpenFailures;
use crate::retry::Backoff;

/// The page: white and grey in turn, with the elements by which a meeting is joined (PROTOCOL 4).
const PAGE: &str = concat!("data:text/html,", include_str!("self_test.html"));
/// How long the page is recorded.
const LENGTH: Duration = Duration::from_secs(1);
/// Openings that must have failed in a row before this host is doubted.
const FAILURES: u32 = 3;
/// The least length of the file's tracks. A busy host may lose some of the second.
const MIN_LENGTH: Duration = Duration::from_millis(300);

/// The self-test of a node that records.
pub(super) struct SelfTest {
    pub rigs: Arc<LiveRigFactory>,
    /// The file that the test writes, and removes.
    pub file: PathBuf,
    pub availability: Availability,
    pub failures: OpenFailures,
}

impl SelfTest {
    /// Notes that the node takes no work until the first test is passed. Called before the node is announced.
    pub fn prepare(&self) {
        self.availability.block(Obstacle::SelfTest, "the self-test of the start has not ended yet");
    }

    /// Tests until cancelled.
    pub async fn run(self, cancel: CancellationToken) {
        let mut waits = Backoff::new(Duration::from_secs(5), Duration::from_secs(300));
        // Where it is the meetings that fail, this node is not tested again and again: that takes a processor for seconds.
        let mut passes = Backoff::new(Duration::from_secs(5), Duration::from_secs(600));
        loop {
            let begun = Instant::now();
            let result = Box::pin(self.test(&cancel)).instrument(info_span!("self_test")).await;
            if cancel.is_cancelled() {
                return;
            }
            match result {
                Ok(()) => {
                    info!(took_ms = begun.elapsed().as_millis(), "the self-test is passed: this node can record");
                    self.failures.reset();
                    self.availability.clear(Obstacle::SelfTest);
                    waits.reset();
                    if cancel.run_until_cancelled(self.doubt(passes.wait())).await.is_none() {
                        return;
                    }
                    warn!(
                        code = %codes::SELF_TEST_BEGINS,
                        "several recordings in a row could not be started: testing whether this node can record"
                    );
                }
                Err(cause) => {
                    passes.reset();
                    let wait = waits.wait();
                    error!(
                        code = %codes::SELF_TEST_FAILED,
                        cause,
                        retry_s = wait.as_secs(),
                        "the self-test failed: this node cannot record and takes nothing on until it can; \
                         see self-test in docs/troubleshooting.md"
                    );
                    self.availability.block(Obstacle::SelfTest, cause);
                    if cancel.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    /// Resolves when so many openings have failed that this host is doubted again, and not before `trusted` is over.
    async fn doubt(&self, trusted: Duration) {
        tokio::time::sleep(trusted).await;
        let mut in_a_row = self.failures.watch();
        if in_a_row.wait_for(|count| *count >= FAILURES).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Records the page.
    async fn test(&self, cancel: &CancellationToken) -> Result<(), String> {
        let spec = self.rigs.self_test(PAGE, self.file.clone());
        let result = Box::pin(record(spec, &self.file, cancel.child_token())).await;
        // It is not there where the rig did not open.
        let _ = tokio::fs::remove_file(&self.file).await;
        result
    }
}

/// Records for a second and looks at what came out.
async fn record(spec: RigSpec, file: &std::path::Path, cancel: CancellationToken) -> Result<(), String> {
    let recording = Box::pin(test_recording::record(spec, LENGTH, cancel)).await?;
    let content = ffprobe::measure(file).await.map_err(|error| error.to_string())?;
    fault(&recording.report, &content).map_or(Ok(()), Err)
}

/// What is wrong with the recording of the page.
fn fault(report: &CaptureReport, content: &MediaInfo) -> Option<String> {
    if content.video().is_none() || content.audio().is_none() {
        return Some("ffmpeg: the file of the self-test lacks its picture or its sound".to_owned());
    }
    if content.duration < MIN_LENGTH {
        return Some(format!("ffmpeg: the file of the self-test holds only {:.2} s", content.duration.as_secs_f64()));
    }
    if report.picture.black_share >= 1.0 {
        return Some("Chrome: the screen stays black although the page is white".to_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::quality::VideoStats;
    use crate::media::ffprobe::{MediaStream, StreamKind};

    #[test]
    fn a_file_without_sound_and_a_black_screen_are_faults() {
        let stream = |kind| MediaStream { kind, ..MediaStream::default() };
        let content = |kinds: &[StreamKind], millis| MediaInfo {
            duration: Duration::from_millis(millis),
            streams: kinds.iter().map(|kind| stream(*kind)).collect(),
            ..MediaInfo::default()
        };
        let both = [StreamKind::Video, StreamKind::Audio];
        let report = CaptureReport::default();
        assert_eq!(fault(&report, &content(&both, 900)), None);
        assert!(fault(&report, &content(&both[..1], 900)).unwrap().contains("sound"));
        assert!(fault(&report, &content(&both, 100)).unwrap().contains("0.10 s"));
        let black = CaptureReport { picture: VideoStats { black_share: 1.0, ..VideoStats::default() }, ..report };
        assert!(fault(&black, &content(&both, 900)).unwrap().contains("black"));
    }

    #[test]
    fn the_page_is_a_url_as_it_stands() {
        assert!(!PAGE.contains(['#', '%']), "both have a meaning of their own in a URL");
    }
}
