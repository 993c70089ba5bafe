//! Changes `recorder.max_limit` in the text of a configuration, and not one other byte. Pure.
//!
//! Only the usual way to write YAML is understood: `recorder:` at the beginning of a line, its keys below it. Whoever calls
//! this compares the configuration that the new text gives with the old one.

/// Marks what this program has written.
const MARK: &str = "(plugnmeet-recorder size)";
const SECTION: &str = "recorder";
const KEY: &str = "max_limit";

/// A text with another number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    pub text: String,
    /// What was there; `None`: nothing.
    pub old: Option<String>,
}

/// Why a text is left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    #[error("no line `recorder:` with its keys on the lines below it")]
    NoSection,
    #[error("recorder.max_limit is there more than once")]
    Twice,
    #[error("recorder.max_limit is not written as a plain number")]
    NoNumber,
}

/// Sets the number; a comment on its line says what it was. A text that has the number already stays as it is.
///
/// # Errors
/// See [`EditError`].
pub fn set_max_limit(text: &str, value: u32) -> Result<Edit, EditError> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let is_section =
        |line: &&str| rest_of(line.strip_prefix('\u{feff}').unwrap_or(line), SECTION).is_some_and(is_empty_or_comment);
    let mut sections = lines.iter().enumerate().filter(|(_, line)| is_section(line));
    let (Some((section, _)), None) = (sections.next(), sections.next()) else { return Err(EditError::NoSection) };
    let below = lines[section + 1..].iter().enumerate().map(|(at, line)| (section + 1 + at, *line));
    let keys: Vec<(usize, &str)> = below
        .filter(|(_, line)| !is_empty_or_comment(line))
        .take_while(|(_, line)| line.starts_with([' ', '\t']))
        .collect();
    let indent = keys.first().map_or("", |(_, line)| indent_of(line));
    if indent.is_empty() || indent.contains('\t') {
        return Err(EditError::NoSection);
    }
    let found: Vec<(usize, &str)> = keys
        .iter()
        .filter(|(_, line)| indent_of(line) == indent)
        .filter_map(|(at, line)| Some((*at, rest_of(&line[indent.len()..], KEY)?)))
        .collect();
    let (at, line, old) = match found[..] {
        [] => {
            let end = if lines[section].ends_with("\r\n") { "\r\n" } else { "\n" };
            // Below the line of the section, which may lack its end only where nothing follows.
            (section + 1, format!("{indent}{KEY}: {value} # was not set {MARK}{end}"), None)
        }
        [(at, rest)] => {
            let before = &lines[at][..lines[at].len() - rest.len()];
            let Some((new, old)) = with_value(rest, value)? else {
                return Ok(Edit { text: text.to_owned(), old: Some(value.to_string()) });
            };
            (at, format!("{before}{new}"), old)
        }
        _ => return Err(EditError::Twice),
    };
    let replaced = usize::from(!found.is_empty());
    let new = lines[..at].iter().copied().chain([line.as_str()]).chain(lines[at + replaced..].iter().copied());
    Ok(Edit { text: new.collect(), old })
}

/// What follows `key:`; `None`: the line does not begin with it.
fn rest_of<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let quoted = |quote: char| line.strip_prefix(quote)?.strip_prefix(key)?.strip_prefix(quote);
    let after = line.strip_prefix(key).or_else(|| quoted('"')).or_else(|| quoted('\''))?;
    let rest = after.trim_start_matches([' ', '\t']).strip_prefix(':')?;
    (rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n'])).then_some(rest)
}

fn is_empty_or_comment(text: &str) -> bool {
    let text = text.trim();
    text.is_empty() || text.starts_with('#')
}

fn indent_of(line: &str) -> &str {
    &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
}

/// What follows the colon, with another value, and the old one. `None`: it has this value.
fn with_value(rest: &str, value: u32) -> Result<Option<(String, Option<String>)>, EditError> {
    let body = rest.trim_end_matches(['\r', '\n']);
    let end = &rest[body.len()..];
    let (content, comment) = match body.match_indices('#').find(|(at, _)| body[..*at].ends_with([' ', '\t'])) {
        Some((at, _)) => (&body[..at], Some(body[at + 1..].trim())),
        None => (body, None),
    };
    let token = content.trim();
    let number = token.trim_matches(['"', '\'']);
    if !number.chars().all(|c| c.is_ascii_digit()) {
        return Err(EditError::NoNumber);
    }
    if number == value.to_string() {
        return Ok(None);
    }
    let space = content.len() - content.trim_start().len();
    let before = if space == 0 { " " } else { &content[..space] };
    let gap = &content[content.trim_end().len()..];
    let gap = if gap.is_empty() || token.is_empty() { " " } else { gap };
    let old = (!number.is_empty()).then(|| number.to_owned());
    let was = old.as_deref().unwrap_or("not set");
    let kept = comment.map(without_mark).filter(|comment| !comment.is_empty());
    let kept = kept.map(|comment| format!("; {comment}")).unwrap_or_default();
    Ok(Some((format!("{before}{value}{gap}# was {was} {MARK}{kept}{end}"), old)))
}

/// A comment without what this program has written into it before.
fn without_mark(comment: &str) -> &str {
    match comment.strip_prefix("was ").and_then(|rest| rest.split_once(MARK)) {
        Some((_, rest)) => rest.trim_start_matches(';').trim(),
        None => comment,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(text: &str) -> String {
        set_max_limit(text, 4).unwrap().text
    }

    #[test]
    fn only_the_number_changes_and_a_comment_keeps_the_old_one() {
        for (before, after) in [
            ("recorder:\n  max_limit: 10\n", "recorder:\n  max_limit: 4 # was 10 (plugnmeet-recorder size)\n"),
            ("recorder:\n  max_limit: 10", "recorder:\n  max_limit: 4 # was 10 (plugnmeet-recorder size)"),
            (
                "a: 1\r\nrecorder: # here\r\n\r\n    id: x\r\n    max_limit:   '10'\t # ours # too\r\nlog: {}\r\n",
                "a: 1\r\nrecorder: # here\r\n\r\n    id: x\r\n    max_limit:   4\t # was 10 (plugnmeet-recorder size); ours # too\r\nlog: {}\r\n",
            ),
            (
                "\u{feff}\"recorder\" :\n # c\n  'max_limit' :\n  id: x\n",
                "\u{feff}\"recorder\" :\n # c\n  'max_limit' : 4 # was not set (plugnmeet-recorder size)\n  id: x\n",
            ),
            ("recorder:\n  id: x\n", "recorder:\n  max_limit: 4 # was not set (plugnmeet-recorder size)\n  id: x\n"),
            // Others of that name, deeper or elsewhere, stay.
            (
                "b:\n  max_limit: 7\nrecorder:\n  c:\n    max_limit: 8\n  d: |\n    max_limit: 9\n  max_limit: 1\n",
                "b:\n  max_limit: 7\nrecorder:\n  c:\n    max_limit: 8\n  d: |\n    max_limit: 9\n  max_limit: 4 # was 1 (plugnmeet-recorder size)\n",
            ),
        ] {
            assert_eq!(set(before), after, "{before:?}");
        }
    }

    #[test]
    fn a_second_run_keeps_the_operators_comment_and_not_its_own() {
        let once = set("recorder:\n  max_limit: 10  # ours\n");
        assert_eq!(once, "recorder:\n  max_limit: 4  # was 10 (plugnmeet-recorder size); ours\n");
        let edit = set_max_limit(&once, 6).unwrap();
        assert_eq!(edit.text, "recorder:\n  max_limit: 6  # was 4 (plugnmeet-recorder size); ours\n");
        assert_eq!(edit.old.as_deref(), Some("4"));
        assert_eq!(set_max_limit(&edit.text, 6).unwrap().text, edit.text);
    }

    #[test]
    fn what_is_written_in_another_way_is_left_alone() {
        for (text, error) in [
            ("", EditError::NoSection),
            ("recorder: {max_limit: 10}\n", EditError::NoSection),
            ("recorder: &a\n  max_limit: 10\n", EditError::NoSection),
            ("  recorder:\n    max_limit: 10\n", EditError::NoSection),
            ("recorder:\nlog:\n  max_limit: 10\n", EditError::NoSection),
            ("recorder:\n\tmax_limit: 10\n", EditError::NoSection),
            ("recorder:\n  max_limit: 1\nrecorder:\n  max_limit: 2\n", EditError::NoSection),
            ("recorder:\n  max_limit: 1\n  max_limit: 2\n", EditError::Twice),
            ("recorder:\n  max_limit: ${MAX}\n", EditError::NoNumber),
            ("recorder:\n  max_limit: *limit\n", EditError::NoNumber),
            ("recorder:\n  max_limit: 10#no comment\n", EditError::NoNumber),
        ] {
            assert_eq!(set_max_limit(text, 4), Err(error), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn all_other_lines_stay_to_the_byte(
            lines in proptest::collection::vec("( {0,6}[a-z]{1,9}:( [ -~]{0,12})?|#[ -~]{0,9}||recorder:|  max_limit: [0-9]{1,3})", 0..12),
            crlf in any::<bool>(),
            value in 1u32..1000,
        ) {
            let text = lines.join(if crlf { "\r\n" } else { "\n" });
            if let Ok(Edit { text: new, .. }) = set_max_limit(&text, value) {
                let (old, new): (Vec<&str>, Vec<&str>) = (text.split('\n').collect(), new.split('\n').collect());
                let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
                let after = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
                // One line differs, or is new.
                prop_assert!(same + after + 1 >= new.len() && new.len() - old.len() <= 1, "{:?} {:?}", old, new);
                let says = new.get(same).is_some_and(|line| line.contains(&format!("{value} # was ")));
                prop_assert!(old == new || says, "{:?} {:?}", old, new);
            }
        }
    }
}
