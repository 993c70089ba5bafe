//! Parses YAML into an untyped tree in which every key and value has its line.
//!
//! The only errors are those of the YAML syntax; the values are interpreted elsewhere.

use serde_yaml::Spanned;
use serde_yaml::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};

use crate::config::problem::Problem;

/// A value with its line.
#[derive(Debug)]
pub(super) struct YamlNode {
    /// Counted from 1.
    pub line: usize,
    pub value: YamlValue,
}

#[derive(Debug)]
pub(super) enum YamlValue {
    Null,
    /// With the text as written: an id of `007` or a secret of `1e5` is a number in YAML.
    Bool(bool, String),
    Number(f64, String),
    Text(String),
    List(Vec<YamlNode>),
    /// In the order of the file, with repeated keys.
    Map(Vec<YamlEntry>),
}

#[derive(Debug)]
pub(super) struct YamlEntry {
    pub key: String,
    /// Line of the key.
    pub line: usize,
    pub node: YamlNode,
}

/// Parses a file.
///
/// # Errors
/// One problem where `text` is not YAML.
pub(super) fn parse(text: &str) -> Result<YamlNode, Problem> {
    let options = serde_yaml::options! {
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        strict_booleans: true,
        with_snippet: false,
    };
    match serde_yaml::from_str_with_options::<Option<Spanned<RawValue>>>(text, options) {
        Ok(Some(root)) => Ok(root.value.locate(&root.defined, text)),
        Ok(None) => Ok(YamlNode { line: 1, value: YamlValue::Null }),
        Err(error) => Err(syntax_problem(&error, text)),
    }
}

/// The parser's message, unless it may quote a secret.
fn syntax_problem(error: &serde_yaml::Error, text: &str) -> Problem {
    let at = error.location();
    let line = at.map(|at| line_number(&at));
    // An unclosed value is noticed later, so all lines up to there are checked.
    let until = line.unwrap_or(usize::MAX);
    let secret_near = text
        .lines()
        .take(until)
        .skip(until.saturating_sub(3))
        .any(|line| line.contains("api_secret") || line.contains("api_key") || line.contains('@'));
    let words = if secret_near {
        "a value that holds one of : # { } [ ] , & * ! | > ' \" % @ ` must stand in quotes".to_owned()
    } else {
        let words = error.without_snippet().render_with_formatter(&serde_yaml::UserMessageFormatter);
        let first = words.lines().next().unwrap_or_default();
        // The line is already shown before the message.
        first.split(" at line ").next().unwrap_or_default().trim().to_owned()
    };
    let column = at.map(|at| format!(" at column {}", at.column())).unwrap_or_default();
    Problem { line, key: String::new(), text: format!("not valid YAML{column}: {words}") }
}

fn line_number(at: &serde_yaml::Location) -> usize {
    usize::try_from(at.line()).unwrap_or(usize::MAX)
}

/// A value as deserialized by serde; [`RawValue::locate`] adds the lines.
enum RawValue {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Spanned<RawValue>>),
    Map(Vec<(Spanned<RawValue>, Spanned<RawValue>)>),
}

impl RawValue {
    fn locate(self, at: &serde_yaml::Location, source: &str) -> YamlNode {
        let written = || as_written(at, source);
        let value = match self {
            Self::Null => YamlValue::Null,
            Self::Bool(value) => YamlValue::Bool(value, written().unwrap_or_else(|| value.to_string())),
            Self::Number(value) => YamlValue::Number(value, written().unwrap_or_else(|| value.to_string())),
            Self::Text(text) => YamlValue::Text(text),
            Self::List(items) => {
                YamlValue::List(items.into_iter().map(|item| item.value.locate(&item.defined, source)).collect())
            }
            Self::Map(entries) => YamlValue::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| YamlEntry {
                        line: line_number(&key.defined),
                        key: match key.value {
                            Self::Text(text) => text,
                            _ => as_written(&key.defined, source).unwrap_or_else(|| "?".to_owned()),
                        },
                        node: value.value.locate(&value.referenced, source),
                    })
                    .collect(),
            ),
        };
        YamlNode { line: line_number(at), value }
    }
}

/// The source text of a plain scalar.
fn as_written(at: &serde_yaml::Location, source: &str) -> Option<String> {
    let start = usize::try_from(at.span().byte_offset()?).ok()?;
    let len = usize::try_from(at.span().byte_len()?).ok()?;
    let text = source.get(start..start.checked_add(len)?)?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

impl<'de> serde::Deserialize<'de> for RawValue {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = RawValue;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("any value")
            }

            fn visit_unit<E>(self) -> Result<RawValue, E> {
                Ok(RawValue::Null)
            }

            fn visit_none<E>(self) -> Result<RawValue, E> {
                Ok(RawValue::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<RawValue, E> {
                Ok(RawValue::Bool(value))
            }

            #[expect(clippy::cast_precision_loss, reason = "no setting is anywhere near 2^53")]
            fn visit_i64<E>(self, value: i64) -> Result<RawValue, E> {
                Ok(RawValue::Number(value as f64))
            }

            #[expect(clippy::cast_precision_loss, reason = "no setting is anywhere near 2^53")]
            fn visit_u64<E>(self, value: u64) -> Result<RawValue, E> {
                Ok(RawValue::Number(value as f64))
            }

            fn visit_f64<E>(self, value: f64) -> Result<RawValue, E> {
                Ok(RawValue::Number(value))
            }

            fn visit_str<E>(self, value: &str) -> Result<RawValue, E> {
                Ok(RawValue::Text(value.to_owned()))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<RawValue, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(RawValue::List(list))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut entries: A) -> Result<RawValue, A::Error> {
                let mut map = Vec::new();
                while let Some(entry) = entries.next_entry()? {
                    map.push(entry);
                }
                Ok(RawValue::Map(map))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(node: YamlNode) -> Vec<YamlEntry> {
        match node.value {
            YamlValue::Map(entries) => entries,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_key_and_value_knows_its_line() {
        let root = entries(parse("# a comment\na:\n  b: 1\n  c:\n    - x\n    - y\nd: \"ä\"\n").unwrap());
        assert_eq!((root[0].line, root[0].key.as_str()), (2, "a"));
        assert_eq!((root[1].line, root[1].key.as_str()), (7, "d"));
        let YamlValue::Map(inner) = &root[0].node.value else { panic!() };
        assert_eq!((inner[0].line, inner[0].node.line), (3, 3));
        let YamlValue::List(items) = &inner[1].node.value else { panic!() };
        assert_eq!(items.iter().map(|item| item.line).collect::<Vec<_>>(), [5, 6]);
    }

    #[test]
    fn scalars_keep_their_spelling_after_text_of_several_bytes() {
        let root = entries(parse("ä: ü\nid: 007\nlimit: 1_0\ne: 1e5\nyes: on\nt: true\n10: x\n").unwrap());
        let spelled: Vec<_> = root
            .iter()
            .map(|entry| match &entry.node.value {
                YamlValue::Bool(_, text) | YamlValue::Number(_, text) | YamlValue::Text(text) => text.as_str(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(spelled, ["ü", "007", "1_0", "1e5", "on", "true", "x"]);
        assert_eq!(root[6].key, "10");
    }

    #[test]
    fn repeated_keys_stay_and_anchors_are_followed() {
        let root = entries(parse("a: &x {k: 1}\na: 2\nb: *x\nc:\n  <<: *x\n").unwrap());
        assert_eq!(root.len(), 4);
        let YamlValue::Map(inner) = &root[3].node.value else { panic!("{root:?}") };
        assert_eq!(inner[0].key, "k");
    }

    #[test]
    fn an_empty_file_is_null() {
        assert!(matches!(parse("").unwrap().value, YamlValue::Null));
        assert!(matches!(parse("# nothing\n").unwrap().value, YamlValue::Null));
    }

    #[test]
    fn broken_yaml_has_its_line_and_never_a_secret() {
        let problem = parse("a: 1\nb: [1, 2\nc: 3\n").unwrap_err();
        assert!(problem.line.is_some_and(|line| line >= 2), "{problem:?}");
        for broken in [
            "plugNmeet_info:\n  api_secret: *sesame\n",
            "plugNmeet_info:\n  api_secret: \"sesame\n",
            "plugNmeet_info:\n  api_secret: sesame: open\n",
            "nats_info:\n  nats_urls: [nats://u:sesame@h\n",
        ] {
            let problem = parse(broken).unwrap_err();
            assert!(!problem.text.contains("sesame"), "{problem:?}");
        }
    }
}
