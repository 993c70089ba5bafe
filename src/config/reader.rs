//! Reads values from the tree section by section and reports all problems instead of the first one.
//!
//! A function that reports a problem returns the default (or `None`), so that reading continues; the caller discards
//! the result if any problem was reported.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::keys;
use crate::config::problem::{Problem, Warning};
use crate::config::tree::{YamlEntry, YamlNode, YamlValue};

/// Placeholders of the reference's sample configuration.
const PLACEHOLDERS: [&str; 3] = ["PLUG_N_MEET_SERVER_DOMAIN", "PLUG_N_MEET_API_KEY", "PLUG_N_MEET_SECRET"];

/// Length limit of quoted values in problems, in characters.
const SHOWN_LIMIT: usize = 60;

/// Problems and warnings so far.
#[derive(Debug, Default)]
pub(super) struct ProblemReport {
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Warning>>,
}

impl ProblemReport {
    pub(super) fn problem(&self, line: Option<usize>, key: impl Into<String>, text: impl Into<String>) {
        let problem = Problem { line, key: key.into(), text: text.into() };
        let mut problems = self.problems.borrow_mut();
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }

    pub(super) fn warning(&self, line: Option<usize>, key: impl Into<String>, text: impl Into<String>) {
        self.warnings.borrow_mut().push(Warning { line, key: key.into(), text: text.into() });
    }

    pub(super) fn into_lists(self) -> (Vec<Problem>, Vec<Warning>) {
        (self.problems.into_inner(), self.warnings.into_inner())
    }
}

/// A mapping of the file; empty if it is missing.
#[derive(Clone, Debug)]
pub(super) struct ConfigSection<'a> {
    /// Like `recorder.copy_to_path`; empty for the whole file.
    path: String,
    /// Line of the section's key; `None` for a missing section.
    line: Option<usize>,
    entries: &'a [YamlEntry],
    report: &'a ProblemReport,
}

/// A value with the path and line for its problems.
#[derive(Clone, Debug)]
pub(super) struct ConfigField<'a> {
    pub path: String,
    pub node: &'a YamlNode,
    report: &'a ProblemReport,
}

impl<'a> ConfigSection<'a> {
    /// The whole file; `None` with a problem if it is not a mapping.
    pub(super) fn root(node: &'a YamlNode, report: &'a ProblemReport) -> Option<Self> {
        let YamlValue::Map(entries) = &node.value else {
            let text = match node.value {
                YamlValue::Null => "the file is empty; config_sample.yaml shows every setting",
                _ => "the file has to be made of sections (`recorder:` and so on); config_sample.yaml shows them",
            };
            report.problem(Some(node.line), "", text);
            return None;
        };
        Some(Self { path: String::new(), line: None, entries, report })
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The value of `key`; `null` and an empty text count as missing, as in the reference.
    pub(super) fn field(&self, key: &str) -> Option<ConfigField<'a>> {
        self.field_or_empty(key)
            .filter(|field| !matches!(&field.node.value, YamlValue::Text(text) if text.trim().is_empty()))
    }

    /// Like [`Self::field`], but an empty text is a value.
    pub(super) fn field_or_empty(&self, key: &str) -> Option<ConfigField<'a>> {
        let path = self.path_of(key);
        debug_assert!(keys::is_known(&without_indices(&path)), "{path} is missing in KEYS");
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        let field = ConfigField { path, node: &entry.node, report: self.report };
        (!matches!(entry.node.value, YamlValue::Null)).then_some(field)
    }

    /// The section under `key`.
    pub(super) fn section(&self, key: &str) -> ConfigSection<'a> {
        let absent = ConfigSection { path: self.path_of(key), line: None, entries: &[], report: self.report };
        let Some(entry) = self.entries.iter().find(|entry| entry.key == key) else { return absent };
        match &entry.node.value {
            YamlValue::Map(entries) => ConfigSection { line: Some(entry.line), entries, ..absent },
            YamlValue::Null => ConfigSection { line: Some(entry.line), ..absent },
            other => {
                let text = format!("found {}; a section with keys of its own is expected", describe(other));
                self.report.problem(Some(entry.line), absent.path.clone(), text);
                absent
            }
        }
    }

    /// Reports that the required `key` is missing.
    pub(super) fn missing(&self, key: &str, allowed: &str) {
        // Line of the key if it is present but empty.
        let own = self.entries.iter().find(|entry| entry.key == key).map(|entry| entry.line);
        let found = if own.is_some() { "empty" } else { "missing" };
        self.report.problem(own.or(self.line), self.path_of(key), format!("{found}; {allowed}"));
    }

    /// The value of `key`; reports a problem if it is missing.
    pub(super) fn required(&self, key: &str, allowed: &str) -> Option<ConfigField<'a>> {
        let field = self.field(key);
        if field.is_none() {
            self.missing(key, allowed);
        }
        field
    }

    pub(super) fn text(&self, key: &str) -> Option<String> {
        self.field(key)?.text("a text")
    }

    /// true or false; also `yes`, `no`, `on` and `off`, as in the reference.
    pub(super) fn flag(&self, key: &str, default: bool) -> bool {
        let Some(field) = self.field(key) else { return default };
        let word = match &field.node.value {
            YamlValue::Bool(value, _) => return *value,
            YamlValue::Text(text) => text.trim().to_ascii_lowercase(),
            _ => String::new(),
        };
        match word.as_str() {
            "true" | "yes" | "on" => true,
            "false" | "no" | "off" => false,
            _ => {
                field.refuse(&format!("true or false is allowed (default {default})"));
                default
            }
        }
    }

    /// A whole number in `range`.
    pub(super) fn whole(&self, key: &str, range: RangeInclusive<u32>, default: u32) -> u32 {
        self.whole_that(key, range, default, "a whole number", |_| true)
    }

    /// An even whole number in `range`: frames with 4:2:0 chroma have even sizes.
    pub(super) fn even(&self, key: &str, range: RangeInclusive<u32>, default: u32) -> u32 {
        self.whole_that(key, range, default, "an even whole number", |number| number.is_multiple_of(2))
    }

    fn whole_that(
        &self,
        key: &str,
        range: RangeInclusive<u32>,
        default: u32,
        kind: &str,
        accept: impl Fn(u32) -> bool,
    ) -> u32 {
        let Some(field) = self.field(key) else { return default };
        if let Some(number) = field.number().and_then(whole).filter(|n| range.contains(n) && accept(*n)) {
            return number;
        }
        field.refuse(&format!("{kind} from {} to {} is allowed (default {default})", range.start(), range.end()));
        default
    }

    /// A percentage, 0…100.
    pub(super) fn percent(&self, key: &str, default: f64) -> f64 {
        let Some(field) = self.field(key) else { return default };
        if let Some(number) = field.number().filter(|number| (0.0..=100.0).contains(number)) {
            return number;
        }
        field.refuse(&format!("a number from 0 to 100 (percent) is allowed (default {default})"));
        default
    }

    /// One of the words of `choices`.
    pub(super) fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)], default: T) -> T {
        self.optional_choice(key, choices).unwrap_or(default)
    }

    /// One of the words of `choices`; `None` if the key is missing.
    pub(super) fn optional_choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let field = self.field(key)?;
        choose(choices, field.node.text().unwrap_or_default().trim()).map_err(|why| field.refuse(&why)).ok()
    }

    /// `1h`, `1h30m`, `90s`, or a number of seconds.
    pub(super) fn duration(&self, key: &str, range: RangeInclusive<Duration>, default: Duration) -> Duration {
        let Some(field) = self.field(key) else { return default };
        if let Some(duration) = field.duration().filter(|duration| range.contains(duration)) {
            return duration;
        }
        field.refuse(&format!(
            "a duration like 90s, 1h or 1h30m from {} to {} is allowed (default {})",
            humantime::format_duration(*range.start()),
            humantime::format_duration(*range.end()),
            humantime::format_duration(default),
        ));
        default
    }

    /// A line of options, split into words as by a shell without expansion.
    pub(super) fn words(&self, key: &str, default: &str) -> Vec<String> {
        // Here an empty text is a valid choice: no options.
        let Some(field) = self.field_or_empty(key) else { return split(default) };
        let Some(text) = field.text("options on one line, in quotes") else { return Vec::new() };
        shell_words::split(&text).unwrap_or_else(|_| {
            field.report.problem(
                Some(field.node.line),
                field.path,
                format!("found {} with a quote that is not closed; every ' and \" needs its partner", shown(&text)),
            );
            Vec::new()
        })
    }

    /// The items of a list; none if it is missing.
    pub(super) fn list(&self, key: &str) -> Vec<ConfigField<'a>> {
        let Some(field) = self.field(key) else { return Vec::new() };
        field.items().unwrap_or_else(|| {
            field.refuse("a list is allowed (a line `- …` for each item)");
            Vec::new()
        })
    }
}

impl<'a> ConfigField<'a> {
    /// Reports a problem with the value: what was found and what is allowed.
    pub(super) fn refuse(&self, allowed: &str) {
        self.problem(format!("found {}; {allowed}", describe(&self.node.value)));
    }

    /// Reports a problem with the value in the caller's words.
    pub(super) fn problem(&self, text: impl Display) {
        self.report.problem(Some(self.node.line), self.path.clone(), text.to_string());
    }

    pub(super) fn warning(&self, text: impl Display) {
        self.report.warning(Some(self.node.line), self.path.clone(), text.to_string());
    }

    /// The value as written, trimmed; a problem if it is not a scalar.
    pub(super) fn text(&self, expected: &str) -> Option<String> {
        let text = self.node.text().map(|text| text.trim().to_owned());
        if text.is_none() {
            self.refuse(&format!("{expected} is expected"));
        }
        text
    }

    /// Like [`Self::text`]; also a problem if it still is the reference sample's placeholder.
    pub(super) fn filled_in(&self, meaning: &str) -> Option<String> {
        let text = self.text("a text")?;
        if PLACEHOLDERS.iter().any(|placeholder| text.contains(placeholder)) {
            self.problem(format!("still the sample's placeholder; put in {meaning}"));
            return None;
        }
        Some(text)
    }

    /// The value as a section; a problem if it is none.
    pub(super) fn section(&self) -> Option<ConfigSection<'a>> {
        let YamlValue::Map(entries) = &self.node.value else {
            self.refuse("a section with keys of its own is expected");
            return None;
        };
        Some(ConfigSection { path: self.path.clone(), line: Some(self.node.line), entries, report: self.report })
    }

    /// The items of the value; `None` if it is not a list.
    pub(super) fn items(&self) -> Option<Vec<ConfigField<'a>>> {
        let YamlValue::List(nodes) = &self.node.value else { return None };
        let item = |(index, node)| ConfigField { path: format!("{}[{index}]", self.path), node, report: self.report };
        Some(nodes.iter().enumerate().map(item).collect())
    }

    /// `1h`, `1h30m`, `90s`, or a number of seconds; `None` for anything else.
    pub(super) fn duration(&self) -> Option<Duration> {
        let seconds = || self.number().and_then(|number| Duration::try_from_secs_f64(number).ok());
        let spelled = || humantime::parse_duration(self.node.text()?.trim()).ok();
        seconds().or_else(spelled)
    }

    /// A number, also in quotes or with a percent sign.
    fn number(&self) -> Option<f64> {
        match &self.node.value {
            YamlValue::Number(number, _) => Some(*number),
            YamlValue::Text(text) => text.trim().trim_end_matches('%').trim_end().parse().ok(),
            _ => None,
        }
    }
}

impl YamlNode {
    /// The scalar as written; `None` for a list, a section or null.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            YamlValue::Bool(_, text) | YamlValue::Number(_, text) | YamlValue::Text(text) => Some(text),
            YamlValue::Null | YamlValue::List(_) | YamlValue::Map(_) => None,
        }
    }
}

/// Reports unknown and repeated keys of the whole tree.
pub(super) fn check_keys(root: &YamlNode, report: &ProblemReport) {
    check_node(root, "", report);
}

fn check_node(node: &YamlNode, path: &str, report: &ProblemReport) {
    match &node.value {
        YamlValue::Map(entries) => {
            for (index, entry) in entries.iter().enumerate() {
                let own = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
                if let Some(first) = entries[..index].iter().find(|other| other.key == entry.key) {
                    report.problem(Some(entry.line), own, format!("given twice; it is on line {} already", first.line));
                } else if keys::is_known(&without_indices(&own)) {
                    check_node(&entry.node, &own, report);
                } else {
                    let hint = keys::suggestion(&without_indices(path), &entry.key)
                        .map_or_else(String::new, |hint| format!("; {hint}"));
                    report.warning(Some(entry.line), shown_key(&own), format!("unknown key, ignored{hint}"));
                }
            }
        }
        YamlValue::List(items) => {
            for (index, item) in items.iter().enumerate() {
                let own = format!("{path}[{index}]");
                if keys::is_known(&without_indices(&own)) {
                    check_node(item, &own, report);
                }
            }
        }
        _ => {}
    }
}

/// `flags[3].name` → `flags[].name`, as in [`keys::KEYS`].
fn without_indices(path: &str) -> String {
    let mut rest = path;
    let mut plain = String::new();
    while let Some((before, after)) = rest.split_once('[') {
        plain.push_str(before);
        plain.push_str("[]");
        rest = after.split_once(']').map_or("", |(_, after)| after);
    }
    plain + rest
}

/// The value of the choice called `word`, or the words that are allowed.
pub(super) fn choose<T: Copy>(choices: &[(&str, T)], word: &str) -> Result<T, String> {
    let found = choices.iter().find(|(name, _)| word.eq_ignore_ascii_case(name));
    let names = || choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    found.map(|(_, value)| *value).ok_or_else(|| format!("one of {} is allowed", names()))
}

/// Splits a built-in default, whose quotes are balanced.
pub(super) fn split(options: &str) -> Vec<String> {
    shell_words::split(options).unwrap_or_default()
}

/// The number as an integer if it has no fraction and fits.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "both are checked in the line before")]
fn whole(number: f64) -> Option<u32> {
    let fits = number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
    fits.then_some(number as u32)
}

/// A value as text, to follow "found".
fn describe(value: &YamlValue) -> String {
    match value {
        YamlValue::Null => "nothing".to_owned(),
        YamlValue::Bool(_, text) | YamlValue::Number(_, text) => cut(text),
        YamlValue::Text(text) => shown(text),
        YamlValue::List(_) => "a list".to_owned(),
        YamlValue::Map(_) => "a section".to_owned(),
    }
}

/// A text in quotes, without control characters, cut to [`SHOWN_LIMIT`].
pub(super) fn shown(text: &str) -> String {
    format!("{:?}", cut(text))
}

fn shown_key(path: &str) -> String {
    cut(path).escape_debug().to_string()
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_LIMIT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
