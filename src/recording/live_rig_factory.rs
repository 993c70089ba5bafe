//! Specifies the rigs and raw files of a node by its configuration.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::capture::browser::chrome_arguments::ChromeSettings;
use crate::capture::browser::trusted_roots;
use crate::capture::encoder::arguments::{EncoderSettings, EncoderTarget};
use crate::capture::encoder_fallback::FallbackSpec;
use crate::capture::rig::{LiveRig, RigSpec};
use crate::capture::rig_directory;
use crate::config::{Config, RtmpConfig};
use crate::protocol::ids::{AccessToken, InvalidName};
use crate::protocol::request::{Output, RecordingInfo, Start};
use crate::recording::one_pass::OnePass;
use crate::recording::raw_file::{self, RawFile};
use crate::recording::rig_factory::RigFactory;
use crate::storage::main_path::MainPath;

/// The configuration of rigs and raw files.
#[derive(Clone, Debug)]
pub struct LiveRigFactory {
    /// The address of the meeting page (PROTOCOL 4), to which the access token is appended.
    page: String,
    recording: EncoderSettings,
    /// `None`: no recording is encoded as its MP4 while it runs.
    one_pass: Option<OnePass>,
    broadcast: EncoderSettings,
    rtmp: RtmpConfig,
    chrome: ChromeSettings,
    size: (u32, u32),
    dpi: u32,
    silence_warning: Option<Duration>,
    /// The directory for screenshots of failed pages: beside the log file, or beside the raw files where there is no
    /// log file.
    screenshots: PathBuf,
    state_dir: PathBuf,
    temporary_dir: PathBuf,
    store: MainPath,
    sub_path: PathBuf,
    reference_sub_paths: Vec<PathBuf>,
}

impl LiveRigFactory {
    /// `store`: `main_path`. `sandbox`: whether Chrome can use its sandbox on this host.
    #[must_use]
    pub fn new(config: &Config, store: &MainPath, sandbox: bool) -> Self {
        let Config { recorder, server, ffmpeg, rtmp, chrome, log, hls, .. } = config;
        let mut recording = EncoderSettings::new(&ffmpeg.recording.pre_input, &ffmpeg.recording.post_input);
        if let Some(hls) = hls.as_ref().filter(|hls| hls.live) {
            // Its segments begin with the keyframes of the raw file.
            recording.keyframes = hls.segment;
        }
        let page = server.join_host.clone().unwrap_or_else(|| format!("{}/?access_token=", server.host));
        let log_dir = log.file.as_deref().and_then(Path::parent);
        Self {
            page,
            recording,
            one_pass: None,
            broadcast: EncoderSettings::new(&ffmpeg.rtmp.pre_input, &ffmpeg.rtmp.post_input),
            rtmp: rtmp.clone(),
            chrome: ChromeSettings {
                path: chrome.path.clone(),
                flags: chrome.flags.clone(),
                sandbox,
                trusted: trusted_roots::database(&recorder.state_dir),
            },
            size: (recorder.width, recorder.height),
            dpi: recorder.dpi,
            silence_warning: recorder.silence_warning,
            screenshots: log_dir.unwrap_or(&recorder.temporary_dir).to_owned(),
            state_dir: recorder.state_dir.clone(),
            temporary_dir: recorder.temporary_dir.clone(),
            store: store.clone(),
            sub_path: recorder.sub_path.clone(),
            reference_sub_paths: recorder.reference_sub_paths.clone(),
        }
    }

    /// The same, with recordings that are encoded as their MP4 while they run.
    #[must_use]
    pub fn with_one_pass(self, one_pass: Option<OnePass>) -> Self {
        Self { one_pass, ..self }
    }

    /// A rig that records a built-in page of this program into `file`.
    #[must_use]
    pub fn self_test(&self, page: &str, file: PathBuf) -> RigSpec {
        let screenshot = self.screenshots.join("self-test.png");
        self.specify(page.to_owned(), EncoderTarget::File(file), &self.recording, screenshot)
    }

    fn specify(&self, url: String, target: EncoderTarget, encoder: &EncoderSettings, screenshot: PathBuf) -> RigSpec {
        RigSpec {
            url,
            target,
            encoder: encoder.clone(),
            fallback: None,
            chrome: self.chrome.clone(),
            size: self.size,
            dpi: self.dpi,
            silence_warning: self.silence_warning,
            screenshot,
            owner: rig_directory::name(&self.state_dir),
        }
    }

    fn screenshot_path(&self, start: &Start) -> PathBuf {
        self.screenshots.join(format!("{}-{}.png", start.info.recording_id, start.kind().as_str()))
    }
}

/// The same rig, encoding as the MP4 shall be where the node has room for it.
fn once(one_pass: &OnePass, part: &Path, fast: RigSpec) -> RigSpec {
    let Some(wanted) = one_pass.admit() else { return fast };
    let final_encoding = Some(one_pass.encoding.clone());
    let encoder = EncoderSettings { final_encoding, ..fast.encoder.clone() };
    let fallback = FallbackSpec { settings: fast.encoder, file: raw_file::continuation(part), wanted };
    RigSpec { encoder, fallback: Some(Box::new(fallback)), ..fast }
}

impl RigFactory<LiveRig> for LiveRigFactory {
    fn rig(&self, start: &Start, token: &AccessToken, part: Option<&Path>) -> RigSpec {
        let (target, encoder) = match &start.output {
            Output::Rtmp(url) => {
                let RtmpConfig { reconnect_for, adaptive, .. } = self.rtmp;
                (EncoderTarget::Rtmp { url: url.clone(), reconnect_for, adaptive }, &self.broadcast)
            }
            Output::File => (EncoderTarget::File(part.map(Path::to_owned).unwrap_or_default()), &self.recording),
        };
        // The token is appended unchanged, with any parameters that follow it.
        let url = format!("{}{}", self.page, token.expose());
        let fast = self.specify(url, target, encoder, self.screenshot_path(start));
        match (&self.one_pass, part) {
            (Some(one_pass), Some(part)) => once(one_pass, part, fast),
            _ => fast,
        }
    }

    fn refusal(&self, start: &Start) -> Option<String> {
        let Output::Rtmp(url) = &start.output else { return None };
        let host = url.host();
        (!self.rtmp.allows(host)).then(|| format!("broadcasts to {host} are not allowed here (rtmp.allowed_hosts)"))
    }

    fn screenshot(&self, start: &Start) -> Option<PathBuf> {
        Some(self.screenshot_path(start))
    }

    fn raw_file(&self, info: &RecordingInfo) -> Result<RawFile, InvalidName> {
        let main_path = self.store.path();
        RawFile::new(&self.temporary_dir, main_path, &self.sub_path, &info.recording_id, &info.room_id)
            .map(|raw| raw.in_store(&self.store).for_references(main_path, &self.reference_sub_paths))
    }
}
