//! `${NAME}` and `${NAME:-default}` in the settings that differ from node to node, so that one file serves a fleet. Pure:
//! the environment is an argument.
//!
//! ```text
//! ${NAME}            the variable; a problem where it is not set, or empty
//! ${NAME:-default}   the variable; the default where it is not set, or empty
//! $${                the two characters ${
//! ```
//!
//! Any other `$` stays. What a variable holds is taken as it is, and is not looked through for a `${` of its own. The
//! result is checked by the readers, as if it stood in the file.

use std::collections::BTreeMap;

use crate::config::reader::ProblemReport;
use crate::config::tree::{YamlEntry, YamlNode, YamlValue};
use crate::config::user_info::masked;

/// The settings in which variables are replaced.
pub const INTERPOLATED: [&str; 8] = [
    "recorder.id",
    "recorder.temporary_dir",
    "recorder.state_dir",
    "recorder.copy_to_path.main_path",
    "recorder.copy_to_path.sub_path",
    "log_settings.log_file",
    "plugNmeet_info.host",
    "nats_info.nats_urls",
];

/// Instead of a value with a problem, which each of the readers takes: they say nothing of it then.
const STAND_IN: &str = "unknown";

/// Environment variables by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The value; `None` where it is not set, or empty.
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self(variables.into_iter().collect())
    }
}

/// A setting whose value came from the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterpolatedValue {
    /// Counted from 1.
    pub line: usize,
    /// One of [`INTERPOLATED`], or an item of it.
    pub key: String,
    /// The result; user info of a URL is masked.
    pub value: String,
}

/// Replaces the variables in the tree of a file, and tells which settings that changed.
pub(super) fn interpolate(
    root: &mut YamlNode,
    environment: &Environment,
    report: &ProblemReport,
) -> Vec<InterpolatedValue> {
    let mut replaced = Vec::new();
    for key in INTERPOLATED {
        if let Some(node) = find(root, key) {
            interpolate_node(node, key, environment, report, &mut replaced);
        }
    }
    replaced
}

/// The value at `path`, which the readers would take.
fn find<'a>(root: &'a mut YamlNode, path: &str) -> Option<&'a mut YamlNode> {
    path.split('.').try_fold(root, |node, key| {
        let YamlValue::Map(entries) = &mut node.value else { return None };
        entries.iter_mut().find(|entry: &&mut YamlEntry| entry.key == key).map(|entry| &mut entry.node)
    })
}

fn interpolate_node(
    node: &mut YamlNode,
    key: &str,
    environment: &Environment,
    report: &ProblemReport,
    replaced: &mut Vec<InterpolatedValue>,
) {
    let line = node.line;
    match &mut node.value {
        YamlValue::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                interpolate_node(item, &format!("{key}[{index}]"), environment, report, replaced);
            }
        }
        YamlValue::Text(text) if text.contains("${") => match interpolate_text(text, environment) {
            Ok(value) => {
                replaced.push(InterpolatedValue { line, key: key.to_owned(), value: shown(key, &value) });
                *text = value;
            }
            Err(why) => {
                report.problem(Some(line), key, why);
                STAND_IN.clone_into(text);
            }
        },
        _ => {}
    }
}

/// The value for the log: only a NATS URL may hold a password.
fn shown(key: &str, value: &str) -> String {
    if key.starts_with("nats_info.") { masked(value) } else { value.to_owned() }
}

/// # Errors
/// What is wrong with a variable; nothing else of the text is quoted, as it may hold a password.
fn interpolate_text(text: &str, environment: &Environment) -> Result<String, String> {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            result.push_str(before);
            result.push_str("${");
            rest = after;
            continue;
        }
        result.push_str(before);
        let Some((reference, after)) = after.split_once('}') else {
            return Err(
                "found `${` without its `}`; ${NAME} or ${NAME:-default} is allowed, and $${ for the two characters"
                    .to_owned(),
            );
        };
        result.push_str(value_of(reference, environment)?);
        rest = after;
    }
    result.push_str(rest);
    Ok(result)
}

/// `reference`: what stands between the braces.
fn value_of<'a>(reference: &'a str, environment: &'a Environment) -> Result<&'a str, String> {
    let end = reference.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(reference.len());
    let (name, rest) = reference.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(
            "found `${` without the name of a variable behind it; letters, digits and `_` are allowed, no digit first"
                .to_owned(),
        );
    }
    let default = match rest {
        "" => None,
        _ => Some(rest.strip_prefix(":-").ok_or_else(|| {
            format!("found more than a name in `${{{name}…}}`; ${{NAME}} or ${{NAME:-default}} is allowed")
        })?),
    };
    if default.is_some_and(|default| default.contains("${")) {
        return Err(format!("found `${{` in the default of {name}; a default is taken as it is, without variables"));
    }
    environment.get(name).or(default).ok_or_else(|| {
        format!("the environment variable {name} is not set, or empty; set it, or give a default: ${{{name}:-default}}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        let variables = [("HOSTNAME", "pod-3"), ("EMPTY", ""), ("NESTED", "${HOSTNAME}"), ("_x1", "y")];
        variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn variables_and_defaults_are_put_in_once() {
        for (text, expected) in [
            ("${HOSTNAME}", "pod-3"),
            ("/a/${HOSTNAME}/${_x1}/b", "/a/pod-3/y/b"),
            ("${HOSTNAME:-z}", "pod-3"),
            ("${MISSING:-z}", "z"),
            ("${EMPTY:-z}", "z"),
            ("a${MISSING:-}b", "ab"),
            ("${MISSING:-nats://h:4222}", "nats://h:4222"),
            ("${NESTED}", "${HOSTNAME}"),
            ("$${HOSTNAME}", "${HOSTNAME}"),
            ("$$${HOSTNAME}", "$${HOSTNAME}"),
            ("$HOSTNAME $$ $ a$", "$HOSTNAME $$ $ a$"),
            ("ä${HOSTNAME}ö", "äpod-3ö"),
        ] {
            assert_eq!(interpolate_text(text, &environment()).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_without_the_rest_of_the_value() {
        for (text, expected) in [
            ("s3cret${MISSING}", "MISSING is not set"),
            ("s3cret${EMPTY}", "EMPTY is not set, or empty"),
            ("s3cret${HOSTNAME", "without its `}`"),
            ("s3cret${}", "without the name"),
            ("s3cret${1A}", "without the name"),
            ("s3cret${ HOSTNAME }", "without the name"),
            ("s3cret${HOSTNAME-s3cret}", "more than a name in `${HOSTNAME…}`"),
            ("s3cret${HOSTNAME:=s3cret}", "more than a name"),
            ("s3cret${MISSING:-${HOSTNAME}}", "in the default of MISSING"),
        ] {
            let why = interpolate_text(text, &environment()).unwrap_err();
            assert!(why.contains(expected) && !why.contains("s3cret"), "{text}: {why}");
        }
    }
}
