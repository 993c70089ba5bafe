//! One job from its delivery to its verdict; the work queue itself is [`super::worker`]'s.
//!
//! ```text
//! locate → plan ┬ Convert, Remux → ffmpeg into a part → measure → fsync, rename ┐
//!               ├ AlreadyDone ──────────────────────────────────────────────────┴→ PROCEEDED → scripts → FINISHED
//!               └ MissingInput, any failure → again later; the last time FINISHED with the cause, the raw file stays
//! ```
//!
//! Each step may be repeated: a job that is handed out again goes on where its files say it was. What has no trace in
//! a file, the scripts, then happens again. What the server is told goes into the outbox, which remembers it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::ffmpeg::{self, Part, Ran};
use super::locate;
use super::media::{self, Media};
use super::plan::{self, Make, Paths, Plan, Rules};
use super::verify::{self, Mismatch};
use crate::config::{Config, FfmpegOptions, Mode};
use crate::delivery::courier::Courier;
use crate::delivery::outbox::Key;
use crate::protocol::ids::{RecorderId, RecordingId};
use crate::protocol::job::{Job, RawFileName, Work};
use crate::protocol::notice::{Event, Notice};
use crate::scripts::post_processing::{self, Payload, Summary};
use crate::storage::files::{self, Existing};
use crate::telemetry::seconds;

/// How often the queue hands a job out (PROTOCOL 1: `MaxDeliver`).
pub const MAX_DELIVER: u64 = 3;
/// After a failure: a share may be mounted again, or another node may have what this one lacks.
const RETRY: Duration = Duration::from_secs(30);
/// After a shutdown nothing is wrong with the job: the next node may take it at once.
const HAND_OVER: Duration = Duration::from_secs(1);
/// What a worker has to know.
#[derive(Clone, Debug)]
pub struct Settings {
    pub recorder_id: RecorderId,
    pub main_path: PathBuf,
    /// Where jobs that cannot be decoded are kept aside.
    pub temporary_dir: PathBuf,
    /// Where the records of jobs are.
    pub state_dir: PathBuf,
    /// Re-encode (true) or remux.
    pub convert: bool,
    /// `ffmpeg_settings.post_recording`.
    pub ffmpeg: FfmpegOptions,
    pub scripts: Vec<PathBuf>,
    /// For each script.
    pub script_timeout: Duration,
    /// No job is fetched above this share of the processors, 0…1.
    pub cpu_limit: Option<f64>,
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Self {
        let recorder = &config.recorder;
        Self {
            recorder_id: recorder.id.clone(),
            main_path: recorder.main_path.clone(),
            temporary_dir: recorder.temporary_dir.clone(),
            state_dir: recorder.state_dir.clone(),
            convert: recorder.post_mp4_convert,
            ffmpeg: config.ffmpeg.post_recording.clone(),
            scripts: recorder.post_processing_scripts.clone(),
            script_timeout: recorder.post_processing_timeout,
            // A node that does not record has nothing to protect.
            cpu_limit: recorder.transcoding_cpu_limit.filter(|_| recorder.mode == Mode::Both),
        }
    }
}

/// How the server is told.
pub trait Tell: Send + Sync {
    /// A new result was made: what the server was told of an earlier one is told anew.
    fn anew(&self, recording: &RecordingId) -> BoxFuture<'static, ()>;

    /// Resolves when it is certain that the server will be told; a notice that this node has told already is not told again.
    fn tell(&self, notice: Notice) -> BoxFuture<'static, ()>;
}

impl Tell for Courier {
    fn anew(&self, recording: &RecordingId) -> BoxFuture<'static, ()> {
        let (courier, recording) = (self.clone(), recording.clone());
        async move { courier.outbox().forget(&recording, &[Key::Proceeded, Key::Finished]).await }.boxed()
    }

    fn tell(&self, notice: Notice) -> BoxFuture<'static, ()> {
        let courier = self.clone();
        async move { drop(courier.send(notice).await) }.boxed()
    }
}

/// What is to become of the job in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Acknowledge it, then remove this raw file.
    Done { remove: Option<PathBuf> },
    /// Hand it out again after so long.
    Again(Duration),
    /// Never hand it out again; the server knows why.
    GivenUp,
    /// It would not be handed out again: this node goes on with it at its next start.
    Kept,
}

/// Why an attempt ended without a result.
#[derive(Debug)]
pub(super) enum Failure {
    /// What the log and the server are told.
    Cause(String),
    /// The program is shutting down.
    Stopped,
}

/// Does what the job asks for and tells the server. `delivered` counts the deliveries of this job, this one included. With
/// the verdict, the cause where there is no result.
pub async fn run(
    job: &Job,
    delivered: u64,
    settings: &Settings,
    tell: &dyn Tell,
    cancel: &CancellationToken,
) -> (Verdict, Option<String>) {
    let attempt = Attempt { job, last: delivered >= MAX_DELIVER, settings, tell, cancel };
    match attempt.run().await {
        Ok(verdict) => (verdict, None),
        Err(failure) => fail(job, delivered, failure, tell).await,
    }
}

/// The verdict on an attempt without a result, and the cause.
pub(super) async fn fail(job: &Job, delivered: u64, failure: Failure, tell: &dyn Tell) -> (Verdict, Option<String>) {
    let last = delivered >= MAX_DELIVER;
    let cause = match failure {
        Failure::Stopped if last => {
            tracing::info!(delivered, "shutting down: the job's last delivery is kept for the next start");
            return (Verdict::Kept, None);
        }
        Failure::Stopped => {
            tracing::info!(delivered, "job handed back: shutting down");
            return (Verdict::Again(HAND_OVER), None);
        }
        Failure::Cause(cause) => cause,
    };
    if !last {
        tracing::error!(delivered, of = MAX_DELIVER, retry_s = RETRY.as_secs(), cause, "transcoding failed");
        return (Verdict::Again(RETRY), Some(cause));
    }
    tracing::error!(delivered, cause, "transcoding failed for the last time; the raw file is kept");
    tell.tell(Notice { info: job.info.clone(), event: Event::Finished(Err(cause.clone())) }).await;
    (Verdict::GivenUp, Some(cause))
}

/// A result in its place.
struct Made {
    paths: Paths,
    media: Media,
    /// Bytes.
    size: u64,
    /// The raw file may go.
    remove_raw: bool,
    /// `None`: it was there already.
    ran: Option<Ran>,
}

struct Attempt<'a> {
    job: &'a Job,
    last: bool,
    settings: &'a Settings,
    tell: &'a dyn Tell,
    cancel: &'a CancellationToken,
}

impl Attempt<'_> {
    async fn run(&self) -> Result<Verdict, Failure> {
        let started = Instant::now();
        let Work::PostRecording { dir, file_name, variant } = &self.job.work else {
            // A reference transcoder of the fleet may take it: it can.
            return Err(Failure::Cause("merge jobs are not supported by this version".to_owned()));
        };
        let made = self.make(dir, file_name.as_str()).await?;
        if made.ran.is_some() {
            self.tell.anew(&self.job.info.recording_id).await;
        }
        self.told(Event::Proceeded {
            file_path: made.paths.file_path.clone(),
            file_size: made.size,
            variant: *variant,
        })
        .await;
        let scripts = self.run_scripts(&made).await;
        if !scripts.is_complete() && !self.last {
            return Err(Failure::Stopped);
        }
        self.told(Event::Finished(Ok(()))).await;
        summarise(&made, &scripts, started.elapsed());
        Ok(Verdict::Done { remove: made.remove_raw.then_some(made.paths.raw) })
    }

    async fn told(&self, event: Event) {
        self.tell.tell(Notice { info: self.job.info.clone(), event }).await;
    }

    /// `work`, unless the program is told to stop first: then it is dropped, and its children with it.
    async fn or_stop<T>(&self, work: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::select! {
            done = work => Ok(done),
            () = self.cancel.cancelled() => Err(Failure::Stopped),
        }
    }

    async fn make(&self, dir: &Path, raw_name: &str) -> Result<Made, Failure> {
        let Settings { main_path, recorder_id, convert, ffmpeg, .. } = self.settings;
        let id = &self.job.info.recording_id;
        let facts = self.or_stop(locate::locate(main_path, dir, raw_name, id)).await?.map_err(cause)?;
        match plan::plan(id, &facts, Rules { recorder_id, convert: *convert, options: ffmpeg }) {
            Plan::AlreadyDone { paths, media, size, remove_raw } => {
                tracing::info!(mp4 = %paths.mp4.display(), remove_raw, "the MP4 is there already, announcing it");
                // Of an attempt with which this node was killed; another one has done the job meanwhile.
                drop(Part::new(paths.part.clone()));
                Ok(Made { paths, media, size, remove_raw, ran: None })
            }
            Plan::MissingInput { cause } => Err(Failure::Cause(cause)),
            Plan::Convert(make) => self.transcode("convert", make).await,
            Plan::Remux(make) => self.transcode("remux", make).await,
        }
    }

    async fn transcode(&self, how: &'static str, make: Make) -> Result<Made, Failure> {
        let Make { paths, raw, recipe, replaces } = make;
        tracing::info!(how, raw = %paths.raw.display(), raw_s = seconds(raw.duration), "transcoding");
        if let Some(why) = &replaces {
            tracing::warn!(mp4 = %paths.mp4.display(), why, "a file of the result's name is no result, replacing it");
        }
        let part = Part::new(paths.part.clone());
        let ran = ffmpeg::run(&recipe, &paths.raw, part.path(), self.cancel).await.map_err(|error| match error {
            ffmpeg::RunError::Stopped => Failure::Stopped,
            error => cause(error),
        })?;
        let expected = recipe.expected(&raw);
        let media = self.or_stop(check(part.path(), expected, &paths.raw)).await??;
        let size = tokio::fs::metadata(part.path()).await.map_err(cause)?.len();
        let existing = if replaces.is_some() { Existing::Replace } else { Existing::Refuse };
        files::place(part.path(), &paths.mp4, existing).await.map_err(cause)?;
        Ok(Made { paths, media, size, remove_raw: true, ran: Some(ran) })
    }

    async fn run_scripts(&self, made: &Made) -> Summary {
        let info = &self.job.info;
        let payload = Payload {
            recording_id: info.recording_id.to_string(),
            room_table_id: info.room_table_id,
            room_id: info.room_id.to_string(),
            room_sid: info.room_sid.as_str().to_owned(),
            file_name: plan::mp4_name(&info.recording_id),
            file_path: made.paths.mp4.clone(),
            file_size: post_processing::megabytes(made.size),
            recorder_id: self.job.recorder_id.to_string(),
        };
        let summary = summary_of(&made.paths.raw);
        let Settings { scripts, script_timeout, .. } = self.settings;
        post_processing::run(scripts, &payload, summary.as_deref(), *script_timeout, self.cancel).await
    }
}

/// The summary that the recording node has put beside the raw file `raw`, whose directory is known to lie in `main_path`.
pub(super) fn summary_of(raw: &Path) -> Option<PathBuf> {
    let name = RawFileName::parse(raw.file_name()?.to_str()?).ok()?.summary()?;
    let path = raw.with_file_name(name);
    // A link could lead anywhere.
    std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file()).then_some(path)
}

fn cause(error: impl std::fmt::Display) -> Failure {
    Failure::Cause(error.to_string())
}

/// Measures the unfinished result, packet by packet, against its raw file.
async fn check(part: &Path, mut expected: verify::Expected, raw: &Path) -> Result<Media, Failure> {
    let made = media::measure(part).await.map_err(cause)?;
    let mut compared = verify::compare(&made, &expected);
    if let Err(Mismatch::Duration { .. }) = compared {
        // The header of a raw file that was cut off tells of more than there is.
        let header = expected.duration;
        expected.duration = media::measure(raw).await.map_err(cause)?.duration;
        compared = verify::compare(&made, &expected);
        tracing::warn!(
            header_s = seconds(header),
            packets_s = seconds(expected.duration),
            mp4_s = seconds(made.duration),
            "the raw file does not last as long as it says"
        );
    }
    compared.map_err(cause)?;
    Ok(made)
}

/// The one line about the whole job.
fn summarise(made: &Made, scripts: &Summary, wall: Duration) {
    let duration = made.media.duration.as_secs_f64();
    let ran = made.ran.as_ref();
    tracing::info!(
        mp4 = %made.paths.mp4.display(),
        duration_s = rounded(duration),
        size_mb = post_processing::megabytes(made.size),
        already_there = ran.is_none(),
        cpu_s = ran.and_then(|ran| ran.cpu).map(|cpu| rounded(cpu.as_secs_f64())),
        ffmpeg_s = ran.map(|ran| rounded(ran.wall.as_secs_f64())),
        wall_s = rounded(wall.as_secs_f64()),
        speed = ran.map(|ran| rounded(duration / ran.wall.as_secs_f64().max(0.001))),
        scripts_ok = scripts.succeeded,
        scripts_failed = scripts.failed.len(),
        "transcoding finished"
    );
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
