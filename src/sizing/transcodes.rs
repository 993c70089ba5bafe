//! MP4s that are made beside the recordings, again and again, as a node of mode both makes them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::media::ffmpeg::{self, FfmpegError, FfmpegTask};
use crate::media::ffmpeg_arguments::FfmpegArguments;
use crate::media::ffprobe::{self, MediaInfo};
use crate::media::progress::FfmpegProgress;

/// Time limit for the copy of a recording that grows, and for measuring it.
const PREPARE_LIMIT: Duration = Duration::from_secs(15);
/// Time limit for all of them to end.
const END_LIMIT: Duration = Duration::from_secs(10);

/// ffmpegs that run until they are ended.
pub struct Transcodes {
    tasks: Vec<JoinHandle<()>>,
    /// Of each: how much of the media it has made.
    progress: Vec<(Arc<AtomicU64>, watch::Receiver<FfmpegProgress>)>,
    cancel: CancellationToken,
    failed: mpsc::Receiver<String>,
}

impl Transcodes {
    /// Starts as many as the configuration allows, of a copy of `raw`, which may still grow.
    ///
    /// # Errors
    /// Why nothing can be transcoded.
    pub async fn start(config: &Config, raw: &Path, dir: &Path) -> Result<Self, String> {
        let copy = dir.join("transcoded.mkv");
        let prepare = async {
            tokio::fs::copy(raw, &copy)
                .await
                .map_err(|error| format!("{} cannot be copied: {error}", raw.display()))?;
            ffprobe::measure(&copy).await.map_err(|error| error.to_string())
        };
        let prepared = tokio::time::timeout(PREPARE_LIMIT, prepare).await;
        let content = prepared.unwrap_or_else(|_| Err("ffprobe or the disk does not answer".to_owned()))?;
        let arguments = if config.recorder.post_mp4_convert {
            FfmpegArguments::convert(&config.ffmpeg.post_recording, &content)
        } else {
            FfmpegArguments::remux(&content)
        };
        let (report, failed) = mpsc::channel(1);
        let cancel = CancellationToken::new();
        let (mut tasks, mut progress) = (Vec::new(), Vec::new());
        for number in 0..config.transcoder.max_jobs {
            let (sender, receiver) = watch::channel(FfmpegProgress::default());
            let made = Arc::new(AtomicU64::new(0));
            progress.push((made.clone(), receiver));
            let job = Job {
                arguments: arguments.clone(),
                content: content.clone(),
                input: copy.clone(),
                output: dir.join(format!("transcoded-{number}.mp4")),
                nice: config.transcoder.nice,
                made,
                progress: sender,
            };
            tasks.push(tokio::spawn(job.run(cancel.clone(), report.clone())));
        }
        Ok(Self { tasks, progress, cancel, failed })
    }

    /// ffmpegs that run.
    #[must_use]
    pub fn jobs(&self) -> usize {
        self.tasks.len()
    }

    /// How much of the recording all of them have made into MP4s, each pass counted.
    #[must_use]
    pub fn made(&self) -> Duration {
        let of = |(made, progress): &(Arc<AtomicU64>, watch::Receiver<FfmpegProgress>)| {
            Duration::from_micros(made.load(Ordering::Relaxed)) + progress.borrow().done
        };
        self.progress.iter().map(of).sum()
    }

    /// Why one has failed, if one has.
    #[must_use]
    pub fn failure(&mut self) -> Option<String> {
        self.failed.try_recv().ok()
    }

    /// Ends them.
    pub async fn end(self) {
        self.cancel.cancel();
        // Dropped, their children are killed.
        let _ = tokio::time::timeout(END_LIMIT, join_all(self.tasks)).await;
    }
}

/// One ffmpeg after the other.
struct Job {
    arguments: FfmpegArguments,
    content: MediaInfo,
    input: PathBuf,
    output: PathBuf,
    nice: u8,
    /// Microseconds of earlier passes.
    made: Arc<AtomicU64>,
    progress: watch::Sender<FfmpegProgress>,
}

impl Job {
    async fn run(self, cancel: CancellationToken, failed: mpsc::Sender<String>) {
        loop {
            let task = FfmpegTask {
                pre_input: &self.arguments.pre_input,
                post_input: &self.arguments.post_input,
                input: &self.input,
                total: self.content.duration,
                output: &self.output,
                nice: self.nice,
            };
            match ffmpeg::run(task, &self.progress, &cancel).await {
                Ok(_) => {
                    let micros = u64::try_from(self.content.duration.as_micros()).unwrap_or(0);
                    self.progress.send_replace(FfmpegProgress::default());
                    self.made.fetch_add(micros, Ordering::Relaxed);
                }
                Err(FfmpegError::Stopped) => return,
                Err(error) => {
                    // One cause is enough.
                    let _ = failed.try_send(error.to_string());
                    return;
                }
            }
        }
    }
}
