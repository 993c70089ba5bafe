//! The part of the configuration that transcoding needs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::archive::archives::Archives;
use crate::config::{Config, FfmpegOptions, Mode, Reserve};
use crate::hls::recordings::HlsRecordings;
use crate::protocol::ids::RecorderId;
use crate::scripts::hooks::cleanup::ProtectedPaths;
use crate::storage::main_path::MainPath;
use crate::store::raw_store::RawStore;
use crate::store::uploads::Uploads;
use crate::telemetry::metrics::Metrics;

/// The settings of all jobs of a node.
#[derive(Clone, Debug)]
pub struct TranscodeSettings {
    pub recorder_id: RecorderId,
    pub main_path: PathBuf,
    /// `main_path` as this node knows it.
    pub store: MainPath,
    /// This node's own directory in `main_path`: for a result whose job names no directory on this machine.
    pub sub_path: PathBuf,
    /// The directory in which undecodable jobs are kept, results are made that cannot be made in `main_path`, and into which
    /// objects of stores are fetched.
    pub temporary_dir: PathBuf,
    /// What must stay free there.
    pub reserve: Reserve,
    /// The directory of the jobs' records.
    pub state_dir: PathBuf,
    /// Re-encode (true) or remux.
    pub convert: bool,
    /// `ffmpeg_settings.post_recording`.
    pub ffmpeg: FfmpegOptions,
    pub scripts: Vec<PathBuf>,
    /// Per script.
    pub script_timeout: Duration,
    /// No job is fetched above this share of the processors, 0…1.
    pub cpu_limit: Option<f64>,
    /// A job that has waited this long is fetched at any load.
    pub max_wait: Duration,
    /// The number of simultaneous jobs, at least 1.
    pub max_jobs: usize,
    /// ffmpeg's niceness, 0…19.
    pub nice: u8,
    /// What is never removed at a hook's request.
    pub protected: ProtectedPaths,
    /// Where jobs are counted.
    pub metrics: Metrics,
    /// The store from which raw files are fetched; `None`: none.
    pub raw_store: Option<RawStore>,
    /// What brings files into the stores of the configuration; `None`: there are none.
    pub uploads: Option<Uploads>,
    /// The archives of running recordings, from which a recording goes when its MP4 is made.
    pub archives: Archives,
    /// What makes MP4s into HLS; `None`: nothing does.
    pub hls: Option<HlsRecordings>,
}

impl TranscodeSettings {
    /// The settings of a node whose `main_path` is `store`.
    #[must_use]
    pub fn new(config: &Config, store: &MainPath) -> Self {
        let recorder = &config.recorder;
        // A node that does not record has no recordings to protect from load.
        let records = recorder.mode == Mode::Both;
        Self {
            recorder_id: recorder.id.clone(),
            main_path: recorder.main_path.clone(),
            store: store.clone(),
            sub_path: recorder.sub_path.clone(),
            temporary_dir: recorder.temporary_dir.clone(),
            reserve: recorder.min_free_space,
            state_dir: recorder.state_dir.clone(),
            convert: recorder.post_mp4_convert,
            ffmpeg: config.ffmpeg.post_recording.clone(),
            scripts: recorder.post_processing_scripts.clone(),
            script_timeout: recorder.post_processing_timeout,
            cpu_limit: recorder.transcoding_cpu_limit.filter(|_| records),
            max_wait: config.transcoder.max_wait,
            max_jobs: config.transcoder.max_jobs,
            nice: if records { config.transcoder.nice } else { 0 },
            protected: ProtectedPaths::of(recorder),
            metrics: Metrics::default(),
            raw_store: None,
            uploads: None,
            archives: Archives::default(),
            hls: None,
        }
    }

    /// The directory for unfinished results: that of the result itself (`None`), unless `main_path` takes files only
    /// from their first byte to their last.
    #[must_use]
    pub fn unfinished_dir(&self) -> Option<&Path> {
        (!self.store.abilities().rewrite).then_some(self.temporary_dir.as_path())
    }
}
