//! A code as text for people. Pure.

use crate::codes::code::Code;

/// Lines of at most `width` characters, but for longer words. The first one begins with `head`; the others are indented
/// by `indent` characters.
#[must_use]
pub fn fill(head: &str, indent: usize, text: &str, width: usize) -> String {
    let (mut lines, mut line) = (Vec::new(), head.to_owned());
    let mut begins = true;
    for word in text.split(' ') {
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

/// The code with its meaning, cause and remedy, in lines of some 80 characters with a line feed at the end.
#[must_use]
pub fn explained(code: &Code) -> String {
    const WIDTH: usize = 80;
    let means = fill(&format!("{code}  "), 10, code.means, WIDTH);
    let cause = fill("Cause:    ", 10, code.cause, WIDTH);
    let remedy = fill("Remedy:   ", 10, code.remedy, WIDTH);
    format!("{means}\n\n{cause}\n{remedy}\n")
}
