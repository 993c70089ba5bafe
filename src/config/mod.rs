//! The configuration: the YAML as an operator writes it → the checked [`Config`] that the program uses (PROTOCOL 8).
//!
//! Nothing here looks at the machine: whether a program or a directory is there is the business of `preflight`.

mod chrome;
mod ffmpeg;
mod hooks;
mod keys;
mod log;
mod nats;
mod problem;
mod reader;
mod recorder;
mod reserve;
mod server;
mod transcoder;
mod tree;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::protocol::ids::RecorderId;

pub use hooks::{HookStage, HookStep, HookUrl, HooksConfig, StageConfig};
pub use keys::KEYS;
pub use problem::{ConfigError, Problem, Problems, Warning};
pub use reserve::{InvalidReserve, Reserve};

/// Everything an operator can set, checked. Each part of the program is handed only its own section.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub recorder: RecorderConfig,
    pub transcoder: TranscoderConfig,
    pub log: LogConfig,
    pub ffmpeg: FfmpegConfig,
    pub chrome: ChromeConfig,
    pub server: ServerConfig,
    pub nats: NatsConfig,
    pub hooks: HooksConfig,
}

/// A configuration that can be used, and what is odd about its file.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    pub config: Config,
    pub warnings: Vec<Warning>,
}

impl Config {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// Where it cannot be read, or with every problem that is in it.
    pub fn load(path: &Path) -> Result<Loaded, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        let (config, warnings) = parse(&text, &path.display().to_string()).map_err(ConfigError::Invalid)?;
        Ok(Loaded { config, warnings })
    }

    /// What must never be seen in a log, besides the tokens that come with the requests.
    pub fn secrets(&self) -> Vec<&str> {
        let mut secrets = vec![self.server.api_secret.as_str()];
        secrets.extend(self.nats.urls.iter().flat_map(|url| nats::secrets_of(url)));
        secrets.extend(self.hooks.secrets());
        secrets
    }
}

/// Checks the text of a configuration; `file_name` is what the problems call it.
///
/// # Errors
/// Every problem of the text at once.
pub fn parse(text: &str, file_name: &str) -> Result<(Config, Vec<Warning>), Problems> {
    let root = tree::parse(text).map_err(|problem| Problems::new(file_name, vec![problem], Vec::new()))?;
    let report = reader::Report::default();
    reader::check_keys(&root, &report);
    let config = reader::Section::root(&root, &report).and_then(|root| read(&root));
    let (problems, mut warnings) = report.into_lists();
    warnings.sort_by_key(|warning| warning.line);
    match config {
        Some(config) if problems.is_empty() => Ok((config, warnings)),
        _ => Err(Problems::new(file_name, problems, warnings)),
    }
}

/// Every section is read, whatever is wrong with the ones before it.
fn read(root: &reader::Section<'_>) -> Option<Config> {
    let recorder = recorder::read(root);
    let debug = recorder.as_ref().is_some_and(|recorder| recorder.debug);
    let transcoder = transcoder::read(root);
    let log = log::read(root, debug);
    let ffmpeg = ffmpeg::read(root);
    let chrome = chrome::read(root);
    let server = server::read(root);
    let nats = nats::read(root);
    let mut hooks = hooks::read(root);
    hooks.ca_file = server.as_ref().and_then(|server| server.ca_file.clone());
    Some(Config { recorder: recorder?, transcoder, log, ffmpeg, chrome, server: server?, nats: nats?, hooks })
}

/// What this node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Both,
    RecorderOnly,
    TranscoderOnly,
}

impl Mode {
    /// As it is written in the file and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::RecorderOnly => "recorderOnly",
            Self::TranscoderOnly => "transcoderOnly",
        }
    }

    #[must_use]
    pub fn records(self) -> bool {
        self != Self::TranscoderOnly
    }

    #[must_use]
    pub fn transcodes(self) -> bool {
        self != Self::RecorderOnly
    }
}

/// `recorder`.
#[derive(Clone, Debug, PartialEq)]
pub struct RecorderConfig {
    pub id: RecorderId,
    pub mode: Mode,
    /// Recordings and broadcasts at once, at least 1.
    pub max_limit: u32,
    pub debug: bool,
    /// Re-encode the raw file (true) or only remux it (false).
    pub post_mp4_convert: bool,
    /// In mode `both`: no job is fetched above this share of the processors, 0…1. `None`: no limit.
    pub transcoding_cpu_limit: Option<f64>,
    /// Size of the meeting page and of the picture, in pixels; even.
    pub width: u32,
    pub height: u32,
    /// Dots per inch that the X server reports.
    pub dpi: u32,
    /// Where raw files grow until they are whole.
    pub temporary_dir: PathBuf,
    /// What this node has to remember: only it looks in there.
    pub state_dir: PathBuf,
    /// The root of all recordings, shared with the server.
    pub main_path: PathBuf,
    /// This node's directory in `main_path`: relative, without `..`; may be empty.
    pub sub_path: PathBuf,
    /// The same of the fleet's reference transcoders, which do not make their rooms' directories.
    pub reference_sub_paths: Vec<PathBuf>,
    /// Programs run after each successful transcode, in this order.
    pub post_processing_scripts: Vec<PathBuf>,
    /// The longest any one of them may run.
    pub post_processing_timeout: Duration,
    /// After how long it is said that a recording is silent although its page plays sound. `None`: never.
    pub silence_warning: Option<Duration>,
    /// What must stay free on the file systems of the recordings.
    pub min_free_space: Reserve,
    /// How long running recordings may go on when the program is told to end. `None`: until they end by themselves;
    /// zero: they are ended at once.
    pub drain_timeout: Option<Duration>,
    /// After how long a recording is ended; never zero. `None`: never.
    pub max_duration: Option<Duration>,
    /// After how long without sound and movement a recording is ended; never zero. `None`: never.
    pub end_when_idle: Option<Duration>,
}

/// `transcoder`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TranscoderConfig {
    /// Jobs at once, at least 1.
    pub max_jobs: usize,
    /// How long the next job may wait because the processors are busy.
    pub max_wait: Duration,
    /// In mode `both`: how far ffmpeg steps back behind recordings, 0…19.
    pub nice: u8,
}

/// `log_settings`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// `None`: no log file.
    pub file: Option<PathBuf>,
    /// Also (or only) to standard output.
    pub stdout: bool,
    /// Bytes after which a new file is begun.
    pub max_size: u64,
    /// Older files that are kept.
    pub max_backups: usize,
    /// Age at which an older file is removed.
    pub max_age: Duration,
    pub level: LogLevel,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// `ffmpeg_settings`, each option string split into words as a shell would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FfmpegConfig {
    /// What [`Self::post_recording`] begins with; `None`: nothing but what is written there.
    pub profile: Option<Profile>,
    pub recording: FfmpegOptions,
    pub post_recording: FfmpegOptions,
    pub rtmp: FfmpegOptions,
}

/// `ffmpeg_settings.profile`: ready-made options for the MP4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Plays on whatever plays H.264, and seeks at once.
    Compatible,
    /// The smallest file, for the most processor time.
    Small,
    /// The least processor time, for the largest file.
    Fast,
}

/// Options before and after ffmpeg's `-i`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct FfmpegOptions {
    pub pre_input: Vec<String>,
    pub post_input: Vec<String>,
}

/// `chrome_settings`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ChromeConfig {
    /// `None`: the first of the usual names on PATH.
    pub path: Option<PathBuf>,
    pub flags: Vec<ChromeFlag>,
}

/// `--name` or `--name=value`; the name is without dashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChromeFlag {
    pub name: String,
    pub value: Option<String>,
}

/// `plugNmeet_info`.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// `http(s)://host[:port]`, without a trailing slash.
    pub host: String,
    pub api_key: String,
    /// A secret: never shown.
    pub api_secret: String,
    /// What the access token is appended to, where the page is not the server's.
    pub join_host: Option<String>,
    /// Certificates (PEM) that are trusted besides the host's: for the page, notices, NATS and hooks.
    pub ca_file: Option<PathBuf>,
}

impl ServerConfig {
    /// Whether meetings are joined by https.
    #[must_use]
    pub fn page_is_https(&self) -> bool {
        let page = self.join_host.as_ref().unwrap_or(&self.host);
        page.split_once("://").is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("https"))
    }
}

impl std::fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerConfig")
            .field("host", &self.host)
            .field("api_key", &self.api_key)
            .field("api_secret", &"[redacted]")
            .field("join_host", &self.join_host)
            .field("ca_file", &self.ca_file)
            .finish()
    }
}

/// `nats_info`.
#[derive(Clone, PartialEq, Eq)]
pub struct NatsConfig {
    /// Every server of the cluster; at least one. May hold a password or a token before the `@`: a secret.
    pub urls: Vec<String>,
    /// The channel of the requests.
    pub recorder_channel: String,
    /// The bucket of the announcements.
    pub recorder_info_kv: String,
    /// The subject of the jobs, which is also their stream's name.
    pub transcoding_jobs_subject: String,
}

impl std::fmt::Debug for NatsConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let urls: Vec<String> = self.urls.iter().map(|url| nats::masked(url)).collect();
        f.debug_struct("NatsConfig")
            .field("urls", &urls)
            .field("recorder_channel", &self.recorder_channel)
            .field("recorder_info_kv", &self.recorder_info_kv)
            .field("transcoding_jobs_subject", &self.transcoding_jobs_subject)
            .finish()
    }
}
