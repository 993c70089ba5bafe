//! The sections of the configuration, checked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::reserve::Reserve;
use crate::config::room_pattern::RoomPattern;
use crate::config::store_url::StoreUrl;
use crate::config::user_info::masked;
use crate::protocol::ids::{RecorderId, RoomId};

/// The tasks of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Both,
    RecorderOnly,
    TranscoderOnly,
}

impl Mode {
    /// The name in the file and on the command line.
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
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the configuration")]
pub struct RecorderConfig {
    pub id: RecorderId,
    pub mode: Mode,
    /// Limit of simultaneous recordings and broadcasts, at least 1.
    pub max_limit: u32,
    /// Share of the processors, 0…1, that all recordings may cost together. `None`: no limit.
    pub max_load: Option<f64>,
    /// Processor load, 0…1, from which the node is overloaded. `None`: it never is.
    pub cpu_overload_limit: Option<f64>,
    pub debug: bool,
    /// Whether the raw file is re-encoded (true) or only remuxed.
    pub post_mp4_convert: bool,
    /// In mode `both`: processor load, 0…1, above which no job is fetched. `None`: no limit.
    pub transcoding_cpu_limit: Option<f64>,
    /// Size of page and picture in pixels; even.
    pub width: u32,
    pub height: u32,
    /// Dots per inch reported by the X server.
    pub dpi: u32,
    /// Directory of unfinished raw files.
    pub temporary_dir: PathBuf,
    /// Directory of this node's state.
    pub state_dir: PathBuf,
    /// The file does not set `state_dir`: it is the default of earlier versions, and `node::state_dir` looks for a better
    /// one.
    pub default_state_dir: bool,
    /// Root of all recordings, shared with the server.
    pub main_path: PathBuf,
    /// This node's directory in `main_path`: relative, without `..`; may be empty.
    pub sub_path: PathBuf,
    /// The `sub_path`s of the fleet's reference transcoders, which do not create the directories of rooms.
    pub reference_sub_paths: Vec<PathBuf>,
    /// Programs that run after each successful transcoding, in this order.
    pub post_processing_scripts: Vec<PathBuf>,
    /// Time limit of each script.
    pub post_processing_timeout: Duration,
    /// How long a recording may be silent while its page plays sound before a warning is logged. `None`: no warning.
    pub silence_warning: Option<Duration>,
    /// Whether this node records a built-in page before it takes recordings.
    pub self_test: bool,
    /// Free space to keep on the file systems of the recordings.
    pub min_free_space: Reserve,
    /// How long recordings may continue after the program was told to end. `None`: until they end by themselves; zero:
    /// they are ended at once.
    pub drain_timeout: Option<Duration>,
    /// Time after which a recording is ended; never zero. `None`: no limit.
    pub max_duration: Option<Duration>,
    /// Time without sound and movement after which a recording is ended; never zero. `None`: no limit.
    pub end_when_idle: Option<Duration>,
    /// How long joining a meeting again is tried, since its media last flowed.
    pub rejoin_for: Duration,
}

/// `transcoder`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TranscoderConfig {
    /// Limit of simultaneous jobs, at least 1.
    pub max_jobs: usize,
    /// How long the next job may wait for busy processors.
    pub max_wait: Duration,
    /// In mode `both`: niceness of ffmpeg, 0…19.
    pub nice: u8,
}

/// `log_settings`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// `None`: no log file.
    pub file: Option<PathBuf>,
    /// Whether the log goes to standard output.
    pub stdout: bool,
    /// Size of a full log file in bytes.
    pub max_size: u64,
    /// Number of old log files that are kept.
    pub max_backups: usize,
    /// Age after which an old log file is removed.
    pub max_age: Duration,
    pub level: tracing::Level,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// `ffmpeg_settings`, with option strings split into words as by a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FfmpegConfig {
    /// Recordings may be encoded as their MP4 while they run.
    pub one_pass: bool,
    /// From this size of its raw file on, in bytes, the MP4 of such a recording is written while that runs; 0: never.
    pub early_mp4_from: u64,
    /// Its options precede the operator's in [`Self::post_recording`].
    pub profile: Option<Profile>,
    pub recording: FfmpegOptions,
    pub post_recording: FfmpegOptions,
    pub rtmp: FfmpegOptions,
}

/// `ffmpeg_settings.profile`: ready-made options for the MP4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Plays wherever H.264 plays, and seeks fast.
    Compatible,
    /// Smallest file, most processor time.
    Small,
    /// Least processor time, largest file.
    Fast,
}

/// Options before and after ffmpeg's `-i`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct FfmpegOptions {
    pub pre_input: Vec<String>,
    pub post_input: Vec<String>,
}

/// `rtmp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtmpConfig {
    /// How long the far end of a broadcast is tried again after each loss; zero: it is not.
    pub reconnect_for: Duration,
    /// Whether the bit rate follows what the far end takes.
    pub adaptive: bool,
    /// Patterns of host names in lower case, with `*` for any characters. Empty: every host is allowed.
    pub allowed_hosts: Vec<String>,
}

/// `chrome_settings`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ChromeConfig {
    /// `None`: the first of the usual names on `PATH`.
    pub path: Option<PathBuf>,
    pub flags: Vec<ChromeFlag>,
}

/// `--name` or `--name=value`; `name` is without dashes.
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
    /// The URL that the access token is appended to, if the page is not on `host`.
    pub join_host: Option<String>,
    /// PEM file of certificates to trust besides the host's: for the page, notices, NATS and hooks.
    pub ca_file: Option<PathBuf>,
}

impl ServerConfig {
    /// Whether meetings are joined over https.
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
    /// URLs of the cluster's servers; at least one. User, password or token before the `@` are secrets.
    pub urls: Vec<String>,
    /// Channel of requests.
    pub recorder_channel: String,
    /// Bucket of announcements.
    pub recorder_info_kv: String,
    /// Subject of jobs, which is also the name of their stream.
    pub transcoding_jobs_subject: String,
}

impl std::fmt::Debug for NatsConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let urls: Vec<String> = self.urls.iter().map(|url| masked(url)).collect();
        f.debug_struct("NatsConfig")
            .field("urls", &urls)
            .field("recorder_channel", &self.recorder_channel)
            .field("recorder_info_kv", &self.recorder_info_kv)
            .field("transcoding_jobs_subject", &self.transcoding_jobs_subject)
            .finish()
    }
}

/// `admin`.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminConfig {
    /// Where health, metrics and drain are served; `None`: nowhere.
    pub listen: Option<SocketAddr>,
    /// Who shows it may drain the node. A secret: never shown.
    pub token: Option<String>,
    /// The file that holds it instead; never given together with [`Self::token`].
    pub token_file: Option<PathBuf>,
    /// Whether draining needs no token; only where `listen` is a loopback address.
    pub allow_drain_without_token: bool,
}

impl std::fmt::Debug for AdminConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminConfig")
            .field("listen", &self.listen)
            .field("token", &self.token.as_ref().map(|_| "[redacted]"))
            .field("token_file", &self.token_file)
            .field("allow_drain_without_token", &self.allow_drain_without_token)
            .finish()
    }
}

/// `storage`.
#[derive(Clone, PartialEq, Eq)]
pub struct StorageConfig {
    /// The store by which raw files go from the node that records to one that transcodes; `None`: by `main_path`.
    pub raw: Option<StoreUrl>,
    /// The store into which finished MP4s are delivered; `None`: they stay in `main_path` only.
    pub deliver: Option<StoreUrl>,
    pub keep_local: KeepLocal,
    /// The last part but one of the path under which the server's storage hooks are answered. A secret: never shown.
    pub hooks_secret: Option<String>,
    /// The store into which goes what cannot be transcoded; `None`: it stays in `main_path` only.
    pub fail: Option<StoreUrl>,
    /// Of a room the first counts whose pattern fits.
    pub rules: Vec<StorageRule>,
    /// The store into which recordings are archived while they run; `None`: they are on this host only.
    pub archive: Option<StoreUrl>,
    /// Whether the archive of a recording stays when its MP4 is made.
    pub archive_keep: bool,
    /// How long a node is silent until others take over its recordings.
    pub takeover_after: Duration,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            raw: None,
            deliver: None,
            keep_local: KeepLocal::default(),
            hooks_secret: None,
            fail: None,
            rules: Vec::new(),
            archive: None,
            archive_keep: false,
            takeover_after: Duration::from_secs(60),
        }
    }
}

/// How long the MP4 stays in `main_path` once a store has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeepLocal {
    /// The server is told of the local file.
    #[default]
    Always,
    /// The server is told of the object in the store, once the store has confirmed it. Zero: removed at once then.
    For(Duration),
}

/// `storage.rules[]`: what is different for some rooms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageRule {
    pub room: RoomPattern,
    pub deliver: RuleStore,
    /// `None`: as the section says.
    pub keep_local: Option<KeepLocal>,
    pub archive: RuleStore,
}

/// The store that a rule names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RuleStore {
    /// The rule names none: that of the section counts.
    #[default]
    AsSection,
    /// `none`: no store.
    Off,
    Url(StoreUrl),
}

impl RuleStore {
    /// The store that counts, where the section names this one.
    #[must_use]
    pub fn or<'a>(&'a self, section: Option<&'a StoreUrl>) -> Option<&'a StoreUrl> {
        match self {
            Self::AsSection => section,
            Self::Off => None,
            Self::Url(url) => Some(url),
        }
    }

    fn url(&self) -> Option<&StoreUrl> {
        self.or(None)
    }
}

impl StorageConfig {
    /// The first rule that fits the room.
    #[must_use]
    pub fn rule_for(&self, room: &RoomId) -> Option<&StorageRule> {
        self.rules.iter().find(|rule| rule.room.matches(room.as_str()))
    }

    /// The store into which the MP4s of a room are delivered.
    #[must_use]
    pub fn deliver_for(&self, room: &RoomId) -> Option<&StoreUrl> {
        let section = self.deliver.as_ref();
        self.rule_for(room).map_or(section, |rule| rule.deliver.or(section))
    }

    /// How long the delivered MP4s of a room stay in `main_path`.
    #[must_use]
    pub fn keep_local_for(&self, room: &RoomId) -> KeepLocal {
        self.rule_for(room).and_then(|rule| rule.keep_local).unwrap_or(self.keep_local)
    }

    /// The stores into which MP4s are delivered, each once.
    #[must_use]
    pub fn delivery_stores(&self) -> Vec<&StoreUrl> {
        once(self.deliver.iter().chain(self.rules.iter().filter_map(|rule| rule.deliver.url())))
    }

    /// The store into which the recordings of a room are archived.
    #[must_use]
    pub fn archive_for(&self, room: &RoomId) -> Option<&StoreUrl> {
        let section = self.archive.as_ref();
        self.rule_for(room).map_or(section, |rule| rule.archive.or(section))
    }

    /// The stores into which recordings are archived, each once.
    #[must_use]
    pub fn archive_stores(&self) -> Vec<&StoreUrl> {
        once(self.archive.iter().chain(self.rules.iter().filter_map(|rule| rule.archive.url())))
    }

    /// All stores that uploads go into, each once.
    #[must_use]
    pub fn upload_stores(&self) -> Vec<&StoreUrl> {
        once(self.delivery_stores().into_iter().chain(&self.fail))
    }

    /// All stores that are configured, with repetitions.
    pub(super) fn all_stores(&self) -> impl Iterator<Item = &StoreUrl> {
        let rules = self.rules.iter().flat_map(|rule| [rule.deliver.url(), rule.archive.url()]).flatten();
        self.deliver.iter().chain(&self.raw).chain(&self.archive).chain(&self.fail).chain(rules)
    }
}

fn once<'a>(urls: impl Iterator<Item = &'a StoreUrl>) -> Vec<&'a StoreUrl> {
    let mut found: Vec<&StoreUrl> = Vec::new();
    for url in urls {
        if !found.contains(&url) {
            found.push(url);
        }
    }
    found
}

impl std::fmt::Debug for StorageConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StorageConfig")
            .field("raw", &self.raw)
            .field("deliver", &self.deliver)
            .field("keep_local", &self.keep_local)
            .field("hooks_secret", &self.hooks_secret.as_ref().map(|_| "[redacted]"))
            .field("archive", &self.archive)
            .field("archive_keep", &self.archive_keep)
            .field("takeover_after", &self.takeover_after)
            .field("fail", &self.fail)
            .field("rules", &self.rules)
            .finish()
    }
}
