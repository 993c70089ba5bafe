//! The section `recorder`.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use crate::config::reader::{ConfigField, ConfigSection, choose, shown};
use crate::config::reserve::Reserve;
use crate::config::sections::{Mode, RecorderConfig};
use crate::protocol::ids::RecorderId;

const MODES: [(&str, Mode); 3] =
    [("both", Mode::Both), ("recorderOnly", Mode::RecorderOnly), ("transcoderOnly", Mode::TranscoderOnly)];

/// Default name of the directory of unfinished raw files: on the file system of the recordings, so that finishing one
/// is a rename.
const IN_PROGRESS: &str = ".in-progress";

/// Name (plus the node's id) of the state directory in the directory of unfinished raw files, which nodes may share: the
/// default of earlier versions, and of hosts that have no better place.
const STATE: &str = ".state-";

/// Default and maximum of `silence_warning`.
const SILENCE_WARNING: Duration = Duration::from_secs(60);
const SILENCE_WARNING_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Maximum of `drain_timeout`, and of the durations after which a recording is ended.
const DRAIN_TIMEOUT_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
const RECORDING_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Default and maximum of `rejoin_for`.
const REJOIN_FOR: Duration = Duration::from_secs(30 * 60);
const REJOIN_FOR_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Default and maximum of `post_processing_timeout`.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(60 * 60);
const SCRIPT_TIMEOUT_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// `None`: a problem was reported.
pub(super) fn read(root: &ConfigSection<'_>) -> Option<RecorderConfig> {
    let section = root.section("recorder");
    let id = read_id(&section);
    let paths = section.section("copy_to_path");
    let main_path = paths
        .required("main_path", "the directory of all recordings is required; the plugNmeet server reads it")
        .and_then(|field| path(&field));
    let sub_path = paths.field("sub_path").and_then(|field| read_sub_path(&field)).unwrap_or_default();
    let references = paths.list("reference_sub_paths");
    let reference_sub_paths = references.iter().filter_map(|field| read_sub_path(field)).collect();
    let temporary_dir = section.field("temporary_dir").and_then(|field| path(&field));
    let temporary_dir = temporary_dir.unwrap_or_else(|| in_progress(main_path.as_deref(), &sub_path));
    let state_dir = section.field("state_dir").and_then(|field| path(&field));
    let silence_warning = section.duration("silence_warning", Duration::ZERO..=SILENCE_WARNING_MAX, SILENCE_WARNING);
    // 0: no limit.
    let limit = |key, default| Some(section.percent(key, default) / 100.0).filter(|limit| *limit > 0.0);

    let config = RecorderConfig {
        mode: section.choice("mode", &MODES, Mode::Both),
        max_limit: section.whole("max_limit", 1..=1000, 10),
        max_load: limit("max_load", 0.0),
        cpu_overload_limit: limit("cpu_overload_limit", 95.0),
        debug: section.flag("debug", false),
        post_mp4_convert: section.flag("post_mp4_convert", true),
        transcoding_cpu_limit: limit("transcoding_cpu_limit_both_mode", 80.0),
        width: section.even("width", 320..=7680, 1920),
        height: section.even("height", 240..=4320, 1080),
        dpi: section.whole("xvfb_dpi", 48..=480, 96),
        post_processing_scripts: section
            .list("post_processing_scripts")
            .iter()
            .filter_map(|field| read_script(field))
            .collect(),
        post_processing_timeout: section.duration(
            "post_processing_timeout",
            Duration::from_secs(1)..=SCRIPT_TIMEOUT_MAX,
            SCRIPT_TIMEOUT,
        ),
        silence_warning: (!silence_warning.is_zero()).then_some(silence_warning),
        self_test: section.flag("self_test", true),
        min_free_space: section.field("min_free_space").and_then(|field| read_reserve(&field)).unwrap_or_default(),
        drain_timeout: section.field("drain_timeout").and_then(|field| read_drain_timeout(&field)),
        max_duration: read_limit(&section, "max_duration"),
        end_when_idle: read_limit(&section, "end_when_idle"),
        default_state_dir: state_dir.is_none(),
        rejoin_for: section.duration("rejoin_for", Duration::ZERO..=REJOIN_FOR_MAX, REJOIN_FOR),
        // Last, so that a missing id does not hide other problems.
        state_dir: match (state_dir, &id) {
            (Some(dir), _) => dir,
            (None, id) => state(&temporary_dir, id.as_ref()?),
        },
        id: id?,
        temporary_dir,
        main_path: main_path?,
        sub_path,
        reference_sub_paths,
    };
    Some(config)
}

fn read_id(section: &ConfigSection<'_>) -> Option<RecorderId> {
    let field = section.required("id", "a name of this node, unique among all recorders of the server, is required")?;
    let text = field.text("a text")?;
    RecorderId::parse(&text).map_err(|why| field.problem(format!("found {}; {why}", shown(&text)))).ok()
}

fn read_reserve(field: &ConfigField<'_>) -> Option<Reserve> {
    let text = field.text("a size")?;
    text.parse().map_err(|why| field.problem(format!("found {}; {why}", shown(&text)))).ok()
}

/// `None` for the word `never`, and after a problem.
fn read_drain_timeout(field: &ConfigField<'_>) -> Option<Duration> {
    if field.node.text().is_some_and(|text| text.trim().eq_ignore_ascii_case("never")) {
        return None;
    }
    let duration = field.duration().filter(|duration| *duration <= DRAIN_TIMEOUT_MAX);
    if duration.is_none() {
        field.refuse(&format!(
            "`never`, 0 (at once) or a duration like 90s, 1h or 1h30m up to {} is allowed (default never)",
            humantime::format_duration(DRAIN_TIMEOUT_MAX)
        ));
    }
    duration
}

/// A duration; 0, the default, means no limit.
fn read_limit(section: &ConfigSection<'_>, key: &str) -> Option<Duration> {
    let limit = section.duration(key, Duration::ZERO..=RECORDING_MAX, Duration::ZERO);
    (!limit.is_zero()).then_some(limit)
}

fn in_progress(main_path: Option<&Path>, sub_path: &Path) -> PathBuf {
    main_path.unwrap_or(Path::new("")).join(sub_path).join(IN_PROGRESS)
}

fn state(temporary_dir: &Path, id: &RecorderId) -> PathBuf {
    temporary_dir.join(format!("{STATE}{id}"))
}

/// A path as written; relative paths are relative to the working directory, as in the reference.
pub(super) fn path(field: &ConfigField<'_>) -> Option<PathBuf> {
    let text = field.text("a path")?;
    if text.contains('\0') {
        field.refuse("a path without NUL bytes is allowed");
        return None;
    }
    Some(PathBuf::from(text))
}

fn read_script(field: &ConfigField<'_>) -> Option<PathBuf> {
    path(field).filter(|script| {
        let given = !script.as_os_str().is_empty();
        if !given {
            field.refuse("the path of a program is expected");
        }
        given
    })
}

/// Must be relative without `..`: it becomes part of the paths that the server gives to its users.
fn read_sub_path(field: &ConfigField<'_>) -> Option<PathBuf> {
    let path = path(field)?;
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                field.refuse("a directory inside main_path is allowed, without `..` and without a `/` in front");
                return None;
            }
        }
    }
    Some(clean)
}

impl std::str::FromStr for Mode {
    type Err = String;

    /// # Errors
    /// The allowed names, if `text` is none of them.
    fn from_str(text: &str) -> Result<Self, String> {
        choose(&MODES, text)
    }
}
