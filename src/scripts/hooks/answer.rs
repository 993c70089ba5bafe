//! Parses a step's output: the JSON object in it, or why there is none. Pure.

use serde_json::Value;

use crate::scripts::hooks::payload::Object;

/// The longest answer, in bytes.
pub const LONGEST_ANSWER: usize = 1 << 20;
/// The number of characters of an invalid output that an error message quotes.
const EXCERPT_LENGTH: usize = 80;

/// Why a step's output is dropped; its input goes to the next step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    #[error("it put out nothing")]
    Nothing,
    #[error("it put out no JSON object ({why}): {first}")]
    NoObject { why: String, first: String },
    #[error("it put out more than {LONGEST_ANSWER} bytes for an answer: {first}")]
    TooLong { first: String },
    #[error("its answer names another recording: {first}")]
    OtherRecording { first: String },
}

impl NoAnswer {
    /// The error for an answer with another recording's id.
    #[must_use]
    pub fn other_recording(answer: &Object) -> Self {
        Self::OtherRecording {
            first: printable(answer.get("recording_id").map(Value::to_string).unwrap_or_default().as_bytes()),
        }
    }
}

/// # Errors
/// Where `line` is no JSON object.
pub fn of_line(line: &[u8]) -> Result<Object, NoAnswer> {
    let line = line.trim_ascii();
    if line.is_empty() {
        return Err(NoAnswer::Nothing);
    }
    let no_object = |why: String| NoAnswer::NoObject { why, first: printable(line) };
    match serde_json::from_slice(line) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(no_object("JSON, but no object".to_owned())),
        Err(error) => Err(no_object(error.to_string())),
    }
}

/// Parses the whole output of a program: as one object, or else its last line that is an object. `cut`: the beginning
/// is missing.
///
/// # Errors
/// Where the output is no object and has no such line.
pub fn of_output(output: &[u8], cut: bool) -> Result<Object, NoAnswer> {
    let whole = if cut { Err(NoAnswer::TooLong { first: printable(output) }) } else { of_line(output) };
    if whole == Err(NoAnswer::Nothing) {
        return whole;
    }
    // The whole output is tried first: the last line of an object on several lines could be an object too.
    whole.or_else(|none| {
        let beginning = if cut { output.iter().position(|byte| *byte == b'\n').unwrap_or(output.len()) } else { 0 };
        let lines = output[beginning..].rsplit(|byte| *byte == b'\n');
        lines.filter(|line| line.trim_ascii().starts_with(b"{")).find_map(|line| of_line(line).ok()).ok_or(none)
    })
}

/// The beginning of `bytes`, quoted, without control characters.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    // Enough bytes for that many characters, whatever their length.
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(EXCERPT_LENGTH * 4)]);
    let cut: String = text.chars().take(EXCERPT_LENGTH).collect();
    let more = if cut.len() < text.len() || bytes.len() > EXCERPT_LENGTH * 4 { " …" } else { "" };
    format!("{cut:?}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(found: Result<Object, NoAnswer>) -> String {
        found.map_or_else(|why| format!("!{why}"), |object| object.keys().cloned().collect())
    }

    #[test]
    fn only_an_object_is_an_answer() {
        assert_eq!(key(of_line(b" {\"a\": 1}\r")), "a");
        assert_eq!(of_line(b" \t\r"), Err(NoAnswer::Nothing));
        for (line, said) in [
            (&b"done"[..], "no JSON object (expected value"),
            (b"[{\"a\":1}]", "JSON, but no object"),
            (b"{\"a\":1}{\"b\":2}", "trailing characters"),
            (b"{\"a\":1", "EOF while parsing"),
            (b"{\"a\":\"\xff\"}", "no JSON object"),
            (b"\x00\x01\x02\x1b[31m", "\"\\0\\u{1}\\u{2}\\u{1b}[31m\""),
            (&[b'['; 1000], "recursion limit"),
        ] {
            let text = key(of_line(line));
            assert!(text.starts_with('!') && text.contains(said), "{text}");
            assert!(text.len() < 600 && !text.chars().any(char::is_control), "{text}");
        }
    }

    #[test]
    fn the_answer_is_the_whole_output_or_its_last_line_that_is_an_object() {
        assert_eq!(key(of_output(b"{\n  \"a\": {\n\"b\": 1}\n}\n", false)), "a");
        assert_eq!(key(of_output(b"uploading\n{\"a\":1}\n{\"b\":2}\n{oops\ndone\n", false)), "b");
        assert_eq!(of_output(b"\n\n", false), Err(NoAnswer::Nothing));
        assert!(matches!(of_output(b"done\n", false), Err(NoAnswer::NoObject { .. })));
        assert_eq!(key(of_output(b"{\"a\":1}\n{\"b\":2}\n", true)), "b");
        assert!(matches!(of_output(b"{\"a\":1}\nxyz", true), Err(NoAnswer::TooLong { .. })));
    }
}
