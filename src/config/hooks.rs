//! The section `hooks`: scripts at three stages of a recording (PROTOCOL 7).
//!
//! The URL of a hook may hold a password or a key, so no problem quotes one.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::reader::{ConfigField, ConfigSection, choose};

/// The reference recorder's default.
const HOOK_TIMEOUT: Duration = Duration::from_secs(60 * 60);
const HOOK_TIMEOUT_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Limit of processes per script; all of them run from the start.
const POOL_SIZE_MAX: u32 = 64;
/// First word of a step that is an HTTP request instead of a program.
const HTTP_REQUEST: &str = "http-request";
const SCRIPT_ALLOWED: &str = "the path of a script, or `http-request URL`, is required";

/// When hooks run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HookStage {
    /// After the raw file was moved to its place.
    PostRecording,
    /// After a job was fetched.
    PreTranscoding,
    /// After the MP4 was moved to its place.
    PostTranscoding,
}

impl HookStage {
    pub const ALL: [Self; 3] = [Self::PostRecording, Self::PreTranscoding, Self::PostTranscoding];

    /// The name in the file and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PostRecording => "post_recording",
            Self::PreTranscoding => "pre_transcoding",
            Self::PostTranscoding => "post_transcoding",
        }
    }

    /// The stages that a node of this mode runs.
    #[must_use]
    pub fn of(mode: crate::config::sections::Mode) -> Vec<Self> {
        let runs = |stage: &Self| if *stage == Self::PostRecording { mode.records() } else { mode.transcodes() };
        Self::ALL.into_iter().filter(runs).collect()
    }
}

impl fmt::Display for HookStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for HookStage {
    type Err = String;

    /// # Errors
    /// The allowed names, if `text` is none of them.
    fn from_str(text: &str) -> Result<Self, String> {
        choose(&Self::ALL.map(|stage| (stage.as_str(), stage)), text)
    }
}

/// `hooks`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HooksConfig {
    pub post_recording: StageConfig,
    pub pre_transcoding: StageConfig,
    pub post_transcoding: StageConfig,
    /// `plugNmeet_info.ca_file`: trusted by `http-request https://…` besides the host's roots.
    pub ca_file: Option<PathBuf>,
}

impl HooksConfig {
    #[must_use]
    pub fn stage(&self, stage: HookStage) -> &StageConfig {
        match stage {
            HookStage::PostRecording => &self.post_recording,
            HookStage::PreTranscoding => &self.pre_transcoding,
            HookStage::PostTranscoding => &self.post_transcoding,
        }
    }

    /// Parts of the URLs that must not be logged.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &str> {
        let steps = HookStage::ALL.into_iter().flat_map(|stage| &self.stage(stage).steps);
        steps.flat_map(|step| match step {
            HookStep::HttpRequest { url } => url.secrets(),
            HookStep::Script { .. } => Vec::new(),
        })
    }
}

/// One stage: a pipeline of steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageConfig {
    /// Number of processes of each long-lived script, 1 to 64.
    pub pool_size: usize,
    /// Time limit of a step; never zero.
    pub timeout: Duration,
    /// The steps in order; an empty stage does nothing.
    pub steps: Vec<HookStep>,
}

impl Default for StageConfig {
    fn default() -> Self {
        Self { pool_size: 1, timeout: HOOK_TIMEOUT, steps: Vec::new() }
    }
}

/// One step of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookStep {
    Script {
        /// The program and its arguments; never empty.
        command: Vec<String>,
        /// Whether the script is started for each event instead of once.
        one_shot: bool,
    },
    HttpRequest {
        url: HookUrl,
    },
}

/// Target of an HTTP hook; user info and query are secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct HookUrl(url::Url);

impl HookUrl {
    /// # Errors
    /// What is wrong with the URL, without quoting it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = url::Url::parse(text).map_err(|error| format!("found a URL with a fault: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("found a URL that is neither http:// nor https://".to_owned());
        }
        Ok(Self(url))
    }

    /// The complete URL, for the request only.
    #[must_use]
    pub fn expose(&self) -> &url::Url {
        &self.0
    }

    /// The secrets as written in the URL. A user without password may be a token; a user with password is secret only
    /// together with it.
    fn secrets(&self) -> Vec<&str> {
        let authority = self.0.as_str().split("://").nth(1).and_then(|rest| rest.split('/').next());
        let user_info = authority.and_then(|authority| authority.rsplit_once('@')).map(|(user_info, _)| user_info);
        user_info.into_iter().chain(self.0.password()).chain(self.0.query()).collect()
    }
}

impl fmt::Display for HookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.0.clone();
        let has_user = !shown.username().is_empty() || shown.password().is_some();
        // Neither can fail: http and https URLs have a host.
        let _ = shown.set_password(None);
        let _ = shown.set_username(if has_user { "redacted" } else { "" });
        if shown.query().is_some() {
            shown.set_query(Some("redacted"));
        }
        f.write_str(shown.as_str())
    }
}

impl fmt::Debug for HookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

pub(super) fn read(root: &ConfigSection<'_>) -> HooksConfig {
    let section = root.section("hooks");
    let stage = |stage: HookStage| {
        section.field(stage.as_str()).map_or_else(StageConfig::default, |field| read_stage(&section, stage, &field))
    };
    HooksConfig {
        post_recording: stage(HookStage::PostRecording),
        pre_transcoding: stage(HookStage::PreTranscoding),
        post_transcoding: stage(HookStage::PostTranscoding),
        ca_file: None,
    }
}

/// Reads a section with `scripts`, or the older form: a list of scripts that are started for every event.
fn read_stage(hooks: &ConfigSection<'_>, stage: HookStage, field: &ConfigField<'_>) -> StageConfig {
    if let Some(items) = field.items() {
        let steps = items.iter().filter_map(|item| step(item, true)).collect();
        return StageConfig { steps, ..StageConfig::default() };
    }
    let section = hooks.section(stage.as_str());
    let timeout = section.duration("hook_timeout", Duration::ZERO..=HOOK_TIMEOUT_MAX, HOOK_TIMEOUT);
    let pool_size = section.whole("pool_size", 0..=POOL_SIZE_MAX, 1);
    let mut steps = Vec::new();
    for item in section.list("scripts") {
        let Some(script) = item.section() else { continue };
        let path = script.required("script", SCRIPT_ALLOWED);
        let one_shot = script.flag("is_one_shot", false);
        steps.extend(path.and_then(|path| step(&path, one_shot)));
    }
    StageConfig {
        // Zero means the default in the reference, for both settings.
        pool_size: usize::try_from(pool_size.max(1)).unwrap_or(1),
        timeout: if timeout.is_zero() { HOOK_TIMEOUT } else { timeout },
        steps,
    }
}

/// `None`: a problem was reported.
fn step(field: &ConfigField<'_>, one_shot: bool) -> Option<HookStep> {
    let text = field.text("the path of a script")?;
    if let Some(url) = text.strip_prefix(HTTP_REQUEST).filter(|rest| rest.is_empty() || rest.starts_with(' ')) {
        return match HookUrl::parse(url.trim()) {
            Ok(url) => Some(HookStep::HttpRequest { url }),
            Err(why) => {
                field.problem(format!("{why}; `http-request https://host/path` is allowed"));
                None
            }
        };
    }
    let command = shell_words::split(&text).ok().filter(|command| command.first().is_some_and(|it| !it.is_empty()));
    if command.is_none() {
        field.problem(format!(
            "no command: {SCRIPT_ALLOWED}; arguments may follow, and every ' and \" needs its partner"
        ));
    }
    command.map(|command| HookStep::Script { command, one_shot })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_a_url_are_not_shown() {
        let url = HookUrl::parse("https://joe:correct-horse@hooks.example.com:8443/a/b?key=battery-staple").unwrap();
        assert_eq!(url.to_string(), "https://redacted@hooks.example.com:8443/a/b?redacted");
        assert_eq!(format!("{url:?}"), url.to_string());
        assert_eq!(url.secrets(), ["joe:correct-horse", "correct-horse", "key=battery-staple"]);
        let plain = HookUrl::parse("http://127.0.0.1:1/x").unwrap();
        assert_eq!((plain.to_string().as_str(), plain.secrets().len()), ("http://127.0.0.1:1/x", 0));
        for wrong in ["ftp://a/b", "", "hooks.example.com", "https://"] {
            assert!(HookUrl::parse(wrong).is_err(), "{wrong}");
        }
    }
}
