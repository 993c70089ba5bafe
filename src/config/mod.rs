//! The configuration: the YAML as an operator writes it → the checked [`Config`] that the program uses (PROTOCOL 8).
//!
//! Nothing here looks at the machine: whether a program or a directory is there is the business of `preflight`.

use std::path::PathBuf;
use std::time::Duration;

use crate::protocol::ids::RecorderId;

/// Everything an operator can set, checked. Each part of the program is handed only its own section.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub recorder: RecorderConfig,
    pub log: LogConfig,
    pub ffmpeg: FfmpegConfig,
    pub chrome: ChromeConfig,
    pub server: ServerConfig,
    pub nats: NatsConfig,
    /// `hooks` names at least one script (they are not run yet; the program says so at start).
    pub hooks_configured: bool,
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
    /// The root of all recordings, shared with the server.
    pub main_path: PathBuf,
    /// This node's directory in `main_path`: relative, without `..`; may be empty.
    pub sub_path: PathBuf,
    /// Programs run after each successful transcode, in this order.
    pub post_processing_scripts: Vec<PathBuf>,
    /// The longest any one of them may run.
    pub post_processing_timeout: Duration,
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
    pub recording: FfmpegOptions,
    pub post_recording: FfmpegOptions,
    pub rtmp: FfmpegOptions,
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
}

impl std::fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerConfig")
            .field("host", &self.host)
            .field("api_key", &self.api_key)
            .field("api_secret", &"[redacted]")
            .field("join_host", &self.join_host)
            .finish()
    }
}

/// `nats_info`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatsConfig {
    /// Every server of the cluster; at least one.
    pub urls: Vec<String>,
    /// The channel of the requests.
    pub recorder_channel: String,
    /// The bucket of the announcements.
    pub recorder_info_kv: String,
    /// The subject of the jobs, which is also their stream's name.
    pub transcoding_jobs_subject: String,
}
