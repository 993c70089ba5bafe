//! Produces a job's result: from the raw file, or from the files to merge, or because it exists already.
//!
//! ```text
//! find, measure → plan ┬ Convert ─ ffmpeg writes the unfinished file ┬ measure, decode → fsync, rename
//!               ├ Finish ─────────────────────────────────────┤  (or else Convert)
//!               ├ Splice ─ the rest is encoded ───────────────┤  (or else Convert)
//!               ├ Remux ──────────────────────────────────────┤
//!               ├ Merge ──────────────────────────────────────┘
//!               ├ AlreadyDone
//!               └ MissingInput
//! ```
//!
//! If that fails at the last delivery, and there is a raw file, what is left is tried (`last_resort`), and the raw file
//! is kept.

use std::path::{Path, PathBuf};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use crate::codes;
use crate::media::ffmpeg::{self, FfmpegReport};
use crate::media::ffmpeg_arguments::FfmpegArguments;
use crate::media::ffprobe;
use crate::media::unfinished_file::UnfinishedFile;
use crate::media::{concat, decode_check};
use crate::protocol::job::{Job, Work};
use crate::storage::files;
use crate::storage::main_path::MainPath;
use crate::telemetry::seconds;
use crate::transcode::copy_ahead::{self, CopyAhead};
use crate::transcode::failure::{self, JobFailure};
use crate::transcode::fetched_objects::FetchedObjects;
use crate::transcode::input_files::{self, FetchedRaw, FoundFiles, InputQuery};
use crate::transcode::journal::JobEntry;
use crate::transcode::last_resort::LastResort;
use crate::transcode::merge::{self, MergeError};
use crate::transcode::merge_inputs::{self, MergeInput};
use crate::transcode::plan::{self, JobFacts, JobPaths, JobPlan, PlanRules, ProducePlan};
use crate::transcode::result_writer::{FINISH, JobResult, ResultWriter, UnfinishedResult, warn_of_replacing};
use crate::transcode::settings::TranscodeSettings;
use crate::transcode::splice_plan::SplicePlan;
use crate::transcode::{early_result, result_check, splice, summary};

/// The input that a hook has fetched, or this node from a store.
#[derive(Clone, Debug)]
pub(super) struct FetchedInput {
    pub dir: PathBuf,
    pub file_name: String,
    /// The result's directory, relative to `main_path`; `None`: that of the job, where it exists, else this node's own.
    pub home: Option<PathBuf>,
}

/// What was copied before the raw file was measured.
struct ResultAhead {
    copy: CopyAhead,
    made: UnfinishedResult,
}

/// What an attempt has found out about a raw file.
#[derive(Clone, Copy)]
struct RawKnowledge {
    /// Its content is known to its end.
    measured: bool,
    /// Its streams could not be copied.
    remux_failed: bool,
}

/// Produces the result of a job.
pub(super) struct ResultBuilder<'a> {
    pub job: &'a Job,
    /// This is the job's last delivery.
    pub last: bool,
    pub settings: &'a TranscodeSettings,
    pub entry: &'a JobEntry,
    pub fetched_input: Option<FetchedInput>,
    pub cancel: &'a CancellationToken,
}

impl ResultBuilder<'_> {
    pub async fn build(&self) -> Result<JobResult, JobFailure> {
        match &self.job.work {
            Work::PostRecording { dir, file_name, .. } => self.post_recording(dir, file_name.as_str()).await,
            Work::Merge { paths } => self.merge(paths).await,
        }
    }

    fn writer(&self) -> ResultWriter<'_> {
        let Self { settings, entry, cancel, .. } = *self;
        ResultWriter { settings, entry, cancel, makes_dir: self.fetched_input.is_some() }
    }

    async fn post_recording(&self, dir: &Path, raw_name: &str) -> Result<JobResult, JobFailure> {
        let TranscodeSettings { main_path, recorder_id, convert, ffmpeg, .. } = self.settings;
        let info = &self.job.info;
        let own_home = self.settings.sub_path.join(info.room_id.as_str());
        let home = self.fetched_input.as_ref().and_then(|fetched_input| fetched_input.home.as_ref());
        let at_home = home.map(|home| main_path.join(home));
        let dir = at_home.as_deref().unwrap_or(dir);
        let fetched = self
            .fetched_input
            .as_ref()
            .map(|fetched_input| FetchedRaw { dir: &fetched_input.dir, home: home.unwrap_or(&own_home) });
        let raw_name = self.fetched_input.as_ref().map_or(raw_name, |fetched_input| &fetched_input.file_name);
        let query = InputQuery { dir, raw_name, recording_id: &info.recording_id, fetched };
        let found = self.writer().or_stop(input_files::find(main_path, query)).await?.map_err(JobFailure::of)?;
        let unfinished_dir = self.settings.unfinished_dir();
        // Removes the unfinished file of an attempt during which this node was killed. This is done now because no
        // later step is sure to come: another node may have finished the job and removed the raw file while this node
        // was searching.
        let paths =
            plan::paths(&found.root, &found.dir, &found.raw_path, &info.recording_id, recorder_id, unfinished_dir);
        splice::remove_files(&paths.part);
        drop(UnfinishedFile::new(paths.part.clone()));
        let anew = self.entry.record().steps.anew;
        let may_be_early = *convert && !anew && found.mp4.is_none() && found.raw.is_some() && unfinished_dir.is_none();
        if may_be_early && let Some(result) = early_result::take(&self.writer(), &paths).await? {
            return Ok(result);
        }
        let (facts, ahead) = Box::pin(self.measure(found, &paths)).await?;
        match plan::plan(
            &info.recording_id,
            &facts,
            PlanRules { recorder_id, convert: *convert, anew, options: ffmpeg, unfinished_dir },
        ) {
            JobPlan::AlreadyDone { paths, media, size, remove_raw } => {
                tracing::info!(mp4 = %paths.mp4.display(), remove_raw, "the MP4 is there already");
                let raw = Some(paths.raw);
                let file_path = paths.file_path;
                Ok(JobResult { mp4: paths.mp4, file_path, media, size, raw, remove_raw, ran: None })
            }
            JobPlan::MissingInput { cause } if self.last && facts.raw.is_some() => {
                drop(ahead);
                if paths.raw == paths.mp4 {
                    return Err(JobFailure::Cause(cause));
                }
                // Its headers may still say what is in it.
                let raw = self.writer().or_stop(ffprobe::probe(&paths.raw)).await?.unwrap_or_default();
                let replaces = facts.mp4.is_some().then(|| "it does not play".to_owned());
                let arguments = FfmpegArguments::remux(&raw);
                let plan = ProducePlan { paths, raw, arguments, replaces, seam: None };
                self.last_resort(&plan, cause, RawKnowledge { measured: false, remux_failed: false }).await
            }
            JobPlan::MissingInput { cause } => Err(JobFailure::Cause(cause)),
            JobPlan::Finish(copy, plan) => self.finish_or_convert(copy, plan, ahead).await,
            JobPlan::Splice(splice, plan) => self.splice_or_convert(&splice, plan).await,
            JobPlan::Remux(plan) => self.transcode_or_resort("remux", plan).await,
            JobPlan::Convert(plan) => self.transcode_or_resort("convert", plan).await,
        }
    }

    /// Measures the files of the job, and meanwhile copies the raw file where that will be asked for.
    async fn measure(
        &self,
        found: FoundFiles,
        paths: &JobPaths,
    ) -> Result<(JobFacts, Option<ResultAhead>), JobFailure> {
        let nice = self.settings.nice;
        let may = self.settings.convert && found.mp4.is_none() && paths.raw != paths.mp4;
        let headers = match &found.raw {
            Some(raw) if may => self.writer().or_stop(ffprobe::headers(&raw.path)).await?.ok(),
            _ => None,
        };
        let copy = match &headers {
            Some(headers) => {
                self.writer().or_stop(copy_ahead::plan(&self.settings.ffmpeg, headers, &paths.raw)).await?
            }
            None => None,
        };
        let writer = self.writer();
        let measure = writer.or_stop(input_files::measure(found, headers, nice));
        let Some(copy) = copy else { return Ok((measure.await?, None)) };
        tracing::info!(
            how = FINISH, raw = %paths.raw.display(), raw_s = seconds(copy.raw.duration),
            "copying what was encoded while recording, while the raw file is measured"
        );
        let made = async {
            self.writer().make_dir(&paths.mp4).await?;
            self.writer().make(&copy.arguments, copy.raw.duration, paths).await
        };
        let (facts, made) = tokio::join!(measure, made);
        let made = made.inspect_err(|failure| tracing::debug!(?failure, "copied again once it is measured"));
        Ok((facts?, made.ok().map(|made| ResultAhead { copy, made })))
    }

    async fn finish_or_convert(
        &self,
        copy: FfmpegArguments,
        plan: ProducePlan,
        ahead: Option<ResultAhead>,
    ) -> Result<JobResult, JobFailure> {
        let finish = ProducePlan { arguments: copy, ..plan.clone() };
        let result = match ahead {
            Some(ResultAhead { copy, made }) if copy.is_of(&plan.raw) => {
                self.writer().accept(FINISH, &finish, true, made).await
            }
            other => {
                // Its file is removed before it is made anew.
                drop(other);
                self.transcode(FINISH, &finish, true).await
            }
        };
        self.or_convert(result.map(|(result, _)| result), plan).await
    }

    async fn splice_or_convert(&self, splice: &SplicePlan, plan: ProducePlan) -> Result<JobResult, JobFailure> {
        self.or_convert(self.splice(splice, &plan).await, plan).await
    }

    async fn splice(&self, splice: &SplicePlan, plan: &ProducePlan) -> Result<JobResult, JobFailure> {
        self.writer().make_dir(&plan.paths.mp4).await?;
        let nice = self.settings.nice;
        let encode = async |progress: &_| splice::encode_tail(splice, plan, nice, progress, self.cancel).await;
        let tail = self.writer().reported(encode).await?;
        let whole = ProducePlan { arguments: splice.whole.clone(), seam: Some(tail.seam), ..plan.clone() };
        let (result, _) = self.transcode("splice", &whole, true).await?;
        let ran = result.ran.map(|ran| FfmpegReport {
            cpu: ran.cpu.zip(tail.ran.cpu).map(|(whole, tail)| whole + tail),
            wall: ran.wall + tail.ran.wall,
        });
        Ok(JobResult { ran, ..result })
    }

    /// This result, or else that of encoding the raw file anew.
    async fn or_convert(
        &self,
        result: Result<JobResult, JobFailure>,
        plan: ProducePlan,
    ) -> Result<JobResult, JobFailure> {
        match result {
            Err(JobFailure::Cause(why)) => {
                tracing::warn!(
                    code = %codes::NOT_FINISHED, cause = why,
                    "what was encoded while recording makes no good MP4: encoding the raw file anew"
                );
                self.transcode_or_resort("convert", plan).await
            }
            result => result,
        }
    }

    async fn transcode_or_resort(&self, how: &'static str, plan: ProducePlan) -> Result<JobResult, JobFailure> {
        let raw = RawKnowledge { measured: true, remux_failed: how == "remux" };
        match self.transcode(how, &plan, true).await {
            Err(JobFailure::Cause(why)) if self.last => self.last_resort(&plan, why, raw).await,
            result => result.map(|(result, _)| result),
        }
    }

    /// Delivers as much as can be delivered, unless it is a disk that failed: then another attempt may do better.
    async fn last_resort(&self, plan: &ProducePlan, why: String, known: RawKnowledge) -> Result<JobResult, JobFailure> {
        match failure::judge(&self.settings.store, why).await {
            JobFailure::Cause(why) => self.deliver_somehow(plan, why, known).await,
            failure => Err(failure),
        }
    }

    /// The last resort: as much of the recording as can be put into an MP4. Its raw file is kept.
    async fn deliver_somehow(
        &self,
        plan: &ProducePlan,
        why: String,
        known: RawKnowledge,
    ) -> Result<JobResult, JobFailure> {
        let why = match failure::judge(&self.settings.store, why).await {
            JobFailure::Cause(why) => why,
            failure => return Err(failure),
        };
        tracing::error!(
            code = %codes::LAST_RESORT,
            cause = why,
            "the MP4 could not be made for the last time: trying what is left; the raw file is kept"
        );
        let cause = why.clone();
        // Noted first: after a crash the next start must not take the file for an encoded result and remove the raw
        // file.
        self.entry.update(move |record| record.steps.remuxed = Some(cause)).await;
        let mut causes: Vec<String> = Vec::new();
        for way in LastResort::left(&plan.raw, known.measured, known.remux_failed) {
            let plan = ProducePlan { arguments: way.arguments(&plan.raw), ..plan.clone() };
            match self.transcode(way.as_str(), &plan, way.is_whole()).await {
                Ok((result, lacks)) => {
                    let why = lacks.map_or_else(|| why.clone(), |lacks| format!("{why}; what can be read: {lacks}"));
                    let noted = why.clone();
                    self.entry.update(move |record| record.steps.remuxed = Some(noted)).await;
                    mark_summary(&self.settings.store, &result, why).await;
                    return Ok(JobResult { remove_raw: false, ..result });
                }
                Err(JobFailure::Cause(also)) => {
                    tracing::error!(
                        code = %codes::LAST_RESORT, how = way.as_str(), cause = also,
                        "this did not work either"
                    );
                    if !causes.contains(&also) {
                        causes.push(also);
                    }
                }
                Err(failure) => {
                    self.entry.update(|record| record.steps.remuxed = None).await;
                    return Err(failure);
                }
            }
        }
        self.entry.update(|record| record.steps.remuxed = None).await;
        Err(JobFailure::Cause(format!("{why}; nor can it be remuxed: {}", causes.join("; "))))
    }

    /// Makes the MP4. `whole`: it must hold all of the raw file; otherwise what it lacks is returned.
    async fn transcode(
        &self,
        how: &'static str,
        build: &ProducePlan,
        whole: bool,
    ) -> Result<(JobResult, Option<String>), JobFailure> {
        let ProducePlan { paths, raw, arguments, replaces, .. } = build;
        tracing::info!(how, raw = %paths.raw.display(), raw_s = seconds(raw.duration), "transcoding");
        warn_of_replacing(&paths.mp4, replaces.as_deref());
        self.writer().make_dir(&paths.mp4).await?;
        let made = self.writer().make(arguments, raw.duration, paths).await?;
        self.writer().accept(how, build, whole, made).await
    }

    async fn merge(&self, paths: &[PathBuf]) -> Result<JobResult, JobFailure> {
        let TranscodeSettings { main_path, recorder_id, nice, .. } = self.settings;
        let info = &self.job.info;
        let by_hook = self.fetched_input.as_ref().map(|fetched_input| fetched_input.dir.as_path());
        let home = self.settings.sub_path.join(info.room_id.as_str());
        let objects = FetchedObjects {
            settings: self.settings,
            recording: &info.recording_id,
            room: &info.room_id,
            cancel: self.cancel,
        };
        let inputs = merge_inputs::find(paths, by_hook, &home, objects).await?;
        let unfinished_dir = self.settings.unfinished_dir();
        let files = merge::locate(main_path, &inputs, &info.recording_id, recorder_id, unfinished_dir);
        let files = files.map_err(JobFailure::of)?;
        drop(UnfinishedFile::new(files.part.clone()));
        let existing = self.writer().or_stop(merge::existing(&files, *nice)).await?;
        let job_result = |media, size, ran| JobResult {
            mp4: files.mp4.clone(),
            file_path: files.file_path.clone(),
            media,
            size,
            raw: None,
            remove_raw: false,
            ran,
        };
        let replaces = match existing {
            Some(Ok(media)) => {
                let size = tokio::fs::metadata(&files.mp4).await.map_err(JobFailure::of)?.len();
                tracing::info!(mp4 = %files.mp4.display(), "the merged MP4 is there already");
                return Ok(job_result(media, size, None));
            }
            Some(Err(why)) => Some(why),
            None => None,
        };
        tracing::info!(files = files.inputs.len(), mp4 = %files.mp4.display(), "merging");
        warn_of_replacing(&files.mp4, replaces.as_deref());
        let makes_dir = inputs.iter().any(|input| matches!(input, MergeInput::Fetched { .. }));
        ResultWriter { makes_dir, ..self.writer() }.make_dir(&files.mp4).await?;
        let started = Instant::now();
        let part = UnfinishedFile::new(files.part.clone());
        let report = merge::run(&files, *nice, self.cancel).await.map_err(|error| match error {
            MergeError::Join(concat::ConcatError::Run { source: ffmpeg::FfmpegError::Stopped, .. }) => {
                JobFailure::Stopped
            }
            error => JobFailure::of(error),
        })?;
        self.writer()
            .or_stop(decode_check::check(part.path(), &report.media, *nice))
            .await?
            .map_err(|error| result_check::undecodable(&error))?;
        let size = self.writer().place(part.path(), &files.mp4, replaces.is_some()).await?;
        Ok(job_result(report.media, size, Some(FfmpegReport { cpu: None, wall: started.elapsed() })))
    }
}

/// Notes in the summary beside the raw file why the MP4 is not encoded as it should be.
async fn mark_summary(store: &MainPath, result: &JobResult, why: String) {
    let Some(path) = result.raw.as_deref().and_then(summary::path) else { return };
    let (store, marked) = (store.clone(), path.clone());
    if let Err(error) = files::on_disk(move || summary::mark_remuxed(&store, &marked, &why)).await {
        tracing::warn!(
            code = %codes::SUMMARY_NOT_MARKED, summary = %path.display(), %error,
            "the summary does not say that the recording was only remuxed"
        );
    }
}
