//! A code as text for people. Pure.

use crate::codes::code::Code;

/// Lines of at most `width` characters, but for longer words. The first one begins with `head`; the others are indented
/// by `indent` characters. What stands in backticks is one word, so that a command can be copied.
#[must_use]
pub fn fill(head: &str, indent: usize, text: &str, width: usize) -> String {
    let (mut lines, mut line) = (Vec::new(), head.to_owned());
    let mut begins = true;
    for word in words(text) {
        if !begins && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
            begins = true;
        }
        if !begins {
            line.push(' ');
        }
        line += word;
        begins = false;
    }
    lines.push(line);
    lines.join("\n")
}

/// What stands between spaces that are not in backticks.
fn words(text: &str) -> Vec<&str> {
    let mut in_backticks = false;
    text.split(|c| {
        in_backticks ^= c == '`';
        c == ' ' && !in_backticks
    })
    .collect()
}

/// The code with its meaning, what becomes of recordings, cause and remedy, in lines of some 80 characters with a line
/// feed at the end.
#[must_use]
pub fn explained(code: &Code) -> String {
    const WIDTH: usize = 80;
    let part = |name: &str, text: &str| fill(&format!("{name:<12}"), 12, text, WIDTH) + "\n";
    let means = fill(&format!("{code}  "), 10, code.means, WIDTH);
    let recordings = code.recordings.map(|text| part("Recordings:", text)).unwrap_or_default();
    format!("{means}\n\n{recordings}{}{}", part("Cause:", code.cause), part("Remedy:", code.remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_not_broken_into_lines() {
        assert_eq!(fill("> ", 2, "run `a b c d` (or `e`), then f", 11), "> run\n  `a b c d`\n  (or `e`),\n  then f");
        assert_eq!(fill("", 0, "one `two three", 5), "one\n`two three", "a backtick alone");
    }
}
