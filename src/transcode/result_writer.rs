//! Writes the result of a job: ffmpeg runs into an unfinished file, which is measured while it is written to its disk,
//! then checked, and put into its place.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::codes;
use crate::media::ffmpeg::{self, FfmpegReport, FfmpegTask};
use crate::media::ffmpeg_arguments::FfmpegArguments;
use crate::media::ffprobe::{self, MediaInfo};
use crate::media::progress::{FfmpegProgress, ProgressThrottle};
use crate::media::unfinished_file::UnfinishedFile;
use crate::storage::detached;
use crate::storage::placement::{self, IfExists, PlaceError, PlaceMethod};
use crate::transcode::failure::JobFailure;
use crate::transcode::journal::{JobEntry, ProgressSnapshot};
use crate::transcode::plan::{JobPaths, ProducePlan};
use crate::transcode::result_check;
use crate::transcode::settings::TranscodeSettings;
use crate::unix_time::unix_ms;

/// How often ffmpeg's progress is recorded, and at most logged.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// How a result is made that copies what was encoded while recording.
pub(super) const FINISH: &str = "finish";

/// A result in its final place.
pub(super) struct JobResult {
    pub mp4: PathBuf,
    /// Relative to `main_path`.
    pub file_path: String,
    pub media: MediaInfo,
    /// Bytes.
    pub size: u64,
    /// The raw file; `None` for a merge.
    pub raw: Option<PathBuf>,
    /// The raw file may be removed.
    pub remove_raw: bool,
    /// ffmpeg's run; `None` where the result existed already.
    pub ran: Option<FfmpegReport>,
}

/// A result that is not in its place yet.
pub(super) struct UnfinishedResult {
    pub file: UnfinishedFile,
    pub ran: FfmpegReport,
    /// As measured.
    pub media: MediaInfo,
}

/// Writes the results of one job.
#[derive(Clone, Copy)]
pub(super) struct ResultWriter<'a> {
    pub settings: &'a TranscodeSettings,
    pub entry: &'a JobEntry,
    pub cancel: &'a CancellationToken,
    /// The result's directory may be missing, as a hook has fetched the input.
    pub makes_dir: bool,
}

impl ResultWriter<'_> {
    /// `work`, unless the program stops first: then `work` is dropped, which kills its child processes.
    pub async fn or_stop<T>(&self, work: impl Future<Output = T>) -> Result<T, JobFailure> {
        tokio::select! {
            output = work => Ok(output),
            () = self.cancel.cancelled() => Err(JobFailure::Stopped),
        }
    }

    /// Runs ffmpeg, then measures what it has made while that is written to its disk. `total`: the raw file's duration.
    pub async fn make(
        &self,
        arguments: &FfmpegArguments,
        total: Duration,
        paths: &JobPaths,
    ) -> Result<UnfinishedResult, JobFailure> {
        let file = UnfinishedFile::new(paths.part.clone());
        let task = FfmpegTask {
            pre_input: &arguments.pre_input,
            post_input: &arguments.post_input,
            input: &paths.raw,
            total,
            output: file.path(),
            nice: self.settings.nice,
        };
        let ran = self.reported(async |progress: &_| ffmpeg::run(task, progress, self.cancel).await).await;
        let ran = match ran {
            Ok(ran) => ran,
            Err(ffmpeg::FfmpegError::Stopped) => return Err(JobFailure::Stopped),
            Err(error) => {
                if let ffmpeg::FfmpegError::Failed { last_words, .. } = &error {
                    let said = last_words.clone();
                    self.entry.update(|record| record.steps.last_words = Some(said)).await;
                }
                return Err(JobFailure::of(error));
            }
        };
        self.measured(file, ran).await
    }

    /// Measures an unfinished file while it is written to its disk.
    pub async fn measured(&self, file: UnfinishedFile, ran: FfmpegReport) -> Result<UnfinishedResult, JobFailure> {
        let (store, part) = (self.settings.store.clone(), file.path().to_owned());
        // One that is not in its file system yet is copied there.
        let is_there = self.settings.unfinished_dir().is_none();
        let sync =
            detached::run("sync", move || if is_there { placement::sync_blocking(&store, &part) } else { Ok(()) });
        let (media, on_disk) = self.or_stop(async { tokio::join!(ffprobe::measure(file.path()), sync) }).await?;
        // An error of the disk that was told once is not told again, when the file is put into its place.
        on_disk.map_err(|error| {
            JobFailure::Outside(format!("{} cannot be written to its disk: {error}", file.path().display()))
        })?;
        Ok(UnfinishedResult { file, ran, media: media.map_err(JobFailure::of)? })
    }

    /// Checks an unfinished result, and puts it into its place.
    pub async fn accept(
        &self,
        how: &'static str,
        build: &ProducePlan,
        whole: bool,
        made: UnfinishedResult,
    ) -> Result<(JobResult, Option<String>), JobFailure> {
        let ProducePlan { paths, raw, arguments, replaces, seam } = build;
        let UnfinishedResult { file: part, ran, media } = made;
        let expected = arguments.expected(raw);
        let nice = self.settings.nice;
        let (media, lacks) = if whole {
            let is_copy = how == FINISH || seam.is_some();
            let checked = result_check::check(part.path(), media, expected, *seam, &paths.raw, is_copy, nice);
            (self.or_stop(checked).await??, None)
        } else {
            self.or_stop(result_check::check_partial(part.path(), media, expected, nice)).await??
        };
        let keep = raw.unknown_part();
        if let Some(why) = &keep {
            tracing::error!(
                code = %codes::RAW_KEPT, raw = %paths.raw.display(), why,
                "the raw file is kept, as the MP4 may not hold all of it: compare them, then remove it by hand"
            );
        }
        let size = self.place(part.path(), &paths.mp4, replaces.is_some()).await?;
        let raw = Some(paths.raw.clone());
        let (mp4, file_path) = (paths.mp4.clone(), paths.file_path.clone());
        let result = JobResult { mp4, file_path, media, size, raw, remove_raw: keep.is_none(), ran: Some(ran) };
        Ok((result, lacks))
    }

    /// Creates the result's directory, which can only be missing where a hook has fetched the input.
    pub async fn make_dir(&self, mp4: &Path) -> Result<(), JobFailure> {
        let Some(dir) = mp4.parent().filter(|_| self.makes_dir) else { return Ok(()) };
        tokio::fs::create_dir_all(dir)
            .await
            .map_err(|error| JobFailure::Outside(format!("the directory {} cannot be made: {error}", dir.display())))
    }

    /// Moves the result to its final place, durably; its size in bytes.
    pub async fn place(&self, part: &Path, mp4: &Path, replace: bool) -> Result<u64, JobFailure> {
        let existing = if replace { IfExists::Replace } else { IfExists::Refuse };
        let other_node = || JobFailure::Elsewhere(format!("another node has put {} there meanwhile", mp4.display()));
        match self.or_stop(placement::place_in(&self.settings.store, part, mp4, existing)).await? {
            // An identical file: made with the same options.
            Ok(PlaceMethod::WasThere) | Err(PlaceError::Exists { .. }) => return Err(other_node()),
            Ok(PlaceMethod::Renamed | PlaceMethod::Copied) => {}
            Err(error) => return Err(JobFailure::Outside(error.to_string())),
        }
        Ok(tokio::fs::metadata(mp4).await.map_err(JobFailure::of)?.len())
    }

    /// Runs `work` while the progress that it reports is recorded.
    pub async fn reported<T>(&self, work: impl AsyncFnOnce(&watch::Sender<FfmpegProgress>) -> T) -> T {
        let (progress, report) = watch::channel(FfmpegProgress::default());
        let output = tokio::select! {
            output = work(&progress) => output,
            never = self.report(report) => match never {},
        };
        // A write of the record would wait behind what ffmpeg has just written.
        if self.entry.record().progress.is_some() {
            self.entry.update(|record| record.progress = None).await;
        }
        output
    }

    /// Regularly records ffmpeg's progress, in the log and in the job's record.
    async fn report(&self, mut progress: watch::Receiver<FfmpegProgress>) -> std::convert::Infallible {
        let (started, mut throttle) = (Instant::now(), ProgressThrottle::default());
        loop {
            tokio::time::sleep(REPORT_INTERVAL).await;
            // Without new progress nothing is logged: a hung ffmpeg is reported when it is killed.
            if !progress.has_changed().unwrap_or(false) {
                continue;
            }
            let now = *progress.borrow_and_update();
            let eta_s = now.eta().map(|eta| eta.as_secs());
            let percent = (now.percent() * 10.0).round() / 10.0;
            if throttle.due(started.elapsed(), percent) {
                tracing::info!(percent, speed = now.speed, eta_s, "still transcoding");
            }
            let snapshot = ProgressSnapshot { percent, speed: now.speed, eta_s, at: unix_ms() };
            self.entry.update(move |record| record.progress = Some(snapshot)).await;
        }
    }
}

pub(super) fn warn_of_replacing(mp4: &Path, why: Option<&str>) {
    if let Some(why) = why {
        tracing::warn!(
            code = %codes::RESULT_REPLACED, mp4 = %mp4.display(), why,
            "a file of the result's name is no result, replacing it"
        );
    }
}
