//! The section `chrome_settings`, and the older `recorder.custom_chrome_path`.

use std::path::PathBuf;

use crate::config::reader::{ConfigField, ConfigSection};
use crate::config::sections::{ChromeConfig, ChromeFlag};

pub(super) fn read(root: &ConfigSection<'_>) -> ChromeConfig {
    let section = root.section("chrome_settings");
    let deprecated = root.section("recorder").text("custom_chrome_path");
    ChromeConfig {
        path: section.text("custom_chrome_path").or(deprecated).map(PathBuf::from),
        flags: section.list("flags").iter().filter_map(read_flag).collect(),
    }
}

/// `{name, value}`, or a string as on a command line: `--name=value`.
fn read_flag(field: &ConfigField<'_>) -> Option<ChromeFlag> {
    if let Some(text) = field.node.text() {
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        return flag(field, name, value);
    }
    let section = field.section()?;
    let name = section.required("name", "the name of a Chrome flag, without dashes, is required")?;
    let value = section.field("value").and_then(|value| value.text("a text, a number or true"));
    flag(&name, &name.text("a text")?, value.as_deref())
}

fn flag(field: &ConfigField<'_>, name: &str, value: Option<&str>) -> Option<ChromeFlag> {
    let name = name.trim().trim_start_matches('-');
    let fits = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if !fits {
        field.refuse("the name of a Chrome flag is letters, digits and dashes");
        return None;
    }
    // `value: true` is the way to give a flag without value in YAML.
    let value = value.map(str::trim).filter(|value| !value.is_empty() && *value != "true");
    Some(ChromeFlag { name: name.to_owned(), value: value.map(str::to_owned) })
}
