//! The section `log_settings`.

use std::path::PathBuf;
use std::time::Duration;

use tracing::Level;

use crate::config::reader::ConfigSection;
use crate::config::sections::{LogConfig, LogFormat};

const LEVELS: [(&str, Level); 8] = [
    ("info", Level::INFO),
    ("warn", Level::WARN),
    ("error", Level::ERROR),
    ("debug", Level::DEBUG),
    ("trace", Level::TRACE),
    // Levels of the reference's logger without counterpart here.
    ("fatal", Level::ERROR),
    ("panic", Level::ERROR),
    ("warning", Level::WARN),
];

const FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];

/// Unit of `maxsize`, as in the reference's logger.
const MIB: u64 = 1024 * 1024;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// `debug` (`recorder.debug`) raises the level to debug.
pub(super) fn read(root: &ConfigSection<'_>, debug: bool) -> LogConfig {
    let section = root.section("log_settings");
    let max_size = whole_of_either(&section, "maxsize", "max_size", 1, 20);
    let max_backups = whole_of_either(&section, "maxbackups", "max_backups", 0, 4);
    let max_age = whole_of_either(&section, "maxage", "max_age", 0, 2);
    let (file, stdout) = outputs(&section);
    let level = section.choice("log_level", &LEVELS, Level::INFO);
    LogConfig {
        file,
        stdout,
        max_size: u64::from(max_size) * MIB,
        // 0 means no limit, as in the reference.
        max_backups: if max_backups == 0 { usize::MAX } else { usize::try_from(max_backups).unwrap_or(usize::MAX) },
        max_age: if max_age == 0 { Duration::MAX } else { DAY * max_age },
        level: if debug { level.max(Level::DEBUG) } else { level },
        format: section.choice("log_format", &FORMATS, LogFormat::Text),
    }
}

/// The number under either name of a key; `key` wins if both are set.
fn whole_of_either(section: &ConfigSection<'_>, key: &str, other: &str, least: u32, default: u32) -> u32 {
    let range = least..=100_000;
    let Some(second) = section.field(other) else { return section.whole(key, range, default) };
    let number = section.whole(other, range.clone(), default);
    if section.field(key).is_none() {
        return number;
    }
    let first = section.whole(key, range, default);
    if first != number {
        second.warning(format!("ignored; `{key}`, which means the same, is set to {first}"));
    }
    first
}

/// The log file, and whether the log also goes to standard output.
fn outputs(section: &ConfigSection<'_>) -> (Option<PathBuf>, bool) {
    let file = section.text("log_file").map(PathBuf::from);
    let Some(field) = section.field("log_output") else { return (file, true) };
    let word = field.text("one of both, stdout, file").unwrap_or_default().to_ascii_lowercase();
    match (word.as_str(), file) {
        ("both", file) => (file, true),
        ("stdout" | "console", _) => (None, true),
        ("file", Some(file)) => (Some(file), false),
        ("file", None) => {
            field.warning("`log_file` is not set, so the log goes to standard output");
            (None, true)
        }
        (_, file) => {
            field.warning("both, stdout or file is understood; taken as both");
            (file, true)
        }
    }
}
