//! The configuration: from an operator's YAML to the checked [`Config`] (PROTOCOL 8).
//!
//! In: the text of a file, and the environment. Out: a [`Config`] with warnings, or all problems at once. Nothing here inspects the machine:
//! `node::preflight` checks programs and directories. No message quotes a secret.

mod admin;
mod chrome;
mod environment;
mod ffmpeg;
mod hls;
mod hooks;
mod interpolation;
mod keys;
mod log;
mod nats;
mod problem;
mod reader;
mod recorder;
mod reserve;
pub mod room_pattern;
mod rtmp;
mod sections;
mod server;
mod storage;
pub mod store_url;
mod transcoder;
mod tree;
mod user_info;

use std::path::Path;

pub use hls::{HlsConfig, HlsRendition, VideoRate};
pub use hooks::{HookStage, HookStep, HookUrl, HooksConfig, StageConfig};
pub use interpolation::{Environment, INTERPOLATED, InterpolatedValue};
pub use keys::KEYS;
pub use problem::{ConfigError, Problem, Problems, Warning};
pub use reserve::{InvalidReserve, Reserve};
pub use sections::{
    AdminConfig, ChromeConfig, ChromeFlag, FfmpegConfig, FfmpegOptions, KeepLocal, LogConfig, LogFormat, Mode,
    NatsConfig, Profile, RecorderConfig, RtmpConfig, RuleStore, ServerConfig, StorageConfig, StorageRule,
    TranscoderConfig,
};

/// All settings, checked. Each component gets only its own section.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub recorder: RecorderConfig,
    pub transcoder: TranscoderConfig,
    pub log: LogConfig,
    pub ffmpeg: FfmpegConfig,
    pub rtmp: RtmpConfig,
    pub chrome: ChromeConfig,
    pub server: ServerConfig,
    pub nats: NatsConfig,
    pub hooks: HooksConfig,
    pub admin: AdminConfig,
    pub storage: StorageConfig,
    /// `None`: recordings are not made into HLS.
    pub hls: Option<HlsConfig>,
}

/// A valid configuration, and warnings about its file.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadedConfig {
    pub config: Config,
    pub warnings: Vec<Warning>,
    /// What the environment gave, in the order of [`INTERPOLATED`].
    pub interpolated: Vec<InterpolatedValue>,
}

impl Config {
    /// Reads the file at `path`, with the environment of this process.
    ///
    /// # Errors
    /// Where the file cannot be read, or with all of its problems.
    pub fn load(path: &Path) -> Result<LoadedConfig, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        parse_in(&text, &path.display().to_string(), &Environment::of_process()).map_err(ConfigError::Invalid)
    }

    /// Secrets that must not be logged, besides the tokens of requests.
    pub fn secrets(&self) -> Vec<&str> {
        let mut secrets = vec![self.server.api_secret.as_str()];
        secrets.extend(self.nats.urls.iter().flat_map(|url| user_info::secrets_of(url)));
        secrets.extend(self.hooks.secrets());
        secrets.extend(self.admin.token.as_deref());
        secrets.extend(self.storage.all_stores().flat_map(store_url::StoreUrl::secrets));
        secrets.extend(self.storage.hooks_secret.as_deref());
        secrets
    }
}

/// Parses a configuration without an environment; `file_name` is its name in problems.
///
/// # Errors
/// All problems of the text.
pub fn parse(text: &str, file_name: &str) -> Result<(Config, Vec<Warning>), Problems> {
    parse_in(text, file_name, &Environment::default()).map(|loaded| (loaded.config, loaded.warnings))
}

/// Parses a configuration whose variables are those of `environment`.
///
/// # Errors
/// All problems of the text.
pub fn parse_in(text: &str, file_name: &str, environment: &Environment) -> Result<LoadedConfig, Problems> {
    let mut root = tree::parse(text).map_err(|problem| Problems::new(file_name, vec![problem], Vec::new()))?;
    let report = reader::ProblemReport::default();
    reader::check_keys(&root, &report);
    let interpolated = interpolation::interpolate(&mut root, environment, &report);
    let config = reader::ConfigSection::root(&root, &report).and_then(|root| read(&root));
    let (problems, mut warnings) = report.into_lists();
    warnings.sort_by_key(|warning| warning.line);
    match config {
        Some(config) if problems.is_empty() => Ok(LoadedConfig { config, warnings, interpolated }),
        _ => Err(Problems::new(file_name, problems, warnings)),
    }
}

/// Reads every section, even after problems in earlier ones.
fn read(root: &reader::ConfigSection<'_>) -> Option<Config> {
    let recorder = recorder::read(root);
    let debug = recorder.as_ref().is_some_and(|recorder| recorder.debug);
    let transcoder = transcoder::read(root);
    let log = log::read(root, debug);
    let mut ffmpeg = ffmpeg::read(root);
    let rtmp = rtmp::read(root);
    let chrome = chrome::read(root);
    let server = server::read(root);
    let nats = nats::read(root);
    let mut hooks = hooks::read(root);
    let admin = admin::read(root);
    let storage = storage::read(root);
    let hls = hls::read(root);
    if let Some(hls) = &hls {
        // The picture of the MP4 is cut at its keyframes.
        ffmpeg.post_recording.keyframes_every(hls.segment);
    }
    hooks.ca_file = server.as_ref().and_then(|server| server.ca_file.clone());
    Some(Config {
        recorder: recorder?,
        transcoder,
        log,
        ffmpeg,
        rtmp,
        chrome,
        server: server?,
        nats: nats?,
        hooks,
        admin,
        storage,
        hls,
    })
}
