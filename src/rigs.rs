//! How a start request and the configuration make a rig and a raw file.

use std::path::{Path, PathBuf};

use crate::capture::encoder_options::Target;
use crate::capture::rig::{LiveRig, RigSpec};
use crate::capture::{owner, trust};
use crate::config::Config;
use crate::protocol::ids::{AccessToken, InvalidName};
use crate::protocol::request::{Output, RecordingInfo, Start};
use crate::recording::raw_file::RawFile;
use crate::recording::service::Plan;

/// The real rig, as configured.
#[derive(Clone, Debug)]
pub struct Rigs {
    config: Config,
    sandbox: bool,
}

impl Rigs {
    /// `sandbox`: whether Chrome's can be used here.
    #[must_use]
    pub fn new(config: Config, sandbox: bool) -> Self {
        Self { config, sandbox }
    }

    /// The meeting page (PROTOCOL 4); the token goes in as it is, with whatever follows it.
    fn url(&self, token: &AccessToken) -> String {
        let token = token.expose();
        match &self.config.server.join_host {
            Some(join_host) => format!("{join_host}{token}"),
            None => format!("{}/?access_token={token}", self.config.server.host),
        }
    }

    /// Beside the logs, or beside the raw files where there is no log file.
    fn screenshot_path(&self, start: &Start) -> PathBuf {
        let log_dir = self.config.log.file.as_deref().and_then(Path::parent);
        let dir = log_dir.unwrap_or(&self.config.recorder.temporary_dir);
        dir.join(format!("{}-{}.png", start.info.recording_id, start.kind().as_str()))
    }
}

impl Plan<LiveRig> for Rigs {
    fn rig(&self, start: &Start, token: &AccessToken, part: Option<&Path>) -> RigSpec {
        let (target, ffmpeg) = match &start.output {
            Output::Rtmp(url) => (Target::Rtmp(url.clone()), &self.config.ffmpeg.rtmp),
            Output::File => (Target::File(part.map(Path::to_owned).unwrap_or_default()), &self.config.ffmpeg.recording),
        };
        RigSpec {
            url: self.url(token),
            target,
            ffmpeg: ffmpeg.clone(),
            chrome: self.config.chrome.clone(),
            sandbox: self.sandbox,
            trusted: trust::database(&self.config.recorder.state_dir),
            size: (self.config.recorder.width, self.config.recorder.height),
            dpi: self.config.recorder.dpi,
            silence_warning: self.config.recorder.silence_warning,
            screenshot: self.screenshot_path(start),
            owner: owner::name(&self.config.recorder.state_dir),
        }
    }

    fn screenshot(&self, start: &Start) -> Option<PathBuf> {
        Some(self.screenshot_path(start))
    }

    fn raw_file(&self, info: &RecordingInfo) -> Result<RawFile, InvalidName> {
        let recorder = &self.config.recorder;
        RawFile::new(
            &recorder.temporary_dir,
            &recorder.main_path,
            &recorder.sub_path,
            &info.recording_id,
            &info.room_id,
        )
        .map(|raw| raw.for_references(&recorder.main_path, &recorder.reference_sub_paths))
    }
}
